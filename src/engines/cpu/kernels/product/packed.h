// SPDX-License-Identifier: Apache-2.0
// packed.h - reading the elements of packed weights, CHUNK of them at a time, as bytes: what is not
// a whole number (E2M1) as twice its value and 12 more, what has a sign (q8_0) with 128 more.
// Scales and biases are made to fit (see matrix/packed.c). All static, for every level.
#ifndef EMLX_CPU_PRODUCT_PACKED_H
#define EMLX_CPU_PRODUCT_PACKED_H

#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/packed.h"

enum { CHUNK = PACKED_CHUNK };

// The 8 elements of `bits` each in the lowest bits of a word, a byte each.
ALWAYS_INLINE void spread(uint8_t *to, uint64_t bits, int width) {
    for (int i = 0; i < 8; i++) to[i] = (uint8_t)(bits >> (i * width) & ((1u << width) - 1));
}

#define STREAM(bits)                                                                               \
    ALWAYS_INLINE void codes_##bits(uint8_t *to, const uint8_t *row, int64_t at) {                 \
        row += at / 8 * bits;                                                                      \
        for (int i = 0; i < CHUNK / 8; i++) {                                                      \
            uint64_t word = 0;                                                                     \
            memcpy(&word, row + i * bits, bits);                                                   \
            spread(to + i * 8, word, bits);                                                        \
        }                                                                                          \
    }
STREAM(2)
STREAM(3)
STREAM(4)
STREAM(6)
#undef STREAM

ALWAYS_INLINE void codes_8(uint8_t *to, const uint8_t *row, int64_t at) {
    memcpy(to, row + at, CHUNK);
}

static const uint8_t e2m1_codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

ALWAYS_INLINE void codes_e2m1(uint8_t *to, const uint8_t *row, int64_t at) {
    codes_4(to, row, at);
    for (int i = 0; i < CHUNK; i++) to[i] = e2m1_codes[to[i]];
}

ALWAYS_INLINE void codes_q4_0(uint8_t *to, const uint8_t *row, int64_t at) {
    row += at / 32 * 18 + 2;
    for (int b = 0; b < 2; b++, to += 32, row += 18)
        for (int i = 0; i < 16; i++) {
            to[i] = row[i] & 15;
            to[i + 16] = row[i] >> 4;
        }
}

ALWAYS_INLINE void codes_q8_0(uint8_t *to, const uint8_t *row, int64_t at) {
    row += at / 32 * 34 + 2;
    for (int b = 0; b < 2; b++, to += 32, row += 34)
        for (int i = 0; i < 32; i++) to[i] = row[i] ^ 0x80;
}

ALWAYS_INLINE void codes_q4_k(uint8_t *to, const uint8_t *row, int64_t at) {
    row += at / 256 * 144 + 16 + at % 256 / 2;
    for (int i = 0; i < 32; i++) {
        to[i] = row[i] & 15;
        to[i + 32] = row[i] >> 4;
    }
}

// Two halves of a block; of each the low nibbles of 64 bytes come first, then the high ones.
ALWAYS_INLINE void codes_q6_k(uint8_t *to, const uint8_t *row, int64_t at) {
    int64_t half = at % 256 / 128, high = at % 128 / 64;
    row += at / 256 * 210;
    const uint8_t *low_bits = row + half * 64, *high_bits = row + 128 + half * 32;
    for (int i = 0; i < 32; i++) {
        int above = high_bits[i] >> (4 * high);
        to[i] = (uint8_t)((low_bits[i] >> (4 * high) & 15) | (above & 3) << 4);
        to[i + 32] = (uint8_t)((low_bits[i + 32] >> (4 * high) & 15) | (above >> 2 & 3) << 4);
    }
}

#endif
