// SPDX-License-Identifier: Apache-2.0
// complex_test.c - ops on c64 and c128 against plain loops over pairs of doubles: types of results,
// reductions, products, windows, running folds, indexing, movement, and what is refused.
#undef complex
#include <math.h>
#include <stdlib.h>

#include "pairs.h"
#include "tensors.h"

typedef double _Complex pair;

static const emlx_type types[] = {EMLX_C64, EMLX_C128};
enum { TYPES = sizeof types / sizeof *types };

static double precision(emlx_type type) { return type == EMLX_C64 ? 1e-7 : 1e-14; }

static emlx_tensor *unary(const char *op, emlx_tensor *t, emlx_type type) {
    return apply_to(op, &t, 1, NULL, 0, type);
}

// The numbers of a tensor as pairs, which the caller frees.
static pair *pairs_of(emlx_tensor *t) {
    emlx_tensor *wide = unary("as_type", t, EMLX_C128);
    pair *values = (pair *)values_of(wide);
    emlx_tensor_release(wide);
    return values;
}

static void expect_pairs(emlx_tensor *t, emlx_type type, const pair *want, const char *what) {
    assert_int_equal(emlx_tensor_type(t), type);
    pair *got = pairs_of(t);
    for (int64_t i = 0; i < emlx_shape_count(emlx_tensor_shape(t)); i++) {
        double error = cabs(got[i] - want[i]);
        if (!(error <= precision(type) * (cabs(want[i]) + 1)))
            fail_msg("%s of %s, element %lld: %.17g%+.17gi, not %.17g%+.17gi", what,
                     emlx_type_name(type), (long long)i, creal(got[i]), cimag(got[i]),
                     creal(want[i]), cimag(want[i]));
    }
    free(got);
}

static pair *room(int64_t count) {
    pair *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    return values;
}

static pair multiplied(pair x, pair y) {
    return CMPLX(creal(x) * creal(y) - cimag(x) * cimag(y),
                 creal(x) * cimag(y) + cimag(x) * creal(y));
}

// Types -------------------------------------------------------------------------------------------

static void result_types(void **state) {
    (void)state;
    static const struct {
        const char *op;
        emlx_type operand, result;
    } rows[] = {
        {"abs", EMLX_C64, EMLX_F32},       {"abs", EMLX_C128, EMLX_F64},
        {"real", EMLX_C64, EMLX_F32},      {"imag", EMLX_C128, EMLX_F64},
        {"real", EMLX_S64, EMLX_F32},      {"imag", EMLX_F64, EMLX_F64},
        {"phase", EMLX_C64, EMLX_F32},     {"phase", EMLX_U8, EMLX_F32},
        {"conjugate", EMLX_C64, EMLX_C64}, {"conjugate", EMLX_F64, EMLX_C128},
        {"conjugate", EMLX_U8, EMLX_C64},  {"negate", EMLX_C64, EMLX_C64},
        {"is_nan", EMLX_C128, EMLX_U8},    {"logical_not", EMLX_C64, EMLX_U8},
        {"exp", EMLX_C64, EMLX_C64},       {"sum", EMLX_C128, EMLX_C128},
        {"all", EMLX_C64, EMLX_U8},        {"product", EMLX_C64, EMLX_C64},
    };
    emlx_shape s = {1, {3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        emlx_tensor *t = random_tensor(rows[i].operand, &s, 1, 5);
        emlx_tensor *out = unary(rows[i].op, t, EMLX_TYPE_DEFAULT);
        assert_int_equal(emlx_tensor_type(out), rows[i].result);
        free(values_of(out));
        emlx_tensor_release(t);
        emlx_tensor_release(out);
    }
}

static void parts(void **state) {
    (void)state;
    emlx_shape s = {2, {30, 70}};
    for (int i = 0; i < TYPES; i++) {
        emlx_tensor *t = random_tensor(types[i], &s, -9, 9);
        emlx_tensor *re = unary("real", t, EMLX_TYPE_DEFAULT);
        emlx_tensor *im = unary("imag", t, EMLX_TYPE_DEFAULT);
        double *all = values_of(t), *left = values_of(re), *right = values_of(im);
        for (int64_t j = 0; j < emlx_shape_count(&s); j++)
            assert_true(left[j] == all[2 * j] && right[j] == all[2 * j + 1]);
        // A cast to an integer drops the imaginary part as well.
        emlx_tensor *whole = unary("as_type", t, EMLX_S16);
        double *numbers = values_of(whole);
        for (int64_t j = 0; j < emlx_shape_count(&s); j++)
            assert_true(numbers[j] == trunc(all[2 * j]));
        double *arrays[] = {all, left, right, numbers};
        emlx_tensor *tensors[] = {t, re, im, whole};
        for (int j = 0; j < 4; j++) {
            free(arrays[j]);
            emlx_tensor_release(tensors[j]);
        }
    }
}

// A complex operand makes the others complex; integers of 64 bits keep their digits till the end.
static void mixed_operands(void **state) {
    (void)state;
    static const emlx_type others[] = {EMLX_U8, EMLX_S64, EMLX_BF16, EMLX_F32, EMLX_F64, EMLX_C64};
    static const char *const ops[] = {"add", "subtract", "multiply", "divide"};
    emlx_shape s = {2, {5, 1}}, r = {1, {6}};
    pair want[30];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        emlx_tensor *wide = random_tensor(EMLX_F32, &s, 1, 90),
                    *z = random_tensor(EMLX_C64, &r, 1, 9);
        emlx_tensor *in[2] = {unary("as_type", wide, others[i]), z};
        pair *x = pairs_of(in[0]), *y = pairs_of(z);
        for (size_t op = 0; op < 4; op++) {
            for (int j = 0; j < 30; j++) {
                pair a = x[j / 6], b = y[j % 6];
                want[j] = op == 0 ? a + b : op == 1 ? a - b : op == 2 ? multiplied(a, b) : a / b;
            }
            emlx_tensor *out = apply_to(ops[op], in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
            expect_pairs(out, others[i] == EMLX_F64 ? EMLX_C128 : EMLX_C64, want, ops[op]);
            emlx_tensor_release(out);
        }
        free(x);
        free(y);
        emlx_tensor_release(wide);
        for (int j = 0; j < 2; j++) emlx_tensor_release(in[j]);
    }
}

// 2^60 + 1 is no double, so that only an exact comparison tells it from 2^60.
static void comparison_is_exact(void **state) {
    (void)state;
    emlx_shape s = {1, {4}};
    const int64_t integers[] = {1ll << 60, (1ll << 60) + 1, 7, 7};
    const double numbers[] = {0x1p60, 0, 0x1p60, 0, 7, 0, 7, 1};
    const double equal[] = {1, 0, 1, 0};
    emlx_tensor *in[2], *back[2];
    emlx_error err;
    assert_ok(
        emlx_tensor_from_data(test_device, EMLX_S64, &s, integers, sizeof integers, &in[0], &err),
        err);
    in[1] = tensor_of(EMLX_C128, &s, numbers);
    back[0] = in[1];
    back[1] = in[0];
    for (int swapped = 0; swapped < 2; swapped++) {
        emlx_tensor *const *operands = swapped ? back : in;
        emlx_tensor *same = apply_to("equal", operands, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor *other = apply_to("not_equal", operands, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        double *a = values_of(same), *b = values_of(other);
        for (int i = 0; i < 4; i++) assert_true(a[i] == equal[i] && b[i] == 1 - equal[i]);
        free(a);
        free(b);
        emlx_tensor_release(same);
        emlx_tensor_release(other);
    }
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
}

// Folds -------------------------------------------------------------------------------------------

static const emlx_shape folded_shapes[] = {
    {1, {1}},     {1, {7}},       {1, {15}},       {1, {16}},       {1, {200003}},   {2, {5, 40}},
    {2, {40, 5}}, {2, {3000, 9}}, {2, {9, 30000}}, {3, {4, 17, 6}}, {3, {2, 70, 64}}};

// Sums of eighths are exact in double, and so in any order.
static void check_sum(emlx_type type, const emlx_shape *s, int64_t axis) {
    emlx_tensor *t = random_tensor(type, s, -9, 9);
    emlx_shape kept = {.rank = s->rank - 1};
    for (int32_t d = 0, at = 0; d < s->rank; d++)
        if (d != axis) kept.dims[at++] = s->dims[d];
    pair *want = room(emlx_shape_count(&kept)), *x = pairs_of(t);
    for (int64_t i = 0; i < emlx_shape_count(s); i++) {
        int64_t index[EMLX_MAX_RANK], to[EMLX_MAX_RANK];
        unravel(s, i, index);
        for (int32_t d = 0, at = 0; d < s->rank; d++)
            if (d != axis) to[at++] = index[d];
        want[ravel(&kept, to)] += x[i];
    }
    emlx_attr axes = with_ints("axes", &axis, 1);
    emlx_tensor *out = apply_to("sum", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    expect_pairs(out, type, want, "sum");
    emlx_tensor_release(out);
    emlx_tensor_release(t);
    free(want);
    free(x);
}

static void sums(void **state) {
    (void)state;
    draw_seed(3);
    for (int i = 0; i < TYPES; i++)
        for (size_t s = 0; s < sizeof folded_shapes / sizeof *folded_shapes; s++)
            for (int64_t axis = 0; axis < folded_shapes[s].rank; axis++)
                check_sum(types[i], &folded_shapes[s], axis);
}

// Numbers of size 1, so that long products neither vanish nor overflow.
static emlx_tensor *random_units(emlx_type type, const emlx_shape *s) {
    int64_t count = emlx_shape_count(s);
    double *values = malloc(((size_t)count + 1) * 2 * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
        double angle = draw(1000) * 0.01;
        values[2 * i] = cos(angle);
        values[2 * i + 1] = sin(angle);
    }
    emlx_tensor *t = tensor_of(type, s, values);
    free(values);
    return t;
}

static void products(void **state) {
    (void)state;
    emlx_shape s = {2, {300, 40}};
    for (int i = 0; i < TYPES; i++) {
        for (int64_t axis = 0; axis < 2; axis++) {
            emlx_tensor *t = random_units(types[i], &s);
            pair *x = pairs_of(t), want[300];
            int64_t results = s.dims[1 - axis], length = s.dims[axis];
            for (int64_t r = 0; r < results; r++) {
                want[r] = 1;
                for (int64_t j = 0; j < length; j++)
                    want[r] = multiplied(want[r], axis == 1 ? x[r * 40 + j] : x[j * 40 + r]);
            }
            emlx_attr axes = with_ints("axes", &axis, 1);
            emlx_tensor *out = apply_to("product", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
            expect_pairs(out, types[i], want, "product");
            emlx_tensor_release(out);
            emlx_tensor_release(t);
            free(x);
        }
    }
}

// What cancels in c64 is there again in a sum that is rounded once.
static void sums_round_once(void **state) {
    (void)state;
    const double values[] = {0x1p24, -0x1p24, 1, 1, 1, 1, -0x1p24, 0x1p24};
    emlx_shape s = {1, {4}};
    pair want = CMPLX(2, 2);
    emlx_tensor *t = tensor_of(EMLX_C64, &s, values);
    emlx_tensor *out = unary("sum", t, EMLX_TYPE_DEFAULT);
    expect_pairs(out, EMLX_C64, &want, "sum");
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

static void all_and_any(void **state) {
    (void)state;
    const double values[] = {0, 0, -0.0, 0, 0, 3, 0, NAN, 1, 0, 0, 1};
    const double all[] = {0, 0, 1}, any[] = {0, 1, 1};
    emlx_shape s = {2, {3, 2}};
    int64_t axis = 1;
    emlx_attr axes = with_ints("axes", &axis, 1);
    for (int i = 0; i < TYPES; i++) {
        emlx_tensor *t = tensor_of(types[i], &s, values);
        emlx_tensor *every = apply_to("all", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
        emlx_tensor *some = apply_to("any", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
        double *a = values_of(every), *b = values_of(some);
        assert_true(a[1] == 1 && b[0] == 0); // 3i and NaN i are true
        for (int j = 0; j < 3; j += 2) assert_true(a[j] == all[j] && b[j] == any[j]);
        free(a);
        free(b);
        emlx_tensor *tensors[] = {t, every, some};
        for (int j = 0; j < 3; j++) emlx_tensor_release(tensors[j]);
    }
}

static void running_folds(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {{1, {50}}, {2, {30, 600}}, {3, {4, 9, 5}}};
    for (int n = 0; n < TYPES * 3 * 4; n++) {
        emlx_type type = types[n % TYPES];
        const emlx_shape *s = &shapes[n / TYPES % 3];
        bool product = n / (TYPES * 3) % 2, reverse = n / (TYPES * 6);
        int64_t axis = draw((uint32_t)s->rank), length = s->dims[axis], inner = 1;
        for (int32_t d = (int32_t)axis + 1; d < s->rank; d++) inner *= s->dims[d];
        emlx_tensor *t = random_units(type, s);
        pair *x = pairs_of(t);
        for (int64_t i = 0; i < emlx_shape_count(s); i++) {
            int64_t place = i / inner % length, from = i - place * inner;
            int64_t here = from + (reverse ? length - 1 - place : place) * inner;
            int64_t before = here + (reverse ? inner : -inner);
            if (place > 0) x[here] = product ? multiplied(x[before], x[here]) : x[before] + x[here];
        }
        emlx_attr attrs[2] = {with_int("axis", axis), with_bool("reverse", reverse)};
        emlx_tensor *out = apply_to(product ? "cumulative_product" : "cumulative_sum", &t, 1, attrs,
                                    2, EMLX_TYPE_DEFAULT);
        expect_pairs(out, type, x, "running fold");
        emlx_tensor_release(out);
        emlx_tensor_release(t);
        free(x);
    }
}

static void windows(void **state) {
    (void)state;
    enum { ROWS = 20, COLUMNS = 31 };
    const int64_t window[] = {3, 4}, strides[] = {1, 2}, padding[] = {1, 1, 0, 2};
    emlx_shape s = {2, {ROWS, COLUMNS}};
    const int64_t rows = ROWS, columns = (COLUMNS + 2 - 4) / 2 + 1;
    emlx_attr attrs[3] = {with_ints("window", window, 2), with_ints("strides", strides, 2),
                          with_ints("padding", padding, 4)};
    for (int n = 0; n < TYPES * 2; n++) {
        bool product = n >= TYPES;
        emlx_tensor *t = random_units(types[n % TYPES], &s);
        pair *x = pairs_of(t), *want = room(rows * columns);
        for (int64_t i = 0; i < rows * columns; i++) {
            want[i] = product;
            for (int64_t j = 0; j < 12; j++) {
                int64_t r = i / columns + j / 4 - 1, c = i % columns * 2 + j % 4;
                if (r < 0 || r >= ROWS || c >= COLUMNS) continue;
                pair value = x[r * COLUMNS + c];
                want[i] = product ? multiplied(want[i], value) : want[i] + value;
            }
        }
        emlx_tensor *out =
            apply_to(product ? "window_product" : "window_sum", &t, 1, attrs, 3, EMLX_TYPE_DEFAULT);
        expect_pairs(out, types[n % TYPES], want, "window");
        emlx_tensor_release(out);
        emlx_tensor_release(t);
        free(x);
        free(want);
    }
}

// Products of matrices ----------------------------------------------------------------------------

// [batch, m, k] by [batch, n, k] or, transposed, [batch, k, n]; sizes for loops and for BLAS.
static void check_dot(emlx_type left, emlx_type right, const int64_t *size, bool transposed) {
    int64_t batch = size[0], m = size[1], n = size[2], k = size[3];
    emlx_shape ls = {3, {batch, m, k}}, rs = {3, {batch, transposed ? k : n, transposed ? n : k}};
    emlx_tensor *in[2] = {random_tensor(left, &ls, -4, 4), random_tensor(right, &rs, -4, 4)};
    pair *x = pairs_of(in[0]), *y = pairs_of(in[1]), *want = room(batch * m * n);
    for (int64_t i = 0; i < batch * m * n; i++) {
        int64_t b = i / (m * n), row = i / n % m, column = i % n;
        for (int64_t j = 0; j < k; j++)
            want[i] +=
                multiplied(x[(b * m + row) * k + j],
                           transposed ? y[(b * k + j) * n + column] : y[(b * n + column) * k + j]);
    }
    int64_t two = 2, zero = 0, contracted = transposed ? 1 : 2;
    emlx_attr attrs[4] = {with_ints("contract_left", &two, 1), with_ints("batch_left", &zero, 1),
                          with_ints("contract_right", &contracted, 1),
                          with_ints("batch_right", &zero, 1)};
    emlx_tensor *out = apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    bool narrow = left != EMLX_C128 && right != EMLX_C128;
    expect_pairs(out, narrow ? EMLX_C64 : EMLX_C128, want, "dot");
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
    free(x);
    free(y);
    free(want);
}

static void dots(void **state) {
    (void)state;
    static const int64_t sizes[][4] = {
        {1, 1, 1, 1}, {3, 4, 5, 6}, {2, 1, 70, 9}, {2, 40, 33, 50}, {1, 150, 260, 64}};
    static const emlx_type operands[][2] = {
        {EMLX_C64, EMLX_C64}, {EMLX_C128, EMLX_C128}, {EMLX_F32, EMLX_C64}, {EMLX_C128, EMLX_S32}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t t = 0; t < 4; t++)
            for (int transposed = 0; transposed < 2; transposed++)
                check_dot(operands[t][0], operands[t][1], sizes[s], transposed);
}

// Movement ----------------------------------------------------------------------------------------

// Elements are moved whole: what moves them, moves an array of their positions alike.
static void movement(void **state) {
    (void)state;
    emlx_shape s = {2, {6, 7}}, is = {2, {5, 1}};
    const int64_t axes[] = {1, 0}, one[] = {1}, first[] = {0};
    const int64_t starts[] = {1, 2}, lengths[] = {4, 5}, steps[] = {2, 3};
    const double indices[] = {5, 0, 3, 3, 1};
    const struct {
        const char *op;
        emlx_attr attrs[3];
        size_t count;
    } rows[] = {
        {"transpose", {with_ints("axes", axes, 2)}, 1},
        {"reverse", {with_ints("axes", one, 1)}, 1},
        {"slice",
         {with_ints("starts", starts, 2), with_ints("lengths", lengths, 2),
          with_ints("strides", steps, 2)},
         3},
        {"gather", {with_ints("axes", first, 1)}, 1},
    };
    for (int i = 0; i < TYPES; i++) {
        emlx_tensor *z = random_tensor(types[i], &s, -9, 9);
        emlx_attr whole = with_ints("shape", s.dims, 2);
        emlx_tensor *places = apply_to("iota", NULL, 0, &whole, 1, EMLX_S32);
        emlx_tensor *picked = tensor_of(EMLX_S64, &is, indices);
        pair *x = pairs_of(z);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            size_t operands = r == 3 ? 2 : 1;
            emlx_tensor *moved = apply_to(rows[r].op, (emlx_tensor *[]){z, picked}, operands,
                                          rows[r].attrs, rows[r].count, EMLX_TYPE_DEFAULT);
            emlx_tensor *from = apply_to(rows[r].op, (emlx_tensor *[]){places, picked}, operands,
                                         rows[r].attrs, rows[r].count, EMLX_TYPE_DEFAULT);
            double *at = values_of(from);
            int64_t count = emlx_shape_count(emlx_tensor_shape(moved));
            pair *want = room(count);
            for (int64_t j = 0; j < count; j++) want[j] = x[(int64_t)at[j]];
            expect_pairs(moved, types[i], want, rows[r].op);
            free(at);
            free(want);
            emlx_tensor_release(moved);
            emlx_tensor_release(from);
        }
        emlx_tensor *tensors[] = {z, places, picked};
        for (int j = 0; j < 3; j++) emlx_tensor_release(tensors[j]);
        free(x);
    }
}

static void scatter(void **state) {
    (void)state;
    emlx_shape s = {1, {4}}, is = {2, {5, 1}}, us = {1, {5}};
    const double indices[] = {2, 0, 2, 3, 2};
    const int64_t axis = 0;
    emlx_attr axes = with_ints("axes", &axis, 1);
    for (int n = 0; n < TYPES * 2; n++) {
        emlx_type type = types[n % TYPES];
        bool adds = n >= TYPES;
        emlx_tensor *in[3] = {random_tensor(type, &s, -9, 9), tensor_of(EMLX_S32, &is, indices),
                              random_tensor(type, &us, -9, 9)};
        pair *want = pairs_of(in[0]), *updates = pairs_of(in[2]);
        for (int i = 0; i < 5; i++) {
            pair *to = &want[(int)indices[i]];
            *to = adds ? *to + updates[i] : updates[i];
        }
        emlx_tensor *out =
            apply_to(adds ? "indexed_add" : "indexed_put", in, 3, &axes, 1, EMLX_TYPE_DEFAULT);
        expect_pairs(out, type, want, "scatter");
        free(want);
        free(updates);
        for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
        emlx_tensor_release(out);
    }
}

static void joining(void **state) {
    (void)state;
    emlx_shape s = {1, {3}}, scalar = {0};
    const int64_t padding[] = {2, 1, 1};
    const double values[] = {1, 2, 3, -4, 5, 6}, real[] = {7, 8, 9}, filler[] = {0.5, -1};
    const pair joined[] = {CMPLX(1, 2), CMPLX(3, -4), CMPLX(5, 6), 7, 8, 9};
    const pair f = CMPLX(0.5, -1);
    const pair padded[] = {f, f, CMPLX(1, 2), f, CMPLX(3, -4), f, CMPLX(5, 6), f};
    const pair squares[] = {CMPLX(-3, 4), CMPLX(-7, -24), CMPLX(-11, 60)};
    for (int i = 0; i < TYPES; i++) {
        emlx_tensor *z = tensor_of(types[i], &s, values), *r = tensor_of(EMLX_F32, &s, real);
        emlx_tensor *fill = tensor_of(types[i], &scalar, filler);
        emlx_attr two[2] = {with_ints("shape", NULL, 0),
                            {.name = "value", .kind = EMLX_ATTR_NUMBER, .value = {.as.s = 2}}};
        emlx_tensor *square = apply_to("constant", NULL, 0, two, 2, types[i]);
        emlx_attr axis = with_int("axis", 0), pads = with_ints("padding", padding, 3);
        emlx_tensor *out[3] = {
            apply_to("concatenate", (emlx_tensor *[]){z, r}, 2, &axis, 1, EMLX_TYPE_DEFAULT),
            apply_to("pad", (emlx_tensor *[]){z, fill}, 2, &pads, 1, EMLX_TYPE_DEFAULT),
            apply_to("pow", (emlx_tensor *[]){z, square}, 2, NULL, 0, EMLX_TYPE_DEFAULT)};
        expect_pairs(out[0], types[i], joined, "concatenate");
        expect_pairs(out[1], types[i], padded, "pad");
        expect_pairs(out[2], types[i], squares, "pow");
        for (int j = 0; j < 3; j++) emlx_tensor_release(out[j]);
        emlx_tensor_release(z);
        emlx_tensor_release(r);
        emlx_tensor_release(fill);
        emlx_tensor_release(square);
    }
}

// Errors ------------------------------------------------------------------------------------------

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *op;
        size_t operands;
    } rows[] = {{"max", 2},        {"min", 2},        {"less", 2},        {"greater_equal", 2},
                {"remainder", 2},  {"floor", 1},      {"round", 1},       {"erf", 1},
                {"reduce_max", 1}, {"clip", 3},       {"bitwise_not", 1}, {"argmax", 1},
                {"quotient", 2},   {"left_shift", 2}, {"bitcast", 1}};
    emlx_shape s = {0};
    emlx_tensor *z = random_tensor(EMLX_C64, &s, 1, 5), *in[3] = {z, z, z}, *out;
    emlx_error err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_error(emlx_apply(emlx_op_find(rows[i].op), test_device, in, rows[i].operands, NULL,
                                0, EMLX_TYPE_DEFAULT, &out, &err),
                     EMLX_INVALID, err, "c64");
    emlx_tensor *bits = random_tensor(EMLX_U64, &s, 1, 5);
    assert_error(
        emlx_apply(emlx_op_find("bitcast"), test_device, &bits, 1, NULL, 0, EMLX_C64, &out, &err),
        EMLX_INVALID, err, "no c64 of other bits");
    emlx_tensor_release(bits);
    emlx_tensor_release(z);
}

// Complex operands of atan2 must be real: known ones are looked at by the call, others by the run.
static void real_operands(void **state) {
    (void)state;
    emlx_shape s = {1, {2}};
    const double real[] = {7, 0, -1, 0}, other[] = {7, 0, -1, 1e-30}, by[] = {2, 0.5};
    const pair want[] = {atan2(7, 2), atan2(-1, 0.5)};
    emlx_tensor *in[2] = {tensor_of(EMLX_C128, &s, real), tensor_of(EMLX_F64, &s, by)}, *out;
    emlx_error err;
    out = apply_to("atan2", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    expect_pairs(out, EMLX_C128, want, "atan2");
    emlx_tensor_release(out);
    emlx_tensor_release(in[0]);
    in[0] = tensor_of(EMLX_C128, &s, other);
    const emlx_op *op = emlx_op_find("atan2");
    assert_error(emlx_apply(op, test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err),
                 EMLX_ARITHMETIC, err, "only accepts real numbers");
    emlx_tensor *pending[2] = {unary("negate", in[0], EMLX_TYPE_DEFAULT), in[1]};
    out = apply_to("atan2", pending, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    assert_error(emlx_eval(&out, 1, &err), EMLX_ARITHMETIC, err, "only accepts real numbers");
    emlx_tensor_release(out);
    emlx_tensor_release(pending[0]);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(result_types),
        cmocka_unit_test(parts),
        cmocka_unit_test(mixed_operands),
        cmocka_unit_test(comparison_is_exact),
        cmocka_unit_test(sums),
        cmocka_unit_test(products),
        cmocka_unit_test(sums_round_once),
        cmocka_unit_test(all_and_any),
        cmocka_unit_test(running_folds),
        cmocka_unit_test(windows),
        cmocka_unit_test(dots),
        cmocka_unit_test(movement),
        cmocka_unit_test(scatter),
        cmocka_unit_test(joining),
        cmocka_unit_test(refusals),
        cmocka_unit_test(real_operands),
    };
    return RUN_ON_CPU("ops/complex", tests);
}
