// SPDX-License-Identifier: Apache-2.0
// arena.c - many small allocations freed together: chunks of doubling size.
#include "memory/arena.h"

#include <string.h>

#include "memory/memory.h"

struct arena_chunk {
    arena_chunk *next;
    size_t size;
};

enum { HEADER = 32, FIRST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20 };

void *arena_alloc(arena *a, size_t size) {
    size_t need = (size + 15) & ~(size_t)15;
    if (need < size) return NULL;
    arena_chunk *chunk = a->chunks;
    if (chunk == NULL || chunk->size - a->used < need) {
        size_t next = chunk == NULL ? FIRST_CHUNK : chunk->size * 2;
        if (next > LARGEST_CHUNK) next = LARGEST_CHUNK;
        if (next < need + HEADER) next = need + HEADER;
        chunk = mem_alloc_unset(next);
        if (chunk == NULL) return NULL;
        chunk->next = a->chunks;
        chunk->size = next;
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
