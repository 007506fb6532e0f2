// SPDX-License-Identifier: Apache-2.0
// product.c - products of bf16 and of bytes by the instructions of arm64 for matrices: four terms
// of bf16 or eight of bytes, of two lines on either side, are multiplied and added to four sums of
// 32 bits. Sums of bytes wrap to 8 bits in the end, so that signs do not matter.
#include "engines/cpu/kernels/product/dots.h"
#include "engines/cpu/kernels/tables/packed.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "engines/cpu/kernels/shuffle.h"

#define LEVEL mmla

#define NAME product_bf16
#define GROUP 4
#define MMLA vbfmmlaq_f32
#define OPERAND bfloat16x8_t
#define SUMS float32x4_t
#include "engines/cpu/kernels/product/blocks.inc"
#undef NAME
#undef GROUP
#undef MMLA
#undef OPERAND
#undef SUMS

#define NAME product_u8
#define GROUP 8
#define MMLA vmmlaq_s32
#define OPERAND int8x16_t
#define SUMS int32x4_t
#include "engines/cpu/kernels/product/blocks.inc"
#undef NAME
#undef GROUP
#undef MMLA
#undef OPERAND
#undef SUMS

#define UNIT uint64_t
#define SQUARE 2
#define LINES 8
#define NAME left_bf16
#define T uint16_t
#define GROUP 4
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

#define NAME left_u8
#define T uint8_t
#define GROUP 8
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP
#undef LINES

#define LINES 12
#define NAME right_bf16
#define T uint16_t
#define GROUP 4
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

#define NAME right_u8
#define T uint8_t
#define GROUP 8
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

static bool flushes(const void *panel, size_t count) { return any_below_normal(panel, count); }

#define BYTES_ROW                                                                                  \
    {                                                                                              \
        .packed = EMLX_U8, .sum = EMLX_U32, .left = {8, 8, mmla_left_u8_pack},                     \
        .right = {12, 8, mmla_right_u8_pack}, .terms = 1024, .tile = mmla_product_u8_tile          \
    }

const product_fns mmla_product_table[PRODUCT_COUNT] = {
    [EMLX_BF16] = {.packed = EMLX_BF16,
                   .sum = EMLX_F32,
                   .left = {8, 4, mmla_left_bf16_pack},
                   .right = {12, 4, mmla_right_bf16_pack},
                   .terms = 512,
                   .flushes = flushes,
                   .tile = mmla_product_bf16_tile},
    [EMLX_U8] = BYTES_ROW,
    [EMLX_S8] = BYTES_ROW,
};
// Weights of few bits have the loops of the level before.
const packed_fns mmla_packed_table[PACKED_COUNT] = {{.dot = NULL}};
#endif
