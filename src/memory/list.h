// SPDX-License-Identifier: Apache-2.0
// list.h - arrays and tables that grow while something is being built: in memory of their own, or
// in an arena's.
#ifndef EMLX_MEMORY_LIST_H
#define EMLX_MEMORY_LIST_H

#include "base/hash.h"
#include "memory/arena.h"
#include "memory/memory.h"

// Declares a list of `type`: items, how many there are and how many fit.
#define LIST(type)                                                                                 \
    struct {                                                                                       \
        type *items;                                                                               \
        size_t count, capacity;                                                                    \
    }

// Makes room for `extra` more items; false when there is no memory, the list being as before.
#define list_reserve(list, extra)                                                                  \
    mem_reserve(&(list)->items, &(list)->capacity, (list)->count, extra, sizeof *(list)->items)
#define list_free(list) mem_free((list)->items, (list)->capacity * sizeof *(list)->items)

// The same for an array that is no list: `array` points to the pointer to its items, of `size`
// bytes each, of which there are `count` and `*room` fit. In an arena the old array stays as it
// was.
bool mem_grow_array(void *array, size_t *room, size_t count, size_t extra, size_t size);
bool arena_grow_array(arena *a, void *array, size_t *room, size_t count, size_t extra, size_t size);

static inline bool mem_reserve(void *array, size_t *room, size_t count, size_t extra, size_t size) {
    return extra <= *room - count || mem_grow_array(array, room, count, extra, size);
}

static inline bool arena_reserve(arena *a, void *array, size_t *room, size_t count, size_t extra,
                                 size_t size) {
    return extra <= *room - count || arena_grow_array(a, array, room, count, extra, size);
}

// The same for a table that gets another item.
bool mem_grow_table(hash_table *t);
bool arena_grow_table(arena *a, hash_table *t);

static inline bool mem_reserve_slot(hash_table *t) { return !hash_is_full(t) || mem_grow_table(t); }
static inline bool arena_reserve_slot(arena *a, hash_table *t) {
    return !hash_is_full(t) || arena_grow_table(a, t);
}
static inline void mem_free_table(hash_table *t) { mem_free(t->slots, t->size * sizeof *t->slots); }

#endif
