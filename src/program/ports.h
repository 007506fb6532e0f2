// SPDX-License-Identifier: Apache-2.0
// ports.h - the named inputs, or the outputs, of a block.
#ifndef EMLX_PROGRAM_PORTS_H
#define EMLX_PROGRAM_PORTS_H

#include "memory/list.h"

typedef struct block_port {
    char *name; // never NULL
    uint32_t value;
} block_port;

// A list of ports, and the names that were given, which the ports own, so that one that is taken is
// found at once among very many.
typedef struct port_list {
    block_port *items;
    size_t count, capacity;
    const char *what; // "input" or "output", for messages
    hash_table names;
} port_list;

// Adds a port with its own copy of its name, or of its position when it has none.
emlx_status ports_add(port_list *ports, const char *name, uint32_t value, emlx_error *err);
void ports_clear(port_list *ports);

#endif
