// SPDX-License-Identifier: Apache-2.0
// Fences: counted, signalled once, heard in order, on any thread; and buffers that wait for them.
#include <pthread.h>

#include "memory/memory.h"
#include "test.h"

static const emlx_error failure = {.code = EMLX_ARITHMETIC, .message = "it went wrong"};

typedef struct listener {
    fence_waiter waiter;
    int *order, heard;
} listener;

static void hear(fence_waiter *waiter, const fence *ended) {
    listener *l = (listener *)waiter;
    assert_true(fence_signalled(ended));
    l->heard = ++*l->order;
}

static fence *new_fence(void) {
    fence *f;
    emlx_error err;
    assert_ok(fence_new(&f, &err), err);
    return f;
}

static void hears_in_order(void **state) {
    (void)state;
    int order = 0;
    listener a = {.waiter.run = hear, .order = &order}, b = a, late = a;
    fence *f = new_fence();
    assert_true(fence_then(f, &a.waiter));
    assert_true(fence_then(f, &b.waiter));
    assert_false(fence_signalled(f));
    fence_arrive(f, NULL);
    assert_int_equal(a.heard, 1);
    assert_int_equal(b.heard, 2);
    assert_false(fence_then(f, &late.waiter));
    assert_int_equal(fence_status(f, NULL), EMLX_OK);
    fence_release(f);
}

static void carries_the_first_error(void **state) {
    (void)state;
    fence *work = new_fence(), *other = new_fence(), *all = new_fence();
    fence_link links[2];
    emlx_error err;
    fence_follow(all, work, false, &links[0]);
    fence_follow(all, other, false, &links[1]);
    fence_arrive(all, NULL);
    fence_arrive(work, &failure);
    assert_false(fence_signalled(all));
    fence_arrive(other, &(emlx_error){.code = EMLX_IO, .message = "later"});
    assert_int_equal(fence_wait(all, &err), EMLX_ARITHMETIC);
    assert_string_equal(err.message, failure.message);
    fence_release(work), fence_release(other), fence_release(all);
}

// What others failed to make is started over, whatever came of it here.
static void starts_over_for_others(void **state) {
    (void)state;
    fence *own = new_fence(), *others = new_fence(), *all = new_fence();
    fence_link links[2];
    fence_arrive(own, &failure);
    fence_follow(all, own, false, &links[0]);
    fence_follow(all, others, true, &links[1]);
    fence_arrive(all, NULL);
    fence_arrive(others, &failure);
    assert_int_equal(fence_status(all, NULL), STATUS_AGAIN);
    fence_release(own), fence_release(others), fence_release(all);
}

static void *arrive(void *f) {
    fence_arrive(f, NULL);
    return NULL;
}

static void wakes_a_thread(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        fence *f = new_fence();
        pthread_create(&thread, NULL, arrive, f);
        assert_int_equal(fence_wait(f, NULL), EMLX_OK);
        fence_release(f);
        pthread_join(thread, NULL);
    }
}

static void keeps_memory_in_use(void **state) {
    (void)state;
    size_t before = mem_held();
    emlx_buffer *buffer;
    emlx_error err;
    assert_ok(buffer_new(1000, &buffer, &err), err);
    size_t held = mem_held();
    fence *written = new_fence(), *read = new_fence(), *again = new_fence();
    buffer_written_by(buffer, written);
    buffer_read_by(buffer, read);
    buffer_read_by(buffer, again);
    assert_false(buffer_reusable(buffer, NULL));
    buffer_release(buffer);
    fence *all[] = {written, again, read};
    for (int i = 0; i < 3; i++) {
        assert_true(mem_held() >= held);
        fence_arrive(all[i], NULL);
        fence_release(all[i]);
    }
    assert_int_equal(mem_held(), before);
}

static void reuses_on_one_stream(void **state) {
    (void)state;
    int here, elsewhere;
    emlx_buffer *buffer;
    emlx_error err;
    assert_ok(buffer_new(8, &buffer, &err), err);
    fence *end = new_fence();
    end->stream = &here;
    buffer_written_by(buffer, end);
    assert_true(buffer_reusable(buffer, &here));
    assert_false(buffer_reusable(buffer, &elsewhere));
    buffer_retain(buffer);
    assert_false(buffer_reusable(buffer, &here));
    buffer_release(buffer);
    fence_arrive(end, NULL);
    assert_true(buffer_reusable(buffer, &elsewhere));
    fence *writer = buffer_writer(buffer);
    assert_ptr_equal(writer, end);
    fence_release(writer);
    fence_release(end);
    buffer_release(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hears_in_order),         cmocka_unit_test(carries_the_first_error),
        cmocka_unit_test(starts_over_for_others), cmocka_unit_test(wakes_a_thread),
        cmocka_unit_test(keeps_memory_in_use),    cmocka_unit_test(reuses_on_one_stream),
    };
    return RUN_TESTS("memory/fence", tests);
}
