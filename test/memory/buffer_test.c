// SPDX-License-Identifier: Apache-2.0
// buffer_test.c - counted buffers of our own and over borrowed memory.
#include "memory/memory.h"
#include "memory/spares.h"
#include "test.h"

static void counts_references(void **state) {
    (void)state;
    size_t before = mem_held();
    emlx_buffer *buffer;
    emlx_error err;
    assert_ok(buffer_new(100, &buffer, &err), err);
    assert_int_equal(buffer->size, 100);
    memset(buffer->data, 1, 100);
    assert_true(buffer_exclusive(buffer));
    assert_ptr_equal(buffer_retain(buffer), buffer);
    assert_false(buffer_exclusive(buffer));
    buffer_release(buffer);
    assert_true(buffer_exclusive(buffer));
    buffer_release(buffer);
    buffer_release(NULL);
    assert_int_equal(mem_held(), before);
}

static void empty_buffers_have_an_address(void **state) {
    (void)state;
    emlx_buffer *buffer;
    emlx_error err;
    assert_ok(buffer_new(0, &buffer, &err), err);
    assert_non_null(buffer->data);
    buffer_release(buffer);
}

static void count_release(void *context) { ++*(int *)context; }

static void borrows(void **state) {
    (void)state;
    size_t before = mem_held();
    const char text[] = "data";
    int released = 0;
    emlx_buffer *buffer;
    emlx_error err;
    assert_ok(buffer_wrap(text, 5, count_release, &released, &buffer, &err), err);
    assert_ptr_equal(buffer->data, text);
    // Nobody else holds it, but it is not ours to write.
    assert_false(buffer_exclusive(buffer));
    buffer_retain(buffer);
    buffer_release(buffer);
    assert_int_equal(released, 0);
    buffer_release(buffer);
    assert_int_equal(released, 1);
    assert_ok(buffer_wrap(text, 5, NULL, NULL, &buffer, &err), err);
    buffer_release(buffer);
    assert_int_equal(mem_held(), before);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    size_t before = mem_held();
    emlx_buffer *buffer = NULL;
    emlx_error err;
    for (size_t n = 1; n <= 2; n++) {
        mem_fail_from(n);
        assert_error(buffer_new(100000, &buffer, &err), EMLX_OUT_OF_MEMORY, err, "no memory");
        mem_fail_from(0);
        assert_null(buffer);
        assert_int_equal(mem_held(), before);
    }
    // Little data is one with its description.
    mem_fail_from(1);
    assert_error(buffer_new(100, &buffer, &err), EMLX_OUT_OF_MEMORY, err, "no memory");
    mem_fail_from(0);
    assert_int_equal(mem_held(), before);
    // The memory stays with the caller then.
    int released = 0;
    mem_fail_from(1);
    assert_error(buffer_wrap("x", 1, count_release, &released, &buffer, &err), EMLX_OUT_OF_MEMORY,
                 err, "no memory");
    mem_fail_from(0);
    assert_int_equal(released, 0);
    assert_int_equal(mem_held(), before);
}

// Of whatever size, data is aligned, counted and refused past the limit.
static void sizes_are_alike(void **state) {
    (void)state;
    emlx_buffer *first, *buffer = NULL;
    emlx_error err;
    emlx_memory empty, used;
    assert_ok(buffer_new(1000, &first, &err), err); // a limit of 0 would be none
    size_t before = mem_held();
    for (size_t size = 1; size <= 100000; size += 1 + size / 4) {
        emlx_memory_info(&empty);
        assert_ok(buffer_new(size, &buffer, &err), err);
        emlx_memory_info(&used);
        assert_true(used.active >= empty.active + size);
        assert_int_equal((uintptr_t)buffer->data % BUFFER_ALIGNMENT, 0);
        memset(buffer->data, 1, size);
        buffer_release(buffer);
        emlx_memory_set_limit(empty.active + size - 1);
        assert_error(buffer_new(size, &buffer, &err), EMLX_OUT_OF_MEMORY, err, "no memory");
        emlx_memory_set_limit(0);
        assert_int_equal(mem_held(), before);
    }
    buffer_release(first);
}

static void free_described(emlx_buffer *buffer) { (void)buffer; }

// What the host knows of a buffer of a device is not what the next one to use its memory puts
// there.
static void spares_are_not_known(void **state) {
    (void)state;
    size_t before = mem_held();
    float value = 7;
    emlx_buffer buffer;
    buffer_spares spares = {0};
    buffer_init(&buffer, sizeof value, free_described);
    buffer.writable = true;
    buffer_know(&buffer, &value);
    assert_non_null(buffer_seen(&buffer));
    spares_give(&spares, &buffer);
    assert_ptr_equal(spares_take(&spares, sizeof value), &buffer);
    assert_null(buffer_seen(&buffer));
    assert_int_equal(mem_held(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spares_are_not_known),          cmocka_unit_test(counts_references),
        cmocka_unit_test(empty_buffers_have_an_address), cmocka_unit_test(borrows),
        cmocka_unit_test(every_allocation_may_fail),     cmocka_unit_test(sizes_are_alike),
    };
    return RUN_TESTS("memory/buffer", tests);
}
