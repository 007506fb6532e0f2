// SPDX-License-Identifier: Apache-2.0
// nodes.c - notes on the nodes of a graph.
#include "program/nodes.h"

static bool is_of(const void *notes, uintptr_t item, const void *node) {
    return ((const node_note *)notes)[item - 1].node == node;
}

node_note *notes_get(node_notes *notes, emlx_tensor *node) {
    if (!list_reserve(&notes->notes, 1) || !mem_reserve_slot(&notes->numbers)) return NULL;
    uint64_t hash = hash_address(node);
    hash_slot *slot = hash_find(&notes->numbers, hash, is_of, notes->notes.items, node);
    if (slot->item == 0) {
        notes->notes.items[notes->notes.count++] =
            (node_note){node, NODE_NONE, NODE_NONE, NODE_NONE, NODE_NONE, false};
        hash_take(&notes->numbers, slot, hash, notes->notes.count);
    }
    return &notes->notes.items[slot->item - 1];
}

void notes_clear(node_notes *notes) {
    list_free(&notes->notes);
    mem_free_table(&notes->numbers);
}
