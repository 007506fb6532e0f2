// SPDX-License-Identifier: Apache-2.0
// product.c - products of bytes by the dot instruction of arm64: four products are added to a sum
// of 32 bits. Sums wrap to 8 bits in the end, so that signs do not matter.
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/packed.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "engines/cpu/kernels/shuffle.h"

#define LEVEL dotprod
#define VECTOR_BYTES 16
#define ROWS 8
#define VECTORS 3
#define GROUP 4

#define NAME product_u8
#define T uint32_t
#define HAS_LANES
#define LANES 4
#define MADD_LANE(s, y, x, n)                                                                      \
    (__typeof__(s))vdotq_laneq_s32((int32x4_t)(s), (int8x16_t)(y), (int8x16_t)(x), n)
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD_LANE

#define T uint8_t
#define UNIT uint32_t
#define SQUARE 4
#define LINES ROWS
#define NAME left_u8
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef LINES

#define LINES (VECTORS * 4)
#define NAME right_u8
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef LINES

#define BYTES_ROW                                                                                  \
    {                                                                                              \
        .packed = EMLX_U8, .sum = EMLX_U32, .left = {ROWS, GROUP, dotprod_left_u8_pack},           \
        .right = {VECTORS * 4, GROUP, dotprod_right_u8_pack}, .terms = 1024,                       \
        .tile = dotprod_product_u8_tile                                                            \
    }

const product_fns dotprod_product_table[PRODUCT_COUNT] = {
    [EMLX_U8] = BYTES_ROW,
    [EMLX_S8] = BYTES_ROW,
};
// Weights of few bits have the loops of the level before.
const packed_fns dotprod_packed_table[PACKED_COUNT] = {{.dot = NULL}};
#endif
