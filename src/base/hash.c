// SPDX-License-Identifier: Apache-2.0
// hash.c - finding things by what they are known by: open addressing.
#include "base/hash.h"

#include <string.h>

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    uint64_t word;
    for (; size >= 8; size -= 8, p += 8) {
        memcpy(&word, p, 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    for (; size > 0; size--, p++) hash = (hash ^ *p) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t hash_text(const char *text) { return hash_bytes(0, text, strlen(text)); }

// The first free slot for that hash.
static hash_slot *free_slot(const hash_table *t, uint64_t hash) {
    size_t at = hash_home(t, hash);
    while (t->slots[at].item != 0) at = (at + 1) & (t->size - 1);
    return &t->slots[at];
}

void hash_move(hash_table *t, hash_slot *slots, size_t size) {
    const hash_table old = *t;
    t->slots = slots;
    t->size = size;
    for (size_t i = 0; i < old.size; i++)
        if (old.slots[i].item != 0) *free_slot(t, old.slots[i].hash) = old.slots[i];
}

// Those behind it, up to the next free slot, go to where they are found again.
void hash_remove(hash_table *t, hash_slot *slot) {
    size_t at = (size_t)(slot - t->slots);
    *slot = (hash_slot){0};
    t->count--;
    while (t->slots[at = (at + 1) & (t->size - 1)].item != 0) {
        hash_slot moved = t->slots[at];
        t->slots[at] = (hash_slot){0};
        *free_slot(t, moved.hash) = moved;
    }
}
