// SPDX-License-Identifier: Apache-2.0
// window_test.c - folds over windows, and scatters into their winners, against plain loops over
// random windows, strides, dilations and padding.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/folds.h"

static const char *const names[KINDS] = {"window_sum", "window_product", "window_max",
                                         "window_min"};

// Options ---------------------------------------------------------------------------------------

typedef struct options {
    emlx_shape shape, window;
    int64_t strides[EMLX_MAX_RANK], dilations[EMLX_MAX_RANK], padding[2 * EMLX_MAX_RANK];
    emlx_shape count; // windows
} options;

// Whether the windows fit.
static bool count_windows(options *o) {
    o->count.rank = o->shape.rank;
    for (int32_t d = 0; d < o->shape.rank; d++) {
        int64_t padded = o->shape.dims[d] + o->padding[2 * d] + o->padding[2 * d + 1];
        int64_t room = padded - ((o->window.dims[d] - 1) * o->dilations[d] + 1);
        if (padded < 1 || room < 0) return false;
        o->count.dims[d] = room / o->strides[d] + 1;
    }
    return true;
}

static void draw_options(options *o, int most_padding, bool dilates) {
    do {
        o->shape.rank = o->window.rank = (int32_t)draw(5);
        for (int32_t d = 0; d < o->shape.rank; d++) {
            o->shape.dims[d] = 1 + draw(7);
            o->window.dims[d] = 1 + draw(4);
            o->strides[d] = 1 + draw(3);
            o->dilations[d] = dilates ? 1 + draw(3) : 1;
            for (int i = 0; i < 2; i++)
                o->padding[2 * d + i] =
                    most_padding > 0 ? (int)draw((unsigned)most_padding) - 1 : 0;
        }
    } while (!count_windows(o));
}

static size_t attrs_of(const options *o, emlx_attr attrs[4], bool dilates) {
    size_t rank = (size_t)o->shape.rank;
    attrs[0] = with_ints("window", o->window.dims, rank);
    attrs[1] = with_ints("padding", o->padding, 2 * rank);
    attrs[2] = with_ints("strides", o->strides, rank);
    attrs[3] = with_ints("window_dilations", o->dilations, rank);
    return dilates ? 4 : 3;
}

// The row-major position in the operand of element `w` of window `cell`, or -1 in the padding.
static int64_t element_of(const options *o, int64_t cell, int64_t w) {
    int64_t at[EMLX_MAX_RANK], in[EMLX_MAX_RANK];
    unravel(&o->count, cell, at);
    unravel(&o->window, w, in);
    for (int32_t d = 0; d < o->shape.rank; d++) {
        at[d] = at[d] * o->strides[d] + in[d] * o->dilations[d] - o->padding[2 * d];
        if (at[d] < 0 || at[d] >= o->shape.dims[d]) return -1;
    }
    return ravel(&o->shape, at);
}

// Tensors ---------------------------------------------------------------------------------------

// Few different numbers, so that some are equal; whole ones for integers.
static emlx_tensor *random_operand(int kind, emlx_type type, const emlx_shape *s, bool special) {
    static const double specials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0};
    int64_t count = emlx_shape_count(s);
    double *values = malloc(((size_t)count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        values[i] = (int)draw(9) - (type < EMLX_S8 ? 0 : 4);
        if (type >= EMLX_F8 && kind == PRODUCT) values[i] = draw(2) ? 2 : -0.5;
        if (special && draw(4) == 0) values[i] = specials[draw(5)];
    }
    emlx_tensor *t = tensor_of(type, s, values);
    free(values);
    return t;
}

// The same values by way of a computation and another order of axes, so that windows go over
// something that is not yet there.
static emlx_tensor *pending(emlx_tensor *t) {
    const emlx_shape *s = emlx_tensor_shape(t);
    int64_t axes[EMLX_MAX_RANK];
    for (int32_t d = 0; d < s->rank; d++) axes[d] = s->rank - 1 - d;
    emlx_attr attr = with_ints("axes", axes, (size_t)s->rank);
    emlx_tensor *turned = apply_to("transpose", &t, 1, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *twice = apply_to("negate", &turned, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_error err;
    assert_ok(emlx_eval(&twice, 1, &err), err);
    emlx_tensor *once = apply_to("negate", &twice, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *out = apply_to("transpose", &once, 1, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *all[] = {turned, twice, once};
    for (int i = 0; i < 3; i++) emlx_tensor_release(all[i]);
    return out;
}

// Folds -----------------------------------------------------------------------------------------

// The lowest or highest integer of a type, as the low bits of the result.
static uint64_t end_of(emlx_type type, bool lowest) {
    uint64_t all = UINT64_MAX >> (64 - emlx_type_bits(type)), top = all ^ all >> 1;
    if (type < EMLX_S2) return lowest ? 0 : all;
    return lowest ? top : all >> 1;
}

// What `fold` gives for one window: exact in `real`, and the bits of an integer.
static uint64_t fold_window(int kind, const options *o, const double *in, int64_t cell,
                            emlx_type type, double *real) {
    static const double starts[KINDS] = {0, 1, -INFINITY, INFINITY};
    uint64_t bits = kind == PRODUCT;
    bool any = false, extreme = kind == MAX || kind == MIN;
    *real = starts[kind];
    for (int64_t w = 0; w < emlx_shape_count(&o->window); w++) {
        int64_t at = element_of(o, cell, w);
        if (at < 0) continue;
        *real = fold_step(kind, *real, in[at]);
        int64_t x = isfinite(in[at]) ? (int64_t)in[at] : 0;
        bits = extreme && !any ? (uint64_t)x : fold_step_integer(kind, bits, x);
        any = true;
    }
    return extreme && !any ? end_of(type, kind == MAX) : bits;
}

static bool same_real(double a, double b) {
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    return a == b && signbit(a) == signbit(b);
}

static void check_fold(int kind, emlx_type type, const options *o, bool special, bool is_pending) {
    emlx_tensor *data = random_operand(kind, type, &o->shape, special);
    emlx_tensor *t = is_pending ? pending(data) : emlx_tensor_retain(data);
    emlx_attr attrs[4];
    size_t attr_count = attrs_of(o, attrs, true);
    emlx_tensor *out = apply_to(names[kind], &t, 1, attrs, attr_count, EMLX_TYPE_DEFAULT);
    assert_int_equal(emlx_tensor_type(out), type);
    assert_true(memcmp(emlx_tensor_shape(out)->dims, o->count.dims,
                       (size_t)o->count.rank * sizeof *o->count.dims) == 0);
    int64_t cells = emlx_shape_count(&o->count);
    double *in = values_of(t), *got = values_of(out);
    double *wanted = malloc((size_t)cells * sizeof *wanted);
    char *bytes = bytes_of(out);
    size_t size = emlx_type_size(type);
    bool floats = type >= EMLX_F8;
    for (int64_t cell = 0; cell < cells; cell++) {
        uint64_t bits = fold_window(kind, o, in, cell, type, &wanted[cell]);
        if (!floats && memcmp(bytes + (size_t)cell * size, &bits, size) != 0)
            fail_msg("%s of %s: cell %lld is %g, not %llx", names[kind], emlx_type_name(type),
                     (long long)cell, got[cell], (unsigned long long)bits);
    }
    emlx_tensor *rounded = tensor_of(floats ? type : EMLX_F64, &o->count, wanted);
    double *real = values_of(rounded);
    for (int64_t cell = 0; floats && cell < cells; cell++)
        if (!same_real(got[cell], real[cell]))
            fail_msg("%s of %s: cell %lld is %.17g, not %.17g", names[kind], emlx_type_name(type),
                     (long long)cell, got[cell], real[cell]);
    emlx_tensor *all[] = {data, t, out, rounded};
    for (int i = 0; i < 4; i++) emlx_tensor_release(all[i]);
    free(in);
    free(got);
    free(bytes);
    free(wanted);
    free(real);
}

static void random_windows(void **unused) {
    (void)unused;
    draw_seed(1);
    for (int i = 0; i < 4000; i++) {
        options o = {0};
        draw_options(&o, draw(2) ? 6 : 0, true);
        check_fold((int)draw(KINDS), fold_types[draw(FOLD_TYPES)], &o, false, draw(3) == 0);
    }
}

static void special_values(void **unused) {
    (void)unused;
    draw_seed(2);
    for (int i = 0; i < 1000; i++) {
        options o = {0};
        draw_options(&o, draw(2) ? 6 : 0, true);
        check_fold(MAX + (int)draw(2), draw(2) ? EMLX_F32 : EMLX_F64, &o, true, draw(3) == 0);
    }
}

// Wide enough for several tasks, and to be folded axis by axis.
// The elements that results in a row are made of lie `step` apart in memory, whatever that is: back
// to front, in the same place. All rows of a matrix are folded into one.
static void check_turned(int kind, emlx_type type, int64_t columns, int64_t step) {
    static const char *const folds[KINDS] = {"sum", "product", "reduce_max", "reduce_min"};
    const emlx_shape shape = {2, {5, 1 + (columns - 1) * (step < 0 ? -step : step)}};
    const emlx_shape wide = {2, {5, columns}};
    int64_t both[2] = {0, 1}, *first = &both[0], *last = &both[1],
            strides[2] = {1, step < 0 ? -step : 1}, none[2] = {0};
    emlx_tensor *t = random_tensor(type, &shape, 1, 4), *view;
    emlx_attr reversed = with_ints("axes", last, 1), axes = with_ints("axes", first, 1);
    emlx_attr whole[2] = {with_ints("shape", wide.dims, 2), with_ints("axes", both, 2)};
    emlx_attr slice[3] = {with_ints("starts", none, 2), with_ints("lengths", shape.dims, 2),
                          with_ints("strides", strides, 2)};
    if (step == 0) {
        view = apply_to("broadcast", &t, 1, whole, 2, EMLX_TYPE_DEFAULT);
    } else {
        emlx_tensor *back = apply_to("reverse", &t, 1, &reversed, 1, EMLX_TYPE_DEFAULT);
        view = apply_to("slice", &back, 1, slice, 3, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(back);
    }
    emlx_tensor *out = apply_to(folds[kind], &view, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    double *in = values_of(t), *got = values_of(out);
    for (int64_t c = 0; c < columns; c++) {
        int64_t from = step == 0 ? 0 : shape.dims[1] - 1 + c * step;
        double wanted = in[from];
        for (int64_t r = 1; r < 5; r++)
            wanted = fold_step(kind, wanted, in[r * shape.dims[1] + from]);
        if (got[c] != wanted)
            fail_msg("%s of %s, %lld columns %lld apart: number %lld is %g, not %g", folds[kind],
                     emlx_type_name(type), (long long)columns, (long long)step, (long long)c,
                     got[c], wanted);
    }
    free(in);
    free(got);
    emlx_tensor *all[] = {t, view, out};
    for (int i = 0; i < 3; i++) emlx_tensor_release(all[i]);
}

static void rows_lie_as_they_like(void **unused) {
    (void)unused;
    draw_seed(7);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < FOLD_TYPES; i++) {
            bool narrow = fold_types[i] >= EMLX_F8 && fold_types[i] != EMLX_F64;
            if (narrow && kind != MAX && kind != MIN) continue; // those are rounded
            for (int64_t columns = 1; columns < 40; columns += 1 + columns / 8)
                for (int64_t step = -3; step <= 0; step++)
                    check_turned(kind, fold_types[i], columns, step);
        }
}

static void large_windows(void **unused) {
    (void)unused;
    static const options cases[] = {
        {{1, {40000}}, {1, {30}}, {1}, {1}, {29, 0}, {0}},
        {{1, {300}}, {1, {200}}, {1}, {1}, {0}, {0}},
        {{2, {200, 150}}, {2, {7, 7}}, {1, 1}, {1, 1}, {3, 3, 3, 3}, {0}},
        {{2, {200, 150}}, {2, {8, 5}}, {3, 2}, {2, 1}, {0}, {0}},
        {{3, {3, 60, 50}}, {3, {1, 60, 50}}, {1, 1, 1}, {1, 1, 1}, {0}, {0}},
        {{4, {2, 30, 30, 9}},
         {4, {1, 3, 3, 1}},
         {1, 2, 2, 1},
         {1, 1, 1, 1},
         {0, 0, 1, 1, 1, 1},
         {0}},
        {{4, {2, 9, 30, 31}}, {4, {1, 1, 4, 5}}, {1, 1, 4, 5}, {1, 1, 1, 1}, {0}, {0}},
        {{4, {7, 7, 7, 7}}, {4, {3, 4, 3, 4}}, {1, 1, 1, 2}, {1, 1, 2, 1}, {1, 1}, {0}},
    };
    draw_seed(3);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t t = 0; t < FOLD_TYPES; t++) {
                options o = cases[c];
                assert_true(count_windows(&o));
                // A product of floats this long would overflow or vanish.
                if (kind == PRODUCT && fold_types[t] >= EMLX_F8) continue;
                check_fold(kind, fold_types[t], &o, t >= FOLD_TYPES - 2 && kind >= MAX, false);
            }
}

// 2^24 + 1 + 1 in f32 is right only when rounded once; 60000 + 60000 - 60000 in f16 as well.
static void floats_are_rounded_once(void **unused) {
    (void)unused;
    const double values[] = {16777216, 1, 1};
    emlx_shape s = {1, {3}};
    emlx_tensor *t = tensor_of(EMLX_F32, &s, values);
    emlx_attr window = with_ints("window", (int64_t[]){3}, 1);
    emlx_tensor *out = apply_to("window_sum", &t, 1, &window, 1, EMLX_TYPE_DEFAULT);
    double *got = values_of(out);
    assert_true(got[0] == 16777218);
    free(got);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

// Scatter ---------------------------------------------------------------------------------------

static void scatter_by_hand(const options *o, bool max, const double *t, const double *source,
                            double init, double *wanted) {
    for (int64_t i = 0; i < emlx_shape_count(&o->shape); i++) wanted[i] = init;
    for (int64_t cell = 0; cell < emlx_shape_count(&o->count); cell++) {
        int64_t winner = element_of(o, cell, 0);
        double best = winner < 0 ? init : t[winner];
        for (int64_t w = 1; w < emlx_shape_count(&o->window); w++) {
            int64_t at = element_of(o, cell, w);
            double x = at < 0 ? init : t[at];
            if (!(max ? x >= best : x <= best)) continue;
            best = x;
            winner = at;
        }
        if (winner >= 0) wanted[winner] += source[cell];
    }
}

static void check_scatter(const options *o, bool max, const emlx_type in_types[3], bool special) {
    emlx_shape scalar = {0};
    emlx_tensor *in[3] = {random_operand(MAX, in_types[0], &o->shape, special),
                          random_operand(MAX, in_types[1], &o->count, false),
                          random_operand(MAX, in_types[2], &scalar, false)};
    emlx_attr attrs[4];
    size_t attr_count = attrs_of(o, attrs, false);
    const char *name = max ? "window_scatter_max" : "window_scatter_min";
    emlx_tensor *out = apply_to(name, in, 3, attrs, attr_count, EMLX_TYPE_DEFAULT);
    int64_t count = emlx_shape_count(&o->shape);
    double *t = values_of(in[0]), *source = values_of(in[1]), *init = values_of(in[2]);
    double *got = values_of(out), *wanted = calloc((size_t)count, sizeof *wanted);
    scatter_by_hand(o, max, t, source, init[0], wanted);
    for (int64_t i = 0; i < count; i++)
        if (got[i] != wanted[i])
            fail_msg("%s of %s, %s and %s: element %lld is %.17g, not %.17g", name,
                     emlx_type_name(in_types[0]), emlx_type_name(in_types[1]),
                     emlx_type_name(in_types[2]), (long long)i, got[i], wanted[i]);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
    double *all[] = {t, source, init, got, wanted};
    for (int i = 0; i < 5; i++) free(all[i]);
}

static void random_scatters(void **unused) {
    (void)unused;
    draw_seed(4);
    for (int i = 0; i < 4000; i++) {
        options o = {0};
        draw_options(&o, draw(2) ? 6 : 0, false);
        emlx_type in_types[3];
        for (int k = 0; k < 3; k++) in_types[k] = fold_types[draw(FOLD_TYPES)];
        check_scatter(&o, draw(2), in_types, in_types[0] >= EMLX_F8 && draw(3) == 0);
    }
}

static void large_scatters(void **unused) {
    (void)unused;
    options cases[] = {{{2, {400, 300}}, {2, {2, 2}}, {2, 2}, {1, 1}, {0}, {0}},
                       {{2, {200, 300}}, {2, {5, 3}}, {1, 2}, {1, 1}, {2, 2, 1, 1}, {0}}};
    draw_seed(5);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        assert_true(count_windows(&cases[c]));
        for (int max = 0; max < 2; max++) {
            check_scatter(&cases[c], max, (emlx_type[]){EMLX_F32, EMLX_F32, EMLX_F32}, true);
            check_scatter(&cases[c], max, (emlx_type[]){EMLX_S32, EMLX_S64, EMLX_S32}, false);
        }
    }
}

// Errors ----------------------------------------------------------------------------------------

static void refused(const char *op, emlx_tensor *const *in, size_t count, const emlx_attr *attrs,
                    size_t attr_count, const char *message) {
    emlx_error err;
    emlx_tensor *out;
    assert_int_equal(emlx_apply(emlx_op_find(op), test_device, in, count, attrs, attr_count,
                                EMLX_TYPE_DEFAULT, &out, &err),
                     EMLX_INVALID);
    if (strstr(err.message, message) == NULL) fail_msg("%s instead of %s", err.message, message);
}

// Steps that are never taken may have any length.
static void longest_steps(void **unused) {
    (void)unused;
    emlx_shape s = {2, {2, 5}}, one = {2, {1, 1}};
    emlx_tensor *t = random_tensor(EMLX_F32, &s, 0, 9), *out;
    const int64_t far[] = {INT64_MAX, INT64_MAX}, window[] = {2, 5};
    const int64_t inside[] = {0, 0, INT64_MAX / 4, 0, 0, INT64_MAX / 4}, ones[] = {1, 1};
    emlx_attr attrs[3] = {with_ints("window", window, 2), with_ints("strides", far, 2)};
    for (int i = 0; i < KINDS; i++) {
        out = apply_to(names[i], &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
        assert_int_equal(emlx_shape_count(emlx_tensor_shape(out)), 1);
        free(values_of(out));
        emlx_tensor_release(out);
    }
    attrs[0] = with_ints("window", ones, 2);
    attrs[2] = with_ints("window_dilations", far, 2);
    out = apply_to("window_max", &t, 1, attrs, 3, EMLX_TYPE_DEFAULT);
    assert_int_equal(emlx_shape_count(emlx_tensor_shape(out)), 1);
    emlx_tensor_release(out);
    emlx_tensor *in[3] = {t, random_tensor(EMLX_F32, &one, 0, 3),
                          random_tensor(EMLX_F32, &(emlx_shape){0}, 0, 3)};
    attrs[0] = with_ints("window", window, 2);
    out = apply_to("window_scatter_max", in, 3, attrs, 2, EMLX_TYPE_DEFAULT);
    free(values_of(out));
    emlx_tensor_release(out);
    in[0] = in[1];
    in[1] = in[2];
    attrs[0] = with_ints("padding", inside, 6);
    out = apply_to("pad", in, 2, attrs, 1, EMLX_TYPE_DEFAULT);
    free(values_of(out));
    emlx_tensor_release(out);
    attrs[0] = with_ints("padding", (int64_t[]){0, 0, INT64_MAX, 0, 0, 0}, 6);
    refused("pad", in, 2, attrs, 1, "padding {0, 0, 9223372036854775807} of axis 0");
    emlx_tensor_release(t);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
}

static void bad_windows(void **unused) {
    (void)unused;
    emlx_shape s = {2, {4, 5}}, one = {2, {3, 4}}, vector = {1, {1}};
    emlx_tensor *t = random_tensor(EMLX_F32, &s, 0, 9);
    const int64_t huge[] = {INT64_MAX, 2}, none[] = {0, 2}, twos[] = {2, 2}, wide[] = {2, 6};
    const int64_t far[] = {INT64_MAX, 0, 0, 0}, crop[] = {-3, -1, 0, 0}, zero[] = {1, 0};
    emlx_attr attrs[2] = {with_ints("window", twos, 1)};
    refused("window_sum", &t, 1, attrs, 1, "window has 1 numbers for rank 2");
    attrs[0] = with_ints("window", none, 2);
    refused("window_sum", &t, 1, attrs, 1, "window must be positive");
    attrs[0] = with_ints("window", wide, 2);
    refused("window_max", &t, 1, attrs, 1,
            "a window of 6 with dilation 1 does not fit into axis 1");
    attrs[0] = with_ints("window", huge, 2);
    attrs[1] = with_ints("window_dilations", huge, 2);
    refused("window_max", &t, 1, attrs, 2, "does not fit into axis 0");
    attrs[0] = with_ints("window", twos, 2);
    attrs[1] = with_ints("strides", zero, 2);
    refused("window_min", &t, 1, attrs, 2, "strides must be positive");
    attrs[1] = with_ints("padding", far, 4);
    refused("window_min", &t, 1, attrs, 2, "padding {");
    attrs[1] = with_ints("padding", far, 3);
    refused("window_min", &t, 1, attrs, 2, "3 numbers of padding");
    attrs[1] = with_ints("padding", crop, 4);
    refused("window_product", &t, 1, attrs, 2, "does not fit into axis 0");
    emlx_tensor *in[3] = {t, t, random_tensor(EMLX_F32, &(emlx_shape){0}, 0, 0)};
    refused("window_scatter_max", in, 3, attrs, 1, "the source has shape");
    emlx_tensor_release(in[2]);
    in[1] = random_tensor(EMLX_F32, &one, 0, 9);
    in[2] = random_tensor(EMLX_F32, &vector, 0, 0);
    refused("window_scatter_min", in, 3, attrs, 1, "must be a scalar");
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_windows),        cmocka_unit_test(special_values),
        cmocka_unit_test(large_windows),         cmocka_unit_test(floats_are_rounded_once),
        cmocka_unit_test(random_scatters),       cmocka_unit_test(large_scatters),
        cmocka_unit_test(longest_steps),         cmocka_unit_test(bad_windows),
        cmocka_unit_test(rows_lie_as_they_like),
    };
    return RUN_ON_CPU("ops/window", tests);
}
