// SPDX-License-Identifier: Apache-2.0
// product.c - products of bf16 and of bytes by AMX: a tile of 32 x 32 sums takes four of the
// CPU's tiles, and a step multiplies 64 bytes of each of 32 lines on either side.
#include "engines/cpu/kernels/product/dots.h"
#include "engines/cpu/kernels/tables/packed.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL amx

// A tile is 16 rows of 64 bytes; a left panel has its lines' groups of 64 bytes one after another,
// a right one 32 groups of 32 bits side by side.
enum { TILE_BYTES = 16 * 64, STEP_BYTES = 2 * TILE_BYTES };

static const _Alignas(64) struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} config = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

static void enter(void) { _tile_loadconfig(&config); }
static void leave(void) { _tile_release(); }

#define LOAD_SUMS(c, step)                                                                         \
    do {                                                                                           \
        _tile_loadd(0, c, (step)*4);                                                               \
        _tile_loadd(1, (c) + 16, (step)*4);                                                        \
        _tile_loadd(2, (c) + 16 * (step), (step)*4);                                               \
        _tile_loadd(3, (c) + 16 * (step) + 16, (step)*4);                                          \
    } while (0)
#define CLEAR_SUMS()                                                                               \
    do {                                                                                           \
        _tile_zero(0);                                                                             \
        _tile_zero(1);                                                                             \
        _tile_zero(2);                                                                             \
        _tile_zero(3);                                                                             \
    } while (0)
#define STORE_SUMS(c, step)                                                                        \
    do {                                                                                           \
        _tile_stored(0, c, (step)*4);                                                              \
        _tile_stored(1, (c) + 16, (step)*4);                                                       \
        _tile_stored(2, (c) + 16 * (step), (step)*4);                                              \
        _tile_stored(3, (c) + 16 * (step) + 16, (step)*4);                                         \
    } while (0)

// The tiles' numbers are part of the instructions, hence functions made from a name.
#define TILE(name, dot, group)                                                                     \
    static void name(int64_t terms, const void *left, const void *right, void *sums, int64_t step, \
                     bool add) {                                                                   \
        const char *a = left, *b = right;                                                          \
        uint32_t *c = sums;                                                                        \
        if (add)                                                                                   \
            LOAD_SUMS(c, step);                                                                    \
        else                                                                                       \
            CLEAR_SUMS();                                                                          \
        for (int64_t t = 0; t < terms; t += (group), a += STEP_BYTES, b += STEP_BYTES) {           \
            _tile_loadd(4, a, 64);                                                                 \
            _tile_loadd(5, a + TILE_BYTES, 64);                                                    \
            _tile_loadd(6, b, 128);                                                                \
            _tile_loadd(7, b + 64, 128);                                                           \
            dot(0, 4, 6);                                                                          \
            dot(1, 4, 7);                                                                          \
            dot(2, 5, 6);                                                                          \
            dot(3, 5, 7);                                                                          \
        }                                                                                          \
        STORE_SUMS(c, step);                                                                       \
    }
TILE(bf16_tile, _tile_dpbf16ps, 32)
TILE(uu_tile, _tile_dpbuud, 64)
TILE(us_tile, _tile_dpbusd, 64)
TILE(su_tile, _tile_dpbsud, 64)
TILE(ss_tile, _tile_dpbssd, 64)

#include "engines/cpu/kernels/shuffle.h"

#define UNIT T
#define LINES 32
#define SQUARE 1
#define NAME left_bf16
#define T uint16_t
#define GROUP 32
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef GROUP

#define NAME left_u8
#define T uint8_t
#define GROUP 64
#include "engines/cpu/kernels/product/pack.inc"

#define BYTES_ROW(what, function)                                                                  \
    {                                                                                              \
        .packed = EMLX_U8, .sum = what, .left = {32, 64, amx_left_u8_pack},                        \
        .right = {32, 4, vnni_right_u8_pack}, .terms = 1024, .tile = function, .enter = enter,     \
        .leave = leave                                                                             \
    }

const product_fns amx_product_table[PRODUCT_COUNT] = {
    [EMLX_BF16] = {.packed = EMLX_BF16,
                   .sum = EMLX_F32,
                   .left = {32, 32, amx_left_bf16_pack},
                   .right = {32, 2, vnni_right_bf16_pack},
                   .terms = 512,
                   .flushes = vnni_flushes,
                   .tile = bf16_tile,
                   .enter = enter,
                   .leave = leave},
    [EMLX_U8] = BYTES_ROW(EMLX_U32, uu_tile),
    [EMLX_S8] = BYTES_ROW(EMLX_U32, uu_tile),
    [PRODUCT_BYTES] = BYTES_ROW(EMLX_S32, uu_tile),
    [PRODUCT_BYTES + 1] = BYTES_ROW(EMLX_S32, us_tile),
    [PRODUCT_BYTES + 2] = BYTES_ROW(EMLX_S32, su_tile),
    [PRODUCT_BYTES + 3] = BYTES_ROW(EMLX_S32, ss_tile),
};

// Those of the level before, but products of matrices are quicker. mxfp8 has no dot instructions.
const packed_fns amx_packed_table[PACKED_COUNT] = {
#define PACKED(name, ...) [PACKED_##name] = {.most = PACKED_##name == PACKED_mxfp8 ? 0 : 32},
#include "graph/packed.def"
#undef PACKED
};
#endif
