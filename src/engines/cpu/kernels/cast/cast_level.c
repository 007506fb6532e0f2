// SPDX-License-Identifier: Apache-2.0
// cast_level.c - casts between all types, by Nx's rules, and iota, which is a cast of indices.
#include "base/odd.h"
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/narrow.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

// A float as an integer modulo 2^64, where the plain conversion is not defined. `lowest` and
// `highest` are for the infinities; NaN is 0.
static uint64_t cast_outside(double x, uint64_t lowest, uint64_t highest) {
    uint64_t bits = math_bits(x);
    int shift = (int)(bits >> 52 & 0x7ff) - 1075;
    if (shift == 2047 - 1075) {
        if (bits << 12 != 0) return 0;
        return bits >> 63 ? lowest : highest;
    }
    if (fabs(x) < 0x1p63) return (uint64_t)(int64_t)x;
    uint64_t significand = (bits & 0x000fffffffffffffu) | 0x0010000000000000u;
    uint64_t size = shift < 64 ? significand << shift : 0;
    return bits >> 63 ? 0 - size : size;
}

// The bits of a float without its sign grow with it, up to infinity and NaN: negative where |x| is
// 2^exponent or more, or NaN.
ALWAYS_INLINE int32_t cast_past_f32(float x, int32_t exponent) {
    int32_t size = (int32_t)(narrow_bits(x) & 0x7fffffff);
    return ((exponent + 127) << 23) - 1 - size;
}

ALWAYS_INLINE int64_t cast_past_f64(double x, int64_t exponent) {
    int64_t size = (int64_t)(math_bits(x) & 0x7fffffffffffffffu);
    return ((exponent + 1023) << 52) - 1 - size;
}

// Casts among the types that C has ----------------------------------------------------------------

#define TO u8
#define T uint8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST 0
#define HIGHEST UINT8_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO u16
#define T uint16_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST 0
#define HIGHEST UINT16_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO u32
#define T uint32_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST 0
#define HIGHEST UINT32_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO u64
#define T uint64_t
#define KIND_TO 0
#define WIDE 1
#define WRAP(x) ((T)(x))
#define LOWEST 0
#define HIGHEST UINT64_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO s8
#define T int8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST INT8_MIN
#define HIGHEST INT8_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO s16
#define T int16_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST INT16_MIN
#define HIGHEST INT16_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO s32
#define T int32_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(x))
#define LOWEST INT32_MIN
#define HIGHEST INT32_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO s64
#define T int64_t
#define KIND_TO 0
#define WIDE 1
#define WRAP(x) ((T)(x))
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#include "engines/cpu/kernels/cast/to.inc"

#define TO u2
#define T uint8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(3 & (x)))
#define LOWEST 0
#define HIGHEST 3
#include "engines/cpu/kernels/cast/to.inc"

#define TO u4
#define T uint8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)(15 & (x)))
#define LOWEST 0
#define HIGHEST 15
#include "engines/cpu/kernels/cast/to.inc"

#define TO s2
#define T int8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)((int32_t)((3 & (x)) ^ 2) - 2))
#define LOWEST -2
#define HIGHEST 1
#include "engines/cpu/kernels/cast/to.inc"

#define TO s4
#define T int8_t
#define KIND_TO 0
#define WIDE 0
#define WRAP(x) ((T)((int32_t)((15 & (x)) ^ 8) - 8))
#define LOWEST -8
#define HIGHEST 7
#include "engines/cpu/kernels/cast/to.inc"

#define TO f32
#define T float
#define KIND_TO 1
#include "engines/cpu/kernels/cast/to.inc"

#define TO f64
#define T double
#define KIND_TO 1
#include "engines/cpu/kernels/cast/to.inc"

// Narrow floats to and from f32 -------------------------------------------------------------------

static void cast_f8_f32(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const uint8_t *x = a;
    for (size_t i = 0; i < n; i++) d[i] = narrow_decode(x[i], NARROW_F8);
}

static void cast_f8_e4m3fn_f32(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const uint8_t *x = a;
    for (size_t i = 0; i < n; i++) d[i] = narrow_decode(x[i], NARROW_F8_E4M3FN);
}

static void cast_bf16_f32(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const uint16_t *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) d[i] = bf16_decode(x[i]);
}

static void cast_f32_f8(TILE_ARGS) {
    (void)b, (void)c;
    uint8_t *d = dst;
    const float *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) d[i] = (uint8_t)narrow_encode(x[i], NARROW_F8);
}

static void cast_f32_f8_e4m3fn(TILE_ARGS) {
    (void)b, (void)c;
    uint8_t *d = dst;
    const float *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        d[i] = (uint8_t)narrow_encode(x[i], NARROW_F8_E4M3FN);
    }
}

static void cast_f32_bf16(TILE_ARGS) {
    (void)b, (void)c;
    uint16_t *d = dst;
    const float *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) d[i] = bf16_encode(x[i]);
}

static void cast_f16_f32(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const uint16_t *x = a;
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(d + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    }
#endif
    INDEPENDENT for (; i < n; i++) d[i] = narrow_decode(x[i], NARROW_F16);
}

static void cast_f32_f16(TILE_ARGS) {
    (void)b, (void)c;
    uint16_t *d = dst;
    const float *x = a;
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
        __m128i code = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        __m128i size = _mm_and_si128(code, _mm_set1_epi16(0x7fff));
        __m128i is_nan = _mm_cmpgt_epi16(size, _mm_set1_epi16(0x7c00));
        code = _mm_blendv_epi8(code, _mm_set1_epi16(0x7e00), is_nan);
        _mm_storeu_si128((__m128i *)(d + i), code);
    }
#endif
    INDEPENDENT for (; i < n; i++) d[i] = (uint16_t)narrow_encode(x[i], NARROW_F16);
}

static void cast_f64_odd(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const double *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) d[i] = narrow_to_odd(x[i]);
}

static void cast_u64_odd(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const uint64_t *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        uint64_t wide = x[i] >> 53 != 0 ? integer_to_odd(x[i]) : x[i];
        d[i] = narrow_to_odd((double)wide);
    }
}

static void cast_s64_odd(TILE_ARGS) {
    (void)b, (void)c;
    float *d = dst;
    const int64_t *x = a;
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        int64_t top = x[i] >> 53, odd = (int64_t)integer_to_odd((uint64_t)x[i]);
        d[i] = narrow_to_odd((double)(top != 0 && top != -1 ? odd : x[i]));
    }
}

// Casts in two steps ------------------------------------------------------------------------------

static void staged(void *dst, const void *a, size_t n, tile_fn first, size_t from_size,
                   tile_fn second, size_t to_size) {
    uint8_t *d = dst;
    const uint8_t *x = a;
    double via[BLOCK];
    for (size_t m; n > 0; n -= m, d += m * to_size, x += m * from_size) {
        m = block_length(n);
        first(via, x, NULL, NULL, m);
        second(d, via, NULL, NULL, m);
    }
}

// Rows: the cast from one type to another through a third, in which every value of the first is
// exact, or rounded so that rounding it again gives what rounding it once would.
#define STAGED_BY(from, to, first, from_size, second, to_size)                                     \
    static void cast_##from##_##to(TILE_ARGS) {                                                    \
        (void)b, (void)c;                                                                          \
        staged(dst, a, n, first, from_size, second, to_size);                                      \
    }
#define STAGED(from, from_size, via, to, to_size)                                                  \
    STAGED_BY(from, to, cast_##from##_##via, from_size, cast_##via##_##to, to_size)

#define TO_NARROW(to, to_size)                                                                     \
    STAGED_BY(f64, to, cast_f64_odd, 8, cast_f32_##to, to_size)                                    \
    STAGED(u8, 1, f32, to, to_size)                                                                \
    STAGED(u16, 2, f32, to, to_size)                                                               \
    STAGED(u32, 4, f64, to, to_size)                                                               \
    STAGED_BY(u64, to, cast_u64_odd, 8, cast_f32_##to, to_size)                                    \
    STAGED(s8, 1, f32, to, to_size)                                                                \
    STAGED(s16, 2, f32, to, to_size)                                                               \
    STAGED(s32, 4, f64, to, to_size)                                                               \
    STAGED_BY(s64, to, cast_s64_odd, 8, cast_f32_##to, to_size)                                    \
    STAGED(f8, 1, f32, to, to_size)                                                                \
    STAGED(f8_e4m3fn, 1, f32, to, to_size)                                                         \
    STAGED(bf16, 2, f32, to, to_size)                                                              \
    STAGED(f16, 2, f32, to, to_size)

#define FROM_NARROW(from, from_size)                                                               \
    STAGED(from, from_size, f32, u2, 1)                                                            \
    STAGED(from, from_size, f32, u4, 1)                                                            \
    STAGED(from, from_size, f32, u8, 1)                                                            \
    STAGED(from, from_size, f32, u16, 2)                                                           \
    STAGED(from, from_size, f32, u32, 4)                                                           \
    STAGED(from, from_size, f32, u64, 8)                                                           \
    STAGED(from, from_size, f32, s2, 1)                                                            \
    STAGED(from, from_size, f32, s4, 1)                                                            \
    STAGED(from, from_size, f32, s8, 1)                                                            \
    STAGED(from, from_size, f32, s16, 2)                                                           \
    STAGED(from, from_size, f32, s32, 4)                                                           \
    STAGED(from, from_size, f32, s64, 8)                                                           \
    STAGED(from, from_size, f32, f64, 8)

TO_NARROW(f8, 1)
TO_NARROW(f8_e4m3fn, 1)
TO_NARROW(bf16, 2)
TO_NARROW(f16, 2)
FROM_NARROW(f8, 1)
FROM_NARROW(f8_e4m3fn, 1)
FROM_NARROW(bf16, 2)
FROM_NARROW(f16, 2)

// Complex numbers ---------------------------------------------------------------------------------

// Only the real part is converted to a real type; a real number has an imaginary part of 0.
#define WITH_PARTS(part, R, complex)                                                               \
    static void cast_##part##_##complex(TILE_ARGS) {                                               \
        (void)b, (void)c;                                                                          \
        R *d = dst;                                                                                \
        const R *x = a;                                                                            \
        INDEPENDENT for (size_t i = 0; i < n; i++) {                                               \
            d[2 * i] = x[i];                                                                       \
            d[2 * i + 1] = 0;                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void cast_##complex##_##part(TILE_ARGS) {                                               \
        (void)b, (void)c;                                                                          \
        R *d = dst;                                                                                \
        const R *x = a;                                                                            \
        INDEPENDENT for (size_t i = 0; i < n; i++) d[i] = x[2 * i];                                \
    }
WITH_PARTS(f32, float, c64)
WITH_PARTS(f64, double, c128)

#define PAIRWISE(from, from_part, to, to_part)                                                     \
    static void cast_##from##_##to(TILE_ARGS) { cast_##from_part##_##to_part(dst, a, b, c, 2 * n); }
PAIRWISE(c64, f32, c64, f32)
PAIRWISE(c64, f32, c128, f64)
PAIRWISE(c128, f64, c64, f32)
PAIRWISE(c128, f64, c128, f64)

#define TO_AND_FROM_COMPLEX(type, size)                                                            \
    STAGED(type, size, f32, c64, 8)                                                                \
    STAGED(type, size, f64, c128, 16)                                                              \
    STAGED(c64, 8, f32, type, size)                                                                \
    STAGED(c128, 16, f64, type, size)
TO_AND_FROM_COMPLEX(u8, 1)
TO_AND_FROM_COMPLEX(u16, 2)
TO_AND_FROM_COMPLEX(u32, 4)
TO_AND_FROM_COMPLEX(u64, 8)
TO_AND_FROM_COMPLEX(s8, 1)
TO_AND_FROM_COMPLEX(s16, 2)
TO_AND_FROM_COMPLEX(s32, 4)
TO_AND_FROM_COMPLEX(s64, 8)
TO_AND_FROM_COMPLEX(f8, 1)
TO_AND_FROM_COMPLEX(f8_e4m3fn, 1)
TO_AND_FROM_COMPLEX(bf16, 2)
TO_AND_FROM_COMPLEX(f16, 2)
STAGED(f32, 4, f64, c128, 16)
STAGED(f64, 8, f32, c64, 8)
STAGED(c64, 8, f32, f64, 8)
STAGED(c128, 16, f64, f32, 4)
STAGED(c64, 8, f32, u2, 1)
STAGED(c64, 8, f32, u4, 1)
STAGED(c64, 8, f32, s2, 1)
STAGED(c64, 8, f32, s4, 1)
STAGED(c128, 16, f64, u2, 1)
STAGED(c128, 16, f64, u4, 1)
STAGED(c128, 16, f64, s2, 1)
STAGED(c128, 16, f64, s4, 1)

// Tables ------------------------------------------------------------------------------------------

// Sub-byte numbers are read as what they are in memory, numbers of 8 bits.
#define CAST_ROW(FROM, from)                                                                       \
    [EMLX_##FROM] = {[EMLX_U2] = cast_##from##_u2,     [EMLX_U4] = cast_##from##_u4,               \
                     [EMLX_U8] = cast_##from##_u8,     [EMLX_U16] = cast_##from##_u16,             \
                     [EMLX_U32] = cast_##from##_u32,   [EMLX_U64] = cast_##from##_u64,             \
                     [EMLX_S2] = cast_##from##_s2,     [EMLX_S4] = cast_##from##_s4,               \
                     [EMLX_S8] = cast_##from##_s8,     [EMLX_S16] = cast_##from##_s16,             \
                     [EMLX_S32] = cast_##from##_s32,   [EMLX_S64] = cast_##from##_s64,             \
                     [EMLX_F8] = cast_##from##_f8,     [EMLX_F8_E4M3FN] = cast_##from##_f8_e4m3fn, \
                     [EMLX_BF16] = cast_##from##_bf16, [EMLX_F16] = cast_##from##_f16,             \
                     [EMLX_F32] = cast_##from##_f32,   [EMLX_F64] = cast_##from##_f64,             \
                     [EMLX_C64] = cast_##from##_c64,   [EMLX_C128] = cast_##from##_c128}

const tile_fn KERNEL(cast, table)[EMLX_TYPE_COUNT][EMLX_TYPE_COUNT] = {
    CAST_ROW(U2, u8),     CAST_ROW(U4, u8),
    CAST_ROW(U8, u8),     CAST_ROW(U16, u16),
    CAST_ROW(U32, u32),   CAST_ROW(U64, u64),
    CAST_ROW(S2, s8),     CAST_ROW(S4, s8),
    CAST_ROW(S8, s8),     CAST_ROW(S16, s16),
    CAST_ROW(S32, s32),   CAST_ROW(S64, s64),
    CAST_ROW(F8, f8),     CAST_ROW(F8_E4M3FN, f8_e4m3fn),
    CAST_ROW(BF16, bf16), CAST_ROW(F16, f16),
    CAST_ROW(F32, f32),   CAST_ROW(F64, f64),
    CAST_ROW(C64, c64),   CAST_ROW(C128, c128),
};

static void iota_s64(void *dst, int64_t start, int64_t step, size_t n) {
    uint64_t *d = dst;
    uint64_t value = (uint64_t)start;
    for (size_t i = 0; i < n; i++, value += (uint64_t)step) d[i] = value;
}

static void iota_cast(void *dst, int64_t start, int64_t step, size_t n, tile_fn cast, size_t size) {
    uint8_t *d = dst;
    int64_t index[BLOCK];
    for (size_t m; n > 0; n -= m, d += m * size) {
        m = block_length(n);
        iota_s64(index, start, step, m);
        cast(d, index, NULL, NULL, m);
        start = (int64_t)((uint64_t)start + m * (uint64_t)step);
    }
}

#define IOTA(type, size)                                                                           \
    static void iota_##type(void *dst, int64_t start, int64_t step, size_t n) {                    \
        iota_cast(dst, start, step, n, cast_s64_##type, size);                                     \
    }
IOTA(u2, 1)
IOTA(u4, 1)
IOTA(u8, 1)
IOTA(u16, 2)
IOTA(u32, 4)
IOTA(s2, 1)
IOTA(s4, 1)
IOTA(f8, 1)
IOTA(f8_e4m3fn, 1)
IOTA(bf16, 2)
IOTA(f16, 2)
IOTA(f32, 4)
IOTA(f64, 8)
IOTA(c64, 8)
IOTA(c128, 16)

// Signed and unsigned numbers of one size have the same bits.
const iota_fn KERNEL(iota, table)[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = iota_u2,   [EMLX_U4] = iota_u4,     [EMLX_U8] = iota_u8,
    [EMLX_U16] = iota_u16, [EMLX_U32] = iota_u32,   [EMLX_U64] = iota_s64,
    [EMLX_S2] = iota_s2,   [EMLX_S4] = iota_s4,     [EMLX_S8] = iota_u8,
    [EMLX_S16] = iota_u16, [EMLX_S32] = iota_u32,   [EMLX_S64] = iota_s64,
    [EMLX_F8] = iota_f8,   [EMLX_BF16] = iota_bf16, [EMLX_F16] = iota_f16,
    [EMLX_F32] = iota_f32, [EMLX_F64] = iota_f64,   [EMLX_F8_E4M3FN] = iota_f8_e4m3fn,
    [EMLX_C64] = iota_c64, [EMLX_C128] = iota_c128,
};

// Strided copies, by size -------------------------------------------------------------------------

typedef struct two_words {
    uint64_t word[2];
} two_words;

#define FN(op) KERNELS_JOIN(copy, NAME, op)
#define NAME 1
#define T uint8_t
#include "engines/cpu/kernels/cast/copy.inc"
#define NAME 2
#define T uint16_t
#include "engines/cpu/kernels/cast/copy.inc"
#define NAME 4
#define T uint32_t
#include "engines/cpu/kernels/cast/copy.inc"
#define NAME 8
#define T uint64_t
#include "engines/cpu/kernels/cast/copy.inc"
#define NAME 16
#define T two_words
#include "engines/cpu/kernels/cast/copy.inc"

const stride_fn KERNEL(gather, table)[5] = {copy_1_gather, copy_2_gather, copy_4_gather,
                                            copy_8_gather, copy_16_gather};
const repeat_fn KERNEL(repeat, table)[5] = {copy_1_repeat, copy_2_repeat, copy_4_repeat,
                                            copy_8_repeat, copy_16_repeat};
const stride_fn KERNEL(scatter, table)[5] = {copy_1_scatter, copy_2_scatter, copy_4_scatter,
                                             copy_8_scatter, copy_16_scatter};
