// SPDX-License-Identifier: Apache-2.0
// list.c - arrays that grow while something is being built.
#include "memory/list.h"

#include <string.h>

// How many items the next array has room for; 0 for more than memory can have.
static size_t next_room(size_t room, size_t count, size_t extra, size_t size) {
    size_t wanted = room < 4 ? 8 : room * 2;
    if (wanted - count < extra || wanted < count) wanted = count + extra;
    return wanted < extra || wanted > PTRDIFF_MAX / size ? 0 : wanted;
}

// What `array` points to is a pointer to any type, so that it is copied as bytes.
bool mem_grow_array(void *array, size_t *room, size_t count, size_t extra, size_t size) {
    size_t wanted = next_room(*room, count, extra, size);
    void *items;
    memcpy(&items, array, sizeof items);
    if (wanted > 0) items = mem_grow(items, *room * size, wanted * size);
    if (wanted == 0 || items == NULL) return false;
    memcpy(array, &items, sizeof items);
    *room = wanted;
    return true;
}

bool arena_grow_array(arena *a, void *array, size_t *room, size_t count, size_t extra,
                      size_t size) {
    size_t wanted = next_room(*room, count, extra, size);
    void *old, *items = wanted > 0 ? arena_array(a, wanted, size) : NULL;
    if (items == NULL) return false;
    memcpy(&old, array, sizeof old);
    if (count > 0) memcpy(items, old, count * size);
    memcpy(array, &items, sizeof items);
    *room = wanted;
    return true;
}

// A small table is soon full again, and moving all of it costs more than slots that stay free.
static size_t next_size(const hash_table *t) {
    enum { FIRST = 32, SMALL = 8192 };
    return t->size == 0 ? FIRST : t->size * (t->size < SMALL ? 4 : 2);
}

bool mem_grow_table(hash_table *t) {
    hash_table old = *t;
    size_t size = next_size(t);
    hash_slot *slots = mem_alloc(size * sizeof *slots);
    if (slots == NULL) return false;
    hash_move(t, slots, size);
    mem_free_table(&old);
    return true;
}

bool arena_grow_table(arena *a, hash_table *t) {
    size_t size = next_size(t);
    hash_slot *slots = arena_array(a, size, sizeof *slots);
    if (slots == NULL) return false;
    hash_move(t, slots, size);
    return true;
}
