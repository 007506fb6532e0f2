// SPDX-License-Identifier: Apache-2.0
// cache_test.c - the plans that are kept: found by structure and device, the longest unused go
// first.
#include "engine.h"
#include "plan/build.h"
#include "plan/cache.h"
#include "test.h"

enum { KEPT = 2048 };

static emlx_device devices[2];

static emlx_plan *new_plan(void) {
    emlx_plan *plan = mem_alloc(sizeof *plan);
    assert_non_null(plan);
    atomic_init(&plan->references, 1);
    return plan;
}

static plan_key key_of(uint32_t *number, int device) {
    return (plan_key){.device = &devices[device], .bytes = (void *)number, .size = sizeof *number};
}

// Puts a plan of that number in and gives it up.
static void put(uint32_t number, int device) {
    emlx_plan *plan = new_plan();
    plan_key key = key_of(&number, device);
    plan_cache_put(&key, plan);
    plan_release(plan);
}

static emlx_plan *get(uint32_t number, int device) {
    plan_key key = key_of(&number, device);
    return plan_cache_get(&key);
}

static bool is_there(uint32_t number, int device) {
    emlx_plan *plan = get(number, device);
    plan_release(plan);
    return plan != NULL;
}

static int empty(void **state) {
    (void)state;
    plan_cache_clear(NULL);
    return 0;
}

static void plans_are_of_a_device(void **state) {
    (void)state;
    put(1, 0);
    put(2, 1);
    assert_true(is_there(1, 0) && is_there(2, 1));
    assert_false(is_there(1, 1) || is_there(2, 0) || is_there(3, 0));
    plan_cache_clear(&devices[0]);
    assert_true(!is_there(1, 0) && is_there(2, 1));
}

// The same bytes and more of them are another structure.
static void keys_are_compared_whole(void **state) {
    (void)state;
    uint32_t numbers[2] = {1, 2};
    put(1, 0);
    plan_key longer = {.device = &devices[0], .bytes = (void *)numbers, .size = sizeof numbers};
    assert_null(plan_cache_get(&longer));
}

// Of two that were made at the same time the first stays.
static void the_first_stays(void **state) {
    (void)state;
    put(1, 0);
    emlx_plan *first = get(1, 0);
    put(1, 0);
    emlx_plan *second = get(1, 0);
    assert_ptr_equal(first, second);
    plan_release(first);
    plan_release(second);
}

static void the_longest_unused_go(void **state) {
    (void)state;
    for (uint32_t i = 0; i < KEPT; i++) put(i, 0);
    assert_true(is_there(0, 0)); // which is a use of it
    put(KEPT, 0);
    put(KEPT + 1, 1);
    assert_true(is_there(0, 0) && is_there(3, 0) && is_there(KEPT, 0) && is_there(KEPT + 1, 1));
    assert_false(is_there(1, 0) || is_there(2, 0));
}

// One that is in use outlives its place.
static void who_has_it_keeps_it(void **state) {
    (void)state;
    put(1, 0);
    emlx_plan *plan = get(1, 0);
    plan_cache_clear(NULL);
    assert_false(is_there(1, 0));
    assert_int_equal(atomic_load(&plan->references), 1);
    plan_release(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plans_are_of_a_device, empty),
        cmocka_unit_test_setup(keys_are_compared_whole, empty),
        cmocka_unit_test_setup(the_first_stays, empty),
        cmocka_unit_test_setup(the_longest_unused_go, empty),
        cmocka_unit_test_setup_teardown(who_has_it_keeps_it, empty, empty),
    };
    return RUN_TESTS("plan/cache", tests);
}
