// SPDX-License-Identifier: Apache-2.0
// mem.c - memory for small structures: counted, zeroed, and failing on demand for tests.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "memory/failing.h"

static atomic_size_t held;

size_t mem_held(void) {
    emlx_memory info;
    emlx_memory_info(&info);
    return atomic_load(&held) + (size_t)info.active;
}

// What is as large as data counts as data does, and is refused past the same limit.
enum { LARGE = 65536 };

static bool count(size_t size) {
    if (size >= LARGE) return data_reserve(size);
    atomic_fetch_add_explicit(&held, size, memory_order_relaxed);
    return true;
}

static void uncount(size_t size) {
    if (size >= LARGE)
        data_unreserve(size);
    else
        atomic_fetch_sub_explicit(&held, size, memory_order_relaxed);
}

// For less than this malloc takes what the thread has at hand, which calloc does not; the Makefile
// keeps the compiler from making one of the other.
enum { SMALL = 1024 };

static void *alloc_zeroed(size_t size) {
    if (size > SMALL) return calloc(1, size);
    void *pointer = malloc(size);
    if (pointer != NULL) memset(pointer, 0, size);
    return pointer;
}

static void *alloc_counted(size_t size, bool zeroed) {
    if (mem_should_fail() || !count(size)) return NULL;
    size_t bytes = size == 0 ? 1 : size;
    void *pointer = zeroed ? alloc_zeroed(bytes) : malloc(bytes);
    if (pointer == NULL) uncount(size);
    return pointer;
}

void *mem_alloc(size_t size) { return alloc_counted(size, true); }
void *mem_alloc_unset(size_t size) { return alloc_counted(size, false); }

void mem_free(void *pointer, size_t size) {
    if (pointer == NULL) return;
    uncount(size);
    free(pointer);
}

void *mem_grow(void *pointer, size_t old_size, size_t new_size) {
    if (pointer == NULL) return mem_alloc(new_size);
    // While it moves there may be both.
    if (mem_should_fail() || !count(new_size)) return NULL;
    char *grown = realloc(pointer, new_size == 0 ? 1 : new_size);
    uncount(grown == NULL ? new_size : old_size);
    if (grown == NULL) return NULL;
    memset(grown + old_size, 0, new_size - old_size);
    return grown;
}
