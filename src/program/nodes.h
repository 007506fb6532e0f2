// SPDX-License-Identifier: Apache-2.0
// nodes.h - notes on the nodes of a graph, found by the node's address.
#ifndef EMLX_PROGRAM_NODES_H
#define EMLX_PROGRAM_NODES_H

#include "memory/list.h"

#define NODE_NONE UINT32_MAX

// What compiling knows of a node.
typedef struct node_note {
    emlx_tensor *node;
    uint32_t slot;    // where its value is kept, or NODE_NONE
    uint32_t owner;   // the segment that computes it, or NODE_NONE
    uint32_t read_by; // the last segment that it was made an input of, or NODE_NONE
    uint32_t source;  // the instruction that provides it (input, literal, control), or NODE_NONE
    bool reached;     // some output needs it
} node_note;

// A note's address is valid until the next one is added.
typedef struct node_notes {
    LIST(node_note) notes;
    hash_table numbers; // of notes by their nodes, plus one
} node_notes;

// The note of that node, made when there is none; NULL when out of memory.
node_note *notes_get(node_notes *notes, emlx_tensor *node);
void notes_clear(node_notes *notes);

#endif
