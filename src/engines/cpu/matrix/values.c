// SPDX-License-Identifier: Apache-2.0
// values.c - the numbers that rows of packed weights stand for.
#include <string.h>

#include "engines/cpu/matrix/matrix.h"

// The bytes of a row in front of an element that begins a block, and a chunk.
static int64_t bytes_before(const packed_side *s, int64_t at) {
    const packed_info *p = s->info;
    return p->block_values > 0 ? at / p->block_values * p->block_bytes : at / 8 * p->bits;
}

// What is read of a row's last elements, fewer than a chunk, is a copy, as others would come from
// behind it.
static void last_values(const packed_side *s, const uint8_t *bits, int64_t at, int64_t count,
                        const float *scale, const float *bias, float *to) {
    uint8_t last[2 * PACKED_CHUNK] = {0};
    float values[PACKED_CHUNK];
    int64_t before = bytes_before(s, at), group = at / s->group;
    memcpy(last, bits + before, (size_t)(s->row_bytes - before));
    s->fns->values(values, last, 0, scale + group, bias + group, s->group);
    memcpy(to, values, (size_t)count * sizeof *to);
}

void packed_values_of(const packed_side *s, int64_t row, int64_t at, int64_t count, float *to) {
    const uint8_t *bits = (const uint8_t *)s->bits + row * s->row_bytes;
    const float *scale = s->scale + row * s->groups, *bias = s->bias + row * s->groups;
    int64_t i = 0;
    for (; i + PACKED_CHUNK <= count; i += PACKED_CHUNK)
        s->fns->values(to + i, bits, at + i, scale, bias, s->group);
    if (i < count) last_values(s, bits, at + i, count - i, scale, bias, to + i);
}
