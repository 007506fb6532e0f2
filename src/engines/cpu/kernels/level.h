// SPDX-License-Identifier: Apache-2.0
// level.h - names and small helpers for the kernel sources, which are compiled once per CPU
// level. LEVEL is defined to its name in levels.def. Everything in here is static or a macro,
// so that no instruction of a level reaches code that other levels share.
#ifndef EMLX_CPU_KERNELS_LEVEL_H
#define EMLX_CPU_KERNELS_LEVEL_H

#include <string.h>

#include "engines/cpu/kernels/tables/elements.h"

// The parameters of a tile_fn.
#define TILE_ARGS void *dst, const void *a, const void *b, const void *c, size_t n

#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))

// In front of a loop: no iteration touches what another does, whatever the pointers look like.
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" // some loops stay scalar at some levels
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

// Elements worked on at a time where a kernel looks ahead or goes through a buffer on the stack.
#define BLOCK 256

ALWAYS_INLINE size_t block_length(size_t left) { return left < BLOCK ? left : BLOCK; }

// Bits that are set, by summing neighbours in fields of growing width. Unlike the instruction this
// exists at every level and works on vectors.
ALWAYS_INLINE uint32_t count_bits_32(uint32_t x) {
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    x += x >> 8;
    return (x + (x >> 16)) & 0x3f;
}

ALWAYS_INLINE uint64_t count_bits_64(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    x += x >> 8;
    x += x >> 16;
    return (x + (x >> 32)) & 0x7f;
}

// Sets every bit below the highest one set.
ALWAYS_INLINE uint32_t smear_32(uint32_t x) {
    x |= x >> 1;
    x |= x >> 2;
    x |= x >> 4;
    x |= x >> 8;
    return x | x >> 16;
}

ALWAYS_INLINE uint64_t smear_64(uint64_t x) {
    x |= x >> 1;
    x |= x >> 2;
    x |= x >> 4;
    x |= x >> 8;
    x |= x >> 16;
    return x | x >> 32;
}

#endif
