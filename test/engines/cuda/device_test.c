// SPDX-License-Identifier: Apache-2.0
// device_test.c - kernels that take several blocks, or a way of their own for long lines, give what
// the CPU gives. Needs a device; without one the test says that it is skipped.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensors.h"

typedef emlx_tensor *(*make_fn)(const emlx_shape *shape, int64_t axis);

static emlx_device *gpu_device, *cpu_device;

static double *values_on(emlx_device *device, make_fn make, const emlx_shape *shape, int64_t axis,
                         int64_t *count) {
    test_device = device;
    draw_seed(7);
    emlx_tensor *t = make(shape, axis);
    *count = number_count(emlx_tensor_type(t), emlx_tensor_shape(t));
    double *values = values_of(t);
    emlx_tensor_release(t);
    return values;
}

// The largest difference is at most `share` of the largest number.
static void compare_devices(const char *what, make_fn make, emlx_shape shape, int64_t axis,
                            double share) {
    int64_t count, other;
    double *a = values_on(gpu_device, make, &shape, axis, &count);
    double *b = values_on(cpu_device, make, &shape, axis, &other), most = 0;
    assert_int_equal(count, other);
    for (int64_t i = 0; i < count; i++)
        if (fabs(b[i]) > most) most = fabs(b[i]);
    for (int64_t i = 0; i < count; i++) {
        bool same = isnan(a[i]) ? isnan(b[i]) : a[i] == b[i] || fabs(a[i] - b[i]) <= share * most;
        if (!same) fail_msg("%s: element %lld is %g, not %g", what, (long long)i, a[i], b[i]);
    }
    free(a);
    free(b);
}

static emlx_tensor *with_axis(const char *op, emlx_tensor *x, int64_t axis) {
    emlx_attr one = with_int("axis", axis);
    emlx_tensor *t = apply_to(op, &x, 1, &one, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return t;
}

#define NUMBERS(name, type, op)                                                                    \
    static emlx_tensor *name(const emlx_shape *shape, int64_t axis) {                              \
        return with_axis(op, random_tensor(type, shape, -90, 90), axis);                           \
    }
NUMBERS(sort_f32, EMLX_F32, "sort")
NUMBERS(argsort_f32, EMLX_F32, "argsort")
NUMBERS(argsort_s64, EMLX_S64, "argsort")
NUMBERS(sort_bf16, EMLX_BF16, "sort")
NUMBERS(sort_u8, EMLX_S8, "sort")
NUMBERS(sum_f32, EMLX_F32, "cumulative_sum")
NUMBERS(sum_s32, EMLX_S32, "cumulative_sum")
NUMBERS(max_f32, EMLX_F32, "cumulative_max")

// The bits of zeros of both signs, which are equal and so keep their order.
static emlx_tensor *sort_signs(const emlx_shape *shape, int64_t axis) {
    emlx_shape scalar = {0, {0}};
    double nothing = 0;
    emlx_tensor *x = random_tensor(EMLX_F32, shape, -9, 9);
    emlx_tensor *zero = tensor_of(EMLX_F32, &scalar, &nothing);
    emlx_tensor *sorted = with_axis("sort", apply_two("multiply", x, zero), axis);
    emlx_tensor *bits = apply_to("bitcast", &sorted, 1, NULL, 0, EMLX_S32);
    emlx_tensor_release(x);
    emlx_tensor_release(zero);
    emlx_tensor_release(sorted);
    return bits;
}

static void test_sorts(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 300, 3000, 5000, 16384, 20011};
    for (int i = 0; i < 6; i++) {
        emlx_shape line = {1, {lengths[i]}}, rows = {2, {2, lengths[i]}},
                   columns = {2, {lengths[i], 2}};
        compare_devices("sort f32", sort_f32, line, 0, 0);
        compare_devices("argsort f32", argsort_f32, rows, 1, 0);
        compare_devices("argsort f32 down", argsort_f32, columns, 0, 0);
        compare_devices("argsort s64", argsort_s64, line, 0, 0);
        compare_devices("sort bf16", sort_bf16, rows, 1, 0);
        compare_devices("sort u8", sort_u8, line, 0, 0);
        compare_devices("sort of zeros", sort_signs, rows, 1, 0);
    }
}

// The least and the largest of three numbers one of which is negated, of each of three and of lines
// of three: compilers have instructions for that.
static emlx_tensor *extreme_of(emlx_type type, const emlx_shape *shape, int64_t which) {
    const char *op = which % 2 == 0 ? "min" : "max";
    emlx_tensor *x[3], *all = NULL;
    for (int i = 0; i < 3; i++) {
        emlx_tensor *t = random_tensor(type, shape, -90, 90);
        bool negated = which / 2 == i || which / 2 == 3;
        x[i] =
            negated ? apply_to("negate", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT) : emlx_tensor_retain(t);
        emlx_tensor_release(t);
    }
    emlx_tensor *two = apply_two(op, x[0], x[1]), *three = apply_two(op, two, x[2]);
    int64_t axis = 0;
    emlx_attr axes = with_ints("axes", &axis, 1);
    emlx_tensor *less = apply_to("negate", &three, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *line = apply_to(which % 2 == 0 ? "reduce_min" : "reduce_max", &less, 1, &axes, 1,
                                 EMLX_TYPE_DEFAULT);
    all = apply_two("add", three, line);
    emlx_tensor *left[] = {x[0], x[1], x[2], two, three, less, line};
    for (int i = 0; i < 7; i++) emlx_tensor_release(left[i]);
    return all;
}

static emlx_tensor *extreme_s8(const emlx_shape *shape, int64_t which) {
    return extreme_of(EMLX_S8, shape, which);
}
static emlx_tensor *extreme_s16(const emlx_shape *shape, int64_t which) {
    return extreme_of(EMLX_S16, shape, which);
}
static emlx_tensor *extreme_s32(const emlx_shape *shape, int64_t which) {
    return extreme_of(EMLX_S32, shape, which);
}
static emlx_tensor *extreme_s64(const emlx_shape *shape, int64_t which) {
    return extreme_of(EMLX_S64, shape, which);
}
static emlx_tensor *extreme_f32(const emlx_shape *shape, int64_t which) {
    return extreme_of(EMLX_F32, shape, which);
}

static void test_extremes(void **state) {
    (void)state;
    emlx_shape shape = {2, {3, 70}};
    for (int64_t which = 0; which < 8; which++) {
        compare_devices("extremes of s8", extreme_s8, shape, which, 0);
        compare_devices("extremes of s16", extreme_s16, shape, which, 0);
        compare_devices("extremes of s32", extreme_s32, shape, which, 0);
        compare_devices("extremes of s64", extreme_s64, shape, which, 0);
        compare_devices("extremes of f32", extreme_f32, shape, which, 0);
    }
}

// The first 50, or their places, of lines that have many equal numbers.
static emlx_tensor *top_of(emlx_type type, const emlx_shape *shape, int64_t which) {
    emlx_tensor *x = random_tensor(type, shape, -90, 90), *out[EMLX_MAX_RESULTS] = {NULL};
    emlx_attr k = with_int("k", 50);
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find("top_k"), test_device, &x, 1, &k, 1, EMLX_TYPE_DEFAULT, out, &err),
        err);
    emlx_tensor_release(x);
    emlx_tensor_release(out[1 - which]);
    return out[which];
}
static emlx_tensor *top_f32(const emlx_shape *shape, int64_t which) {
    return top_of(EMLX_F32, shape, which);
}
static emlx_tensor *top_s64(const emlx_shape *shape, int64_t which) {
    return top_of(EMLX_S64, shape, which);
}
static emlx_tensor *top_bf16(const emlx_shape *shape, int64_t which) {
    return top_of(EMLX_BF16, shape, which);
}

static void test_firsts(void **state) {
    (void)state;
    static const int64_t lengths[] = {1024, 4096, 4100, 20011, 500000};
    for (int i = 0; i < 5; i++)
        for (int64_t which = 0; which < 2; which++) {
            emlx_shape line = {1, {lengths[i]}}, rows = {2, {3, lengths[i]}};
            compare_devices("top_k of f32", top_f32, rows, which, 0);
            compare_devices("top_k of s64", top_s64, line, which, 0);
            compare_devices("top_k of bf16", top_bf16, line, which, 0);
        }
}

static void test_scans(void **state) {
    (void)state;
    static const int64_t lengths[] = {7, 1024, 5000, 40000, 40004};
    for (int i = 0; i < 5; i++) {
        emlx_shape rows = {2, {3, lengths[i]}}, columns = {2, {lengths[i], 3}};
        compare_devices("cumulative sum f32", sum_f32, rows, 1, 1e-6);
        compare_devices("cumulative sum f32 down", sum_f32, columns, 0, 1e-6);
        compare_devices("cumulative sum s32", sum_s32, rows, 1, 0);
        compare_devices("cumulative max f32", max_f32, rows, 1, 0);
    }
}

static emlx_tensor *add_updates(const emlx_shape *shape, int64_t slice) {
    static const int64_t first[] = {0};
    emlx_shape target = {2, {100, slice}}, rows = {2, {shape->dims[0], 1}};
    emlx_shape updates = {2, {shape->dims[0], slice}};
    emlx_tensor *operands[] = {random_tensor(EMLX_F32, &target, 0, 9),
                               random_tensor(EMLX_S64, &rows, 0, 99),
                               random_tensor(EMLX_F32, &updates, 0, 9)};
    emlx_attr axes = with_ints("axes", first, 1);
    emlx_tensor *t = apply_to("indexed_add", operands, 3, &axes, 1, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 3; i++) emlx_tensor_release(operands[i]);
    return t;
}

static void test_updates(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 200, 3000, 20000};
    for (int i = 0; i < 4; i++) {
        emlx_shape shape = {1, {counts[i]}};
        compare_devices("indexed_add of numbers", add_updates, shape, 1, 1e-6);
        compare_devices("indexed_add of rows", add_updates, shape, 12, 1e-6);
    }
}

// `along`: windows of 3 by 3 along the last axes, a step of two apart, which read their operand in
// vectors.
static emlx_tensor *windows_of(const char *op, emlx_type type, const emlx_shape *shape,
                               bool along) {
    static const int64_t window[][4] = {{1, 3, 2, 1}, {1, 1, 3, 3}};
    static const int64_t strides[][4] = {{1, 2, 1, 1}, {1, 1, 2, 2}};
    static const int64_t padding[][8] = {{0, 0, 1, 2, 3, -1, 0, 0}, {0, 0, 0, 0, 1, 1, 1, 0}};
    static const int64_t dilations[][4] = {{1, 1, 2, 1}, {1, 1, 1, 1}};
    emlx_attr attrs[] = {with_ints("window", window[along], 4),
                         with_ints("strides", strides[along], 4),
                         with_ints("padding", padding[along], 8),
                         with_ints("window_dilations", dilations[along], 4)};
    emlx_tensor *x = random_tensor(type, shape, -90, 90);
    emlx_tensor *t = apply_to(op, &x, 1, attrs, 4, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return t;
}
static emlx_tensor *window_max_f32(const emlx_shape *shape, int64_t along) {
    return windows_of("window_max", EMLX_F32, shape, along != 0);
}
static emlx_tensor *window_min_s8(const emlx_shape *shape, int64_t along) {
    return windows_of("window_min", EMLX_S8, shape, along != 0);
}
static emlx_tensor *window_sum_bf16(const emlx_shape *shape, int64_t along) {
    return windows_of("window_sum", EMLX_BF16, shape, along != 0);
}

static void test_windows(void **state) {
    (void)state;
    emlx_shape shapes[] = {{4, {3, 61, 50, 17}}, {4, {3, 5, 33, 40}}};
    for (int along = 0; along < 2; along++) {
        compare_devices("windows of f32", window_max_f32, shapes[along], along, 0);
        compare_devices("windows of s8", window_min_s8, shapes[along], along, 0);
        compare_devices("windows of bf16", window_sum_bf16, shapes[along], along, 0);
    }
}

static emlx_tensor *product_of(emlx_type type, const emlx_shape *shape, int64_t terms) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_shape a = {2, {shape->dims[0], terms}}, b = {2, {terms, shape->dims[1]}};
    emlx_attr attrs[] = {with_ints("contract_left", left, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", right, 1), with_ints("batch_right", NULL, 0)};
    emlx_tensor *in[] = {random_tensor(type, &a, -9, 9), random_tensor(type, &b, -9, 9)};
    emlx_tensor *t = apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    return t;
}
static emlx_tensor *product_s8(const emlx_shape *shape, int64_t terms) {
    return product_of(EMLX_S8, shape, terms);
}
static emlx_tensor *product_s32(const emlx_shape *shape, int64_t terms) {
    return product_of(EMLX_S32, shape, terms);
}
static emlx_tensor *product_bf16(const emlx_shape *shape, int64_t terms) {
    return product_of(EMLX_BF16, shape, terms);
}

// A function of every number of two bytes, of themselves or by way of f32: its bits are those of
// the CPU, however it is computed.
static const char *narrow_function;
static emlx_tensor *narrow_of(emlx_type type, const emlx_shape *shape, emlx_type way) {
    emlx_tensor *all[4] = {NULL};
    emlx_attr attrs[] = {with_ints("shape", shape->dims, 1)};
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find("iota"), test_device, NULL, 0, attrs, 1, EMLX_U16, &all[0], &err),
        err);
    all[1] = apply_to("bitcast", &all[0], 1, NULL, 0, type);
    all[2] = apply_to("as_type", &all[1], 1, NULL, 0, way);
    all[3] = apply_to(narrow_function, &all[2], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *y = apply_to("as_type", &all[3], 1, NULL, 0, type);
    for (int i = 0; i < 4; i++) emlx_tensor_release(all[i]);
    return y;
}
#define NARROW(name, type, way)                                                                    \
    static emlx_tensor *name(const emlx_shape *shape, int64_t axis) {                              \
        (void)axis;                                                                                \
        return narrow_of(type, shape, way);                                                        \
    }
NARROW(narrow_bf16, EMLX_BF16, EMLX_BF16)
NARROW(narrow_f16, EMLX_F16, EMLX_F16)
NARROW(behind_bf16, EMLX_BF16, EMLX_F32)
NARROW(behind_f16, EMLX_F16, EMLX_F32)

static void test_narrow_functions(void **state) {
    (void)state;
    static const char *const functions[] = {"exp",  "expm1", "log",   "log1p", "sigmoid", "sin",
                                            "cos",  "tan",   "sinh",  "cosh",  "tanh",    "asin",
                                            "acos", "atan",  "asinh", "acosh", "atanh",   "rsqrt",
                                            "cbrt", "erf",   "erfc"};
    emlx_shape every = {1, {65536}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        narrow_function = functions[i];
        compare_devices(narrow_function, narrow_bf16, every, 0, 0);
        compare_devices(narrow_function, narrow_f16, every, 0, 0);
        compare_devices(narrow_function, behind_bf16, every, 0, 0);
        compare_devices(narrow_function, behind_f16, every, 0, 0);
    }
}

// Heads of a matrix with queries, keys and values beside each other: {batch, positions, heads,
// size}. No batch of matrices lies in one step.
static emlx_tensor *heads(emlx_tensor *x, const emlx_shape *shape, int64_t part) {
    const int64_t *n = shape->dims, width = n[2] * n[3], starts[] = {0, 0, part * width},
                  lengths[] = {n[0], n[1], width}, ones[] = {1, 1, 1}, axes[] = {0, 2, 1, 3};
    emlx_attr cut[] = {with_ints("starts", starts, 3), with_ints("lengths", lengths, 3),
                       with_ints("strides", ones, 3)};
    emlx_attr split = with_ints("shape", n, 4), turn = with_ints("axes", axes, 4);
    emlx_tensor *a = apply_to("slice", &x, 1, cut, 3, EMLX_TYPE_DEFAULT);
    emlx_tensor *b = apply_to("reshape", &a, 1, &split, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *c = apply_to("transpose", &b, 1, &turn, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    return c;
}

// Queries by keys, and that by values.
static emlx_tensor *products_of_heads(emlx_type type, const emlx_shape *shape) {
    static const int64_t batch[] = {0, 1}, last[] = {3}, before[] = {2};
    emlx_shape whole = {3, {shape->dims[0], shape->dims[1], 3 * shape->dims[2] * shape->dims[3]}};
    emlx_attr attrs[] = {with_ints("contract_left", last, 1), with_ints("batch_left", batch, 2),
                         with_ints("contract_right", last, 1), with_ints("batch_right", batch, 2)};
    emlx_tensor *x = random_tensor(type, &whole, -3, 3), *part[3];
    for (int i = 0; i < 3; i++) part[i] = heads(x, shape, i);
    emlx_tensor *scores = apply_to("dot", part, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    attrs[2] = with_ints("contract_right", before, 1);
    emlx_tensor *weighed =
        apply_to("dot", (emlx_tensor *[]){scores, part[2]}, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 3; i++) emlx_tensor_release(part[i]);
    emlx_tensor_release(scores);
    emlx_tensor_release(x);
    return weighed;
}
static emlx_tensor *heads_f32(const emlx_shape *shape, int64_t axis) {
    (void)axis;
    return products_of_heads(EMLX_F32, shape);
}
static emlx_tensor *heads_bf16(const emlx_shape *shape, int64_t axis) {
    (void)axis;
    return products_of_heads(EMLX_BF16, shape);
}

static void test_products(void **state) {
    (void)state;
    emlx_shape even = {4, {2, 32, 3, 16}}, odd = {4, {2, 33, 3, 15}};
    compare_devices("heads of f32", heads_f32, even, 0, 1e-6);
    compare_devices("heads of f32", heads_f32, odd, 0, 1e-6);
    compare_devices("heads of bf16", heads_bf16, even, 0, 1e-2);
    static const int64_t sides[] = {1, 32, 100, 128};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            emlx_shape shape = {2, {sides[i], sides[j]}};
            compare_devices("product of s8", product_s8, shape, 64, 0);
            compare_devices("product of s8", product_s8, shape, 70, 0);
            compare_devices("product of s32", product_s32, shape, 33, 0);
            compare_devices("product of bf16", product_bf16, shape, 64, 1e-2);
        }
}

// Numbers that need all digits of their type, and sums that wrap.
static emlx_tensor *wide_numbers(emlx_type type, const emlx_shape *shape) {
    emlx_tensor *in[] = {random_tensor(type, shape, -2000000000, 2000000000),
                         random_tensor(type, shape, -2000000000, 2000000000)};
    emlx_tensor *t = apply_to("multiply", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    return t;
}

typedef emlx_tensor *(*number_fn)(emlx_type type, const emlx_shape *shape);

// [rows, terms] or, `turned`, [terms, rows], and the same of the other side; converted to `out`.
static emlx_tensor *product_as(number_fn numbers, emlx_type left_type, emlx_type right_type,
                               emlx_type out, const emlx_shape *shape, int64_t turned) {
    static const int64_t axes[] = {0, 1}, batch[] = {0};
    int64_t b = shape->rank == 4, n[] = {shape->dims[b], shape->dims[b + 1], shape->dims[b + 2]};
    emlx_shape l = {2, {n[turned], n[1 - turned]}}, r = {2, {n[1 + turned], n[2 - turned]}};
    if (b) {
        l = (emlx_shape){3, {shape->dims[0], l.dims[0], l.dims[1]}};
        r = (emlx_shape){3, {shape->dims[0], r.dims[0], r.dims[1]}};
    }
    const int64_t left = axes[1 - turned] + b, right = turned + b;
    emlx_attr attrs[] = {
        with_ints("contract_left", &left, 1), with_ints("batch_left", batch, (size_t)b),
        with_ints("contract_right", &right, 1), with_ints("batch_right", batch, (size_t)b)};
    emlx_tensor *numbers_of[] = {numbers(left_type, &l), numbers(right_type, &r)};
    emlx_tensor *in[] = {as_type(numbers_of[0], out), as_type(numbers_of[1], out)};
    emlx_tensor *t = apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 2; i++) {
        emlx_tensor_release(numbers_of[i]);
        emlx_tensor_release(in[i]);
    }
    return t;
}
static emlx_tensor *wide_product(emlx_type type, const emlx_shape *shape, int64_t turned) {
    return product_as(wide_numbers, type, type, type, shape, turned);
}
#define WIDE_PRODUCT(name, type)                                                                   \
    static emlx_tensor *name(const emlx_shape *shape, int64_t turned) {                            \
        return wide_product(type, shape, turned);                                                  \
    }
WIDE_PRODUCT(wide_s16, EMLX_S16)
WIDE_PRODUCT(wide_u32, EMLX_U32)
WIDE_PRODUCT(wide_s32, EMLX_S32)
WIDE_PRODUCT(wide_s64, EMLX_S64)

// Of operands that are narrower than what is computed: both, or one of them.
static emlx_tensor *some_numbers(emlx_type type, const emlx_shape *shape) {
    return random_tensor(type, shape, -90, 90);
}
#define WIDENED(name, left, right, out)                                                            \
    static emlx_tensor *name(const emlx_shape *shape, int64_t turned) {                            \
        return product_as(some_numbers, left, right, out, shape, turned);                          \
    }
WIDENED(bytes_as_s32, EMLX_S8, EMLX_S8, EMLX_S32)
WIDENED(bytes_as_s64, EMLX_S8, EMLX_S8, EMLX_S64)
WIDENED(bytes_by_s32, EMLX_S8, EMLX_S32, EMLX_S32)
WIDENED(bf16_as_f32, EMLX_BF16, EMLX_BF16, EMLX_F32)
WIDENED(f16_by_f32, EMLX_F16, EMLX_F32, EMLX_F32)
WIDENED(f32_by_bf16, EMLX_F32, EMLX_BF16, EMLX_F32)
WIDENED(f16_by_bf16, EMLX_F16, EMLX_BF16, EMLX_F32)

static void test_widened_products(void **state) {
    (void)state;
    const emlx_shape shapes[] = {
        {3, {64, 80, 96}}, {3, {1, 300, 512}}, {3, {512, 512, 513}}, {4, {3, 65, 77, 34}}};
    for (int i = 0; i < 4; i++)
        for (int64_t turned = 0; turned < 2; turned++) {
            compare_devices("bytes as s32", bytes_as_s32, shapes[i], turned, 0);
            compare_devices("bytes as s64", bytes_as_s64, shapes[i], turned, 0);
            compare_devices("bytes by s32", bytes_by_s32, shapes[i], turned, 0);
            compare_devices("bf16 as f32", bf16_as_f32, shapes[i], turned, 2e-6);
            compare_devices("f16 by f32", f16_by_f32, shapes[i], turned, 2e-6);
            compare_devices("f32 by bf16", f32_by_bf16, shapes[i], turned, 2e-6);
            compare_devices("f16 by bf16", f16_by_bf16, shapes[i], turned, 2e-6);
        }
}

static void test_wide_products(void **state) {
    (void)state;
    emlx_shape shapes[] = {{3, {405, 700, 501}}, {4, {2, 260, 300, 1000}}, {3, {30, 33, 35}}};
    for (int i = 0; i < 3; i++)
        for (int64_t turned = 0; turned < 2; turned++) {
            compare_devices("wide product of s16", wide_s16, shapes[i], turned, 0);
            compare_devices("wide product of u32", wide_u32, shapes[i], turned, 0);
            compare_devices("wide product of s32", wide_s32, shapes[i], turned, 0);
            compare_devices("wide product of s64", wide_s64, shapes[i], turned, 0);
        }
}

// A filter a channel, channels last: {batch, rows, columns, channels, filter's side, stride}.
static emlx_tensor *depthwise(emlx_type type, const emlx_shape *shape, int64_t dilation) {
    static const int64_t axes[] = {0, 3, 1, 2};
    const int64_t *n = shape->dims, pad = n[4] / 2, padding[] = {pad, pad, pad + 1, pad};
    const int64_t strides[] = {n[5], n[5]}, dilations[] = {1, dilation};
    emlx_shape image = {4, {n[0], n[1], n[2], n[3]}}, filter = {4, {n[3], 1, n[4], n[4]}};
    emlx_attr attrs[] = {
        with_ints("padding", padding, 4),           with_ints("strides", strides, 2),
        with_ints("kernel_dilation", dilations, 2), with_int("feature_group_size", n[3]),
        with_ints("input_permutation", axes, 4),    with_ints("output_permutation", axes, 4)};
    emlx_tensor *in[] = {random_tensor(type, &image, -9, 9), random_tensor(type, &filter, -9, 9)};
    emlx_tensor *t = apply_to("conv", in, 2, attrs, 6, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    return t;
}
static emlx_tensor *depthwise_f32(const emlx_shape *shape, int64_t dilation) {
    return depthwise(EMLX_F32, shape, dilation);
}
static emlx_tensor *depthwise_f16(const emlx_shape *shape, int64_t dilation) {
    return depthwise(EMLX_F16, shape, dilation);
}
static emlx_tensor *depthwise_bf16(const emlx_shape *shape, int64_t dilation) {
    return depthwise(EMLX_BF16, shape, dilation);
}

static void test_depthwise(void **state) {
    (void)state;
    static const int64_t channels[] = {8, 24, 136}, sides[] = {1, 3, 5};
    for (int i = 0; i < 9; i++)
        for (int64_t stride = 1; stride < 3; stride++) {
            emlx_shape shape = {6, {3, 23, 30, channels[i / 3], sides[i % 3], stride}};
            for (int64_t dilation = 1; dilation < 3; dilation++) {
                compare_devices("depthwise f32", depthwise_f32, shape, dilation, 1e-6);
                compare_devices("depthwise f16", depthwise_f16, shape, dilation, 1e-3);
                compare_devices("depthwise bf16", depthwise_bf16, shape, dilation, 1e-2);
            }
        }
}

// exp(x - max) / sum, and with `scaled` times a number for each place of the row.
static emlx_tensor *softmax_of(emlx_type type, const emlx_shape *shape, int64_t scaled) {
    const int64_t last[] = {shape->rank - 1};
    emlx_shape line = {1, {shape->dims[shape->rank - 1]}};
    emlx_attr attrs[] = {with_ints("axes", last, 1), with_bool("keep_axes", true)};
    emlx_tensor *x = random_tensor(type, shape, -9, 9), *w = random_tensor(type, &line, -9, 9);
    emlx_tensor *most = apply_to("reduce_max", &x, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_tensor *apart =
        apply_to("subtract", (emlx_tensor *[]){x, most}, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *e = apply_to("exp", &apart, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *sum = apply_to("sum", &e, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_tensor *result =
        apply_to("divide", (emlx_tensor *[]){e, sum}, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *product =
        apply_to("multiply", (emlx_tensor *[]){result, w}, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(scaled ? result : product);
    emlx_tensor *all[] = {x, w, most, apart, e, sum};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) emlx_tensor_release(all[i]);
    return scaled ? product : result;
}
static emlx_tensor *softmax_f32(const emlx_shape *shape, int64_t scaled) {
    return softmax_of(EMLX_F32, shape, scaled);
}
static emlx_tensor *softmax_bf16(const emlx_shape *shape, int64_t scaled) {
    return softmax_of(EMLX_BF16, shape, scaled);
}
static emlx_tensor *softmax_f64(const emlx_shape *shape, int64_t scaled) {
    return softmax_of(EMLX_F64, shape, scaled);
}

static void test_rows(void **state) {
    (void)state;
    static const int64_t lengths[] = {3, 1000, 1024, 1027, 4096, 5002, 16384, 20000};
    for (int i = 0; i < 8; i++)
        for (int64_t scaled = 0; scaled < 2; scaled++) {
            emlx_shape rows = {3, {3, 2, lengths[i]}}, line = {1, {lengths[i]}};
            compare_devices("softmax f32", softmax_f32, rows, scaled, 1e-6);
            compare_devices("softmax f32 of a line", softmax_f32, line, scaled, 1e-6);
            compare_devices("softmax bf16", softmax_bf16, rows, scaled, 1e-2);
            compare_devices("softmax f64", softmax_f64, rows, scaled, 1e-14);
        }
}

static emlx_tensor *transform(const char *op, emlx_type type, const emlx_shape *shape,
                              int64_t length) {
    emlx_attr n = with_int("length", length);
    emlx_tensor *x = random_tensor(type, shape, -9, 9);
    emlx_tensor *t = apply_to(op, &x, 1, &n, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return t;
}
#define TRANSFORM(name, op, type)                                                                  \
    static emlx_tensor *name(const emlx_shape *shape, int64_t length) {                            \
        return transform(op, type, shape, length);                                                 \
    }
TRANSFORM(fft_c64, "fft", EMLX_C64)
TRANSFORM(fft_f32, "fft", EMLX_F32)
TRANSFORM(ifft_c128, "ifft", EMLX_C128)
TRANSFORM(rfft_f32, "rfft", EMLX_F32)
TRANSFORM(rfft_f64, "rfft", EMLX_F64)
TRANSFORM(irfft_c64, "irfft", EMLX_C64)

static void test_transforms(void **state) {
    (void)state;
    static const int64_t lengths[] = {16, 1000, 1023};
    for (int i = 0; i < 3; i++)
        for (int many = 1; many <= 40; many += 39) {
            emlx_shape shape = {2, {many, lengths[i]}};
            for (int64_t by = -1; by <= 1; by++) {
                compare_devices("fft c64", fft_c64, shape, lengths[i] + by, 1e-5);
                compare_devices("fft f32", fft_f32, shape, lengths[i] + by, 1e-5);
                compare_devices("ifft c128", ifft_c128, shape, lengths[i] + by, 1e-12);
                compare_devices("rfft f32", rfft_f32, shape, lengths[i] + by, 1e-5);
                compare_devices("rfft f64", rfft_f64, shape, lengths[i] + by, 1e-12);
                compare_devices("irfft c64", irfft_c64, shape, lengths[i] + by, 1e-5);
            }
        }
}

// Lines that are not the innermost axis.
static emlx_tensor *fft_down(const emlx_shape *shape, int64_t axis) {
    emlx_attr attrs[] = {with_int("axis", axis), with_int("length", shape->dims[axis])};
    emlx_tensor *x = random_tensor(EMLX_C64, shape, -9, 9);
    emlx_tensor *t = apply_to("fft", &x, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return t;
}

static void test_transforms_down(void **state) {
    (void)state;
    static const int64_t lengths[] = {20, 1024, 4099};
    for (int i = 0; i < 3; i++) {
        emlx_shape outer = {3, {lengths[i], 7, 5}}, middle = {3, {5, lengths[i], 9}};
        compare_devices("fft down the first axis", fft_down, outer, 0, 1e-5);
        compare_devices("fft down the middle", fft_down, middle, 1, 1e-5);
    }
}

// Linear algebra of what a block does not hold: result `which` of an op of random matrices.
static emlx_tensor *factor_of(const char *op, emlx_type type, const emlx_shape *shape,
                              int64_t which) {
    emlx_tensor *x = random_tensor(type, shape, -3, 3), *out[EMLX_MAX_RESULTS] = {NULL};
    emlx_error err;
    emlx_tensor *in[] = {x, x};
    size_t count = strcmp(op, "solve") == 0 ? 2 : 1;
    emlx_attr thin = with_bool("full_matrices?", false);
    assert_ok(emlx_apply(emlx_op_find(op), test_device, in, count, &thin, strcmp(op, "svd") == 0,
                         EMLX_TYPE_DEFAULT, out, &err),
              err);
    for (int64_t i = 0; i < EMLX_MAX_RESULTS; i++)
        if (i != which) emlx_tensor_release(out[i]);
    emlx_tensor_release(x);
    return out[which];
}
#define FACTOR(name, op, type)                                                                     \
    static emlx_tensor *name(const emlx_shape *shape, int64_t which) {                             \
        return factor_of(op, type, shape, which);                                                  \
    }
FACTOR(qr_f32, "qr", EMLX_F32)
FACTOR(qr_f64, "qr", EMLX_F64)
FACTOR(lu_f64, "lu", EMLX_F64)
FACTOR(solve_f64, "solve", EMLX_F64)
FACTOR(eigh_f32, "eigh", EMLX_F32)
FACTOR(eigh_f64, "eigh", EMLX_F64)
FACTOR(svd_f64, "svd", EMLX_F64)
FACTOR(cholesky_f64, "cholesky", EMLX_F64)
FACTOR(svd_f32, "svd", EMLX_F32)

// Of a matrix whose columns are multiples of one.
static emlx_tensor *dependent_values(const emlx_shape *shape, int64_t unused) {
    (void)unused;
    emlx_shape column = {2, {shape->dims[0], 1}}, row = {2, {1, shape->dims[1]}};
    emlx_tensor *in[] = {random_tensor(EMLX_F64, &column, -3, 3),
                         random_tensor(EMLX_F64, &row, -3, 3)};
    emlx_tensor *x = apply_to("multiply", in, 2, NULL, 0, EMLX_TYPE_DEFAULT), *out[3];
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find("svd"), test_device, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, out, &err),
        err);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(x);
    emlx_tensor_release(out[0]);
    emlx_tensor_release(out[2]);
    return out[1];
}

static void test_factors(void **state) {
    (void)state;
    emlx_shape shapes[] = {
        {2, {300, 300}}, {3, {2, 310, 270}}, {2, {270, 300}}, {3, {2, 260, 260}}};
    for (int i = 0; i < 4; i++) {
        bool square = shapes[i].dims[shapes[i].rank - 1] == shapes[i].dims[shapes[i].rank - 2];
        for (int64_t which = 0; which < 2; which++) {
            compare_devices("qr f32", qr_f32, shapes[i], which, 1e-5);
            compare_devices("qr f64", qr_f64, shapes[i], which, 1e-10);
        }
        for (int64_t which = 0; which < 3; which++)
            compare_devices("svd f64", svd_f64, shapes[i], which, 1e-7);
        compare_devices("singular values of f32", svd_f32, shapes[i], 1, 1e-5);
        if (shapes[i].rank == 2)
            compare_devices("svd of rank 1", dependent_values, shapes[i], 0, 1e-13);
        if (!square) continue;
        for (int64_t which = 0; which < 3; which++)
            compare_devices("lu f64", lu_f64, shapes[i], which, 1e-9);
        compare_devices("solve f64", solve_f64, shapes[i], 0, 1e-8);
        // Not positive definite.
        compare_devices("cholesky f64", cholesky_f64, shapes[i], 0, 1e-9);
        for (int64_t which = 0; which < 2; which++) {
            compare_devices("eigh f64", eigh_f64, shapes[i], which, 1e-8);
            if (which == 0) compare_devices("eigh f32", eigh_f32, shapes[i], which, 1e-5);
        }
    }
}

// Random numbers with `weight` added along the diagonal of each matrix, by 2^-6.
static emlx_tensor *weighted(emlx_type type, const emlx_shape *shape, double weight) {
    int64_t n = shape->dims[shape->rank - 1], count = emlx_shape_count(shape);
    double *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = ((int)draw(201) - 100 + (i % n == i / n % n ? weight : 0)) / 64;
    emlx_tensor *t = tensor_of(type, shape, values);
    free(values);
    return t;
}
static emlx_tensor *cholesky_of(emlx_type type, const emlx_shape *shape) {
    emlx_tensor *x = weighted(type, shape, 100 * (double)shape->dims[shape->rank - 1]);
    emlx_tensor *t = apply_to("cholesky", &x, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return t;
}
static emlx_tensor *positive_f64(const emlx_shape *shape, int64_t unused) {
    (void)unused;
    return cholesky_of(EMLX_F64, shape);
}
static emlx_tensor *positive_f32(const emlx_shape *shape, int64_t unused) {
    (void)unused;
    return cholesky_of(EMLX_F32, shape);
}
// So many right sides; 0: a vector, and none: the determinant.
static emlx_tensor *equations(const emlx_shape *shape, int64_t rights) {
    emlx_shape right = *shape;
    right.dims[right.rank - 1] = rights;
    if (rights == 0) right.rank--;
    emlx_tensor *in[] = {weighted(EMLX_F64, shape, 0),
                         rights < 0 ? NULL : random_tensor(EMLX_F64, &right, -3, 3)};
    emlx_tensor *t = apply_to(rights < 0 ? "determinant" : "solve", in, rights < 0 ? 1 : 2, NULL, 0,
                              EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    return t;
}

// Panels of columns: of one matrix and two, whole and cut, one row and two a thread.
static void test_panels(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {{2, {257, 257}},
                                        {3, {2, 300, 300}},
                                        {2, {512, 512}},
                                        {3, {2, 513, 513}},
                                        {2, {1024, 1024}}};
    for (int i = 0; i < 5; i++) {
        compare_devices("cholesky f64", positive_f64, shapes[i], 0, 1e-12);
        compare_devices("cholesky f32", positive_f32, shapes[i], 0, 1e-6);
        for (int64_t which = 0; which < 3; which++)
            compare_devices("lu f64", lu_f64, shapes[i], which, 1e-9);
        for (int64_t rights = 0; rights < 12; rights += 11)
            compare_devices("solve f64", equations, shapes[i], rights, 1e-8);
        compare_devices("solve f64", solve_f64, shapes[i], 0, 1e-8);
        if (shapes[i].dims[shapes[i].rank - 1] < 400)
            compare_devices("determinant", equations, shapes[i], -1, 1e-9);
    }
}

static emlx_tensor *attend(emlx_type type, const emlx_shape *shape, int64_t keys) {
    emlx_shape other = *shape;
    other.dims[1] /= 2;
    other.dims[2] = keys;
    emlx_tensor *in[] = {random_tensor(type, shape, -1, 1), random_tensor(type, &other, -1, 1),
                         random_tensor(type, &other, -1, 1)};
    emlx_attr attrs[] = {
        {.name = "scale", .kind = EMLX_ATTR_NUMBER, .value = {EMLX_NUMBER_REAL, {.f = {0.125}}}},
        with_bool("causal", keys % 2 == 0)};
    emlx_tensor *t = apply_to("attention", in, 3, attrs, 2, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    return t;
}
static emlx_tensor *attend_f32(const emlx_shape *s, int64_t k) { return attend(EMLX_F32, s, k); }
static emlx_tensor *attend_f16(const emlx_shape *s, int64_t k) { return attend(EMLX_F16, s, k); }
static emlx_tensor *attend_bf16(const emlx_shape *s, int64_t k) { return attend(EMLX_BF16, s, k); }

static void test_attention(void **state) {
    (void)state;
    static const int64_t sizes[] = {64, 80, 96, 128, 256, 40}, keys[] = {700, 1025};
    for (int i = 0; i < 12; i++) {
        emlx_shape many = {4, {1, 4, 700, sizes[i / 2]}}, few = {4, {2, 8, 2, sizes[i / 2]}};
        compare_devices("attention of f32", attend_f32, many, keys[i % 2], 1e-5);
        compare_devices("attention of f16", attend_f16, many, keys[i % 2], 2e-3);
        compare_devices("attention of bf16", attend_bf16, many, keys[i % 2], 1.6e-2);
        compare_devices("attention of few rows of f32", attend_f32, few, keys[i % 2], 1e-5);
        compare_devices("attention of few rows of bf16", attend_bf16, few, keys[i % 2], 8e-3);
    }
}

int main(void) {
    emlx_error err;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sorts),
                                       cmocka_unit_test(test_extremes),
                                       cmocka_unit_test(test_firsts),
                                       cmocka_unit_test(test_scans),
                                       cmocka_unit_test(test_updates),
                                       cmocka_unit_test(test_windows),
                                       cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_narrow_functions),
                                       cmocka_unit_test(test_widened_products),
                                       cmocka_unit_test(test_wide_products),
                                       cmocka_unit_test(test_depthwise),
                                       cmocka_unit_test(test_transforms),
                                       cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_transforms_down),
                                       cmocka_unit_test(test_factors),
                                       cmocka_unit_test(test_panels),
                                       cmocka_unit_test(test_attention)};
    if (!open_gpu_or_skip("engines/cuda/device")) return 0;
    gpu_device = test_device;
    if (emlx_device_open("cpu", &cpu_device, &err) != EMLX_OK) return 1;
    int failed = cmocka_run_group_tests_name("engines/cuda/device", tests, NULL, NULL);
    emlx_device_release(gpu_device);
    emlx_device_release(cpu_device);
    return failed;
}
