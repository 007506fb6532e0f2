// SPDX-License-Identifier: Apache-2.0
// joins_test.c - what the library is asked to compute with a product, read from plans; on the CPU,
// which then runs both kernels.
#include <stdlib.h>

#include "engine.h"
#include "engines/cuda/library/products.h"
#include "engines/cuda/sums.h"
#include "plan/cache.h"

static emlx_device joining;
static engine_ops joining_ops;
static int asked;

static bool asks(const emlx_device *device, const plan_kernel *product, const plan_kernel *map) {
    (void)device;
    bool joins = product_joins(product, map);
    asked += joins;
    return joins;
}

static void check_form(emlx_type type, form f, const size *s, bool expected) {
    draw_seed(f + 1);
    leaves l = draw_leaves(type, s);
    emlx_shape shape = matrix_shape(s, s->rows, s->columns);
    int64_t count = number_count(type, &shape);
    asked = 0;
    plan_cache_clear(&joining);
    double *joined = computed_on(&joining, type, f, s, &l);
    double *plain = computed_on(host, type, f, s, &l);
    if (asked != expected)
        fail_msg("%s of %s was asked for %d times, not %d", form_names[f], emlx_type_name(type),
                 asked, expected);
    for (int64_t i = 0; i < count; i++)
        if (joined[i] != plain[i])
            fail_msg("%s of %s: element %lld is %g, not %g", form_names[f], emlx_type_name(type),
                     (long long)i, joined[i], plain[i]);
    free(joined);
    free(plain);
    free_leaves(&l);
}

static void sums_are_asked_for(void **state) {
    (void)state;
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_F16, EMLX_BF16,
                                      EMLX_S32, EMLX_C64, EMLX_F8};
    static const size sizes[] = {{0, 12, 9, 9, false, false},
                                 {0, 7, 5, 16, true, true},
                                 {3, 4, 6, 8, false, true},
                                 {1, 5, 4, 6, false, false}};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (form f = 0; f < FORMS; f++) {
                const size *s = &sizes[i];
                if (f == OPERAND && s->terms != s->columns) continue;
                bool vector = f == EACH && s->batch < 2; // one for all
                check_form(types[t], f, s, form_is_asked(types[t], vector ? VECTOR : f));
            }
}

// A vector for one row is as large as the result; one for columns of one number is a number.
static void rows_and_columns_of_one(void **state) {
    (void)state;
    const size row = {0, 1, 30, 40, false, false}, column = {0, 40, 30, 1, false, false};
    check_form(EMLX_F32, VECTOR, &row, true);
    check_form(EMLX_F32, SLICED_VECTOR, &row, true);
    check_form(EMLX_F32, MINUS_VECTOR, &row, true);
    check_form(EMLX_F32, VECTOR, &column, false);
    check_form(EMLX_F32, COLUMN, &column, true);
    check_form(EMLX_F32, RESIDUAL, &column, true);
}

static int open_joining(void **state) {
    (void)state;
    emlx_error err;
    if (emlx_device_open("cpu", &host, &err) != EMLX_OK) return -1;
    joining_ops = *host->ops;
    joining_ops.epilogue = asks;
    joining = *host;
    joining.ops = &joining_ops;
    return 0;
}

static int close_joining(void **state) {
    (void)state;
    plan_cache_clear(&joining);
    emlx_device_release(host);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_asked_for),
                                       cmocka_unit_test(rows_and_columns_of_one)};
    return cmocka_run_group_tests_name("engines/cuda/joins", tests, open_joining, close_joining);
}
