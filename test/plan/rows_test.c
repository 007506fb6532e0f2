// SPDX-License-Identifier: Apache-2.0
// rows_test.c - random chains of folds and maps along the same axes, which become kernels of rows:
// whole numbers against plain loops, and others against the same chains computed fold by fold.
#include <complex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "plan/cache.h"
#include "tensors.h"

enum { PROGRAMS = 6000, STEPS = 10, MOST = 64, RANK = 3, MOST_ELEMENTS = 6000 };

// A tensor, what its elements are, and how large their parts may be.
typedef struct member {
    emlx_tensor *tensor;
    emlx_shape shape;
    double bound;
    complex double *data;
} member;

typedef struct program {
    emlx_type type;
    member members[MOST];
    char trace[MOST][64];
    int count;
} program;

static int64_t size_of(const member *m) { return emlx_shape_count(&m->shape); }

static bool is_complex(emlx_type type) { return type == EMLX_C64 || type == EMLX_C128; }

// Whole numbers up to this are exact in the type.
static double limit_of(emlx_type type) {
    switch (type) {
    case EMLX_BF16: return 256;
    case EMLX_F16: return 2048;
    case EMLX_U8: return 255;
    case EMLX_S8: return 127;
    case EMLX_S32: return 1 << 30;
    case EMLX_U32: return 1 << 30;
    default: return 1 << 24;
    }
}

static member *add(program *p, const char *op, const int *operands, size_t count,
                   const emlx_attr *attrs, size_t attr_count) {
    emlx_tensor *in[2];
    member *m = &p->members[p->count];
    for (size_t i = 0; i < count; i++) in[i] = p->members[operands[i]].tensor;
    m->tensor = apply_to(op, in, count, attrs, attr_count, EMLX_TYPE_DEFAULT);
    m->shape = *emlx_tensor_shape(m->tensor);
    m->data = calloc((size_t)size_of(m) + 1, sizeof *m->data);
    assert_non_null(m->data);
    snprintf(p->trace[p->count], sizeof p->trace[0], "%d = %s(%d, %d) of rank %d", p->count, op,
             operands[0], count > 1 ? operands[1] : -1, m->shape.rank);
    p->count++;
    return m;
}

static void add_leaf(program *p, const emlx_shape *shape, double bound) {
    member *m = &p->members[p->count];
    int64_t count = emlx_shape_count(shape);
    int parts = is_complex(p->type) ? 2 : 1;
    double *values = calloc((size_t)count * 2 + 1, sizeof *values);
    *m = (member){.shape = *shape, .bound = bound};
    m->data = calloc((size_t)count + 1, sizeof *m->data);
    assert_true(values != NULL && m->data != NULL);
    if (values == NULL || m->data == NULL) {
        free(values);
        return;
    }
    for (int64_t i = 0; i < count * parts; i++) values[i] = draw((uint32_t)bound + 1);
    for (int64_t i = 0; i < count; i++)
        m->data[i] = parts == 2 ? values[2 * i] + I * values[2 * i + 1] : values[i];
    m->tensor = tensor_of(p->type, shape, values);
    free(values);
    snprintf(p->trace[p->count], sizeof p->trace[0], "%d: %lld %lld %lld", p->count,
             (long long)shape->dims[0], (long long)shape->dims[1], (long long)shape->dims[2]);
    p->count++;
}

// Element i of a result is made of this element of an operand that stretches to it.
static int64_t stretched(const emlx_shape *to, const emlx_shape *from, int64_t i) {
    int64_t index[EMLX_MAX_RANK], part[EMLX_MAX_RANK];
    unravel(to, i, index);
    for (int32_t d = 0; d < from->rank; d++)
        part[d] = from->dims[d] == 1 ? 0 : index[d + to->rank - from->rank];
    return ravel(from, part);
}

static bool stretches(const emlx_shape *from, const emlx_shape *to) {
    bool fits = from->rank <= to->rank;
    for (int32_t d = 0; d < from->rank && fits; d++)
        fits = from->dims[d] == 1 || from->dims[d] == to->dims[d + to->rank - from->rank];
    return fits;
}

// Maps --------------------------------------------------------------------------------------------

static complex double combine(char what, complex double a, complex double b) {
    switch (what) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * b;
    case '>': return creal(a) > creal(b) ? a : b;
    default: return creal(a) < creal(b) ? a : b;
    }
}

static const struct {
    const char *op;
    char what;
} binaries[] = {{"add", '+'}, {"subtract", '-'}, {"multiply", '*'}, {"max", '>'}, {"min", '<'}};

// Where numbers would grow too large the lower one is taken, and of complex ones neither.
static int add_binary(program *p, int x, int y) {
    uint32_t which = draw(is_complex(p->type) ? 3 : 5);
    double a = p->members[x].bound, b = p->members[y].bound;
    double bound = binaries[which].what == '*' ? 2 * a * b : a + b;
    bool is_unsigned = p->type == EMLX_U8 || p->type == EMLX_U32;
    if (binaries[which].what == '-' && is_unsigned) which = 0;
    if (bound > limit_of(p->type) && is_complex(p->type)) return x;
    if (bound > limit_of(p->type)) which = 4;
    int both[2] = {x, y};
    member *m = add(p, binaries[which].op, both, 2, NULL, 0);
    m->bound = which >= 3 ? (a > b ? a : b) : bound;
    for (int64_t i = 0; i < size_of(m); i++)
        m->data[i] = combine(binaries[which].what,
                             p->members[x].data[stretched(&m->shape, &p->members[x].shape, i)],
                             p->members[y].data[stretched(&m->shape, &p->members[y].shape, i)]);
    return p->count - 1;
}

// Another view of a member: turned, reversed, or every second element of an axis.
static int add_view(program *p, int x) {
    const emlx_shape *from = &p->members[x].shape;
    int32_t rank = from->rank, turn = rank > 1 ? (int32_t)draw((uint32_t)rank) : 0;
    int64_t axes[RANK] = {0}, starts[RANK] = {0}, lengths[RANK], strides[RANK], one = 0;
    if (rank == 0 || emlx_shape_count(from) == 0) return x;
    uint32_t which = draw(3);
    for (int32_t d = 0; d < rank; d++) {
        axes[d] = (d + turn) % rank;
        strides[d] = 1 + draw(2);
        lengths[d] = (from->dims[d] - 1) / strides[d] * strides[d] + 1;
    }
    one = draw((uint32_t)rank);
    emlx_attr attrs[3] = {with_ints("axes", which == 0 ? axes : &one, which == 0 ? rank : 1)};
    if (which == 2) {
        attrs[0] = with_ints("starts", starts, (size_t)rank);
        attrs[1] = with_ints("lengths", lengths, (size_t)rank);
        attrs[2] = with_ints("strides", strides, (size_t)rank);
    }
    static const char *const names[] = {"transpose", "reverse", "slice"};
    member *m = add(p, names[which], &x, 1, attrs, which == 2 ? 3 : 1);
    m->bound = p->members[x].bound;
    for (int64_t i = 0; i < size_of(m); i++) {
        int64_t to[EMLX_MAX_RANK], at[EMLX_MAX_RANK];
        unravel(&m->shape, i, to);
        for (int32_t d = 0; d < rank; d++) {
            if (which == 0) at[axes[d]] = to[d];
            if (which == 1) at[d] = d == one ? from->dims[d] - 1 - to[d] : to[d];
            if (which == 2) at[d] = to[d] * strides[d];
        }
        m->data[i] = p->members[x].data[ravel(&p->members[x].shape, at)];
    }
    return p->count - 1;
}

// Folds -------------------------------------------------------------------------------------------

static int add_reshaped(program *p, int x, const emlx_shape *shape) {
    emlx_attr attr = with_ints("shape", shape->dims, (size_t)shape->rank);
    member *m = add(p, "reshape", &x, 1, &attr, 1);
    m->bound = p->members[x].bound;
    memcpy(m->data, p->members[x].data, (size_t)size_of(m) * sizeof *m->data);
    return p->count - 1;
}

static void fold_data(member *m, const member *from, const emlx_shape *kept, uint32_t which) {
    bool *begun = calloc((size_t)size_of(m) + 1, 1);
    assert_non_null(begun);
    for (int64_t i = 0; i < size_of(from); i++) {
        int64_t index[EMLX_MAX_RANK];
        unravel(&from->shape, i, index);
        for (int32_t d = 0; d < kept->rank; d++) index[d] = kept->dims[d] == 1 ? 0 : index[d];
        int64_t cell = ravel(kept, index);
        char what = which == 0 ? '+' : which == 1 ? '>' : '<';
        m->data[cell] = begun[cell] ? combine(what, m->data[cell], from->data[i]) : from->data[i];
        begun[cell] = true;
    }
    free(begun);
}

// A sum, or where that would be too large the highest or lowest. The result stretches to x.
static int add_fold(program *p, int x, const int64_t *axes, size_t count) {
    static const char *const names[] = {"sum", "reduce_max", "reduce_min"};
    emlx_shape kept = p->members[x].shape;
    double folded = 1;
    for (size_t i = 0; i < count; i++) {
        folded *= (double)kept.dims[axes[i]];
        kept.dims[axes[i]] = 1;
    }
    uint32_t which = is_complex(p->type) ? 0 : draw(3);
    double bound = p->members[x].bound * folded;
    if (bound > limit_of(p->type) && is_complex(p->type)) return x;
    if (bound > limit_of(p->type)) which = 1;
    if (which > 0 && size_of(&p->members[x]) == 0) return x;
    bool keep = draw(2);
    emlx_attr attrs[2] = {with_ints("axes", axes, count), with_bool("keep_axes", keep)};
    member *m = add(p, names[which], &x, 1, attrs, 2);
    m->bound = which == 0 ? bound : p->members[x].bound;
    fold_data(m, &p->members[x], &kept, which);
    return keep ? p->count - 1 : add_reshaped(p, p->count - 1, &kept);
}

// Programs ----------------------------------------------------------------------------------------

static int any(const program *p) { return (int)draw((uint32_t)p->count); }

static int operand_for(const program *p, int x) {
    for (;;) {
        int y = any(p);
        if (stretches(&p->members[y].shape, &p->members[x].shape)) return y;
    }
}

// Folds along the same axes, each of what the ones before it and their operands give.
static void add_chain(program *p) {
    int x = any(p), last = -1;
    int32_t rank = p->members[x].shape.rank;
    int64_t axes[RANK];
    size_t count = 0;
    uint32_t chosen = draw(1u << rank);
    for (int32_t d = 0; d < rank; d++)
        if (chosen >> d & 1) axes[count++] = d;
    for (uint32_t length = 1 + draw(3); length > 0 && p->count + 8 < MOST; length--) {
        if (draw(4) == 0) x = add_binary(p, x, operand_for(p, x));
        int fold = count > 0 ? add_fold(p, x, axes, count) : x;
        if (draw(4) == 0 && last >= 0) fold = add_binary(p, fold, last);
        x = add_binary(p, x, fold);
        last = fold;
    }
}

static void add_step(program *p) {
    int x = any(p);
    if (p->count + 12 >= MOST) return;
    switch (draw(6)) {
    case 0: add_view(p, x); break;
    case 1: add_binary(p, x, operand_for(p, x)); break;
    default: add_chain(p);
    }
}

static void compare(const void *context, int which, emlx_tensor *tensor) {
    const program *p = context;
    const member *m = &p->members[which];
    int parts = is_complex(emlx_tensor_type(tensor)) ? 2 : 1;
    double *values = values_of(tensor);
    for (int64_t i = 0; i < size_of(m) * parts; i++) {
        double wanted = i % parts == 1 ? cimag(m->data[i / parts]) : creal(m->data[i / parts]);
        if (values[i] == wanted) continue;
        for (int t = 0; t < p->count; t++) print_message("%s\n", p->trace[t]);
        fail_msg("%s: value %d, number %lld: %g instead of %g", emlx_type_name(p->type), which,
                 (long long)i, values[i], wanted);
    }
    free(values);
}

static void evaluate(program *p, bool drop) {
    emlx_tensor **tensors[sizeof p->members / sizeof *p->members];
    for (int i = 0; i < p->count; i++) tensors[i] = &p->members[i].tensor;
    evaluate_some(tensors, p->count, drop ? 8 : 0, compare, p);
}

// Mostly short rows, now and then longer ones than a tile, or none.
static emlx_shape draw_shape(uint32_t seed) {
    emlx_shape shape = {RANK, {1 + draw(4), 1 + draw(5), 1 + draw(9)}};
    int32_t axis = (int32_t)draw(RANK);
    if (seed % 8 == 0) shape.dims[axis] = 15 + draw(90);
    if (seed % 64 == 1) shape.dims[axis] = 500 + draw(1500);
    if (seed % 64 == 2) shape.dims[axis] = 0;
    while (emlx_shape_count(&shape) > MOST_ELEMENTS)
        for (int32_t d = 0; d < RANK; d++)
            if (d != axis && shape.dims[d] > 1) shape.dims[d]--;
    return shape;
}

static void begin(program *p, emlx_type type, const emlx_shape *shape, double bound) {
    emlx_shape row = {1, {shape->dims[RANK - 1]}};
    p->type = type;
    p->count = 0;
    add_leaf(p, shape, bound);
    add_leaf(p, shape, bound);
    add_leaf(p, &row, bound);
}

static void end(program *p) {
    for (int i = 0; i < p->count; i++) {
        emlx_tensor_release(p->members[i].tensor);
        free(p->members[i].data);
    }
}

static void whole_numbers(void **unused) {
    (void)unused;
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_BF16, EMLX_F16, EMLX_S32,
                                      EMLX_U8,  EMLX_S8,  EMLX_U32,  EMLX_C64, EMLX_C128};
    static program p;
    for (uint32_t seed = 1; seed <= PROGRAMS; seed++) {
        draw_seed(seed);
        emlx_shape shape = draw_shape(seed);
        begin(&p, types[seed % (sizeof types / sizeof *types)], &shape, 3);
        for (int i = 0; i < STEPS; i++) add_step(&p);
        evaluate(&p, seed % 2 == 0);
        end(&p);
    }
}

// Fractions ---------------------------------------------------------------------------------------

// softmax, a norm, the logarithm of a sum of exponentials, and where the highest of one is.
static void functions(emlx_tensor *x, int64_t axis, emlx_tensor *out[4]) {
    emlx_attr attrs[2] = {with_ints("axes", &axis, 1), with_bool("keep_axes", true)};
    emlx_attr at = with_int("axis", axis);
    emlx_tensor *t[12];
    t[0] = apply_to("reduce_max", &x, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    t[1] = apply_two("subtract", x, t[0]);
    t[2] = apply_to("exp", &t[1], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    t[3] = apply_to("sum", &t[2], 1, attrs, 2, EMLX_TYPE_DEFAULT);
    out[0] = apply_two("divide", t[2], t[3]);
    t[4] = apply_to("log", &t[3], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    out[1] = apply_two("add", t[4], t[0]);
    t[5] = apply_to("sum", &x, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    t[6] = apply_two("subtract", x, t[5]);
    t[7] = apply_two("multiply", t[6], t[6]);
    t[8] = apply_to("sum", &t[7], 1, attrs, 2, EMLX_TYPE_DEFAULT);
    t[9] = apply_to("rsqrt", &t[8], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    out[2] = apply_two("multiply", t[6], t[9]);
    out[3] = apply_to("argmax", &out[2], 1, &at, 1, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 10; i++) emlx_tensor_release(t[i]);
}

static void assert_same_bits(emlx_tensor *a, emlx_tensor *b) {
    size_t size = emlx_tensor_bytes(a);
    char *x = malloc(size + 1), *y = malloc(size + 1);
    emlx_error err;
    assert_true(x != NULL && y != NULL);
    assert_ok(emlx_tensor_read(a, 0, x, size, &err), err);
    assert_ok(emlx_tensor_read(b, 0, y, size, &err), err);
    assert_memory_equal(x, y, size);
    free(x);
    free(y);
}

static void compare_functions(emlx_device *plain, emlx_type type, const emlx_shape *shape,
                              int64_t axis, const double *values) {
    emlx_device *own = test_device, *devices[2] = {own, plain};
    emlx_tensor *x[2], *out[2][4];
    emlx_error err;
    for (int i = 0; i < 2; i++) {
        test_device = devices[i];
        x[i] = tensor_of(type, shape, values);
        functions(x[i], axis, out[i]);
        assert_ok(emlx_eval(out[i], 4, &err), err);
    }
    test_device = own;
    for (int n = 0; n < 4; n++) assert_same_bits(out[0][n], out[1][n]);
    for (int i = 0; i < 2; i++) {
        emlx_tensor_release(x[i]);
        for (int n = 0; n < 4; n++) emlx_tensor_release(out[i][n]);
    }
}

// The same bits as from kernels of their own: in rows of all lengths around a tile's.
static void fractions(void **unused) {
    (void)unused;
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_BF16, EMLX_F16};
    static const int64_t lengths[] = {2,   3,   7,   15,   16,   17,   31,   32,  33,
                                      63,  64,  65,  127,  128,  130,  300,  511, 512,
                                      513, 700, 999, 1024, 1025, 2048, 3000, 5000};
    engine_ops ops = *test_device->ops;
    emlx_device plain = *test_device;
    ops.rows = NULL;
    plain.ops = &ops;
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t rows = 1 + (lengths[i] < 100 ? draw(90) : draw(5));
        int64_t axis = draw(5) == 0 ? 0 : 1;
        emlx_shape shape = {2, {rows, lengths[i]}};
        double *values = malloc((size_t)(rows * lengths[i]) * sizeof *values);
        assert_non_null(values);
        for (int64_t n = 0; n < rows * lengths[i]; n++) values[n] = draw(10000) / 1000.0 - 5;
        compare_functions(&plain, types[i % 4], &shape, axis, values);
        compare_functions(&plain, EMLX_F32, &shape, 1, values);
        free(values);
    }
    plan_cache_clear(&plain);
}

// A kept plan takes about what its kernels do: not what they were made in, nor room to grow.
static void plans_are_small(void **unused) {
    (void)unused;
    enum { LAYERS = 40, OPS = 6 * LAYERS, MOST_BYTES = 2200 * OPS };
    emlx_shape shape = {1, {5}};
    const double values[5] = {1, 2, 3, 4, 5};
    emlx_tensor *x = tensor_of(EMLX_F32, &shape, values);
    plan_cache_clear(test_device);
    size_t held = mem_held();
    emlx_tensor *next = emlx_tensor_retain(x);
    for (int i = 0; i < LAYERS; i++) {
        emlx_tensor *t[OPS / LAYERS];
        t[0] = apply_to("sum", &next, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        t[1] = apply_two("subtract", next, t[0]);
        t[2] = apply_two("multiply", t[1], t[1]);
        t[3] = apply_to("sum", &t[2], 1, NULL, 0, EMLX_TYPE_DEFAULT);
        t[4] = apply_two("divide", t[1], t[3]);
        t[5] = apply_two("add", t[4], next);
        emlx_tensor_release(next);
        next = t[5];
        for (int n = 0; n < 5; n++) emlx_tensor_release(t[n]);
    }
    emlx_error err;
    assert_ok(emlx_eval(&next, 1, &err), err);
    emlx_tensor_release(next);
    assert_true(mem_held() - held < MOST_BYTES);
    emlx_tensor_release(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_small),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(fractions),
    };
    return RUN_ON_CPU("plan/rows", tests);
}
