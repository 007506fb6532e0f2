// SPDX-License-Identifier: Apache-2.0
// conv_test.c - convolutions against the formula, over random options, layouts and sizes that take
// every way the engine has.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

// A convolution in canonical form, and where its axes are stored.
typedef struct conv {
    int32_t spatial;
    int64_t batch, channels, filters, feature_groups, batch_groups; // channels: of a group
    int64_t input[4], kernel[4], results[4];
    int64_t strides[4], padding[8], input_dilation[4], kernel_dilation[4];
    int64_t input_axes[6], kernel_axes[6], output_axes[6];
} conv;

static void identity(int64_t *axes, int32_t rank) {
    for (int32_t d = 0; d < rank; d++) axes[d] = d;
}

static void last(int64_t *axes, int32_t rank) {
    axes[0] = 0;
    axes[1] = rank - 1;
    for (int32_t d = 2; d < rank; d++) axes[d] = d - 1;
}

static void shuffle(int64_t *axes, int32_t rank) {
    identity(axes, rank);
    for (int32_t d = rank - 1; d > 0; d--) {
        uint32_t other = draw((uint32_t)d + 1);
        int64_t kept = axes[d];
        axes[d] = axes[other];
        axes[other] = kept;
    }
}

static void draw_axes(int64_t *axes, int32_t rank) {
    uint32_t choice = draw(4);
    if (choice < 2)
        identity(axes, rank);
    else if (choice == 2)
        last(axes, rank);
    else
        shuffle(axes, rank);
}

static int64_t dilated(int64_t length, int64_t dilation) { return (length - 1) * dilation + 1; }

// Padding is drawn again until the kernel fits.
static void draw_axis(conv *c, int32_t d, bool plain) {
    static const int64_t lengths[] = {1, 2, 3, 5, 7, 8, 12, 17, 33};
    c->input[d] = lengths[draw(c->spatial > 2 ? 5 : 9)];
    if (c->spatial == 1 && draw(4) == 0) c->input[d] = 1200;
    c->kernel[d] = draw(3) == 0 ? 1 : 1 + draw(4);
    c->strides[d] = c->input_dilation[d] = c->kernel_dilation[d] = 1;
    c->padding[2 * d] = c->padding[2 * d + 1] = 0;
    if (!plain) {
        c->strides[d] = 1 + draw(3);
        c->input_dilation[d] = draw(3) == 0 ? 1 + draw(4) : 1;
        c->kernel_dilation[d] = draw(3) == 0 ? 1 + draw(3) : 1;
    }
    int64_t room;
    do {
        if (!plain) {
            c->padding[2 * d] = (int64_t)draw(7) - 2;
            c->padding[2 * d + 1] = (int64_t)draw(7) - 2;
        } else if (c->kernel[d] > c->input[d]) {
            c->kernel[d] = 1;
        }
        room = dilated(c->input[d], c->input_dilation[d]) + c->padding[2 * d] +
               c->padding[2 * d + 1] - dilated(c->kernel[d], c->kernel_dilation[d]);
        if (room < 0) c->kernel[d] = 1 + (c->kernel[d] - 1) / 2;
    } while (room < 0);
    c->results[d] = room / c->strides[d] + 1;
}

static conv draw_conv(void) {
    conv c = {.spatial = (int32_t)draw(5), .feature_groups = 1, .batch_groups = 1};
    bool plain = draw(4) == 0, thin = draw(4) == 0;
    if (c.spatial == 4) c.spatial = 2;
    c.batch = 1 + draw(4);
    c.channels = thin ? 1 + draw(3) : 1 + draw(c.spatial > 2 ? 6 : 24);
    c.filters = thin ? 1 + draw(3) : 1 + draw(c.spatial > 2 ? 10 : 40);
    if (draw(12) == 0) c.filters = 150;
    if (draw(3) == 0) c.feature_groups = 1 + draw(5);
    if (c.feature_groups == 1 && draw(3) == 0) c.batch_groups = 1 + draw(3);
    if (draw(8) == 0 && c.batch_groups == 1) {
        c.feature_groups = 1 + draw(40);
        c.channels = c.filters = 1;
    }
    c.filters *= c.feature_groups * c.batch_groups;
    for (int32_t d = 0; d < c.spatial; d++) draw_axis(&c, d, plain);
    draw_axes(c.input_axes, c.spatial + 2);
    draw_axes(c.kernel_axes, c.spatial + 2);
    draw_axes(c.output_axes, c.spatial + 2);
    return c;
}

// Shapes as stored ------------------------------------------------------------------------------

static emlx_shape stored_shape(int32_t spatial, int64_t first, int64_t second,
                               const int64_t *lengths, const int64_t *axes) {
    emlx_shape s = {.rank = spatial + 2};
    s.dims[axes[0]] = first;
    s.dims[axes[1]] = second;
    for (int32_t d = 0; d < spatial; d++) s.dims[axes[2 + d]] = lengths[d];
    return s;
}

static int64_t place(const emlx_shape *s, const int64_t *canonical, const int64_t *axes) {
    int64_t index[EMLX_MAX_RANK];
    for (int32_t d = 0; d < s->rank; d++) index[axes[d]] = canonical[d];
    return ravel(s, index);
}

// Where tap `j` of result `o` reads the input along an axis; -1 for zeros.
static int64_t source(const conv *c, int32_t d, int64_t o, int64_t j) {
    int64_t at = o * c->strides[d] + j * c->kernel_dilation[d] - c->padding[2 * d];
    if (at < 0 || at % c->input_dilation[d] != 0) return -1;
    at /= c->input_dilation[d];
    return at < c->input[d] ? at : -1;
}

typedef struct data {
    emlx_shape input, kernel, output;
    double *x, *w;
} data;

// The result at a canonical index, and the sum of its terms without their signs.
static double expected(const conv *c, const data *t, const int64_t *index, double *size) {
    int64_t filters = c->filters / c->feature_groups / c->batch_groups, group = index[1] / filters;
    int64_t from[6] = {index[0]}, weight[6] = {index[1]}, tap[4];
    emlx_shape taps = {.rank = c->spatial};
    double sum = 0;
    *size = 0;
    for (int32_t d = 0; d < c->spatial; d++) taps.dims[d] = c->kernel[d];
    if (c->batch_groups > 1) from[0] += group * c->batch;
    for (int64_t k = 0; k < emlx_shape_count(&taps); k++) {
        unravel(&taps, k, tap);
        bool inside = true;
        for (int32_t d = 0; d < c->spatial; d++) {
            weight[2 + d] = tap[d];
            from[2 + d] = source(c, d, index[2 + d], tap[d]);
            inside = inside && from[2 + d] >= 0;
        }
        for (int64_t channel = 0; inside && channel < c->channels; channel++) {
            from[1] = (c->feature_groups > 1 ? group * c->channels : 0) + channel;
            weight[1] = channel;
            double term = t->x[place(&t->input, from, c->input_axes)] *
                          t->w[place(&t->kernel, weight, c->kernel_axes)];
            sum += term;
            *size += fabs(term);
        }
    }
    return sum;
}

// Integer results wrap; those of 64 bits stay far below their range here.
static double wrap(emlx_type type, double value) {
    if (type >= EMLX_F8 || emlx_type_bits(type) == 64) return value;
    double range = ldexp(1, (int)emlx_type_bits(type));
    double low = type >= EMLX_S2 ? -range / 2 : 0;
    value = fmod(value - low, range);
    return (value < 0 ? value + range : value) + low;
}

// Checks --------------------------------------------------------------------------------------

static emlx_tensor *apply_conv(const conv *c, emlx_tensor *const *in, emlx_type result) {
    size_t n = (size_t)c->spatial;
    emlx_attr attrs[] = {with_ints("strides", c->strides, n),
                         with_ints("padding", c->padding, 2 * n),
                         with_ints("input_dilation", c->input_dilation, n),
                         with_ints("kernel_dilation", c->kernel_dilation, n),
                         with_int("feature_group_size", c->feature_groups),
                         with_int("batch_group_size", c->batch_groups),
                         with_ints("input_permutation", c->input_axes, n + 2),
                         with_ints("kernel_permutation", c->kernel_axes, n + 2),
                         with_ints("output_permutation", c->output_axes, n + 2)};
    return apply_to("conv", in, 2, attrs, sizeof attrs / sizeof *attrs, result);
}

// Rounding of each type's results; every product here is exact in f32.
static double precision(emlx_type type) {
    if (type == EMLX_F64) return 1e-15;
    if (type == EMLX_F32) return 3e-7;
    return type == EMLX_F16 ? 1e-3 : type == EMLX_BF16 ? 8e-3 : 0;
}

static void compare_conv(const conv *c, const data *t, emlx_tensor *out) {
    emlx_type type = emlx_tensor_type(out);
    double *got = values_of(out), size;
    emlx_shape canonical = {.rank = c->spatial + 2, .dims = {c->batch, c->filters}};
    for (int32_t d = 0; d < c->spatial; d++) canonical.dims[2 + d] = c->results[d];
    for (int64_t i = 0; i < emlx_shape_count(&canonical); i++) {
        int64_t index[EMLX_MAX_RANK];
        unravel(&canonical, i, index);
        double wanted = wrap(type, expected(c, t, index, &size));
        double have = got[place(&t->output, index, c->output_axes)];
        if (fabs(have - wanted) > precision(type) * (size + 1))
            fail_msg("%s, %d spatial axes, result %lld: %.17g, not %.17g", emlx_type_name(type),
                     c->spatial, (long long)i, have, wanted);
    }
    free(got);
}

// An operand that is a view of something reversed or repeated now and then.
static emlx_tensor *draw_operand(emlx_type type, const emlx_shape *s) {
    bool is_signed = type >= EMLX_S2, repeated = draw(10) == 0;
    int64_t all[6] = {0, 1, 2, 3, 4, 5};
    emlx_shape part = *s;
    if (repeated) part.dims[draw((uint32_t)s->rank)] = 1;
    emlx_tensor *t = random_tensor(type, repeated ? &part : s, is_signed ? -4 : 0, 6);
    emlx_tensor *view = NULL;
    if (repeated) {
        emlx_attr attrs[2] = {with_ints("shape", s->dims, (size_t)s->rank),
                              with_ints("axes", all, (size_t)s->rank)};
        view = apply_to("broadcast", &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    } else if (draw(8) == 0) {
        emlx_attr axes = with_ints("axes", all, 1 + draw((uint32_t)s->rank));
        view = apply_to("reverse", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    }
    if (view == NULL) return t;
    emlx_tensor_release(t);
    return view;
}

static void check_conv(const conv *c, emlx_type left, emlx_type right, emlx_type result) {
    int64_t channels = c->channels * c->feature_groups, batch = c->batch * c->batch_groups;
    data t = {.input = stored_shape(c->spatial, batch, channels, c->input, c->input_axes),
              .kernel =
                  stored_shape(c->spatial, c->filters, c->channels, c->kernel, c->kernel_axes),
              .output = stored_shape(c->spatial, c->batch, c->filters, c->results, c->output_axes)};
    emlx_tensor *in[2] = {draw_operand(left, &t.input), draw_operand(right, &t.kernel)};
    emlx_tensor *out = apply_conv(c, in, result);
    assert_int_equal(emlx_tensor_shape(out)->rank, t.output.rank);
    assert_memory_equal(emlx_tensor_shape(out)->dims, t.output.dims,
                        (size_t)t.output.rank * sizeof *t.output.dims);
    t.x = values_of(in[0]);
    t.w = values_of(in[1]);
    compare_conv(c, &t, out);
    free(t.x);
    free(t.w);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
}

static void random_options(void **unused) {
    (void)unused;
    static const struct {
        emlx_type left, right, result;
    } types[] = {
        {EMLX_F32, EMLX_F32, EMLX_TYPE_DEFAULT},
        {EMLX_F64, EMLX_F64, EMLX_TYPE_DEFAULT},
        {EMLX_U8, EMLX_U8, EMLX_TYPE_DEFAULT},
        {EMLX_S64, EMLX_S32, EMLX_TYPE_DEFAULT},
        {EMLX_BF16, EMLX_BF16, EMLX_TYPE_DEFAULT},
        {EMLX_F16, EMLX_F16, EMLX_TYPE_DEFAULT},
        {EMLX_F32, EMLX_U64, EMLX_TYPE_DEFAULT},
        {EMLX_BF16, EMLX_F32, EMLX_TYPE_DEFAULT},
        {EMLX_U8, EMLX_U8, EMLX_U8},
        {EMLX_S16, EMLX_S8, EMLX_S16},
        {EMLX_S32, EMLX_U8, EMLX_S32},
        {EMLX_S64, EMLX_S64, EMLX_S64},
        {EMLX_U64, EMLX_U64, EMLX_U64},
        {EMLX_F32, EMLX_F32, EMLX_F64},
        {EMLX_F32, EMLX_F32, EMLX_BF16},
    };
    draw_seed(1);
    for (int round = 0; round < 60; round++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            conv c = draw_conv();
            // The plain float types meet every way of computing most often.
            size_t which = round % 2 == 0 ? i : i % 2;
            check_conv(&c, types[which].left, types[which].right, types[which].result);
        }
}

// The convolution of one part of the input with one part of the kernel.
static double *part_product(const conv *c, emlx_tensor *const *in, const char *left,
                            const char *right) {
    emlx_tensor *parts[2] = {apply_to(left, &in[0], 1, NULL, 0, EMLX_F64),
                             apply_to(right, &in[1], 1, NULL, 0, EMLX_F64)};
    emlx_tensor *out = apply_conv(c, parts, EMLX_F64);
    double *values = values_of(out);
    for (int i = 0; i < 2; i++) emlx_tensor_release(parts[i]);
    emlx_tensor_release(out);
    return values;
}

static void check_complex(const conv *c, emlx_type left, emlx_type right) {
    int64_t channels = c->channels * c->feature_groups, batch = c->batch * c->batch_groups;
    emlx_shape input = stored_shape(c->spatial, batch, channels, c->input, c->input_axes);
    emlx_shape kernel =
        stored_shape(c->spatial, c->filters, c->channels, c->kernel, c->kernel_axes);
    emlx_tensor *in[2] = {draw_operand(left, &input), draw_operand(right, &kernel)};
    emlx_tensor *out = apply_conv(c, in, EMLX_TYPE_DEFAULT);
    bool narrow = emlx_tensor_type(out) == EMLX_C64;
    double *got = values_of(out), *terms[4];
    for (int i = 0; i < 4; i++)
        terms[i] = part_product(c, in, i / 2 ? "imag" : "real", i % 2 ? "imag" : "real");
    // At most 10 in size are multiplied, channels times taps times.
    double terms_added = (double)c->channels;
    for (int32_t d = 0; d < c->spatial; d++) terms_added *= (double)c->kernel[d];
    double slack = (narrow ? 3e-7 : 1e-15) * 200 * terms_added;
    for (int64_t i = 0; i < emlx_shape_count(emlx_tensor_shape(out)); i++) {
        double re = terms[0][i] - terms[3][i], im = terms[1][i] + terms[2][i];
        if (fabs(got[2 * i] - re) > slack || fabs(got[2 * i + 1] - im) > slack)
            fail_msg("%s with %s, %d spatial axes, result %lld: %.17g%+.17gi, not %.17g%+.17gi",
                     emlx_type_name(left), emlx_type_name(right), c->spatial, (long long)i,
                     got[2 * i], got[2 * i + 1], re, im);
    }
    for (int i = 0; i < 4; i++) free(terms[i]);
    free(got);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
}

static void complex_numbers(void **unused) {
    (void)unused;
    static const emlx_type types[][2] = {{EMLX_C64, EMLX_C64},
                                         {EMLX_C128, EMLX_C128},
                                         {EMLX_F32, EMLX_C64},
                                         {EMLX_C64, EMLX_F64},
                                         {EMLX_S32, EMLX_C64}};
    draw_seed(9);
    for (int round = 0; round < 100; round++) {
        conv c = draw_conv();
        check_complex(&c, types[round % 5][0], types[round % 5][1]);
    }
}

// Strides, padding on every side and input dilation alike for all axes.
static const struct {
    conv conv;
    int64_t stride, padding, dilation;
} layers[] = {
    {{.spatial = 2,
      .batch = 3,
      .channels = 5,
      .filters = 16,
      .feature_groups = 1,
      .input = {20, 14},
      .kernel = {16, 10},
      .results = {5, 5}},
     1,
     0,
     1},
    {{.spatial = 2,
      .batch = 7,
      .channels = 4,
      .filters = 64,
      .feature_groups = 1,
      .input = {28, 28},
      .kernel = {28, 28},
      .results = {3, 3}},
     1,
     1,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 3,
      .filters = 33,
      .feature_groups = 1,
      .input = {19, 40},
      .kernel = {16, 38},
      .results = {2, 2}},
     2,
     0,
     1},
    {{.spatial = 3,
      .batch = 2,
      .channels = 2,
      .filters = 6,
      .feature_groups = 1,
      .input = {9, 8, 11},
      .kernel = {8, 8, 9},
      .results = {4, 3, 5}},
     1,
     1,
     1},
    {{.spatial = 1,
      .batch = 3,
      .channels = 4,
      .filters = 40,
      .feature_groups = 1,
      .input = {900},
      .kernel = {880},
      .results = {21}},
     1,
     0,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 7,
      .filters = 13,
      .feature_groups = 1,
      .input = {30, 29},
      .kernel = {5, 5},
      .results = {26, 25}},
     1,
     0,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 9,
      .filters = 9,
      .feature_groups = 3,
      .input = {30, 60},
      .kernel = {3, 2},
      .results = {15, 31}},
     2,
     1,
     1},
    {{.spatial = 2,
      .batch = 3,
      .channels = 20,
      .filters = 70,
      .feature_groups = 1,
      .input = {23, 30},
      .kernel = {3, 3},
      .results = {23, 30}},
     1,
     1,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 3,
      .filters = 24,
      .feature_groups = 1,
      .input = {40, 37},
      .kernel = {7, 7},
      .results = {20, 19}},
     2,
     3,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 40,
      .filters = 130,
      .feature_groups = 1,
      .input = {13, 12},
      .kernel = {1, 1},
      .results = {13, 12}},
     1,
     0,
     1},
    {{.spatial = 2,
      .batch = 3,
      .channels = 40,
      .filters = 130,
      .feature_groups = 1,
      .input = {8, 7},
      .kernel = {1, 1},
      .results = {4, 4}},
     2,
     0,
     1},
    {{.spatial = 2,
      .batch = 4,
      .channels = 64,
      .filters = 200,
      .feature_groups = 1,
      .input = {5, 5},
      .kernel = {3, 3},
      .results = {5, 5}},
     1,
     1,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 1,
      .filters = 48,
      .feature_groups = 48,
      .input = {25, 34},
      .kernel = {3, 3},
      .results = {25, 34}},
     1,
     1,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 1,
      .filters = 48,
      .feature_groups = 24,
      .input = {25, 34},
      .kernel = {5, 5},
      .results = {13, 17}},
     2,
     2,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 12,
      .filters = 24,
      .feature_groups = 1,
      .input = {12, 12},
      .kernel = {4, 4},
      .results = {24, 24}},
     1,
     2,
     2},
    {{.spatial = 1,
      .batch = 2,
      .channels = 16,
      .filters = 32,
      .feature_groups = 1,
      .input = {1500},
      .kernel = {5},
      .results = {1496}},
     1,
     0,
     1},
    {{.spatial = 1,
      .batch = 1,
      .channels = 30,
      .filters = 700,
      .feature_groups = 1,
      .input = {16},
      .kernel = {16},
      .results = {1}},
     1,
     0,
     1},
    {{.spatial = 0,
      .batch = 50,
      .channels = 40,
      .filters = 60,
      .feature_groups = 2,
      .input = {0},
      .kernel = {0},
      .results = {0}},
     1,
     0,
     1},
    {{.spatial = 2,
      .batch = 2,
      .channels = 3,
      .filters = 3,
      .feature_groups = 3,
      .input = {300, 230},
      .kernel = {3, 3},
      .results = {300, 230}},
     1,
     1,
     1},
    {{.spatial = 2,
      .batch = 1,
      .channels = 4,
      .filters = 8,
      .feature_groups = 4,
      .input = {90, 400},
      .kernel = {5, 4},
      .results = {45, 201}},
     2,
     2,
     1},
    {{.spatial = 3,
      .batch = 1,
      .channels = 2,
      .filters = 2,
      .feature_groups = 2,
      .input = {30, 40, 35},
      .kernel = {3, 2, 3},
      .results = {30, 41, 35}},
     1,
     1,
     1},
    {{.spatial = 1,
      .batch = 2,
      .channels = 2,
      .filters = 4,
      .feature_groups = 2,
      .input = {70000},
      .kernel = {7},
      .results = {23334}},
     3,
     3,
     1},
};

// The shapes of networks, in both usual layouts, large enough for several tasks.
static void network_layers(void **unused) {
    (void)unused;
    draw_seed(2);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        for (int layout = 0; layout < 4; layout++) {
            conv c = layers[i].conv;
            int32_t rank = c.spatial + 2;
            c.batch_groups = 1;
            for (int32_t d = 0; d < c.spatial; d++) {
                c.strides[d] = layers[i].stride;
                c.padding[2 * d] = c.padding[2 * d + 1] = layers[i].padding;
                c.input_dilation[d] = layers[i].dilation;
                c.kernel_dilation[d] = 1;
            }
            (layout & 1 ? last : identity)(c.input_axes, rank);
            (layout & 1 ? last : identity)(c.output_axes, rank);
            identity(c.kernel_axes, rank);
            // Axon's kernels: [spatial..., channels, filters].
            for (int32_t d = 0; d < rank && layout & 2; d++)
                c.kernel_axes[d] = d < 2 ? rank - 1 - d : d - 2;
            check_conv(&c, EMLX_F32, EMLX_F32, EMLX_TYPE_DEFAULT);
            if (layout == 3) check_conv(&c, EMLX_BF16, EMLX_BF16, EMLX_TYPE_DEFAULT);
        }
}

// Special values --------------------------------------------------------------------------------

static conv line(int64_t length, int64_t taps, int64_t padding) {
    conv c = {.spatial = 1, .batch = 1, .channels = 1, .filters = 1};
    c.feature_groups = c.batch_groups = 1;
    c.input[0] = length;
    c.kernel[0] = taps;
    c.strides[0] = c.input_dilation[0] = c.kernel_dilation[0] = 1;
    c.padding[0] = c.padding[1] = padding;
    identity(c.input_axes, 3);
    identity(c.kernel_axes, 3);
    identity(c.output_axes, 3);
    return c;
}

// Sums are rounded once.
static void rounding(void **unused) {
    (void)unused;
    emlx_shape s = {3, {1, 1, 3}};
    emlx_tensor *in[2] = {tensor_of(EMLX_F32, &s, (double[]){0x1p24, 1, 1}),
                          tensor_of(EMLX_F32, &s, (double[]){1, 1, 1})};
    conv c = line(3, 3, 0);
    emlx_tensor *out = apply_conv(&c, in, EMLX_TYPE_DEFAULT);
    double *got = values_of(out);
    assert_true(got[0] == 16777218);
    free(got);
    emlx_tensor *all[3] = {in[0], in[1], out};
    for (int i = 0; i < 3; i++) emlx_tensor_release(all[i]);
}

// The padding's zeros take part: times infinity they are NaN, whatever the size.
static void infinite_weights(void **unused) {
    (void)unused;
    static const int64_t filters[] = {1, 200};
    for (int f = 0; f < 2; f++) {
        conv c = line(400, 3, 1);
        c.filters = filters[f];
        emlx_shape xs = {3, {1, 1, 400}}, ws = {3, {c.filters, 1, 3}};
        double *ones = malloc(600 * sizeof *ones);
        for (int i = 0; i < 600; i++) ones[i] = i % 3 == 0 ? INFINITY : 1;
        emlx_tensor *kernel = tensor_of(EMLX_F32, &ws, ones);
        for (int i = 0; i < 400; i++) ones[i] = 1;
        emlx_tensor *in[2] = {tensor_of(EMLX_F32, &xs, ones), kernel};
        emlx_tensor *out = apply_conv(&c, in, EMLX_TYPE_DEFAULT);
        double *got = values_of(out);
        for (int64_t i = 0; i < 400 * c.filters; i++)
            assert_true(i % 400 == 0 ? isnan(got[i]) : isinf(got[i]));
        free(got);
        free(ones);
        for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
        emlx_tensor_release(out);
    }
}

static void empty_operands(void **unused) {
    (void)unused;
    static const int64_t sizes[][2] = {{0, 2}, {2, 0}};
    for (int i = 0; i < 2; i++) {
        emlx_shape xs = {3, {sizes[i][0], sizes[i][1], 5}}, ws = {3, {4, sizes[i][1], 3}};
        double none[60] = {0};
        emlx_tensor *in[2] = {tensor_of(EMLX_F32, &xs, none), tensor_of(EMLX_F32, &ws, none)};
        emlx_tensor *out = apply_to("conv", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        double *got = values_of(out);
        assert_int_equal(emlx_shape_count(emlx_tensor_shape(out)), sizes[i][0] * 12);
        for (int64_t j = 0; j < sizes[i][0] * 12; j++) assert_true(got[j] == 0);
        free(got);
        emlx_tensor *all[3] = {in[0], in[1], out};
        for (int j = 0; j < 3; j++) emlx_tensor_release(all[j]);
    }
}

static void refuse(emlx_tensor *const *in, const emlx_attr *attrs, size_t count,
                   const char *message) {
    emlx_error err;
    emlx_tensor *out;
    assert_error(emlx_apply(emlx_op_find("conv"), test_device, in, 2, attrs, count,
                            EMLX_TYPE_DEFAULT, &out, &err),
                 EMLX_INVALID, err, message);
}

static void errors(void **unused) {
    (void)unused;
    emlx_shape xs = {4, {3, 4, 5, 6}}, ws = {4, {6, 4, 3, 3}}, flat = {2, {3, 4}};
    emlx_tensor *in[2] = {random_tensor(EMLX_F32, &xs, 0, 3), random_tensor(EMLX_F32, &ws, 0, 3)};
    emlx_tensor *ranks[2] = {random_tensor(EMLX_F32, &flat, 0, 3), in[1]};
    refuse(ranks, NULL, 0, "must have the same rank");
    emlx_attr attr = with_ints("strides", (int64_t[]){1}, 1);
    refuse(in, &attr, 1, "strides must have 2 numbers, got 1");
    attr = with_ints("strides", (int64_t[]){1, 0}, 2);
    refuse(in, &attr, 1, "strides cannot be 0");
    attr = with_ints("kernel_dilation", (int64_t[]){1, INT64_MAX}, 2);
    refuse(in, &attr, 1, "kernel_dilation cannot be");
    attr = with_ints("padding", (int64_t[]){-3, -1, 0, 0}, 4);
    refuse(in, &attr, 1, "a kernel of length 3 does not fit into length 1 of spatial axis 0");
    attr = with_ints("input_permutation", (int64_t[]){0, 1, 1, 2}, 4);
    refuse(in, &attr, 1, "input_permutation must have every axis of rank 4 once");
    attr = with_int("feature_group_size", 2);
    refuse(in, &attr, 1, "4 input channels in 2 feature groups do not fit 4 kernel channels");
    attr = with_int("feature_group_size", 4);
    refuse(in, &attr, 1, "4 groups do not divide 6 filters");
    attr = with_int("batch_group_size", 2);
    refuse(in, &attr, 1, "2 batch groups do not divide batch size 3");
    attr = with_int("batch_group_size", 0);
    refuse(in, &attr, 1, "at least one group");
    emlx_attr both[2] = {with_int("batch_group_size", 3), with_int("feature_group_size", 2)};
    refuse(in, both, 2, "one must be 1");
    emlx_tensor *all[3] = {in[0], in[1], ranks[0]};
    for (int i = 0; i < 3; i++) emlx_tensor_release(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_options),   cmocka_unit_test(complex_numbers),
        cmocka_unit_test(network_layers),   cmocka_unit_test(rounding),
        cmocka_unit_test(infinite_weights), cmocka_unit_test(empty_operands),
        cmocka_unit_test(errors),
    };
    return RUN_ON_CPU("ops/conv", tests);
}
