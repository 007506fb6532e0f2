// SPDX-License-Identifier: Apache-2.0
// packed.h - how weights of few bits are packed: facts that ops and engines share.
#ifndef EMLX_GRAPH_PACKED_H
#define EMLX_GRAPH_PACKED_H

#include <stdint.h>

typedef enum packed_kind {
#define PACKED(name, ...) PACKED_##name,
#include "graph/packed.def"
#undef PACKED
    PACKED_COUNT
} packed_kind;

typedef struct packed_info {
    const char *name, *mode;
    int32_t bits, group;
    int32_t block_values, block_bytes; // 0 where scales lie apart
    uint32_t operands;
} packed_info;

extern const packed_info packed_table[PACKED_COUNT];

// The row of that mode and number of bits (0: the first of the mode); PACKED_COUNT without one.
packed_kind packed_find(const char *mode, int64_t bits);
// Values of a row whose packed form has a last axis of that length; -1 where it cannot be one.
int64_t packed_values(const packed_info *p, int64_t length);
// The length of the last axis that so many values are packed into; -1 where they cannot be.
int64_t packed_length(const packed_info *p, int64_t values);

#endif
