// SPDX-License-Identifier: Apache-2.0
// indices_test.c - random programs of integers in which indices, starts, bases and operands are
// pending and shared, against plain loops. Nothing of ours computes the expected values.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensors.h"

enum { PROGRAMS = 10000, STEPS = 14, LEAVES = 4, MOST = LEAVES + 4 * STEPS, SIZE = 64, BOUND = 97 };

// A tensor, and what its elements are.
typedef struct member {
    emlx_tensor *tensor;
    emlx_shape shape;
    int64_t data[SIZE];
} member;

typedef struct program {
    member members[MOST];
    char trace[MOST][48];
    int count;
} program;

static int64_t size_of(const member *m) { return emlx_shape_count(&m->shape); }

static member *add(program *p, const char *op, const int *operands, size_t count,
                   const emlx_attr *attrs, size_t attr_count, const emlx_shape *shape) {
    emlx_tensor *in[4];
    member *m = &p->members[p->count];
    for (size_t i = 0; i < count; i++) in[i] = p->members[operands[i]].tensor;
    m->tensor = apply_to(op, in, count, attrs, attr_count, EMLX_TYPE_DEFAULT);
    m->shape = *shape;
    assert_memory_equal(m->shape.dims, emlx_tensor_shape(m->tensor)->dims,
                        (size_t)shape->rank * sizeof *shape->dims);
    snprintf(p->trace[p->count], sizeof p->trace[0], "%d = %s(%d, %d, %d)", p->count, op,
             operands[0], count > 1 ? operands[1] : -1, count > 2 ? operands[2] : -1);
    p->count++;
    return m;
}

static void add_leaf(program *p, int32_t rank, int64_t rows, int64_t columns, uint32_t below) {
    double values[SIZE];
    member *m = &p->members[p->count++];
    m->shape = (emlx_shape){rank, {rows, columns}};
    for (int64_t i = 0; i < size_of(m); i++)
        values[i] = (double)(m->data[i] = (int64_t)draw(below));
    m->tensor = tensor_of(EMLX_S64, &m->shape, values);
}

// Choosing members -------------------------------------------------------------------------------

static int any(const program *p) { return (int)draw((uint32_t)p->count); }

// A member of that rank, the later the likelier: what was made last is pending.
static int of_rank(const program *p, int32_t rank) {
    for (;;) {
        int a = any(p), b = any(p), i = a > b ? a : b;
        if (p->members[i].shape.rank == rank) return i;
    }
}

static int add_constant(program *p, int64_t number) {
    const double value = (double)number;
    const emlx_shape scalar = {0};
    member *m = &p->members[p->count];
    m->tensor = tensor_of(EMLX_S64, &scalar, &value);
    m->shape = scalar;
    m->data[0] = number;
    snprintf(p->trace[p->count], sizeof p->trace[0], "%d = %d", p->count, (int)number);
    return p->count++;
}

// Elements of one's own kind: kept below BOUND, so that programs of any length stay exact.
static int bounded(program *p, int x, int64_t bound) {
    int operands[2] = {x, add_constant(p, bound)};
    member *m = add(p, "remainder", operands, 2, NULL, 0, &p->members[x].shape);
    for (int64_t i = 0; i < size_of(m); i++) m->data[i] = p->members[x].data[i] % bound;
    return p->count - 1;
}

// The ops ----------------------------------------------------------------------------------------

static int64_t combine(char what, int64_t a, int64_t b) {
    return what == '+' ? a + b : what == '*' ? a * b : a > b ? a : b;
}

static void add_binary(program *p) {
    static const struct {
        const char *op;
        char what;
    } table[] = {{"add", '+'}, {"multiply", '*'}, {"max", '>'}};
    uint32_t which = draw(3);
    int x = any(p), y = draw(2) ? of_rank(p, 0) : x;
    int both[2] = {x, y};
    if (draw(2)) both[0] = y, both[1] = x;
    member *m = add(p, table[which].op, both, 2, NULL, 0, &p->members[x].shape);
    for (int64_t i = 0; i < size_of(m); i++)
        m->data[i] = combine(table[which].what, p->members[x].data[i],
                             p->members[y].data[size_of(&p->members[y]) > 1 ? i : 0]);
    bounded(p, p->count - 1, BOUND);
}

static int64_t clamp(int64_t start, int64_t limit) { return start > limit ? limit : start; }

// A slice of a matrix whose starts are members: nobody knows them when it is planned.
static void add_slice(program *p) {
    int x = of_rank(p, 2), operands[3] = {x, of_rank(p, 0), of_rank(p, 0)};
    const emlx_shape *from = &p->members[x].shape;
    int64_t lengths[2] = {1 + draw((uint32_t)from->dims[0]), 1 + draw((uint32_t)from->dims[1])};
    emlx_attr attr = with_ints("lengths", lengths, 2);
    member *m = add(p, "slice", operands, 3, &attr, 1, &(emlx_shape){2, {lengths[0], lengths[1]}});
    int64_t row = clamp(p->members[operands[1]].data[0], from->dims[0] - lengths[0]);
    int64_t column = clamp(p->members[operands[2]].data[0], from->dims[1] - lengths[1]);
    for (int64_t i = 0; i < size_of(m); i++)
        m->data[i] =
            p->members[x].data[(row + i / lengths[1]) * from->dims[1] + column + i % lengths[1]];
}

static void add_put_slice(program *p) {
    int operands[4] = {of_rank(p, 2), of_rank(p, 2), of_rank(p, 0), of_rank(p, 0)};
    const member *x = &p->members[operands[0]], *y = &p->members[operands[1]];
    const int64_t *to = x->shape.dims, *from = y->shape.dims;
    if (from[0] > to[0] || from[1] > to[1]) return;
    member *m = add(p, "put_slice", operands, 4, NULL, 0, &x->shape);
    int64_t row = clamp(p->members[operands[2]].data[0], to[0] - from[0]);
    int64_t column = clamp(p->members[operands[3]].data[0], to[1] - from[1]);
    memcpy(m->data, x->data, sizeof m->data);
    for (int64_t i = 0; i < size_of(y); i++)
        m->data[(row + i / from[1]) * to[1] + column + i % from[1]] = y->data[i];
}

static void add_reshaped(program *p, int x, const emlx_shape *shape) {
    emlx_attr attr = with_ints("shape", shape->dims, (size_t)shape->rank);
    member *m = add(p, "reshape", &x, 1, &attr, 1, shape);
    memcpy(m->data, p->members[x].data, sizeof m->data);
}

// Rows of a matrix by a pending index.
static void add_take(program *p) {
    int x = of_rank(p, 2), index = of_rank(p, 0);
    int64_t rows = p->members[x].shape.dims[0], columns = p->members[x].shape.dims[1];
    index = bounded(p, index, rows);
    int operands[2] = {x, index};
    emlx_attr axis = with_int("axis", 0);
    member *m = add(p, "take", operands, 2, &axis, 1, &(emlx_shape){1, {columns}});
    memcpy(m->data, &p->members[x].data[p->members[index].data[0] * columns],
           (size_t)columns * sizeof *m->data);
    add_reshaped(p, p->count - 1, &(emlx_shape){2, {1, columns}});
}

// One row is added to or replaced, by a pending index; the update may be a part of the target.
static void add_indexed(program *p) {
    int x = of_rank(p, 2), update = of_rank(p, 2);
    int64_t rows = p->members[x].shape.dims[0], columns = p->members[x].shape.dims[1], axis = 0;
    if (p->members[update].shape.dims[0] != 1 || p->members[update].shape.dims[1] != columns)
        return;
    int index = bounded(p, of_rank(p, 0), rows);
    add_reshaped(p, index, &(emlx_shape){2, {1, 1}});
    int operands[3] = {x, p->count - 1, update};
    bool put = draw(2);
    emlx_attr axes = with_ints("axes", &axis, 1);
    member *m =
        add(p, put ? "indexed_put" : "indexed_add", operands, 3, &axes, 1, &p->members[x].shape);
    memcpy(m->data, p->members[x].data, sizeof m->data);
    int64_t *row = &m->data[p->members[index].data[0] * columns];
    for (int64_t i = 0; i < columns; i++) row[i] = p->members[update].data[i] + (put ? 0 : row[i]);
}

static void add_fold(program *p) {
    static const char *const names[] = {"sum", "reduce_max"};
    int x = of_rank(p, 2);
    bool sum = draw(2);
    member *m = add(p, names[!sum], &x, 1, NULL, 0, &(emlx_shape){0});
    m->data[0] = p->members[x].data[0];
    for (int64_t i = 1; i < size_of(&p->members[x]); i++)
        m->data[0] = combine(sum ? '+' : '>', m->data[0], p->members[x].data[i]);
    bounded(p, p->count - 1, 3);
}

static void add_transposed(program *p) {
    int x = of_rank(p, 2);
    const int64_t axes[2] = {1, 0}, *dims = p->members[x].shape.dims;
    emlx_attr attr = with_ints("axes", axes, 2);
    member *m = add(p, "transpose", &x, 1, &attr, 1, &(emlx_shape){2, {dims[1], dims[0]}});
    for (int64_t i = 0; i < size_of(m); i++)
        m->data[i] = p->members[x].data[i % dims[0] * dims[1] + i / dims[0]];
}

static void add_joined(program *p) {
    int both[2] = {of_rank(p, 2), of_rank(p, 2)};
    const member *x = &p->members[both[0]], *y = &p->members[both[1]];
    if (x->shape.dims[1] != y->shape.dims[1] || size_of(x) + size_of(y) > SIZE) return;
    emlx_attr axis = with_int("axis", 0);
    emlx_shape shape = {2, {x->shape.dims[0] + y->shape.dims[0], x->shape.dims[1]}};
    member *m = add(p, "concatenate", both, 2, &axis, 1, &shape);
    memcpy(m->data, x->data, (size_t)size_of(x) * sizeof *m->data);
    memcpy(m->data + size_of(x), y->data, (size_t)size_of(y) * sizeof *m->data);
}

static void add_scan(program *p) {
    int x = of_rank(p, 2);
    int64_t columns = p->members[x].shape.dims[1];
    emlx_attr axis = with_int("axis", 1);
    member *m = add(p, "cumulative_sum", &x, 1, &axis, 1, &p->members[x].shape);
    for (int64_t i = 0; i < size_of(m); i++)
        m->data[i] = p->members[x].data[i] + (i % columns > 0 ? m->data[i - 1] : 0);
    bounded(p, p->count - 1, BOUND);
}

// Running and comparing --------------------------------------------------------------------------

static void compare_member(const void *context, int which, emlx_tensor *tensor) {
    const program *p = context;
    const member *m = &p->members[which];
    double *values = values_of(tensor);
    for (int64_t i = 0; i < size_of(m); i++) {
        if (values[i] == (double)m->data[i]) continue;
        for (int t = LEAVES; t < p->count; t++) print_message("%s\n", p->trace[t]);
        fail_msg("value %d, element %lld: %g instead of %lld", which, (long long)i, values[i],
                 (long long)m->data[i]);
    }
    free(values);
}

static void evaluate(program *p, bool drop) {
    emlx_tensor **tensors[sizeof p->members / sizeof *p->members];
    for (int i = 0; i < p->count; i++) tensors[i] = &p->members[i].tensor;
    evaluate_some(tensors, p->count, drop ? 4 : 0, compare_member, p);
}

static void (*const steps[])(program *) = {
    add_binary, add_binary,     add_slice,  add_put_slice, add_take, add_fold,
    add_fold,   add_transposed, add_joined, add_indexed,   add_scan,
};

static void run_seed(uint32_t seed) {
    static program p;
    draw_seed(seed);
    p.count = 0;
    add_leaf(&p, 0, 1, 1, 3);
    add_leaf(&p, 2, 1 + draw(4), 1 + draw(4), BOUND);
    add_leaf(&p, 2, 1 + draw(4), 1 + draw(4), BOUND);
    add_leaf(&p, 0, 1, 1, 3);
    for (int i = 0; i < STEPS; i++) steps[draw(sizeof steps / sizeof *steps)](&p);
    evaluate(&p, seed % 2 == 0);
    for (int i = 0; i < p.count; i++) emlx_tensor_release(p.members[i].tensor);
}

static void pending_indices(void **unused) {
    (void)unused;
    for (uint32_t seed = 1; seed <= PROGRAMS; seed++) run_seed(seed);
}

// t[k] of a list.
static emlx_tensor *element(emlx_tensor *t, emlx_tensor *k) {
    const int64_t one = 1;
    emlx_tensor *in[2] = {t, k};
    emlx_attr length = with_ints("lengths", &one, 1), scalar = with_ints("shape", NULL, 0);
    emlx_tensor *slice = apply_to("slice", in, 2, &length, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *out = apply_to("reshape", &slice, 1, &scalar, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(slice);
    return out;
}

static void assert_values(emlx_tensor *t, const double *expected, size_t count) {
    double *values = values_of(t);
    for (size_t i = 0; i < count; i++) assert_int_equal(values[i], expected[i]);
    free(values);
}

// A pending start is used as an operand too; a pending base is read at a start and as it is. In
// `t[k] + k` and `a + a[k]` nothing may read k or a in the kernel that computes them.
static void a_start_is_complete_before_it_is_used(void **unused) {
    (void)unused;
    const double list[] = {10, 20, 30, 40}, one[] = {1};
    const emlx_shape four = {1, {4}}, scalar = {0};
    emlx_tensor *t = tensor_of(EMLX_S64, &four, list), *i = tensor_of(EMLX_S64, &scalar, one);
    emlx_tensor *k = apply_two("add", i, i), *a = apply_two("multiply", t, k);
    emlx_tensor *at = element(t, k), *sum = apply_two("add", at, k);
    emlx_tensor *ak = element(a, i), *sums = apply_two("add", a, ak);
    emlx_tensor_release(a);
    emlx_tensor_release(k);
    assert_values(sums, (double[]){60, 80, 100, 120}, 4);
    assert_values(sum, (double[]){32}, 1);
    emlx_tensor *left[] = {t, i, at, sum, ak, sums};
    for (int n = 0; n < 6; n++) emlx_tensor_release(left[n]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_is_complete_before_it_is_used),
        cmocka_unit_test(pending_indices),
    };
    return RUN_ON_CPU("plan/indices", tests);
}
