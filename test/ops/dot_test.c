// SPDX-License-Identifier: Apache-2.0
// dot_test.c - products of every type, in every layout and at sizes around those of tiles, blocks
// and parts, against plain sums of small whole numbers, which are exact.
#include "tensors.h"

#include <math.h>
#include <stdlib.h>

// Small whole numbers, some of them negative if the type has such.
static emlx_tensor *whole_numbers(emlx_type type, const emlx_shape *shape) {
    int64_t count = emlx_shape_count(shape);
    double *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    bool negative = type != EMLX_U8 && type != EMLX_U16 && type != EMLX_U64;
    for (int64_t i = 0; i < count; i++) values[i] = draw(5) - (negative ? 2.0 : 0.0);
    emlx_tensor *t = tensor_of(type, shape, values);
    free(values);
    return t;
}

// A matrix of them, [rows, columns], turned in memory if asked for.
static emlx_tensor *matrix(emlx_type type, int64_t batch, int64_t rows, int64_t columns,
                           bool turned) {
    int64_t dims[3] = {batch, turned ? columns : rows, turned ? rows : columns};
    emlx_shape shape;
    emlx_error err;
    assert_int_equal(emlx_shape_make(dims, 3, &shape, &err), EMLX_OK);
    emlx_tensor *t = whole_numbers(type, &shape);
    if (!turned) return t;
    const int64_t axes[3] = {0, 2, 1};
    emlx_attr attr = with_ints("axes", axes, 3);
    emlx_tensor *result = apply_to("transpose", &t, 1, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(t);
    return result;
}

static emlx_tensor *product(emlx_tensor *a, emlx_tensor *b, emlx_type type) {
    const int64_t batch[1] = {0}, left[1] = {2}, right[1] = {1};
    emlx_attr attrs[4] = {with_ints("contract_left", left, 1), with_ints("batch_left", batch, 1),
                          with_ints("contract_right", right, 1),
                          with_ints("batch_right", batch, 1)};
    emlx_tensor *operands[2] = {a, b};
    return apply_to("dot", operands, 2, attrs, 4, type);
}

// What the type makes of a sum: its bits, or the nearest number that it has.
static double as_held(emlx_type type, double sum) {
    if (type == EMLX_U8) return (double)(uint8_t)(int64_t)sum;
    if (type == EMLX_S8) return (double)(int8_t)(int64_t)sum;
    if (type == EMLX_U16) return (double)(uint16_t)(int64_t)sum;
    if (type == EMLX_S16) return (double)(int16_t)(int64_t)sum;
    if (type == EMLX_F8 || type == EMLX_F8_E4M3FN || type == EMLX_F16 || type == EMLX_BF16) {
        emlx_shape one = {1, {1}};
        emlx_tensor *t = tensor_of(EMLX_F32, &one, &sum), *narrow = as_type(t, type);
        emlx_tensor *wide = as_type(narrow, EMLX_F64);
        double *values = values_of(wide), held = values[0];
        free(values);
        emlx_tensor_release(t), emlx_tensor_release(narrow), emlx_tensor_release(wide);
        return held;
    }
    return sum;
}

static double *wide_values(emlx_tensor *t) {
    emlx_tensor *wide = as_type(t, EMLX_F64);
    double *values = values_of(wide);
    emlx_tensor_release(wide);
    return values;
}

typedef struct dot_case {
    int64_t batch, m, k, n;
} dot_case;

static void check_product(emlx_type type, const dot_case *c, bool left_turned, bool right_turned) {
    emlx_tensor *a = matrix(type, c->batch, c->m, c->k, left_turned);
    emlx_tensor *b = matrix(type, c->batch, c->k, c->n, right_turned);
    emlx_tensor *t = product(a, b, EMLX_TYPE_DEFAULT);
    double *x = wide_values(a), *y = wide_values(b), *found = wide_values(t);
    // All of it would take longer than what is tested.
    for (int64_t at = 0; at < c->batch * c->m * c->n; at += 1 + (int64_t)draw(7)) {
        int64_t batch = at / (c->m * c->n), i = at / c->n % c->m, j = at % c->n;
        double sum = 0;
        for (int64_t k = 0; k < c->k; k++)
            sum += x[(batch * c->m + i) * c->k + k] * y[(batch * c->k + k) * c->n + j];
        assert_true(found[at] == as_held(type, sum));
    }
    free(x), free(y), free(found);
    emlx_tensor_release(a), emlx_tensor_release(b), emlx_tensor_release(t);
}

static const emlx_type types[] = {EMLX_U8,  EMLX_S8,        EMLX_U16,  EMLX_S16, EMLX_S32,
                                  EMLX_U64, EMLX_S64,       EMLX_BF16, EMLX_F16, EMLX_F8,
                                  EMLX_F32, EMLX_F8_E4M3FN, EMLX_F64};
enum { TYPES = sizeof types / sizeof *types };

static void check_all(const dot_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (size_t t = 0; t < TYPES; t++)
            for (unsigned layout = 0; layout < 4; layout++)
                check_product(types[t], &cases[i], layout & 1, layout >> 1);
}

static void test_vectors(void **state) {
    (void)state;
    static const dot_case cases[] = {{1, 1, 500, 37}, {1, 53, 129, 1}, {3, 1, 65, 70},
                                     {2, 3, 64, 48},  {1, 1, 9000, 1}, {1, 4, 33, 1030},
                                     {1, 2, 3, 2050}, {2, 90, 70, 1}};
    check_all(cases, sizeof cases / sizeof *cases);
}

static void test_matrices(void **state) {
    (void)state;
    static const dot_case cases[] = {{1, 17, 17, 17},  {1, 5, 300, 130},  {1, 130, 31, 140},
                                     {5, 33, 40, 65},  {1, 8, 1, 700},    {2, 129, 128, 127},
                                     {1, 600, 40, 33}, {2, 20, 700, 270}, {1, 270, 530, 20}};
    check_all(cases, sizeof cases / sizeof *cases);
}

// Sums of more terms than are added at a time, in blocks and in parts.
static void test_long(void **state) {
    (void)state;
    static const dot_case long_ones[] = {{1, 1, 140000, 2}, {1, 6, 3000, 40}};
    static const emlx_type some[] = {EMLX_F32, EMLX_F64, EMLX_S8, EMLX_S64, EMLX_BF16, EMLX_F8};
    for (size_t i = 0; i < sizeof long_ones / sizeof *long_ones; i++)
        for (size_t t = 0; t < sizeof some / sizeof *some; t++)
            check_product(some[t], &long_ones[i], i % 2 == 1, t % 2 == 1);
}

// A broadcast axis has no stride, and a reversed one a negative one.
static void test_strides(void **state) {
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        emlx_shape one = {3, {1, 1, 40}}, shape = {3, {1, 50, 40}};
        emlx_tensor *row = whole_numbers(types[t], &one);
        const int64_t axes[3] = {0, 1, 2}, reversed[1] = {2};
        emlx_attr attrs[2] = {with_ints("shape", shape.dims, 3), with_ints("axes", axes, 3)};
        emlx_tensor *all = apply_to("broadcast", &row, 1, attrs, 2, EMLX_TYPE_DEFAULT);
        emlx_tensor *b = matrix(types[t], 1, 40, 45, false);
        emlx_attr attr = with_ints("axes", reversed, 1);
        emlx_tensor *back = apply_to("reverse", &b, 1, &attr, 1, EMLX_TYPE_DEFAULT);
        emlx_tensor *found = product(all, back, EMLX_TYPE_DEFAULT);
        double *x = wide_values(row), *y = wide_values(b), *z = wide_values(found);
        for (int64_t i = 0; i < 50; i++)
            for (int64_t j = 0; j < 45; j++) {
                double sum = 0;
                for (int64_t k = 0; k < 40; k++) sum += x[k] * y[k * 45 + 44 - j];
                assert_true(z[i * 45 + j] == as_held(types[t], sum));
            }
        free(x), free(y), free(z);
        emlx_tensor_release(row), emlx_tensor_release(all), emlx_tensor_release(b);
        emlx_tensor_release(back), emlx_tensor_release(found);
    }
}

// Numbers below the normal ones of bf16 count, whatever a dot instruction makes of them.
static void test_tiny(void **state) {
    (void)state;
    static const dot_case c = {1, 40, 40, 40};
    emlx_tensor *a = matrix(EMLX_F32, 1, c.m, c.k, false);
    emlx_tensor *b = matrix(EMLX_F32, 1, c.k, c.n, false);
    emlx_shape scalar = {0, {0}};
    double tiny = 0x1p-131, huge = 0x1p+100;
    emlx_tensor *scales[2] = {tensor_of(EMLX_F32, &scalar, &tiny),
                              tensor_of(EMLX_F32, &scalar, &huge)};
    emlx_tensor *pairs[2][2] = {{a, scales[0]}, {b, scales[1]}}, *scaled[2], *narrow[2];
    for (int i = 0; i < 2; i++) {
        scaled[i] = apply_to("multiply", pairs[i], 2, NULL, 0, EMLX_TYPE_DEFAULT);
        narrow[i] = as_type(scaled[i], EMLX_BF16);
    }
    emlx_tensor *t = product(narrow[0], narrow[1], EMLX_TYPE_DEFAULT);
    double *x = wide_values(a), *y = wide_values(b), *found = wide_values(t);
    for (int64_t at = 0; at < c.m * c.n; at++) {
        double sum = 0;
        for (int64_t k = 0; k < c.k; k++) sum += x[at / c.n * c.k + k] * y[k * c.n + at % c.n];
        assert_true(found[at] == as_held(EMLX_BF16, sum) * tiny * huge);
    }
    free(x), free(y), free(found);
    emlx_tensor *gone[] = {a,         b,         t,         scales[0], scales[1],
                           scaled[0], scaled[1], narrow[0], narrow[1]};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) emlx_tensor_release(gone[i]);
}

// Any numbers of a type of bytes or halves.
static emlx_tensor *any_numbers(emlx_type type, int64_t rows, int64_t columns) {
    emlx_shape shape = {3, {1, rows, columns}};
    int64_t count = rows * columns;
    double *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    bool negative = type != EMLX_U8;
    uint32_t half = type == EMLX_S16 ? 1 << 15 : 1 << 7, all = 2 * half;
    for (int64_t i = 0; i < count; i++)
        values[i] = draw(4) == 0 ? (double)draw(2) * (all - 1) : (double)draw(all);
    for (int64_t i = 0; i < count && negative; i++) values[i] -= half;
    emlx_tensor *t = tensor_of(type, &shape, values);
    free(values);
    return t;
}

static void check_wide(emlx_type left, emlx_type right, emlx_type type, const dot_case *c) {
    emlx_tensor *t[5] = {any_numbers(left, c->m, c->k), any_numbers(right, c->k, c->n)};
    t[2] = as_type(t[0], type), t[3] = as_type(t[1], type);
    t[4] = product(t[2], t[3], EMLX_TYPE_DEFAULT);
    double *x = wide_values(t[0]), *y = wide_values(t[1]), *found = wide_values(t[4]);
    for (int64_t at = 0; at < c->m * c->n; at += 1 + (int64_t)draw(50)) {
        int64_t sum = 0;
        for (int64_t k = 0; k < c->k; k++)
            sum += (int64_t)(x[at / c->n * c->k + k] * y[k * c->n + at % c->n]);
        if (type == EMLX_S32) sum = (int32_t)sum;
        assert_true(found[at] == (double)sum);
    }
    free(x), free(y), free(found);
    for (int i = 0; i < 5; i++) emlx_tensor_release(t[i]);
}

// Products of bytes and halves whose sums are wider are exact, and wrap where these do: the longest
// has sums of more than 32 bits.
static void test_wide_sums(void **state) {
    (void)state;
    static const emlx_type narrow[] = {EMLX_U8, EMLX_S8, EMLX_S16};
    static const dot_case cases[] = {{1, 2, 3, 4},       {1, 1, 300, 90}, {1, 65, 31, 70},
                                     {1, 260, 130, 140}, {1, 90, 70, 1},  {1, 20, 70000, 33}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t pair = 0; pair < 9; pair++)
            for (int wide = 0; wide < 2; wide++)
                check_wide(narrow[pair / 3], narrow[pair % 3], wide ? EMLX_S64 : EMLX_S32,
                           &cases[i]);
}

// To the bit; on other devices a library sums operands of another type in another order.
static void check_same(const double *found, const double *wanted, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(wanted[i]));
    double apart = getenv("EMLX_TEST_DEVICE") == NULL ? 0 : 1e-6 * most;
    for (int64_t i = 0; i < count; i++) assert_true(fabs(found[i] - wanted[i]) <= apart);
}

static void check_converted(emlx_type left, emlx_type right, const dot_case *c, bool turned) {
    emlx_tensor *t[6] = {matrix(EMLX_F32, 1, c->m, c->k, false),
                         matrix(EMLX_F32, 1, c->k, c->n, turned)};
    emlx_tensor *by[2], *narrow[2];
    emlx_shape scalar = {0, {0}};
    double third = 1.0 / 3;
    by[0] = tensor_of(EMLX_F32, &scalar, &third);
    for (int i = 0; i < 2; i++) {
        by[1] = apply_two("multiply", t[i], by[0]);
        narrow[i] = as_type(by[1], i == 0 ? left : right);
        t[2 + i] = as_type(narrow[i], EMLX_F32);
        emlx_tensor_release(by[1]);
    }
    t[4] = product(t[2], t[3], EMLX_TYPE_DEFAULT);
    double *found = values_of(t[4]);
    for (int i = 2; i < 4; i++) free(values_of(t[i])); // what was not kept then is now
    t[5] = product(t[2], t[3], EMLX_TYPE_DEFAULT);
    double *wanted = values_of(t[5]);
    check_same(found, wanted, c->m * c->n);
    free(found), free(wanted);
    emlx_tensor_release(by[0]);
    for (int i = 0; i < 2; i++) emlx_tensor_release(narrow[i]);
    for (int i = 0; i < 6; i++) emlx_tensor_release(t[i]);
}

// A product that reads narrow floats in place of what they are converted to gives the same bits.
static void test_converted(void **state) {
    (void)state;
    static const emlx_type narrow[] = {EMLX_F32, EMLX_BF16, EMLX_F16, EMLX_F8, EMLX_F8_E4M3FN};
    static const dot_case cases[] = {{1, 2, 3, 4},    {1, 1, 200, 37}, {1, 1, 300, 37},
                                     {1, 3, 700, 65}, {1, 65, 31, 70}, {1, 260, 130, 140},
                                     {1, 90, 70, 1},  {1, 1, 70000, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t pair = 1; pair < 25; pair++)
            check_converted(narrow[pair / 5], narrow[pair % 5], &cases[i], pair % 2 == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),   cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_long),      cmocka_unit_test(test_strides),
        cmocka_unit_test(test_tiny),      cmocka_unit_test(test_wide_sums),
        cmocka_unit_test(test_converted),
    };
    return RUN_ON_CPU("dot", tests);
}
