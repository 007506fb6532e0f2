// SPDX-License-Identifier: Apache-2.0
// blocks_test.c - blocks for elements: sizes, alignment, reuse, limits and threads.
#include <pthread.h>

#include "memory/memory.h"
#include "test.h"

static emlx_memory info(void) {
    emlx_memory now;
    emlx_memory_info(&now);
    return now;
}

static void *get(size_t size) {
    void *block = NULL;
    emlx_error err;
    assert_ok(data_alloc(size, &block, &err), err);
    return block;
}

static int start_empty(void **state) {
    (void)state;
    emlx_memory_clear_cache();
    emlx_memory_reset_peak();
    return info().active != 0 || info().cached != 0;
}

static void aligned_and_barely_larger(void **state) {
    (void)state;
    for (size_t size = 0; size < 100000; size += 1 + size / 7) {
        uint8_t *block = get(size);
        assert_int_equal((uintptr_t)block % BUFFER_ALIGNMENT, 0);
        memset(block, 1, size);
        uint64_t held = info().active;
        assert_true(held >= size && held >= BUFFER_ALIGNMENT);
        assert_true(held <= size + size / 8 + BUFFER_ALIGNMENT);
        data_free(block, size);
        assert_int_equal(info().active, 0);
    }
}

// The bytes counted for a class while it is used and while it is free are the same.
static void sizes_agree_at_every_power(void **state) {
    (void)state;
    for (int bits = 0; bits < 27; bits++) {
        for (int off = -1; off <= 1; off++) {
            size_t size = ((size_t)1 << bits) + (size_t)off;
            void *block = get(size);
            uint64_t held = info().active;
            emlx_memory_clear_cache();
            data_free(block, size);
            assert_int_equal(info().cached, held);
            // Reused by the largest size of the class.
            void *again = get(held);
            assert_ptr_equal(again, block);
            data_free(again, held);
            emlx_memory_clear_cache();
            assert_int_equal(info().cached, 0);
        }
    }
}

static void refuses_the_impossible(void **state) {
    (void)state;
    void *block = NULL;
    emlx_error err;
    assert_error(data_alloc(SIZE_MAX, &block, &err), EMLX_OUT_OF_MEMORY, err, "bytes");
    assert_error(data_alloc(SIZE_MAX / 2, &block, &err), EMLX_OUT_OF_MEMORY, err, "none");
    assert_error(data_alloc((size_t)1 << 48, &block, &err), EMLX_OUT_OF_MEMORY, err, "2814749767");
    assert_null(block);
    assert_int_equal(info().active, 0);
    assert_int_equal(info().peak, 0);
}

static void peak_and_active(void **state) {
    (void)state;
    void *a = get(1024), *b = get(4096);
    assert_int_equal(info().active, 5120);
    data_free(a, 1024);
    assert_int_equal(info().active, 4096);
    assert_int_equal(info().cached, 1024);
    assert_int_equal(info().peak, 5120);
    emlx_memory_reset_peak();
    assert_int_equal(info().peak, 4096);
    data_free(b, 4096);
    data_free(NULL, 4096);
    assert_int_equal(info().peak, 4096);
}

static void the_limit_holds(void **state) {
    (void)state;
    void *a = get(1024), *b = NULL;
    emlx_error err;
    assert_int_equal(emlx_memory_set_limit(4096), 0);
    assert_error(data_alloc(4096, &b, &err), EMLX_OUT_OF_MEMORY, err, "the limit is 4096");
    assert_int_equal(info().active, 1024);
    b = get(3072);
    assert_int_equal(info().active, 4096);
    // Cached blocks count, and go when their room is wanted.
    data_free(a, 1024);
    assert_int_equal(info().cached, 1024);
    a = get(512);
    assert_int_equal(info().active + info().cached, 3584);
    data_free(b, 3072);
    data_free(a, 512);
    assert_int_equal(emlx_memory_set_limit(1024), 4096);
    assert_true(info().cached <= 1024);
    assert_int_equal(emlx_memory_set_limit(0), 1024);
}

static void the_cache_limit_holds(void **state) {
    (void)state;
    uint64_t previous = emlx_memory_set_cache_limit(10000);
    assert_true(previous > 0);
    void *blocks[20];
    for (int i = 0; i < 20; i++) blocks[i] = get(1024);
    for (int i = 0; i < 20; i++) {
        data_free(blocks[i], 1024);
        assert_true(info().cached <= 10000);
    }
    assert_int_equal(info().cached, 9 * 1024);
    // Larger than the bound: never kept, and the others stay.
    data_free(get(20480), 20480);
    assert_int_equal(info().cached, 9 * 1024);
    // A full cache gives way to what is freed now.
    data_free(get(8192), 8192);
    assert_int_equal(info().cached, 8192 + 1024);
    emlx_memory_set_cache_limit(0);
    assert_int_equal(info().cached, 0);
    data_free(get(64), 64);
    assert_int_equal(info().cached, 0);
    emlx_memory_set_cache_limit(previous);
}

static void *churn(void *unused) {
    (void)unused;
    unsigned seed = 1;
    for (int i = 0; i < 3000; i++) {
        seed = seed * 1103515245 + 12345;
        size_t size = 64 + (seed >> 16) % 5000;
        uint8_t *block;
        if (data_alloc(size, (void **)&block, NULL) != EMLX_OK) return "no memory";
        block[0] = block[size - 1] = (uint8_t)i;
        if (block[0] != (uint8_t)i) return "shared block";
        data_free(block, size);
        if (i % 500 == 0) emlx_memory_clear_cache();
    }
    return NULL;
}

static void many_threads(void **state) {
    (void)state;
    uint64_t previous = emlx_memory_set_cache_limit(20000);
    pthread_t ids[6];
    for (int i = 0; i < 6; i++) pthread_create(&ids[i], NULL, churn, NULL);
    for (int i = 0; i < 6; i++) {
        void *failure;
        pthread_join(ids[i], &failure);
        assert_null(failure);
    }
    assert_int_equal(info().active, 0);
    emlx_memory_set_cache_limit(previous);
    emlx_memory_clear_cache();
    assert_int_equal(info().cached, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(aligned_and_barely_larger, start_empty),
        cmocka_unit_test_setup(sizes_agree_at_every_power, start_empty),
        cmocka_unit_test_setup(refuses_the_impossible, start_empty),
        cmocka_unit_test_setup(peak_and_active, start_empty),
        cmocka_unit_test_setup(the_limit_holds, start_empty),
        cmocka_unit_test_setup(the_cache_limit_holds, start_empty),
        cmocka_unit_test_setup(many_threads, start_empty),
    };
    return RUN_TESTS("memory/blocks", tests);
}
