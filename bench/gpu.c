// SPDX-License-Identifier: Apache-2.0
// gpu.c - the time of single ops on a device, launched one after another and waited for at the end:
// what the device takes, or the host where that is slower. `gpu DEVICE [NAME]`: the rows whose name
// contains NAME.
#include <string.h>

#include "bench.h"

enum { OPERANDS = 4, RUNS = 5 };

typedef emlx_tensor *(*row_fn)(emlx_tensor **in);

// `side` x `side` operands, but for `make`.
typedef struct row {
    const char *name;
    row_fn run;
    int64_t dims[OPERANDS][4]; // 0 ends them
    emlx_type types[OPERANDS];
    double bytes, flops; // of one run, for the rate that is printed
} row;

static emlx_device *device;

static emlx_tensor *call(const char *op, emlx_tensor **in, size_t count, const emlx_attr *attrs,
                         size_t attr_count, emlx_type type) {
    emlx_tensor *out[EMLX_MAX_RESULTS];
    emlx_error err;
    bench_must(emlx_apply(emlx_op_find(op), device, in, count, attrs, attr_count, type, out, &err),
               &err);
    return out[0];
}

static emlx_tensor *along(const char *op, emlx_tensor *x, const char *name, int64_t axis) {
    emlx_attr attr = {.name = name, .kind = EMLX_ATTR_INT, .value.as.s = axis};
    attr.value.kind = EMLX_NUMBER_SIGNED;
    return call(op, &x, 1, &attr, 1, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *over(const char *op, emlx_tensor *x, const char *name, const int64_t *axes,
                         size_t count) {
    emlx_attr attr = {.name = name, .kind = EMLX_ATTR_INTS, .ints = axes, .count = count};
    return call(op, &x, 1, &attr, 1, EMLX_TYPE_DEFAULT);
}

// Intermediate tensors end with the result that holds them.
static emlx_tensor *keep(emlx_tensor *result, emlx_tensor *a, emlx_tensor *b) {
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    return result;
}

// Rows --------------------------------------------------------------------------------------------

static const int64_t rows_axis[] = {1}, columns_axis[] = {0}, swapped[] = {1, 0};

static emlx_tensor *run_add(emlx_tensor **in) { return bench_apply("add", in[0], in[1]); }
static emlx_tensor *run_exp(emlx_tensor **in) { return bench_apply("exp", in[0], NULL); }
static emlx_tensor *run_log1p(emlx_tensor **in) { return bench_apply("log1p", in[0], NULL); }
static emlx_tensor *run_tanh(emlx_tensor **in) { return bench_apply("tanh", in[0], NULL); }
static emlx_tensor *run_erf(emlx_tensor **in) { return bench_apply("erf", in[0], NULL); }
static emlx_tensor *run_log(emlx_tensor **in) { return bench_apply("log", in[0], NULL); }
static emlx_tensor *run_erf_inv(emlx_tensor **in) { return bench_apply("erf_inv", in[0], NULL); }
static emlx_tensor *run_sum(emlx_tensor **in) { return bench_apply("sum", in[0], NULL); }
static emlx_tensor *run_sum_rows(emlx_tensor **in) {
    return over("sum", in[0], "axes", rows_axis, 1);
}
static emlx_tensor *run_sum_columns(emlx_tensor **in) {
    return over("sum", in[0], "axes", columns_axis, 1);
}
static emlx_tensor *run_argmax(emlx_tensor **in) { return along("argmax", in[0], "axis", 1); }
static emlx_tensor *run_transpose(emlx_tensor **in) {
    return over("transpose", in[0], "axes", swapped, 2);
}
static emlx_tensor *run_cast(emlx_tensor **in) {
    return call("as_type", in, 1, NULL, 0, EMLX_BF16);
}
static emlx_tensor *run_cumsum(emlx_tensor **in) {
    return along("cumulative_sum", in[0], "axis", 1);
}
static emlx_tensor *run_cumsum_columns(emlx_tensor **in) {
    return along("cumulative_sum", in[0], "axis", 0);
}
static emlx_tensor *run_select(emlx_tensor **in) {
    emlx_tensor *c = bench_apply("greater", in[0], in[1]);
    emlx_tensor *operands[] = {c, in[0], in[1]};
    return keep(call("select", operands, 3, NULL, 0, EMLX_TYPE_DEFAULT), c, NULL);
}
// tanh(a * b + a) * b
static emlx_tensor *run_chain(emlx_tensor **in) {
    emlx_tensor *p = bench_apply("multiply", in[0], in[1]), *s = bench_apply("add", p, in[0]);
    emlx_tensor *t = bench_apply("tanh", s, NULL);
    return keep(keep(bench_apply("multiply", t, in[1]), p, s), t, NULL);
}
static emlx_tensor *row_of(const char *op, emlx_tensor *x) {
    emlx_attr attrs[] = {{.name = "axes", .kind = EMLX_ATTR_INTS, .ints = rows_axis, .count = 1},
                         {.name = "keep_axes", .kind = EMLX_ATTR_BOOL}};
    attrs[1].value.as.s = 1;
    attrs[1].value.kind = EMLX_NUMBER_SIGNED;
    return call(op, &x, 1, attrs, 2, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *run_softmax(emlx_tensor **in) {
    emlx_tensor *m = row_of("reduce_max", in[0]), *d = bench_apply("subtract", in[0], m);
    emlx_tensor *e = bench_apply("exp", d, NULL), *s = row_of("sum", e);
    return keep(keep(bench_apply("divide", e, s), m, d), e, s);
}
static emlx_tensor *number(double value) {
    emlx_attr attrs[] = {{.name = "shape", .kind = EMLX_ATTR_INTS},
                         {.name = "value", .kind = EMLX_ATTR_NUMBER}};
    attrs[1].value = (emlx_number){EMLX_NUMBER_REAL, {.f = {value}}};
    return call("constant", NULL, 0, attrs, 2, EMLX_F32);
}
static emlx_tensor *mean_of(emlx_tensor *x) {
    emlx_tensor *sum = row_of("sum", x), *count = number((double)emlx_tensor_shape(x)->dims[1]);
    return keep(bench_apply("divide", sum, count), sum, count);
}
// (x - mean) / sqrt(variance + eps) along rows
static emlx_tensor *run_layernorm(emlx_tensor **in) {
    emlx_tensor *m = mean_of(in[0]), *d = bench_apply("subtract", in[0], m);
    emlx_tensor *q = bench_apply("multiply", d, d), *v = mean_of(q), *eps = number(1e-5);
    emlx_tensor *s = bench_apply("add", v, eps), *r = bench_apply("rsqrt", s, NULL);
    emlx_tensor *y = bench_apply("multiply", d, r);
    return keep(keep(keep(keep(y, m, d), q, v), eps, s), r, NULL);
}
static emlx_tensor *run_batched(emlx_tensor **in) {
    static const int64_t left[] = {2}, right[] = {1}, batch[] = {0};
    emlx_attr attrs[] = {
        {.name = "contract_left", .kind = EMLX_ATTR_INTS, .ints = left, .count = 1},
        {.name = "batch_left", .kind = EMLX_ATTR_INTS, .ints = batch, .count = 1},
        {.name = "contract_right", .kind = EMLX_ATTR_INTS, .ints = right, .count = 1},
        {.name = "batch_right", .kind = EMLX_ATTR_INTS, .ints = batch, .count = 1}};
    return call("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *run_dot(emlx_tensor **in) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_attr attrs[] = {
        {.name = "contract_left", .kind = EMLX_ATTR_INTS, .ints = left, .count = 1},
        {.name = "batch_left", .kind = EMLX_ATTR_INTS},
        {.name = "contract_right", .kind = EMLX_ATTR_INTS, .ints = right, .count = 1},
        {.name = "batch_right", .kind = EMLX_ATTR_INTS}};
    return call("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}
// Of operands that are narrower than what is computed, both or the right one.
static emlx_tensor *run_widened(emlx_tensor **in) {
    emlx_type type = emlx_tensor_type(in[1]) == EMLX_S8 ? EMLX_S32 : EMLX_F32;
    emlx_tensor *wide[] = {call("as_type", &in[0], 1, NULL, 0, type),
                           call("as_type", &in[1], 1, NULL, 0, type)};
    return keep(run_dot(wide), wide[0], wide[1]);
}
// A vector with rows of weights of four bits, 64 of which share scale and bias.
static emlx_tensor *run_packed(emlx_tensor **in) {
    static const int64_t last[] = {1};
    emlx_attr attrs[] = {
        {.name = "contract_left", .kind = EMLX_ATTR_INTS, .ints = last, .count = 1},
        {.name = "batch_left", .kind = EMLX_ATTR_INTS},
        {.name = "contract_right", .kind = EMLX_ATTR_INTS, .ints = last, .count = 1},
        {.name = "batch_right", .kind = EMLX_ATTR_INTS}};
    emlx_tensor *weights = call("dequantize", in + 1, 3, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *operands[] = {in[0], weights};
    return keep(call("dot", operands, 2, attrs, 4, EMLX_TYPE_DEFAULT), weights, NULL);
}
static emlx_tensor *run_sort(emlx_tensor **in) {
    return along("sort", in[0], "axis", emlx_tensor_shape(in[0])->rank - 1);
}
static emlx_tensor *run_argsort(emlx_tensor **in) {
    return along("argsort", in[0], "axis", emlx_tensor_shape(in[0])->rank - 1);
}
static emlx_tensor *with_axes(const char *op, emlx_tensor **in, size_t count) {
    emlx_attr attr = {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = columns_axis, .count = 1};
    return call(op, in, count, &attr, 1, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *run_gather(emlx_tensor **in) { return with_axes("gather", in, 2); }
// Into zeros of the shape of operand 2, as the peers' sums of updates.
static emlx_tensor *run_add_to_zeros(emlx_tensor **in) {
    const emlx_shape *shape = emlx_tensor_shape(in[2]);
    emlx_attr attrs[] = {{.name = "shape",
                          .kind = EMLX_ATTR_INTS,
                          .ints = shape->dims,
                          .count = (size_t)shape->rank},
                         {.name = "value", .kind = EMLX_ATTR_NUMBER}};
    attrs[1].value.kind = EMLX_NUMBER_REAL;
    emlx_tensor *zeros = call("constant", NULL, 0, attrs, 2, EMLX_F32);
    emlx_tensor *operands[] = {zeros, in[0], in[1]};
    return keep(with_axes("indexed_add", operands, 3), zeros, NULL);
}
// Where the axes [batch, channels, rows, columns] of the image and the results, and [filters,
// channels, rows, columns] of the filter, are.
typedef struct conv_order {
    int64_t image[4], filter[4], results[4];
} conv_order;
static const conv_order conv_first = {{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}};
static const conv_order conv_last = {{0, 3, 1, 2}, {0, 3, 1, 2}, {0, 3, 1, 2}};
static const conv_order conv_filters_last = {{0, 3, 1, 2}, {3, 2, 0, 1}, {0, 3, 1, 2}};
static const conv_order conv_of_filter = {{1, 0, 2, 3}, {1, 0, 2, 3}, {1, 0, 2, 3}};
static const conv_order conv_of_image = {{0, 1, 2, 3}, {1, 0, 2, 3}, {0, 1, 2, 3}};

static emlx_tensor *conv_in(const conv_order *order, emlx_tensor **in, int64_t pad, int64_t stride,
                            int64_t groups) {
    const int64_t padding[] = {pad, pad, pad, pad}, strides[] = {stride, stride};
    emlx_attr attrs[] = {
        {.name = "padding", .kind = EMLX_ATTR_INTS, .ints = padding, .count = 4},
        {.name = "strides", .kind = EMLX_ATTR_INTS, .ints = strides, .count = 2},
        {.name = "feature_group_size", .kind = EMLX_ATTR_INT},
        {.name = "input_permutation", .kind = EMLX_ATTR_INTS, .ints = order->image, .count = 4},
        {.name = "kernel_permutation", .kind = EMLX_ATTR_INTS, .ints = order->filter, .count = 4},
        {.name = "output_permutation", .kind = EMLX_ATTR_INTS, .ints = order->results, .count = 4}};
    attrs[2].value = (emlx_number){EMLX_NUMBER_SIGNED, {.s = groups}};
    return call("conv", in, 2, attrs, 6, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *conv_of(emlx_tensor **in, int64_t pad, int64_t stride, int64_t groups,
                            int last) {
    return conv_in(last ? &conv_last : &conv_first, in, pad, stride, groups);
}
static emlx_tensor *run_conv(emlx_tensor **in) { return conv_of(in, 1, 1, 1, 0); }
static emlx_tensor *run_conv_last(emlx_tensor **in) { return conv_of(in, 1, 1, 1, 1); }
static emlx_tensor *run_conv_filters_last(emlx_tensor **in) {
    return conv_in(&conv_filters_last, in, 1, 1, 1);
}
static emlx_tensor *run_conv_of_filter(emlx_tensor **in) {
    return conv_in(&conv_of_filter, in, 1, 1, 1);
}
static emlx_tensor *run_conv_of_image(emlx_tensor **in) {
    static const int64_t rows_and_columns[] = {2, 3};
    emlx_attr axes = {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = rows_and_columns, .count = 2};
    emlx_tensor *turned = call("reverse", &in[1], 1, &axes, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *operands[] = {in[0], turned};
    return keep(conv_in(&conv_of_image, operands, 1, 1, 1), turned, NULL);
}
static emlx_tensor *run_conv7(emlx_tensor **in) { return conv_of(in, 3, 2, 1, 0); }
static emlx_tensor *run_conv7_last(emlx_tensor **in) { return conv_of(in, 3, 2, 1, 1); }
static emlx_tensor *run_conv_deep(emlx_tensor **in) { return conv_of(in, 1, 1, 128, 0); }
static emlx_tensor *run_conv_deep_last(emlx_tensor **in) { return conv_of(in, 1, 1, 128, 1); }
static emlx_tensor *run_maxpool(emlx_tensor **in) {
    static const int64_t window[] = {1, 1, 3, 3}, strides[] = {1, 1, 2, 2},
                         padding[] = {0, 0, 0, 0, 1, 1, 1, 1};
    emlx_attr attrs[] = {{.name = "window", .kind = EMLX_ATTR_INTS, .ints = window, .count = 4},
                         {.name = "strides", .kind = EMLX_ATTR_INTS, .ints = strides, .count = 4},
                         {.name = "padding", .kind = EMLX_ATTR_INTS, .ints = padding, .count = 8}};
    return call("window_max", in, 1, attrs, 3, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *top_of(emlx_tensor **in, int64_t k) {
    emlx_tensor *out[EMLX_MAX_RESULTS] = {NULL};
    emlx_error err;
    emlx_attr attr = {.name = "k", .kind = EMLX_ATTR_INT};
    attr.value = (emlx_number){EMLX_NUMBER_SIGNED, {.s = k}};
    bench_must(
        emlx_apply(emlx_op_find("top_k"), device, in, 1, &attr, 1, EMLX_TYPE_DEFAULT, out, &err),
        &err);
    emlx_tensor_release(out[1]);
    return out[0];
}
static emlx_tensor *run_top100(emlx_tensor **in) { return top_of(in, 100); }
static emlx_tensor *run_top50(emlx_tensor **in) { return top_of(in, 50); }
static emlx_tensor *run_fft(emlx_tensor **in) { return bench_apply("fft", in[0], NULL); }

static emlx_tensor *run_rfft(emlx_tensor **in) { return bench_apply("rfft", in[0], NULL); }
// The first result of an op that has several.
static emlx_tensor *first_of(const char *op, emlx_tensor **in) {
    emlx_tensor *out[EMLX_MAX_RESULTS] = {NULL};
    emlx_error err;
    bench_must(emlx_apply(emlx_op_find(op), device, in, 1, NULL, 0, EMLX_TYPE_DEFAULT, out, &err),
               &err);
    for (int i = 1; i < EMLX_MAX_RESULTS; i++) emlx_tensor_release(out[i]);
    return out[0];
}
static emlx_tensor *run_cholesky(emlx_tensor **in) { return bench_apply("cholesky", in[0], NULL); }
static emlx_tensor *run_qr(emlx_tensor **in) { return first_of("qr", in); }
static emlx_tensor *run_lu(emlx_tensor **in) { return first_of("lu", in); }
static emlx_tensor *run_eigh(emlx_tensor **in) { return first_of("eigh", in); }
static emlx_tensor *run_svd(emlx_tensor **in) { return first_of("svd", in); }
static emlx_tensor *run_solve(emlx_tensor **in) { return bench_apply("solve", in[0], in[1]); }
static emlx_tensor *attend(emlx_tensor **in, int causal) {
    emlx_attr attrs[] = {{.name = "scale", .kind = EMLX_ATTR_NUMBER},
                         {.name = "causal", .kind = EMLX_ATTR_BOOL}};
    attrs[0].value = (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {0.125, 0}};
    attrs[1].value = (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = causal};
    return call("attention", in, 3, attrs, 2, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *run_attend(emlx_tensor **in) { return attend(in, 0); }
static emlx_tensor *run_attend_causal(emlx_tensor **in) { return attend(in, 1); }
#define SQUARE(n)                                                                                  \
    { n, n }
#define MAP_ROWS(n, count)                                                                           \
    {"add f32 " #n, run_add, {SQUARE(n), SQUARE(n)}, {EMLX_F32, EMLX_F32}, 12.0 * count, 0},         \
        {"exp f32 " #n, run_exp, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                           \
        {"log1p f32 " #n, run_log1p, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                       \
        {"tanh f32 " #n, run_tanh, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                         \
        {"erf f32 " #n, run_erf, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                           \
        {"log f32 " #n, run_log, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                           \
        {"erf_inv f32 " #n, run_erf_inv, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                   \
        {"sum_all f32 " #n, run_sum, {SQUARE(n)}, {EMLX_F32}, 4.0 * count, 0},                       \
        {"sum_rows f32 " #n, run_sum_rows, {SQUARE(n)}, {EMLX_F32}, 4.0 * count, 0},                 \
        {"sum_cols f32 " #n, run_sum_columns, {SQUARE(n)}, {EMLX_F32}, 4.0 * count, 0},              \
        {"softmax f32 " #n, run_softmax, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                   \
        {"layernorm f32 " #n, run_layernorm, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},               \
        {"chain f32 " #n, run_chain, {SQUARE(n), SQUARE(n)}, {EMLX_F32, EMLX_F32}, 12.0 * count, 0}, \
        {"cast f32 " #n, run_cast, {SQUARE(n)}, {EMLX_F32}, 6.0 * count, 0},                         \
        {"transpose f32 " #n, run_transpose, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},               \
        {"cumsum f32 " #n, run_cumsum, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},                     \
        {"cumsum axis 0 f32 " #n, run_cumsum_columns, {SQUARE(n)}, {EMLX_F32}, 8.0 * count, 0},      \
        {"argmax f32 " #n, run_argmax, {SQUARE(n)}, {EMLX_F32}, 4.0 * count, 0}, {                   \
        "select f32 " #n, run_select, {SQUARE(n), SQUARE(n)}, {EMLX_F32, EMLX_F32}, 12.0 * count,    \
            0                                                                                        \
    }
#define WIDE_ROW(name, rows, left, right)                                                          \
    { name, run_widened, {{rows, 4096}, SQUARE(4096)}, {left, right}, 0, 2.0 * rows * 4096 * 4096 }
#define DOT_ROW(type, TYPE, n)                                                                     \
    { "matmul " type " " #n, run_dot, {SQUARE(n), SQUARE(n)}, {TYPE, TYPE}, 0, 2.0 * n *n *n }

#define CONV_ROW(name, run, type, a, b, c, d, e, f, g, h)                                          \
    { name, run, {{a, b, c, d}, {e, f, g, h}}, {type, type}, 0, 0 }
#define CONV_ROWS(text, T)                                                                         \
    CONV_ROW("conv " text " nchw 32x 3x3 64x56x56", run_conv, T, 32, 64, 56, 56, 64, 64, 3, 3),    \
        CONV_ROW("conv " text " nhwc 32x 3x3 64x56x56", run_conv_last, T, 32, 56, 56, 64, 64, 3,   \
                 3, 64),                                                                           \
        CONV_ROW("conv " text " nhwc hwio 32x 3x3 64x56x56", run_conv_filters_last, T, 32, 56, 56, \
                 64, 3, 3, 64, 64),                                                                \
        CONV_ROW("conv " text " of filter 32x 3x3 64x56x56", run_conv_of_filter, T, 32, 64, 56,    \
                 56, 32, 64, 56, 56),                                                              \
        CONV_ROW("conv " text " of image 32x 3x3 64x56x56", run_conv_of_image, T, 32, 64, 56, 56,  \
                 64, 64, 3, 3),                                                                    \
        CONV_ROW("conv " text " nchw 32x 3x3 256x14x14", run_conv, T, 32, 256, 14, 14, 256, 256,   \
                 3, 3),                                                                            \
        CONV_ROW("conv " text " nhwc 32x 3x3 256x14x14", run_conv_last, T, 32, 14, 14, 256, 256,   \
                 3, 3, 256),                                                                       \
        CONV_ROW("conv " text " nchw 32x 7x7s2 3x224x224", run_conv7, T, 32, 3, 224, 224, 64, 3,   \
                 7, 7),                                                                            \
        CONV_ROW("conv " text " nhwc 32x 7x7s2 3x224x224", run_conv7_last, T, 32, 224, 224, 3, 64, \
                 7, 7, 3),                                                                         \
        CONV_ROW("conv " text " nchw 32x dw3x3 128x56x56", run_conv_deep, T, 32, 128, 56, 56, 128, \
                 1, 3, 3),                                                                         \
        CONV_ROW("conv " text " nhwc 32x dw3x3 128x56x56", run_conv_deep_last, T, 32, 56, 56, 128, \
                 128, 3, 3, 1)

#define PACKED_ROW(name, count)                                                                    \
    {                                                                                              \
        name, run_packed, {{count, 4096}, {14336, 512}, {14336, 64}, {14336, 64}},                 \
            {EMLX_BF16, EMLX_U32, EMLX_BF16, EMLX_BF16}, 0, 0                                      \
    }

#define ATTEND_ROW(name, run, type, b, h, g, q, k, d)                                              \
    {                                                                                              \
        name, run, {{b, h, q, d}, {b, g, k, d}, {b, g, k, d}}, {type, type, type}, 0,              \
            4.0 * b *h *q *k *d                                                                    \
    }

#define LINEAR_ROW(name, run, type, b, n, rights)                                                  \
    { name, run, {{b, n, n}, {b, n, rights}}, {type, type}, 0, 0 }
#define LINEAR_ROWS(text, type, size, b, n)                                                        \
    LINEAR_ROW("cholesky " text " " size, run_cholesky, type, b, n, 1),                            \
        LINEAR_ROW("qr " text " " size, run_qr, type, b, n, 1),                                    \
        LINEAR_ROW("lu " text " " size, run_lu, type, b, n, 1),                                    \
        LINEAR_ROW("svd " text " " size, run_svd, type, b, n, 1),                                  \
        LINEAR_ROW("eigh " text " " size, run_eigh, type, b, n, 1),                                \
        LINEAR_ROW("solve " text " " size, run_solve, type, b, n, 1),                              \
        LINEAR_ROW("solve " text " " size " of as many", run_solve, type, b, n, n)

static const row all_rows[] = {
    MAP_ROWS(1024, 1048576),
    MAP_ROWS(4096, 16777216),
    MAP_ROWS(16384, 268435456),
    DOT_ROW("f32", EMLX_F32, 1024),
    DOT_ROW("f32", EMLX_F32, 4096),
    DOT_ROW("f32", EMLX_F32, 8192),
    DOT_ROW("bf16", EMLX_BF16, 1024),
    DOT_ROW("bf16", EMLX_BF16, 4096),
    DOT_ROW("bf16", EMLX_BF16, 8192),
    DOT_ROW("f16", EMLX_F16, 4096),
    DOT_ROW("f64", EMLX_F64, 4096),
    DOT_ROW("s8", EMLX_S8, 4096),
    DOT_ROW("s8", EMLX_S8, 8192),
    DOT_ROW("u8", EMLX_U8, 4096),
    DOT_ROW("s32", EMLX_S32, 4096),
    DOT_ROW("c64", EMLX_C64, 2048),
    WIDE_ROW("matmul s8 as s32 4096", 4096, EMLX_S8, EMLX_S8),
    WIDE_ROW("matmul bf16 as f32 4096", 4096, EMLX_BF16, EMLX_BF16),
    WIDE_ROW("matmul f32 by bf16 4096", 4096, EMLX_F32, EMLX_BF16),
    WIDE_ROW("gemv f32 by bf16 4096", 1, EMLX_F32, EMLX_BF16),
    {"sort f32 4M", run_sort, {{4194304}}, {EMLX_F32}, 0, 0},
    {"sort f32 4096x4096", run_sort, {{4096, 4096}}, {EMLX_F32}, 0, 0},
    {"argsort f32 4M", run_argsort, {{4194304}}, {EMLX_F32}, 0, 0},
    {"argsort f32 4096x4096", run_argsort, {{4096, 4096}}, {EMLX_F32}, 0, 0},
    {"gather 8192 rows of 50000x768 f32",
     run_gather,
     {{50000, 768}, {8192, 1}},
     {EMLX_F32, EMLX_S64},
     2.0 * 8192 * 768 * 4,
     0},
    {"scatter-add 1M into 100k f32",
     run_add_to_zeros,
     {{1048576, 1}, {1048576}, {100000}},
     {EMLX_S64, EMLX_F32, EMLX_F32},
     0,
     0},
    {"scatter-add 8192 rows into 50000x768 f32",
     run_add_to_zeros,
     {{8192, 1}, {8192, 768}, {50000, 768}},
     {EMLX_S64, EMLX_F32, EMLX_F32},
     0,
     0},
    {"topk 100 f32 4M", run_top100, {{4194304}}, {EMLX_F32}, 0, 0},
    {"topk 50 f32 4096x4096", run_top50, {{4096, 4096}}, {EMLX_F32}, 0, 0},
    {"gemv bf16 4096x14336", run_dot, {{1, 4096}, {4096, 14336}}, {EMLX_BF16, EMLX_BF16}, 0, 0},
    PACKED_ROW("quantized matmul 4 bit 1x4096x14336", 1),
    PACKED_ROW("quantized matmul 4 bit 8x4096x14336", 8),
    PACKED_ROW("quantized matmul 4 bit 4096x4096x14336", 4096),
    {"matmul bf16 64x1024",
     run_batched,
     {{64, 1024, 1024}, {64, 1024, 1024}},
     {EMLX_BF16, EMLX_BF16},
     0,
     0},
    {"maxpool f32 32x64x112x112 3x3s2", run_maxpool, {{32, 64, 112, 112}}, {EMLX_F32}, 0, 0},
    CONV_ROWS("f32", EMLX_F32),
    CONV_ROWS("bf16", EMLX_BF16),
    ATTEND_ROW("sdpa default bf16 8x16x2048x64", run_attend, EMLX_BF16, 8, 16, 16, 2048, 2048, 64),
    ATTEND_ROW("sdpa default bf16 8x16x2048x64 causal", run_attend_causal, EMLX_BF16, 8, 16, 16,
               2048, 2048, 64),
    ATTEND_ROW("sdpa bf16 4x16x2048x128", run_attend, EMLX_BF16, 4, 16, 16, 2048, 2048, 128),
    ATTEND_ROW("sdpa f32 2x16x1024x64", run_attend, EMLX_F32, 2, 16, 16, 1024, 1024, 64),
    ATTEND_ROW("attend 1 of 4096 bf16 1x32/8x128", run_attend, EMLX_BF16, 1, 32, 8, 1, 4096, 128),
    ATTEND_ROW("attend 1 of 4096 bf16 16x32/8x128", run_attend, EMLX_BF16, 16, 32, 8, 1, 4096, 128),
    {"rfft f32 4096x1024", run_rfft, {{4096, 1024}}, {EMLX_F32}, 0, 0},
    {"rfft f32 1x1048576", run_rfft, {{1, 1048576}}, {EMLX_F32}, 0, 0},
    LINEAR_ROWS("f32", EMLX_F32, "1x512x512", 1, 512),
    LINEAR_ROWS("f32", EMLX_F32, "1000x16x16", 1000, 16),
    LINEAR_ROWS("f64", EMLX_F64, "1x512x512", 1, 512),
    LINEAR_ROWS("f64", EMLX_F64, "1000x16x16", 1000, 16),
    {"fft c64 1x1048576", run_fft, {{1, 1048576}}, {EMLX_C64}, 0, 0},
    {"fft c64 4096x1024", run_fft, {{4096, 1024}}, {EMLX_C64}, 0, 0},
};

// Operands ----------------------------------------------------------------------------------------

// Numbers without an order that sorts or caches could use, made on the device; indices below the
// length of what they index.
static emlx_tensor *make_operand(const row *r, int which) {
    int64_t rank = 0;
    while (rank < 4 && r->dims[which][rank] != 0) rank++;
    emlx_attr shape = {
        .name = "shape", .kind = EMLX_ATTR_INTS, .ints = r->dims[which], .count = (size_t)rank};
    emlx_tensor *count = call("iota", NULL, 0, &shape, 1, EMLX_S64), *factor, *limit, *out;
    int indexed = r->types[0] == EMLX_S64 ? 2 : 0;
    int64_t prime = 2654435761, most = r->types[which] == EMLX_S64 ? r->dims[indexed][0] : 8388593;
    emlx_shape scalar = {0};
    emlx_error err;
    bench_must(emlx_tensor_from_data(device, EMLX_S64, &scalar, &prime, 8, &factor, &err), &err);
    bench_must(emlx_tensor_from_data(device, EMLX_S64, &scalar, &most, 8, &limit, &err), &err);
    emlx_tensor *product = bench_apply("multiply", count, factor);
    emlx_tensor *number = bench_apply("remainder", product, limit);
    if (r->types[which] == EMLX_S64) {
        out = emlx_tensor_retain(number);
    } else if (r->types[which] == EMLX_U32) {
        out = call("as_type", &number, 1, NULL, 0, EMLX_U32);
    } else {
        emlx_tensor *share = bench_apply("divide", number, limit);
        out = keep(call("as_type", &share, 1, NULL, 0, r->types[which]), share, NULL);
    }
    bench_must(emlx_eval(&out, 1, &err), &err);
    return keep(keep(keep(out, count, factor), limit, product), number, NULL);
}

// A multiple of the unit matrix more, which makes matrices positive definite.
static emlx_tensor *heavier(emlx_tensor *x, double by) {
    const emlx_shape *shape = emlx_tensor_shape(x);
    emlx_attr side = {
        .name = "shape", .kind = EMLX_ATTR_INTS, .ints = shape->dims + shape->rank - 2, .count = 2};
    emlx_tensor *unit = call("eye", NULL, 0, &side, 1, emlx_tensor_type(x)), *much = number(by);
    emlx_tensor *weight = keep(bench_apply("multiply", unit, much), unit, much);
    emlx_tensor *wide = keep(bench_apply("add", x, weight), weight, NULL);
    emlx_tensor *out = keep(call("as_type", &wide, 1, NULL, 0, emlx_tensor_type(x)), wide, x);
    emlx_error err;
    bench_must(emlx_eval(&out, 1, &err), &err);
    return out;
}

static void wait_for(emlx_tensor *t) {
    emlx_error err;
    char bytes[16];
    bench_must(emlx_tensor_read(t, 0, bytes, emlx_type_size(emlx_tensor_type(t)), &err), &err);
}

static double time_some(const row *r, emlx_tensor **in, int times) {
    emlx_error err;
    emlx_tensor *last = NULL;
    double start = bench_now();
    for (int i = 0; i < times; i++) {
        emlx_tensor_release(last);
        last = r->run(in);
        bench_must(emlx_eval(&last, 1, &err), &err);
    }
    wait_for(last);
    emlx_tensor_release(last);
    return bench_now() - start;
}

// Checks ------------------------------------------------------------------------------------------

// Larger operands would keep the CPU busy for long.
enum { CHECKED_MOST = 1 << 25 };

static emlx_tensor *copy_to(emlx_device *to, emlx_tensor *t) {
    emlx_tensor *out;
    emlx_error err;
    size_t size = emlx_tensor_bytes(t);
    char *data = malloc(size + 1);
    if (data == NULL) exit(1);
    bench_must(emlx_tensor_read(t, 0, data, size, &err), &err);
    bench_must(emlx_tensor_from_data(to, emlx_tensor_type(t), emlx_tensor_shape(t), data, size,
                                     &out, &err),
               &err);
    free(data);
    return out;
}

static double *numbers_of(emlx_tensor *t) {
    emlx_error err;
    emlx_tensor *wide = call("as_type", &t, 1, NULL, 0, EMLX_F64);
    size_t size = emlx_tensor_bytes(wide);
    double *data = malloc(size + 1);
    if (data == NULL) exit(1);
    bench_must(emlx_tensor_read(wide, 0, data, size, &err), &err);
    emlx_tensor_release(wide);
    return data;
}

// The largest difference from the CPU's result, as a share of its largest number.
static double difference(const row *r, emlx_tensor **in, emlx_device *cpu) {
    emlx_tensor *operands[OPERANDS] = {NULL}, *here = r->run(in);
    emlx_device *own = device;
    double most = 0, largest = 0;
    for (int i = 0; i < OPERANDS && in[i] != NULL; i++) operands[i] = copy_to(cpu, in[i]);
    device = cpu;
    emlx_tensor *there = r->run(operands), *copy = copy_to(cpu, here);
    double *a = numbers_of(copy), *b = numbers_of(there);
    int64_t count = emlx_shape_count(emlx_tensor_shape(there));
    for (int64_t i = 0; i < count; i++) {
        double off = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i], size = b[i] > 0 ? b[i] : -b[i];
        if (!(off <= most)) most = off;
        if (size > largest) largest = size;
    }
    device = own;
    free(a);
    free(b);
    for (int i = 0; i < OPERANDS; i++) emlx_tensor_release(operands[i]);
    emlx_tensor_release(copy);
    emlx_tensor_release(there);
    emlx_tensor_release(here);
    return largest > 0 ? most / largest : most;
}

static void print_difference(const row *r, emlx_tensor **in) {
    emlx_error err;
    emlx_device *cpu;
    double work = r->flops;
    for (int i = 0; i < OPERANDS && in[i] != NULL; i++)
        if (emlx_shape_count(emlx_tensor_shape(in[i])) > CHECKED_MOST) return;
    if (work > 2e10) return;
    bench_must(emlx_device_open("cpu", &cpu, &err), &err);
    printf("  off by %.1e", difference(r, in, cpu));
    emlx_device_release(cpu);
}

static void time_row(const row *r) {
    emlx_tensor *in[OPERANDS] = {NULL};
    double runs[RUNS];
    for (int i = 0; i < OPERANDS && r->dims[i][0] != 0; i++) in[i] = make_operand(r, i);
    if (r->run == run_cholesky) in[0] = heavier(in[0], 1000);
    double first = time_some(r, in, 1), once = time_some(r, in, 1);
    int times = once > 0.02 ? 1 : (int)(0.02 / once) + 1;
    for (int i = 0; i < RUNS; i++) runs[i] = time_some(r, in, times) / times;
    double median = bench_median(runs, RUNS);
    printf("%-44s %10.1f us  wall %8.1f  first %8.1f ms", r->name, median * 1e6, once * 1e6,
           first * 1e3);
    if (r->bytes > 0) printf("  %6.0f GB/s", r->bytes / median * 1e-9);
    if (r->flops > 0) printf("  %6.1f TFLOP/s", r->flops / median * 1e-12);
    print_difference(r, in);
    printf("\n");
    fflush(stdout);
    for (int i = 0; i < OPERANDS; i++) emlx_tensor_release(in[i]);
}

// A chain of small adds, each evaluated.
static void time_chain(void) {
    const row small = {"", NULL, {{16}, {16}}, {EMLX_F32, EMLX_F32}, 0, 0};
    emlx_tensor *x = make_operand(&small, 0), *y = make_operand(&small, 1);
    emlx_error err;
    double runs[RUNS];
    for (int n = 0; n < RUNS; n++) {
        double start = bench_now();
        for (int i = 0; i < 1000; i++) {
            emlx_tensor *next = bench_apply("add", x, y);
            bench_must(emlx_eval(&next, 1, &err), &err);
            emlx_tensor_release(x);
            x = next;
        }
        wait_for(x);
        runs[n] = (bench_now() - start) / 1000;
    }
    printf("%-44s %10.2f us an op\n", "1,000 adds of 16, each evaluated",
           bench_median(runs, RUNS) * 1e6);
    emlx_tensor_release(x);
    emlx_tensor_release(y);
}

int main(int argc, char **argv) {
    emlx_error err;
    char text[512];
    const char *name = argc > 1 ? argv[1] : "cpu", *only = argc > 2 ? argv[2] : "";
    if (argc == 1 && emlx_device_open("cuda:0", &device, &err) != EMLX_OK) {
        printf("no GPU: %s\n", err.message);
        return 0;
    }
    if (argc > 1) bench_must(emlx_device_open(name, &device, &err), &err);
    emlx_device_describe(device, text, sizeof text);
    printf("%s: %s\n", emlx_device_name(device), text);
    if (only[0] == '\0') time_chain();
    for (size_t i = 0; i < sizeof all_rows / sizeof *all_rows; i++)
        if (strstr(all_rows[i].name, only) != NULL) time_row(&all_rows[i]);
    emlx_device_release(device);
    return 0;
}
