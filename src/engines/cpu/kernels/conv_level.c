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
#include "engines/cpu/kernels/conv_type.inc"

#define NAME quick
#define T float
#define W double
#define A float
#include "engines/cpu/kernels/conv_type.inc"

#define NAME f64
#define T double
#define W double
#define A double
#include "engines/cpu/kernels/conv_type.inc"

#define NAME u8
#define T uint8_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv_type.inc"

#define NAME u16
#define T uint16_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv_type.inc"

#define NAME u32
#define T uint32_t
#define W uint64_t
#define A uint32_t
#include "engines/cpu/kernels/conv_type.inc"

#define NAME u64
#define T uint64_t
#define W uint64_t
#define A uint64_t
#include "engines/cpu/kernels/conv_type.inc"

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
