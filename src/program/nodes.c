// SPDX-License-Identifier: Apache-2.0
// nodes.c - notes on the nodes of a graph: a hash table by the node's address.
#include "program/nodes.h"

static size_t note_at(const node_notes *notes, const emlx_tensor *node) {
    uint64_t hash = ((uint64_t)(uintptr_t)node >> 4) * UINT64_C(0x9e3779b97f4a7c15);
    size_t mask = notes->table_size - 1;
    size_t at = (size_t)(hash >> 32) & mask;
    while (notes->table[at] != 0 && notes->notes.items[notes->table[at] - 1].node != node)
        at = (at + 1) & mask;
    return at;
}

// Keeps at least half of the table free.
static bool keep_half_free(node_notes *notes) {
    if (!list_reserve(&notes->notes, 1)) return false;
    if ((notes->notes.count + 1) * 2 <= notes->table_size) return true;
    size_t size = notes->table_size == 0 ? 64 : notes->table_size * 2;
    uint32_t *table = mem_alloc(size * sizeof *table);
    if (table == NULL) return false;
    mem_free(notes->table, notes->table_size * sizeof *table);
    notes->table = table;
    notes->table_size = size;
    for (size_t i = 0; i < notes->notes.count; i++)
        table[note_at(notes, notes->notes.items[i].node)] = (uint32_t)i + 1;
    return true;
}

node_note *notes_get(node_notes *notes, emlx_tensor *node) {
    if (!keep_half_free(notes)) return NULL;
    size_t at = note_at(notes, node);
    if (notes->table[at] == 0) {
        notes->notes.items[notes->notes.count++] =
            (node_note){node, NODE_NONE, NODE_NONE, NODE_NONE, NODE_NONE, false};
        notes->table[at] = (uint32_t)notes->notes.count;
    }
    return &notes->notes.items[notes->table[at] - 1];
}

void notes_clear(node_notes *notes) {
    list_free(&notes->notes);
    mem_free(notes->table, notes->table_size * sizeof *notes->table);
}
