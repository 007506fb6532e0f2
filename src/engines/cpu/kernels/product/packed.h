// SPDX-License-Identifier: Apache-2.0
// packed.h - reading the elements of packed weights, CHUNK of them at a time, as bytes: what is not
// a whole number (E2M1) as twice its value and 12 more, what has a sign (q8_0) with 128 more.
// Scales and biases are made to fit (see matrix/packed.c). All static, for every level.
#ifndef EMLX_CPU_PRODUCT_PACKED_H
#define EMLX_CPU_PRODUCT_PACKED_H

#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/shuffle.h"
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
STREAM(6)
#undef STREAM

typedef uint8_t some_bytes __attribute__((vector_size(16)));

// The low nibbles of 16 bytes, and the high ones.
ALWAYS_INLINE void nibbles_of(const uint8_t *from, some_bytes *low, some_bytes *high) {
    some_bytes both;
    memcpy(&both, from, sizeof both);
    *low = both & 15;
    *high = both >> 4;
}

ALWAYS_INLINE void codes_4(uint8_t *to, const uint8_t *row, int64_t at) {
    row += at / 2;
    for (int i = 0; i < CHUNK; i += 32, row += 16) {
        some_bytes low, high;
        nibbles_of(row, &low, &high);
        some_bytes first = ZIP_LOW(16, low, high), second = ZIP_HIGH(16, low, high);
        memcpy(to + i, &first, sizeof first);
        memcpy(to + i + 16, &second, sizeof second);
    }
}

ALWAYS_INLINE void codes_8(uint8_t *to, const uint8_t *row, int64_t at) {
    memcpy(to, row + at, CHUNK);
}

// Sizes are 0, 0.5, 1, 1.5, 2, 3, 4, 6, with a sign in front.
ALWAYS_INLINE void codes_e2m1(uint8_t *to, const uint8_t *row, int64_t at) {
    codes_4(to, row, at);
    for (int i = 0; i < CHUNK; i++) {
        uint8_t size = to[i] & 7;
        size = (uint8_t)(size + (size > 4) + (size > 5) + 3 * (size > 6));
        to[i] = (uint8_t)((to[i] & 8) != 0 ? 12 - size : 12 + size);
    }
}

ALWAYS_INLINE void codes_q4_0(uint8_t *to, const uint8_t *row, int64_t at) {
    row += at / 32 * 18 + 2;
    for (int b = 0; b < 2; b++, to += 32, row += 18) {
        some_bytes low, high;
        nibbles_of(row, &low, &high);
        memcpy(to, &low, sizeof low);
        memcpy(to + 16, &high, sizeof high);
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
    for (int i = 0; i < 32; i += 16) {
        some_bytes bits[2], more[2], above[2];
        nibbles_of(low_bits + i, &bits[0], &bits[1]);
        nibbles_of(low_bits + i + 32, &more[0], &more[1]);
        nibbles_of(high_bits + i, &above[0], &above[1]);
        some_bytes first = bits[high] | (above[high] & 3) << 4;
        some_bytes second = more[high] | above[high] >> 2 << 4;
        memcpy(to + i, &first, sizeof first);
        memcpy(to + i + 32, &second, sizeof second);
    }
}

#endif
