// SPDX-License-Identifier: Apache-2.0
// attention_test.c - what attention does with rows of scores, at each level against its definition.
#include "engines/cpu/kernels/tables/attention.h"

#include "support.h"

enum { MOST = 200, LINES = 5, STEP = 208 };

static void random_scores(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (float)random_real(-100, 0);
    if (n > 40) x[40] = -INFINITY;
}

static void check_powers(const cpu_kernels *k, size_t n) {
    float x[MOST + 1], most = -0.25f;
    double sum = 0;
    random_scores(x, n);
    x[0] = most;
    x[n] = 77;
    float before[MOST];
    memcpy(before, x, n * sizeof *x);
    float found = k->attention->powers(x, most, n);
    for (size_t i = 0; i < n; i++) {
        double wanted = exp((double)(before[i] - most));
        if (before[i] - most < -87) wanted = 0;
        assert_true(fabs((double)x[i] - wanted) <= wanted * 0x1p-22);
        sum += (double)x[i];
    }
    assert_true(x[n] == 77);
    assert_true(fabs((double)found - sum) <= sum * 1e-5);
}

static void test_powers(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (size_t n = 1; n <= MOST; n++) check_powers(k, n);
        float odd[40] = {0};
        odd[3] = odd[37] = NAN;
        assert_true(isnan(k->attention->powers(odd, 0, 40)));
        assert_true(isnan(odd[3]) && isnan(odd[37]) && odd[4] == 1 && odd[36] == 1);
    }
}

static void check_scale(const cpu_kernels *k, size_t n, bool adds) {
    float x[MOST], y[MOST], added[MOST], most = -INFINITY;
    random_scores(x, n);
    if (n > 3) x[3] = NAN;
    for (size_t i = 0; i < n; i++) {
        added[i] = (float)(i % 7);
        y[i] = x[i] * 0.5f + (adds ? added[i] : 0);
        most = y[i] > most ? y[i] : most;
    }
    float found = k->attention->scale(x, 0.5f, adds ? added : NULL, n);
    assert_true(found == most);
    for (size_t i = 0; i < n; i++) assert_true(x[i] == y[i] || isnan(y[i]));
}

static void test_scale(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k)
    for (size_t n = 1; n <= MOST; n++)
        for (int adds = 0; adds < 2; adds++) check_scale(k, n, adds);
}

static double of_bf16(uint16_t bits) { return type_load(EMLX_BF16, &bits).as.f[0]; }

// Two parts of a line's term; what is not there is 0 in both.
static void check_split(const cpu_kernels *k, const panel_form *form, size_t lines, size_t terms) {
    static float x[LINES * STEP];
    static uint16_t high[32 * STEP * 2], low[32 * STEP * 2];
    size_t group = (size_t)form->group, all = (size_t)form->lines;
    size_t whole = (terms + group - 1) / group * group;
    random_scores(x, LINES * STEP);
    for (size_t i = 0; i < LINES * STEP; i++) x[i] = -x[i];
    x[40] = 0;
    memset(high, 0xff, sizeof high);
    memset(low, 0xff, sizeof low);
    k->attention->split(x, STEP, lines, terms, form, high, low);
    for (size_t l = 0; l < all; l++)
        for (size_t t = 0; t < whole; t++) {
            size_t at = (t / group * all + l) * group + t % group;
            double wanted = l < lines && t < terms ? (double)x[l * STEP + t] : 0;
            double found = of_bf16(high[at]) + of_bf16(low[at]);
            assert_true(fabs(found - wanted) <= wanted * 0x1p-16);
        }
    assert_int_equal(high[all * whole], 0xffff);
    assert_int_equal(low[all * whole], 0xffff);
}

static void test_split(void **state) {
    (void)state;
    static const panel_form forms[] = {{32, 32, NULL}, {16, 2, NULL}, {5, 4, NULL}};
    FOR_EACH_LEVEL(k)
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        for (size_t lines = 1; lines <= LINES; lines++)
            for (size_t terms = 1; terms <= MOST; terms += 13)
                check_split(k, &forms[f], lines, terms);
}

// All numbers, each among others that are plain.
static void test_plain(void **state) {
    (void)state;
    uint16_t x[70];
    FOR_EACH_LEVEL(k)
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        for (size_t i = 0; i < 70; i++) x[i] = 0x3f80;
        x[bits % 70] = (uint16_t)bits;
        double size = fabs(of_bf16((uint16_t)bits));
        bool plain = size == 0 || (size >= 0x1p-126 && size <= 0x1.fep127);
        assert_int_equal(k->attention->plain(x, 70), plain);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_powers),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests_name("attention rows", tests, NULL, NULL);
}
