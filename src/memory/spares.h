// SPDX-License-Identifier: Apache-2.0
// spares.h - buffers that one run keeps from step to step. What a turn of a loop gives up the next
// turn takes up again, without a word to the rest of the process, whose memory has locks and counts
// that all threads share. Not for several threads at a time.
#ifndef EMLX_MEMORY_SPARES_H
#define EMLX_MEMORY_SPARES_H

#include "memory/memory.h"

enum { SPARE_COUNT = 16 };

// `count` and `next` are zero at first. Its buffers count as in use.
typedef struct buffer_spares {
    uint32_t count;
    uint32_t next; // the one that is replaced next, where all places are taken
    emlx_buffer *items[SPARE_COUNT];
} buffer_spares;

// A buffer of that size which nobody else holds, or NULL. `spares` may be NULL.
emlx_buffer *spares_take(buffer_spares *spares, size_t size);
// Ends a reference, as buffer_release does (`buffer` may be NULL), but keeps what would go and is
// small. `spares` may be NULL.
void spares_give(buffer_spares *spares, emlx_buffer *buffer);
// Whether there were any.
bool spares_clear(buffer_spares *spares);

#endif
