// SPDX-License-Identifier: Apache-2.0
// fusion_test.c - planning many ops together gives what computing them one by one gives, on random
// graphs of every kind of primitive.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "program/programs.h"
#include "tensors.h"

enum { GRAPHS = 400, OPS = 40, START = 4, MOST = START + OPS };

// Every tensor twice: as part of a growing graph, and computed at once.
typedef struct pair {
    emlx_tensor *lazy, *eager;
} pair;

typedef struct forest {
    pair pairs[MOST];
    char trace[MOST][96];
    int count;
} forest;

// How often each op was tried and applied, over all graphs.
enum { MOST_NAMES = 64 };
static struct {
    const char *name;
    int tried, applied;
} counts[MOST_NAMES];

static int count_of(const char *name) {
    for (int i = 0; i < MOST_NAMES; i++) {
        if (counts[i].name == NULL) counts[i].name = name;
        if (strcmp(counts[i].name, name) == 0) return i;
    }
    fail_msg("more than %d ops", MOST_NAMES);
    return 0;
}

// The primitives that ops were made of: a few nodes each.
static bool met[PRIM_COUNT];

static void meet(const emlx_tensor *t, int depth) {
    if (emlx_tensor_ready(t)) return;
    met[t->primitive] = true;
    for (uint32_t i = 0; i < t->input_count && depth > 0; i++) meet(t->inputs[i], depth - 1);
}

static void must(emlx_status status, const emlx_error *err) {
    if (status != EMLX_OK) fail_msg("%s", err->message);
}

// Applies an op to members of the forest; shapes that do not fit are let pass.
static void grow(forest *f, const char *name, const int *operands, size_t count,
                 const emlx_attr *attrs, size_t attr_count) {
    emlx_error err;
    emlx_tensor *lazy[4], *eager[4];
    pair *new = &f->pairs[f->count];
    const emlx_op *op = emlx_op_find(name);
    assert_non_null(op);
    int counted = count_of(name);
    counts[counted].tried++;
    if (f->count == MOST) return;
    for (size_t i = 0; i < count; i++) {
        lazy[i] = f->pairs[operands[i]].lazy;
        eager[i] = f->pairs[operands[i]].eager;
    }
    if (emlx_apply(op, test_device, lazy, count, attrs, attr_count, EMLX_TYPE_DEFAULT, &new->lazy,
                   &err) != EMLX_OK)
        return;
    must(emlx_apply(op, test_device, eager, count, attrs, attr_count, EMLX_TYPE_DEFAULT,
                    &new->eager, &err),
         &err);
    must(emlx_eval(&new->eager, 1, &err), &err);
    counts[counted].applied++;
    meet(new->lazy, 3);
    snprintf(f->trace[f->count], sizeof f->trace[0], "%d = %s(%d, %d, %d)", f->count, name,
             count > 0 ? operands[0] : -1, count > 1 ? operands[1] : -1,
             count > 2 ? operands[2] : -1);
    f->count++;
}

static pair leaf(emlx_type type, const emlx_shape *shape) {
    pair p;
    emlx_error err;
    size_t size = (size_t)emlx_shape_count(shape) * emlx_type_size(type);
    char *data = malloc(size + 1);
    for (size_t i = 0; i < size / emlx_type_size(type); i++) {
        if (type == EMLX_F32) ((float *)(void *)data)[i] = (float)draw(2000) / 500 - 2;
        if (type == EMLX_S32) ((int32_t *)(void *)data)[i] = (int32_t)draw(7) - 3;
        if (type == EMLX_U8) ((uint8_t *)data)[i] = (uint8_t)draw(3);
        if (type == EMLX_S64) ((int64_t *)(void *)data)[i] = (int64_t)draw(3);
    }
    must(emlx_tensor_from_data(test_device, type, shape, data, size, &p.lazy, &err), &err);
    p.eager = emlx_tensor_retain(p.lazy);
    free(data);
    return p;
}

static const emlx_shape *shape_at(const forest *f, int i) {
    return emlx_tensor_shape(f->pairs[i].lazy);
}

static void grow_view(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    int64_t list[3 * EMLX_MAX_RANK], lengths[EMLX_MAX_RANK], strides[EMLX_MAX_RANK];
    for (int d = 0; d < s->rank; d++) {
        lengths[d] = s->dims[d] > 1 ? 1 + draw((uint32_t)s->dims[d]) : s->dims[d];
        list[d] = lengths[d] < s->dims[d] ? draw((uint32_t)(s->dims[d] - lengths[d] + 1)) : 0;
        strides[d] = 1 + draw(2);
    }
    emlx_attr slice[3] = {with_ints("starts", list, (size_t)s->rank),
                          with_ints("lengths", lengths, (size_t)s->rank),
                          with_ints("strides", strides, (size_t)s->rank)};
    if (draw(2) == 0) {
        grow(f, "slice", &x, 1, slice, 3);
        return;
    }
    for (int d = 0; d < s->rank; d++) list[d] = (d + 1) % s->rank;
    emlx_attr axes = with_ints("axes", list, (size_t)s->rank);
    if (draw(2) == 0)
        grow(f, "transpose", &x, 1, &axes, 1);
    else if (s->rank > 0) {
        axes.count = 1;
        grow(f, "reverse", &x, 1, &axes, 1);
    }
}

static void grow_shape(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    int64_t dims[EMLX_MAX_RANK + 2] = {0}, axes[EMLX_MAX_RANK];
    if (draw(2) == 0) {
        int64_t count = emlx_shape_count(s);
        dims[0] = count % 2 == 0 ? 2 : 1;
        dims[1] = count / dims[0];
        emlx_attr shape = with_ints("shape", dims, 2);
        grow(f, "reshape", &x, 1, &shape, 1);
        return;
    }
    if (draw(4) == 0) {
        emlx_attr shape = with_ints("shape", s->dims, (size_t)s->rank);
        grow(f, "iota", NULL, 0, &shape, 1);
        return;
    }
    if (s->rank > 3) return;
    dims[0] = 1 + draw(3);
    for (int d = 0; d < s->rank; d++) {
        dims[d + 1] = s->dims[d];
        axes[d] = d + 1;
    }
    emlx_attr attrs[2] = {with_ints("shape", dims, (size_t)s->rank + 1),
                          with_ints("axes", axes, (size_t)s->rank)};
    grow(f, "broadcast", &x, 1, attrs, 2);
}

// A fold with acc * 0.5 - e, begun with a scalar of the forest: as steps, or with a sum inside as
// something that is called.
static void grow_custom(forest *f, int x, int64_t axis, bool called) {
    int both[2] = {x, 2};
    emlx_error err;
    emlx_block *b = new_block();
    emlx_attr attrs[2] = {{.name = "function", .kind = EMLX_ATTR_FUNCTION},
                          with_ints("axes", &axis, 1)};
    uint32_t e = input(b, NULL, emlx_tensor_type(f->pairs[x].lazy), 0);
    uint32_t half = op(b, "multiply", 2, input(b, NULL, EMLX_F32, 0), real_constant(b, 0.5));
    if (called) half = op(b, "sum", 1, half);
    output(b, NULL, op(b, "subtract", 2, half, e));
    must(emlx_function_new(b, &attrs[0].function, &err), &err);
    for (int i = 0; i < f->count; i++)
        if (shape_at(f, i)->rank == 0 && emlx_tensor_type(f->pairs[i].lazy) == EMLX_F32)
            both[1] = i;
    grow(f, "reduce", both, 2, attrs, 2);
    emlx_function_release(attrs[0].function);
}

static void grow_reduce(forest *f, int x) {
    static const char *const names[] = {"sum", "reduce_max", "reduce_min", "any", "argmax"};
    const emlx_shape *s = shape_at(f, x);
    if (s->rank == 0) return;
    int64_t axis = draw((uint32_t)s->rank);
    uint32_t which = draw(6);
    emlx_attr attrs[2] = {with_ints("axes", &axis, 1), with_bool("keep_axes", draw(2))};
    if (which < 4) {
        grow(f, names[which], &x, 1, attrs, 2);
    } else if (which == 5) {
        bool called = emlx_shape_count(s) < 500 && draw(2);
        grow_custom(f, x, axis, called);
    } else {
        attrs[0] = with_int("axis", axis);
        grow(f, names[which], &x, 1, attrs, 1);
    }
}

static void grow_write(forest *f, int x, int y) {
    const emlx_shape *s = shape_at(f, x);
    int64_t list[3 * EMLX_MAX_RANK] = {0};
    if (s->rank == 0) return;
    emlx_attr axis = with_int("axis", draw((uint32_t)s->rank));
    int both[2] = {x, draw(2) == 0 ? x : y};
    switch (draw(3)) {
    case 0: grow(f, "concatenate", both, 2, &axis, 1); break;
    case 1: {
        for (int i = 0; i < 3 * s->rank; i++)
            list[i] = i % 3 == 2 ? (int)draw(2) : (int)draw(4) - 1;
        emlx_attr padding = with_ints("padding", list, 3 * (size_t)s->rank);
        for (int i = 0; i < f->count; i++)
            if (shape_at(f, i)->rank == 0) both[1] = i;
        grow(f, "pad", both, 2, &padding, 1);
        break;
    }
    default: {
        for (int i = 0; i < s->rank; i++) list[i] = (int)draw(4) - 1;
        emlx_attr starts = with_ints("starts", list, (size_t)s->rank);
        both[1] = y;
        grow(f, "put_slice", both, 2, &starts, 1);
    }
    }
}

// Batches of matrices of 2 x 2.
static void grow_routine(forest *f, int x) {
    int64_t count = emlx_shape_count(shape_at(f, x));
    int64_t dims[3] = {count / 4, 2, 2};
    emlx_attr shape = with_ints("shape", dims, 3);
    int before = f->count;
    if (count == 0 || count % 4 != 0) return;
    grow(f, "reshape", &x, 1, &shape, 1);
    if (f->count > before) grow(f, "determinant", &before, 1, NULL, 0);
}

// Images of one channel, convolved with their own first rows.
static void grow_conv(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    int both[2] = {f->count, f->count + 1}, before = f->count;
    if (s->rank != 2 || s->dims[0] < 2 || s->dims[1] < 2 || f->count + 3 > MOST) return;
    int64_t dims[4] = {1, 1, s->dims[0], s->dims[1]}, starts[4] = {0}, lengths[4] = {1, 1, 2, 2};
    emlx_attr shape = with_ints("shape", dims, 4);
    emlx_attr slice[2] = {with_ints("starts", starts, 4), with_ints("lengths", lengths, 4)};
    grow(f, "reshape", &x, 1, &shape, 1);
    if (f->count > before) grow(f, "slice", &both[0], 1, slice, 2);
    if (f->count == before + 2) grow(f, "conv", both, 2, NULL, 0);
}

static void grow_scatter(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    int64_t first = 0, none[2] = {0}, lengths[2] = {4, s->dims[1]};
    int three[3] = {x, START - 1, f->count};
    if (s->rank != 2 || s->dims[0] < 4) return;
    emlx_attr axes = with_ints("axes", &first, 1);
    emlx_attr slice[2] = {with_ints("starts", none, 2), with_ints("lengths", lengths, 2)};
    grow(f, "slice", &x, 1, slice, 2);
    // Where all is taken, the slice is the operand itself.
    if (f->count > three[2]) grow(f, draw(2) ? "indexed_add" : "indexed_put", three, 3, &axes, 1);
}

// Each window's winner is given the first element of its window.
static void grow_pick(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    if (s->rank != 2 || s->dims[0] < 2 || s->dims[1] < 2) return;
    int64_t two[2] = {2, 2}, none[2] = {0}, lengths[2] = {s->dims[0] / 2, s->dims[1] / 2};
    int three[3] = {x, f->count, 2};
    emlx_attr slice[2] = {with_ints("starts", none, 2), with_ints("lengths", lengths, 2)};
    emlx_attr attrs[2] = {with_ints("window", two, 2), with_ints("strides", two, 2)};
    grow(f, "slice", &x, 1, slice, 2);
    if (f->count > three[1]) grow(f, "window_scatter_max", three, 3, attrs, 2);
}

static void grow_scan(forest *f, int x) {
    static const char *const names[] = {"cumulative_sum", "cumulative_max"};
    const emlx_shape *s = shape_at(f, x);
    if (s->rank == 0) return;
    emlx_attr attrs[2] = {with_int("axis", draw((uint32_t)s->rank)), with_bool("reverse", draw(2))};
    grow(f, names[draw(2)], &x, 1, attrs, 2);
}

// What an engine may take whole.
static void grow_either(forest *f, int x) {
    const emlx_shape *s = shape_at(f, x);
    emlx_type type = emlx_tensor_type(f->pairs[x].lazy);
    int64_t axis = s->rank == 0 ? 0 : draw((uint32_t)s->rank);
    emlx_attr axes = with_ints("axes", &axis, 1);
    if (s->rank > 0 && type == EMLX_F32) grow(f, "softmax", &x, 1, &axes, 1);
}

static void grow_apart(forest *f, int x) {
    switch (draw(6)) {
    case 0: grow_routine(f, x); break;
    case 1: grow_conv(f, x); break;
    case 2: grow_scatter(f, x); break;
    case 3: grow_pick(f, x); break;
    case 4: grow_either(f, x); break;
    default: grow_scan(f, x);
    }
}

static void grow_whole(forest *f, int x, int y) {
    const emlx_shape *s = shape_at(f, x);
    if (s->rank == 0) return;
    int64_t axis = draw((uint32_t)s->rank), other = draw(2), none = 0;
    emlx_attr sort = with_int("axis", axis);
    emlx_attr dot[4] = {with_ints("contract_left", &axis, 1),
                        with_ints("contract_right", &other, 1), with_ints("batch_left", &none, 0),
                        with_ints("batch_right", &none, 0)};
    int both[2] = {x, y};
    switch (draw(3)) {
    case 0: grow(f, draw(2) ? "sort" : "argsort", &x, 1, &sort, 1); break;
    case 1: grow(f, "dot", both, 2, dot, 4); break;
    default: {
        // The last leaf holds indices from 0 to 2.
        emlx_attr axes = with_ints("axes", &axis, 1);
        both[1] = START - 1;
        if (s->dims[axis] > 2) grow(f, "gather", both, 2, &axes, 1);
    }
    }
}

static void grow_any(forest *f) {
    static const char *const unary[] = {"tanh", "negate", "abs", "logical_not", "sigmoid"};
    static const char *const binary[] = {"add", "multiply", "subtract", "max", "less", "equal"};
    int x = (int)draw((uint32_t)f->count), y = (int)draw((uint32_t)f->count);
    int operands[3] = {x, y, (int)draw((uint32_t)f->count)};
    if (emlx_shape_count(shape_at(f, x)) > 20000) return;
    switch (draw(10)) {
    case 0:
    case 1: grow(f, unary[draw(5)], &x, 1, NULL, 0); break;
    case 2:
    case 3: grow(f, binary[draw(6)], operands, 2, NULL, 0); break;
    case 4: grow_view(f, x); break;
    case 5: grow_shape(f, x); break;
    case 6: grow_reduce(f, x); break;
    case 7: grow_write(f, x, y); break;
    case 8: grow_apart(f, x); break;
    default:
        if (draw(3) == 0)
            grow(f, "select", operands, 3, NULL, 0);
        else
            grow_whole(f, x, y);
    }
}

// Sums are accumulated tile by tile and tiles differ in size, hence the tolerance for floats.
static void compare_pair(const forest *f, int which) {
    const pair *p = &f->pairs[which];
    emlx_type type = emlx_tensor_type(p->lazy);
    double *a = values_of(p->lazy), *b = values_of(p->eager);
    assert_int_equal(type, emlx_tensor_type(p->eager));
    for (int64_t i = 0; i < emlx_shape_count(emlx_tensor_shape(p->lazy)); i++) {
        double x = a[i], y = b[i];
        double slack = type == EMLX_F32 ? 1e-5 * (1 + fabs(y)) : 0;
        if (fabs(x - y) <= slack || (isnan(x) && isnan(y)) || x == y) continue;
        for (int t = START; t < f->count; t++) print_message("%s\n", f->trace[t]);
        fail_msg("value %d, element %lld: %g together, %g one by one", which, (long long)i, x, y);
    }
    free(a);
    free(b);
}

static void run_graph(uint32_t seed) {
    forest f = {.count = START};
    draw_seed(seed);
    emlx_shape shape = {2, {3 + draw(4), 2 + draw(40)}}, row = {1, {shape.dims[1]}}, scalar = {0};
    if (seed % 50 == 0) shape.dims[0] = 700;
    f.pairs[0] = leaf(EMLX_F32, &shape);
    f.pairs[1] = leaf(EMLX_S32, &row);
    f.pairs[2] = leaf(EMLX_F32, &scalar);
    emlx_shape indices = {2, {4, 1}};
    f.pairs[3] = leaf(EMLX_S64, &indices);
    for (int tries = 0; tries < 4 * OPS && f.count < MOST; tries++) grow_any(&f);
    // Dropping handles makes nodes inner ones; several roots are asked for at once.
    emlx_tensor *roots[3];
    int wanted[3];
    for (int i = 0; i < 3; i++) wanted[i] = (int)draw((uint32_t)f.count);
    wanted[0] = f.count - 1;
    for (int i = 0; i < 3; i++) roots[i] = f.pairs[wanted[i]].lazy;
    emlx_error err;
    must(emlx_eval(roots, 3, &err), &err);
    for (int i = 0; i < 3; i++) compare_pair(&f, wanted[i]);
    if (seed % 4 == 0)
        for (int i = 0; i < f.count; i++) compare_pair(&f, i);
    for (int i = 0; i < f.count; i++) {
        emlx_tensor_release(f.pairs[i].lazy);
        emlx_tensor_release(f.pairs[i].eager);
    }
}

static void fused_equals_unfused(void **unused) {
    (void)unused;
    for (uint32_t seed = 1; seed <= GRAPHS; seed++) run_graph(seed);
    for (int i = 0; i < MOST_NAMES && counts[i].name != NULL; i++) {
        print_message("%-20s %5d of %5d\n", counts[i].name, counts[i].applied, counts[i].tried);
        if (counts[i].applied < 20) fail_msg("%s was hardly ever applied", counts[i].name);
    }
    for (int p = PRIM_input + 1; p < PRIM_COUNT; p++)
        if (!met[p]) fail_msg("no %s was ever planned", primitive_table[p].name);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fused_equals_unfused)};
    return RUN_ON_CPU("plan/fusion", tests);
}
