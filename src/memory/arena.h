// SPDX-License-Identifier: Apache-2.0
// arena.h - many small allocations freed together.
#ifndef EMLX_MEMORY_ARENA_H
#define EMLX_MEMORY_ARENA_H

#include <stddef.h>

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    arena_chunk *chunks;
    size_t used;
} arena;

// Zeroed and 16-byte aligned; NULL when there is no memory.
void *arena_alloc(arena *a, size_t size);
// The same for `count` elements; NULL also when the size does not fit in a size_t.
void *arena_array(arena *a, size_t count, size_t size);
void arena_clear(arena *a);
// For an empty arena that ends soon: puts it on a chunk that the last such one left, or that the
// next one gets. Where there is no memory for it, it is an arena as any other.
void arena_borrow(arena *a);

#endif
