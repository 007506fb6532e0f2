// SPDX-License-Identifier: Apache-2.0
// mem_test.c - structures: zeroed, counted, and failing from the n-th allocation on.
#include "memory/memory.h"
#include "test.h"

static bool all_zero(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) return false;
    }
    return true;
}

static void zeroes_and_counts(void **state) {
    (void)state;
    size_t before = mem_held();
    uint8_t *p = mem_alloc(1000);
    assert_true(all_zero(p, 1000));
    assert_int_equal(mem_held(), before + 1000);
    void *nothing = mem_alloc(0);
    assert_non_null(nothing);
    mem_free(nothing, 0);
    mem_free(p, 1000);
    mem_free(NULL, 50);
    assert_int_equal(mem_held(), before);
}

static void grows(void **state) {
    (void)state;
    size_t before = mem_held();
    uint8_t *p = mem_grow(NULL, 0, 10);
    memset(p, 7, 10);
    p = mem_grow(p, 10, 5000);
    assert_int_equal(p[0] + p[9], 14);
    assert_true(all_zero(p + 10, 4990));
    p = mem_grow(p, 5000, 5000);
    assert_int_equal(mem_held(), before + 5000);
    mem_fail_from(1);
    assert_null(mem_grow(p, 5000, 6000));
    mem_fail_from(0);
    assert_int_equal(p[9], 7);
    mem_free(p, 5000);
    assert_int_equal(mem_held(), before);
}

static void refuses_the_impossible(void **state) {
    (void)state;
    size_t before = mem_held();
    assert_null(mem_alloc(SIZE_MAX / 2));
    assert_int_equal(mem_held(), before);
}

static void fails_from_the_nth_on(void **state) {
    (void)state;
    size_t before = mem_held();
    for (size_t n = 1; n < 20; n++) {
        void *held[20] = {0};
        mem_fail_from(n);
        for (size_t i = 1; i <= 20; i++) {
            // Both kinds of memory count.
            void *p = NULL;
            if (i % 2 == 0) {
                (void)data_alloc(8, &p, NULL);
            } else {
                p = mem_alloc(8);
            }
            held[i - 1] = p;
            assert_int_equal(p != NULL, i < n);
        }
        mem_fail_from(0);
        for (size_t i = 1; i <= 20; i++) {
            if (i % 2 == 0) {
                data_free(held[i - 1], 8);
            } else {
                mem_free(held[i - 1], 8);
            }
        }
        assert_int_equal(mem_held(), before);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroes_and_counts),
        cmocka_unit_test(grows),
        cmocka_unit_test(refuses_the_impossible),
        cmocka_unit_test(fails_from_the_nth_on),
    };
    return RUN_TESTS("memory/mem", tests);
}
