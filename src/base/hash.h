// SPDX-License-Identifier: Apache-2.0
// hash.h - finding things by what they are known by. A table has the things' numbers or addresses
// and hashes, never more than half full; whether a thing is the one that is looked for, the caller
// says. So is its memory the caller's; memory/list.h has ways to let it grow.
#ifndef EMLX_BASE_HASH_H
#define EMLX_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hash_slot {
    uintptr_t item; // a number or an address; 0: free
    uint64_t hash;
} hash_slot;

typedef struct hash_table {
    hash_slot *slots; // zeroed by the caller
    size_t size;      // a power of two, or 0
    size_t count;
} hash_table;

// Goes on from a hash, 0 at first, with more bytes.
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size);
uint64_t hash_text(const char *text);

static inline uint64_t hash_address(const void *p) {
    return ((uint64_t)(uintptr_t)p >> 4) * UINT64_C(0x9e3779b97f4a7c15);
}

// Where a hash goes when nothing is in its way.
static inline size_t hash_home(const hash_table *t, uint64_t hash) {
    return (size_t)((hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (t->size - 1);
}

// Whether an item, found in `context` as it may be, is known by `key`.
typedef bool hash_same(const void *context, uintptr_t item, const void *key);

// The slot of that key, or the free one where it belongs. There has to be a free one.
static inline hash_slot *hash_find(const hash_table *t, uint64_t hash, hash_same *same,
                                   const void *context, const void *key) {
    size_t at = hash_home(t, hash);
    for (;; at = (at + 1) & (t->size - 1)) {
        hash_slot *slot = &t->slots[at];
        if (slot->item == 0 || (slot->hash == hash && same(context, slot->item, key))) return slot;
    }
}

// Whether another item needs more slots.
static inline bool hash_is_full(const hash_table *t) { return (t->count + 1) * 2 > t->size; }

// Takes the free slot that was found.
static inline void hash_take(hash_table *t, hash_slot *slot, uint64_t hash, uintptr_t item) {
    *slot = (hash_slot){item, hash};
    t->count++;
}

// Goes on in other slots, zeroed, of which there are more.
void hash_move(hash_table *t, hash_slot *slots, size_t size);
void hash_remove(hash_table *t, hash_slot *slot);

#endif
