// SPDX-License-Identifier: Apache-2.0
// event_test.c - what the library tells an observer of what it does, and that it stops telling.
#include "base/event.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "tensors.h"

enum { KINDS = EMLX_EVENT_EVICTED + 1 };

static struct {
    atomic_uint seen[KINDS];
    atomic_ullong count[KINDS], bytes, refused, nanoseconds;
    char device[32];
} told;

static void tell(void *context, const emlx_event *event) {
    assert_ptr_equal(context, &told);
    assert_int_equal(event->size, sizeof *event);
    bool memory = event->kind == EMLX_EVENT_MEMORY;
    if (event->device != NULL && (memory || event->kind == EMLX_EVENT_EVALUATED))
        (void)snprintf(told.device, sizeof told.device, "%s", event->device);
    atomic_fetch_add(&told.seen[event->kind], 1);
    atomic_fetch_add(&told.count[event->kind], event->count);
    atomic_fetch_add(&told.nanoseconds, event->nanoseconds);
    if (event->bytes > 0) atomic_store(&told.bytes, event->bytes);
    if (event->refused > 0) atomic_store(&told.refused, event->refused);
}

static int watch(void **state) {
    (void)state;
    memset(&told, 0, sizeof told);
    emlx_observe(tell, &told);
    return 0;
}

static int look_away(void **state) {
    (void)state;
    emlx_observe(NULL, NULL);
    return 0;
}

static emlx_tensor *vector(int64_t length) {
    const emlx_shape s = {1, {length}};
    return random_tensor(EMLX_F32, &s, 1, 9);
}

static void evaluate(emlx_tensor *t) {
    emlx_error err;
    assert_ok(emlx_eval(&t, 1, &err), err);
    emlx_tensor_release(t);
}

// A length that no other test has, so that there is no plan yet; the second time there is.
static void an_evaluation_is_told_with_its_plan(void **state) {
    (void)state;
    emlx_tensor *a = vector(7919);
    for (unsigned i = 1; i <= 2; i++) {
        evaluate(apply_two("atan2", a, a));
        assert_int_equal(atomic_load(&told.seen[EMLX_EVENT_COMPILED]), 1);
        assert_int_equal(atomic_load(&told.count[EMLX_EVENT_COMPILED]), 1);
        assert_int_equal(atomic_load(&told.seen[EMLX_EVENT_EVALUATED]), i);
        assert_int_equal(atomic_load(&told.count[EMLX_EVENT_EVALUATED]), i);
    }
    assert_true(atomic_load(&told.nanoseconds) > 0);
    assert_string_equal(told.device, emlx_device_name(test_device));
    emlx_tensor_release(a);
}

static void memory_is_told_when_it_grows_and_when_it_is_refused(void **state) {
    (void)state;
    const uint64_t much = (uint64_t)160 << 20;
    emlx_device_memory_reset_peak(test_device);
    emlx_tensor *a = vector((int64_t)(much / sizeof(float)));
    assert_true(atomic_load(&told.bytes) >= much);
    // That of the host is nobody's own.
    if (!emlx_device_host_memory(test_device))
        assert_string_equal(told.device, emlx_device_name(test_device));
    uint64_t limit = emlx_device_memory_set_limit(test_device, much);
    uint64_t refused = atomic_load(&told.refused);
    assert_int_equal(refused, 0);
    emlx_error err;
    emlx_tensor *t = apply_two("add", a, a);
    assert_int_equal(emlx_eval(&t, 1, &err), EMLX_OUT_OF_MEMORY);
    emlx_device_memory_set_limit(test_device, limit);
    assert_true(atomic_load(&told.refused) >= much);
    emlx_tensor_release(t);
    emlx_tensor_release(a);
}

// There is room for 2,048 plans.
static void plans_that_are_dropped_are_told(void **state) {
    (void)state;
    emlx_tensor *a = vector(3), *t = emlx_tensor_retain(a);
    for (int i = 0; i < 2100; i++) {
        const emlx_shape s = {1, {i + 1}};
        emlx_tensor *in = random_tensor(EMLX_U8, &s, 0, 9);
        evaluate(apply_two("bitwise_xor", in, in));
        emlx_tensor_release(in);
    }
    assert_true(atomic_load(&told.count[EMLX_EVENT_EVICTED]) >= 52);
    emlx_tensor_release(t);
    emlx_tensor_release(a);
}

static void nobody_is_told_any_more(void **state) {
    (void)state;
    emlx_observe(NULL, NULL);
    emlx_tensor *a = vector(5);
    evaluate(apply_two("add", a, a));
    for (int i = 0; i < KINDS; i++) assert_int_equal(atomic_load(&told.seen[i]), 0);
    emlx_tensor_release(a);
}

static void *compute_on(void *unused) {
    (void)unused;
    for (int i = 0; i < 200; i++) {
        emlx_tensor *a = vector(11);
        evaluate(apply_two("add", a, a));
        emlx_tensor_release(a);
    }
    return NULL;
}

// While others compute the observer changes; none is called once it is replaced.
static void observers_may_change_at_any_time(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compute_on, NULL), 0);
    for (int i = 0; i < 200; i++) {
        emlx_observe(i % 2 == 0 ? NULL : tell, &told);
        if (i % 2 != 0) continue;
        unsigned seen = atomic_load(&told.seen[EMLX_EVENT_EVALUATED]);
        sched_yield();
        assert_int_equal(atomic_load(&told.seen[EMLX_EVENT_EVALUATED]), seen);
    }
    pthread_join(thread, NULL);
}

int main(void) {
#define WATCHED(test) cmocka_unit_test_setup_teardown(test, watch, look_away)
    const struct CMUnitTest tests[] = {
        WATCHED(an_evaluation_is_told_with_its_plan),
        WATCHED(memory_is_told_when_it_grows_and_when_it_is_refused),
        WATCHED(plans_that_are_dropped_are_told),
        WATCHED(nobody_is_told_any_more),
        WATCHED(observers_may_change_at_any_time),
    };
    return RUN_ON_CPU("run/event", tests);
}
