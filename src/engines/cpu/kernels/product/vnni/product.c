// SPDX-License-Identifier: Apache-2.0
// product.c - products of bf16 and of bytes by the dot instructions of AVX-512: two products of
// bf16 or four of bytes are added to a sum of 32 bits. Sums of bytes wrap to 8 bits in the end, so
// that it does not matter that the instruction takes one side without and the other with a sign.
#include "engines/cpu/kernels/product/dots.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL vnni
#define VECTOR_BYTES 64
#define ROWS 12
#define VECTORS 2
#define T uint32_t

#define NAME product_bf16
#define GROUP 2
#define MADD(s, x, y) (__typeof__(s))_mm512_dpbf16_ps((__m512)(s), (__m512bh)(x), (__m512bh)(y))
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef GROUP
#undef MADD

#define NAME product_u8
#define GROUP 4
#define MADD(s, x, y) (__typeof__(s))_mm512_dpbusd_epi32((__m512i)(s), (__m512i)(x), (__m512i)(y))
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef GROUP
#undef MADD

#define NAME product_s16
#define GROUP 2
#define MADD(s, x, y) (__typeof__(s))_mm512_dpwssd_epi32((__m512i)(s), (__m512i)(x), (__m512i)(y))
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef GROUP
#undef MADD
#undef T

#include "engines/cpu/kernels/shuffle.h"

#define UNIT uint32_t
#define LINES ROWS
#define SQUARE 4
#define NAME left_bf16
#define T uint16_t
#define GROUP 2
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

#define NAME left_u8
#define T uint8_t
#define GROUP 4
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP
#undef LINES
#undef SQUARE

#define LINES 32
#define SQUARE 16
#undef PACK_LINKAGE
#define PACK_LINKAGE
#define NAME right_bf16
#define T uint16_t
#define GROUP 2
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

#define NAME right_u8
#define T uint8_t
#define GROUP 4
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

bool vnni_flushes(const void *panel, size_t count) { return any_below_normal(panel, count); }

#define BYTES_ROW                                                                                  \
    {                                                                                              \
        .packed = EMLX_U8, .sum = EMLX_U32, .left = {ROWS, 4, vnni_left_u8_pack},                  \
        .right = {32, 4, vnni_right_u8_pack}, .terms = 1024, .tile = vnni_product_u8_tile          \
    }

const product_fns vnni_product_table[PRODUCT_COUNT] = {
    [EMLX_BF16] = {.packed = EMLX_BF16,
                   .sum = EMLX_F32,
                   .left = {ROWS, 2, vnni_left_bf16_pack},
                   .right = {32, 2, vnni_right_bf16_pack},
                   .terms = 512,
                   .flushes = vnni_flushes,
                   .tile = vnni_product_bf16_tile},
    [EMLX_U8] = BYTES_ROW,
    [EMLX_S8] = BYTES_ROW,
    [PRODUCT_HALVES] = {.packed = EMLX_S16,
                        .sum = EMLX_S32,
                        .left = {ROWS, 2, vnni_left_bf16_pack},
                        .right = {32, 2, vnni_right_bf16_pack},
                        .terms = 512,
                        .tile = vnni_product_s16_tile},
};
#endif
