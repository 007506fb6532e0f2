// SPDX-License-Identifier: Apache-2.0
// list.h - arrays that grow while something is being built.
#ifndef EMLX_PROGRAM_LIST_H
#define EMLX_PROGRAM_LIST_H

#include "memory/memory.h"

// Declares a list of `type`: items, how many there are and how many fit.
#define LIST(type)                                                                                 \
    struct {                                                                                       \
        type *items;                                                                               \
        size_t count, capacity;                                                                    \
    }

// Makes room for `extra` more items; false when there is no memory, the list being as before.
bool list_reserve_bytes(void **items, size_t *capacity, size_t count, size_t extra, size_t size);

#define list_reserve(list, extra)                                                                  \
    list_reserve_bytes((void **)&(list)->items, &(list)->capacity, (list)->count, extra,           \
                       sizeof *(list)->items)
#define list_free(list) mem_free((list)->items, (list)->capacity * sizeof *(list)->items)

#endif
