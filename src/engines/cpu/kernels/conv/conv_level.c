// SPDX-License-Identifier: Apache-2.0
// conv_level.c - inner loops of direct convolutions for all types, and their table.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/conv.h"
#include "engines/cpu/kernels/vectors.h"

// gcc 12 converts vectors of floats in halves when it is left to itself.
#if defined(__AVX512F__)
#define WIDEN(x) _mm512_cvtps_pd(_mm256_loadu_ps(x))
#elif defined(__AVX2__)
#define WIDEN(x) _mm256_cvtps_pd(_mm_loadu_ps(x))
#endif
#define NAME f32
#define T float
#define W double
#define A double
#include "engines/cpu/kernels/conv/type.inc"

#define NAME quick
#define T float
#define W double
#define A float
#include "engines/cpu/kernels/conv/type.inc"

#define NAME f64
#define T double
#define W double
#define A double
#include "engines/cpu/kernels/conv/type.inc"

#define NAME u8
#define T uint8_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv/type.inc"

#define NAME u16
#define T uint16_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv/type.inc"

#define NAME u32
#define T uint32_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv/type.inc"

#define NAME u64
#define T uint64_t
#define W uint64_t
#define A uint64_t
#include "engines/cpu/kernels/conv/type.inc"

#define FNS(name, sum)                                                                             \
    { EMLX_##sum, conv_##name##_rows, conv_##name##_products }

// Sub-byte integers are wrapped to their width when the sums are stored.
const conv_fns KERNEL(conv, table)[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = FNS(u8, U32),   [EMLX_U4] = FNS(u8, U32),   [EMLX_U8] = FNS(u8, U32),
    [EMLX_U16] = FNS(u16, U32), [EMLX_U32] = FNS(u32, U32), [EMLX_U64] = FNS(u64, U64),
    [EMLX_S2] = FNS(u8, U32),   [EMLX_S4] = FNS(u8, U32),   [EMLX_S8] = FNS(u8, U32),
    [EMLX_S16] = FNS(u16, U32), [EMLX_S32] = FNS(u32, U32), [EMLX_S64] = FNS(u64, U64),
    [EMLX_F32] = FNS(f32, F64), [EMLX_F64] = FNS(f64, F64),
};

const conv_fns KERNEL(conv, quick) = FNS(quick, F32);

// As many sums as registers hold, with the elements and a weight beside them.
#if defined(__AVX512F__)
#define EIGHT_VECTORS 3
#define SIX_VECTORS 4
#define FOUR_VECTORS 6
#define TWO_VECTORS 8
#define LONG_PLACES_4 6
#define LONG_PLACES_2 8
#define LONG_PLACES_1 12
#elif defined(__aarch64__)
#define EIGHT_VECTORS 2
#define SIX_VECTORS 3
#define FOUR_VECTORS 6
#define TWO_VECTORS 8
#define LONG_PLACES_4 6
#define LONG_PLACES_2 8
#define LONG_PLACES_1 12
#else
#define EIGHT_VECTORS 1
#define SIX_VECTORS 2
#define FOUR_VECTORS 2
#define TWO_VECTORS 4
#define LONG_PLACES_4 2
#define LONG_PLACES_2 5
#define LONG_PLACES_1 8
#endif

#define NAME tiles_f32
#define T float
#define MADD FMA_F32
#include "engines/cpu/kernels/conv/tiles.inc"

#define NAME tiles_f64
#define T double
#define MADD FMA_F64
#include "engines/cpu/kernels/conv/tiles.inc"

#define BLOCK_ROW(name, filters, vectors, tile)                                                    \
    { filters, (vectors) * (conv_##name##_lanes), conv_##name##_##tile }
#define LONG_ROW(name, vectors)                                                                    \
    { (vectors) * (conv_##name##_lanes), LONG_PLACES_##vectors, conv_##name##_long_##vectors }
#define TILES(name)                                                                                \
    {                                                                                              \
        {BLOCK_ROW(name, 8, EIGHT_VECTORS, eight), BLOCK_ROW(name, 6, SIX_VECTORS, six),           \
         BLOCK_ROW(name, 4, FOUR_VECTORS, four), BLOCK_ROW(name, 2, TWO_VECTORS, two),             \
         BLOCK_ROW(name, 1, 8, one)},                                                              \
        {                                                                                          \
            LONG_ROW(name, 4), LONG_ROW(name, 2), LONG_ROW(name, 1)                                \
        }                                                                                          \
    }

const conv_tiles KERNEL(conv, tiles)[2] = {TILES(tiles_f32), TILES(tiles_f64)};
