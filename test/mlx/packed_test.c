// SPDX-License-Identifier: Apache-2.0
// packed_test.c - products with weights of few bits: formats that are MLX's own reach its function
// for them, others its primitives, and both give what our engine does; on MLX's CPU and on its
// GPU, where there are. MLX is what EMLX_MLX_ADAPTER names, or the adapter of plain loops.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensors.h"

enum { ROWS = 24, TERMS = 256, VECTORS = 3 };

static emlx_device *ours, *theirs;

// The nodes of plans that MLX was given.
static size_t nodes;

static void count_nodes(void *context, const emlx_event *event) {
    (void)context;
    if (event->kind == EMLX_EVENT_COMPILED && strncmp(event->device, "mlx", 3) == 0)
        nodes += event->count;
}

static emlx_tensor *there(emlx_tensor *t) {
    emlx_error err;
    emlx_tensor *copy;
    assert_ok(emlx_tensor_copy(t, theirs, &copy, &err), err);
    return copy;
}

// A product, of the last axes or of the weights' transpose, computed on a device. Ours is that of
// unpacked weights: with packed ones our engine rounds the other side to 16 bits.
static double *product(emlx_device *device, emlx_tensor *x, emlx_tensor *const *parts, size_t count,
                       const emlx_attr *format, bool turned) {
    const int64_t axes[] = {1, 0}, last[] = {emlx_tensor_shape(x)->rank - 1}, right[] = {!turned};
    const emlx_attr turn = with_ints("axes", axes, 2);
    const emlx_attr attrs[] = {with_ints("contract_left", last, 1),
                               with_ints("contract_right", right, 1),
                               with_ints("batch_left", NULL, 0), with_ints("batch_right", NULL, 0)};
    test_device = device;
    emlx_tensor *w = apply_to("dequantize", parts, count, format, 3, EMLX_TYPE_DEFAULT);
    emlx_error err;
    if (device == ours) assert_ok(emlx_eval(&w, 1, &err), err);
    emlx_tensor *sides[] = {x, turned ? apply_to("transpose", &w, 1, &turn, 1, EMLX_TYPE_DEFAULT)
                                      : emlx_tensor_retain(w)};
    emlx_tensor *y = apply_to("dot", sides, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    double *values = values_of(y);
    emlx_tensor_release(w);
    emlx_tensor_release(sides[1]);
    emlx_tensor_release(y);
    return values;
}

typedef struct format {
    const char *mode;
    int64_t bits, group;
    size_t parts;
    bool whole; // MLX has it
} format;

static const format formats[] = {
    {"affine", 2, 32, 3, true}, {"affine", 3, 64, 3, true}, {"affine", 4, 128, 3, true},
    {"affine", 4, 64, 3, true}, {"affine", 6, 32, 3, true}, {"affine", 8, 64, 3, true},
    {"mxfp4", 4, 32, 2, true},  {"mxfp8", 8, 32, 2, true},  {"nvfp4", 4, 16, 2, true},
    {"q4_0", 4, 32, 1, false},  {"q8_0", 8, 32, 1, false},
};

// Sums of narrow floats are rounded at the end, here and there.
static void compare(const format *f, emlx_type type, const double *a, const double *b,
                    int64_t count, double size) {
    double step = type == EMLX_F32 ? 0x1p-17 : type == EMLX_F16 ? 0x1p-9 : 0x1p-6;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= size * step))
            fail_msg("%s of %d bits, %s: element %d is %g, %g with MLX", f->mode, (int)f->bits,
                     emlx_type_name(type), (int)i, a[i], b[i]);
}

static double largest(const double *values, int64_t count) {
    double size = 0;
    for (int64_t i = 0; i < count; i++) size = fmax(size, fabs(values[i]));
    return size;
}

static void check(const format *f, emlx_type type, const emlx_shape *shape, bool turned) {
    const emlx_shape matrix = {2, {ROWS, TERMS}};
    const emlx_attr attrs[] = {with_text("mode", f->mode), with_int("bits", f->bits),
                               with_int("group_size", f->group)};
    emlx_error err;
    emlx_tensor *parts[3], *copies[3];
    test_device = ours;
    emlx_tensor *weights = random_tensor(type, &matrix, -2, 2),
                *x = random_tensor(type, shape, -2, 2);
    assert_ok(emlx_apply(emlx_op_find("quantize"), ours, &weights, 1, attrs, 3, EMLX_TYPE_DEFAULT,
                         parts, &err),
              err);
    for (size_t i = 0; i < f->parts; i++) copies[i] = there(parts[i]);
    emlx_tensor *copy = there(x);
    double *a = product(ours, x, parts, f->parts, attrs, turned);
    nodes = 0;
    double *b = product(theirs, copy, copies, f->parts, attrs, turned);
    int64_t count = emlx_shape_count(shape) / TERMS * ROWS;
    compare(f, type, a, b, count, largest(a, count));
    // One node, beside what it reads and a cast of the result.
    if (nodes > 0 && (nodes <= f->parts + 3) != f->whole)
        fail_msg("%s, %s, rank %d: MLX was given %zu nodes", f->mode, emlx_type_name(type),
                 shape->rank, nodes);
    free(a);
    free(b);
    for (size_t i = 0; i < 3; i++) emlx_tensor_release(parts[i]);
    for (size_t i = 0; i < f->parts; i++) emlx_tensor_release(copies[i]);
    emlx_tensor_release(weights);
    emlx_tensor_release(x);
    emlx_tensor_release(copy);
}

static void products_are_ours(void **state) {
    static const emlx_type types[] = {EMLX_F32, EMLX_BF16, EMLX_F16};
    const emlx_shape shapes[] = {{2, {VECTORS, TERMS}}, {1, {TERMS}}, {3, {2, VECTORS, TERMS}}};
    size_t given = 0;
    (void)state;
    if (theirs == NULL) skip();
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (size_t t = 0; t < 3; t++)
            for (size_t s = 0; s < 3; s++) {
                check(&formats[f], types[t], &shapes[s], s == 0 && t == 0);
                given += nodes;
            }
    assert_true(given > 0);
}

// Devices ----------------------------------------------------------------------------------------

static int open_devices(const char *name) {
    emlx_error err;
    emlx_observe(count_nodes, NULL);
    assert_ok(emlx_device_open("cpu", &ours, &err), err);
    if (emlx_device_open(name, &theirs, &err) != EMLX_OK) theirs = NULL;
    return 0;
}

static int open_cpu(void **state) {
    (void)state;
    return open_devices("mlx-cpu");
}
static int open_gpu(void **state) {
    (void)state;
    return open_devices("mlx");
}

static int close_devices(void **state) {
    (void)state;
    emlx_observe(NULL, NULL);
    emlx_device_release(ours);
    emlx_device_release(theirs);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(products_are_ours, open_cpu, close_devices),
        cmocka_unit_test_setup_teardown(products_are_ours, open_gpu, close_devices),
    };
    use_plain_mlx(argc > 0 ? argv[0] : "");
    return RUN_TESTS("mlx/packed", tests);
}
