// SPDX-License-Identifier: Apache-2.0
// packed.c - how weights of few bits are packed.
#include "graph/packed.h"

#include <string.h>

const packed_info packed_table[PACKED_COUNT] = {
#define PACKED(name, ...) [PACKED_##name] = {#name, __VA_ARGS__},
#include "graph/packed.def"
#undef PACKED
};

packed_kind packed_find(const char *mode, int64_t bits) {
    for (int kind = 0; kind < PACKED_COUNT; kind++)
        if (strcmp(packed_table[kind].mode, mode) == 0 &&
            (bits == 0 || packed_table[kind].bits == bits))
            return (packed_kind)kind;
    return PACKED_COUNT;
}

// The least that elements fill exactly: a block, or words of 32 bits.
static void unit_of(const packed_info *p, int64_t *values, int64_t *length) {
    int32_t common = p->bits & -p->bits; // the greatest that divides both numbers of bits
    *values = p->block_values > 0 ? p->block_values : 32 / common;
    *length = p->block_values > 0 ? p->block_bytes : p->bits / common;
}

int64_t packed_values(const packed_info *p, int64_t length) {
    int64_t values, of;
    unit_of(p, &values, &of);
    return length % of == 0 && length <= INT64_MAX / values ? length / of * values : -1;
}

int64_t packed_length(const packed_info *p, int64_t values) {
    int64_t of, length;
    unit_of(p, &of, &length);
    return values % of == 0 && values <= INT64_MAX / length ? values / of * length : -1;
}
