// SPDX-License-Identifier: Apache-2.0
// arena.c - many small allocations freed together, in chunks. A chunk is a share of all before it:
// arenas are kept for long, and most of a larger one would be empty.
#include "memory/arena.h"

#include <stdatomic.h>
#include <string.h>

#include "base/sanitize.h"
#include "memory/failing.h"

struct arena_chunk {
    arena_chunk *next;
    size_t size, total; // its own, and with those before it
    bool lent;
};

enum { HEADER = 32, LEAST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, SHARE = 4 };

// Chunks between two arenas that borrow. Memory that the system took back and gives anew takes
// longer to come, page by page, than most of what is planned in it.
enum { LENT_SIZE = 512 << 10, MOST_LENT = 8 };
static _Atomic(arena_chunk *) lendable[MOST_LENT];

static arena_chunk *take_lendable(void) {
    for (int i = 0; i < MOST_LENT; i++) {
        arena_chunk *chunk = atomic_exchange(&lendable[i], NULL);
        if (chunk == NULL) continue;
        MEMORY_SHOW(chunk, LENT_SIZE);
        MEMORY_UNSET(chunk, LENT_SIZE);
        return chunk;
    }
    return NULL;
}

static bool keep_lendable(arena_chunk *chunk) {
    for (int i = 0; i < MOST_LENT; i++) {
        arena_chunk *none = NULL;
        if (atomic_load_explicit(&lendable[i], memory_order_relaxed) != NULL) continue;
        MEMORY_HIDE(chunk, LENT_SIZE);
        if (atomic_compare_exchange_strong(&lendable[i], &none, chunk)) return true;
        MEMORY_SHOW(chunk, LENT_SIZE);
    }
    return false;
}

void arena_borrow(arena *a) {
    if (mem_should_fail() || !data_reserve(LENT_SIZE)) return;
    arena_chunk *chunk = take_lendable();
    if (chunk == NULL) {
        data_unreserve(LENT_SIZE);
        chunk = mem_alloc_unset(LENT_SIZE);
        if (chunk == NULL) return;
    }
    *chunk = (arena_chunk){.size = LENT_SIZE, .total = LENT_SIZE, .lent = true};
    *a = (arena){.chunks = chunk, .used = HEADER};
}

static size_t next_size(const arena_chunk *chunk, size_t need) {
    size_t size = chunk == NULL ? 0 : chunk->total / SHARE;
    if (size > LARGEST_CHUNK) size = LARGEST_CHUNK;
    if (size < LEAST_CHUNK) size = LEAST_CHUNK;
    return size < need + HEADER ? need + HEADER : size;
}

void *arena_alloc(arena *a, size_t size) {
    size_t need = (size + 15) & ~(size_t)15;
    if (need < size) return NULL;
    arena_chunk *chunk = a->chunks;
    if (chunk == NULL || chunk->size - a->used < need) {
        size_t next = next_size(chunk, need), before = chunk == NULL ? 0 : chunk->total;
        chunk = mem_alloc_unset(next);
        if (chunk == NULL) return NULL;
        *chunk = (arena_chunk){.next = a->chunks, .size = next, .total = before + next};
        a->chunks = chunk;
        a->used = HEADER;
    }
    void *result = (char *)chunk + a->used;
    a->used += need;
    return memset(result, 0, need);
}

void *arena_array(arena *a, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return arena_alloc(a, total);
}

void arena_clear(arena *a) {
    while (a->chunks != NULL) {
        arena_chunk *chunk = a->chunks;
        size_t size = chunk->size;
        a->chunks = chunk->next;
        if (chunk->lent && keep_lendable(chunk))
            data_unreserve(size);
        else
            mem_free(chunk, size);
    }
    a->used = 0;
}
