// SPDX-License-Identifier: Apache-2.0
// arena.c - many small allocations freed together, in chunks. A chunk is a share of all before it:
// arenas are kept for long, and most of a larger one would be empty.
#include "memory/arena.h"

#include <string.h>

#include "memory/memory.h"

struct arena_chunk {
    arena_chunk *next;
    size_t size, total; // its own, and with those before it
};

enum { HEADER = 32, LEAST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, SHARE = 4 };

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
        *chunk = (arena_chunk){a->chunks, next, before + next};
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
        arena_chunk *next = a->chunks->next;
        mem_free(a->chunks, a->chunks->size);
        a->chunks = next;
    }
    a->used = 0;
}
