// SPDX-License-Identifier: Apache-2.0
// product_level.c - the inner loops of matrix products that every level has, and their tables.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/shuffle.h"
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/kernels/vectors.h"

// Matrix by vector -------------------------------------------------------------------------------

#define COPY(v, p) memcpy(&(v), p, sizeof(v))
#define SAME(e) (e)

// Bytes of a vector from which on lines are long, and how far ahead of what is read memory is asked
// for: of long lines, and of what is less in all, as keys and values of attention are.
enum { LONG_LINE = 1024, AHEAD = 8192, LITTLE_AHEAD = 3072 };

#define NAME vector_f32
#define T float
#define A float
#define LOAD COPY
#define VALUE SAME
#define MADD FMA_F32
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A
#undef MADD

#define NAME vector_f64
#define T double
#define A double
#define MADD FMA_F64
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A
#undef MADD

#define NAME vector_u16
#define T uint16_t
#define A uint16_t
#define MADD TIMES_PLUS
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A

#define NAME vector_u32
#define T uint32_t
#define A uint32_t
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A

#define NAME vector_u64
#define T uint64_t
#define A uint64_t
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A
#undef LOAD

// Narrow elements are widened in registers.
typedef uint8_t few_bytes __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint16_t few_halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));

#if defined(__aarch64__)
#define WIDEN_U8(v, p) v = (__typeof__(v))vmovl_u8(vld1_u8(p))
#else
#define WIDEN_U8(v, p)                                                                             \
    do {                                                                                           \
        few_bytes narrow_;                                                                         \
        memcpy(&narrow_, p, sizeof narrow_);                                                       \
        v = __builtin_convertvector(narrow_, __typeof__(v));                                       \
    } while (0)
#endif
#define NAME vector_u8
#define T uint8_t
#define A uint16_t
#define LOAD WIDEN_U8
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef A
#undef LOAD
#undef VALUE
#undef MADD

ALWAYS_INLINE float bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
#if defined(__AVX512F__)
#define WIDEN_BF16(v, p)                                                                           \
    v = (__typeof__(v))_mm512_slli_epi32(                                                          \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16)
#elif defined(__aarch64__)
#define WIDEN_BF16(v, p) v = (__typeof__(v))vshll_n_u16(vld1_u16(p), 16)
#else
#define WIDEN_BF16(v, p)                                                                           \
    do {                                                                                           \
        few_halves narrow_;                                                                        \
        memcpy(&narrow_, p, sizeof narrow_);                                                       \
        v = (__typeof__(v))(__builtin_convertvector(narrow_, words) << 16);                        \
    } while (0)
#endif
#define NAME vector_bf16
#define T uint16_t
#define A float
#define LOAD WIDEN_BF16
#define VALUE bf16_value
#define MADD FMA_F32
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef LOAD
#undef VALUE

// f16 is what the CPU converts, f8 its upper half.
#if defined(__aarch64__)
ALWAYS_INLINE float half_value(uint16_t bits) {
    __fp16 value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#define HALF_VALUE(e) half_value(e)
#define BYTE_VALUE(e) half_value((uint16_t)((e) << 8))
#define WIDEN_F16(v, p) v = (__typeof__(v))vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define WIDEN_F8(v, p)                                                                             \
    do {                                                                                           \
        uint32_t narrow_;                                                                          \
        memcpy(&narrow_, p, sizeof narrow_);                                                       \
        uint16x8_t halves_ = vshll_n_u8(vcreate_u8(narrow_), 8);                                   \
        v = (__typeof__(v))vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(halves_)));              \
    } while (0)
#define HAS_HALVES
#elif defined(__AVX2__)
#define HALF_VALUE(e) _cvtsh_ss(e)
#define BYTE_VALUE(e) _cvtsh_ss((uint16_t)((e) << 8))
#define HAS_HALVES
#if defined(__AVX512F__)
#define WIDEN_F16(v, p) v = (__typeof__(v))_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define WIDEN_F8(v, p)                                                                             \
    v = (__typeof__(v))_mm512_cvtph_ps(                                                            \
        _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(p))), 8))
#else
#define WIDEN_F16(v, p) v = (__typeof__(v))_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p)))
#define WIDEN_F8(v, p)                                                                             \
    v = (__typeof__(v))_mm256_cvtph_ps(                                                            \
        _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)(p))), 8))
#endif
#endif

#if defined(HAS_HALVES)
#define NAME vector_f16
#define T uint16_t
#define LOAD WIDEN_F16
#define VALUE HALF_VALUE
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef LOAD
#undef VALUE

#define NAME vector_f8
#define T uint8_t
#define LOAD WIDEN_F8
#define VALUE BYTE_VALUE
#include "engines/cpu/kernels/product/vector.inc"
#undef NAME
#undef T
#undef LOAD
#undef VALUE
#endif
#undef A
#undef MADD

// Integers of one width are summed alike whatever their sign.
const vector_fns KERNEL(vector, table)[EMLX_TYPE_COUNT] = {
#define VECTOR_ROW(TYPE, SUM, name)                                                                \
    [EMLX_##TYPE] = {EMLX_##SUM, KERNEL(vector_##name, across), KERNEL(vector_##name, down)},
    VECTOR_ROW(F32, F32, f32) VECTOR_ROW(F64, F64, f64) VECTOR_ROW(BF16, F32, bf16)
        VECTOR_ROW(U8, U16, u8) VECTOR_ROW(S8, U16, u8) VECTOR_ROW(U16, U16, u16)
            VECTOR_ROW(S16, U16, u16) VECTOR_ROW(U32, U32, u32) VECTOR_ROW(S32, U32, u32)
                VECTOR_ROW(U64, U64, u64) VECTOR_ROW(S64, U64, u64)
#if defined(HAS_HALVES)
                    VECTOR_ROW(F16, F32, f16) VECTOR_ROW(F8, F32, f8)
#endif
};

// Matrix by matrix -------------------------------------------------------------------------------

// The registers hold sums of ROWS x VECTORS, a row of the right side and one number of the left.
#if defined(__AVX512F__)
#define ROWS 12
#define VECTORS 2
#define WORDS 16
#define LONGS 8
#elif defined(__AVX2__)
#define ROWS 4
#define VECTORS 3
#define WORDS 8
#define LONGS 4
#elif defined(__aarch64__)
#define ROWS 8
#define VECTORS 3
#define WORDS 4
#define LONGS 2
#else
#define ROWS 4
#define VECTORS 2
#define WORDS 4
#define LONGS 2
#endif
#define GROUP 1

// Without fused operations BLAS is quicker.
#if defined(__AVX2__) || defined(__aarch64__)
#define HAS_FLOATS
#define NAME product_f32
#define T float
#define MADD FMA_F32
#define MADD_LANE LANE_F32
#define LANES 4
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD
#undef MADD_LANE
#undef LANES

#define NAME product_f64
#define T double
#define MADD FMA_F64
#define MADD_LANE LANE_F64
#define LANES 2
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD
#undef MADD_LANE
#undef LANES
#endif

#define MADD TIMES_PLUS
#define NAME product_u16
#define T uint16_t
#define MADD_LANE LANE_U16
#define LANES 8
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD_LANE
#undef LANES

#define NAME product_u32
#define T uint32_t
#define MADD_LANE LANE_U32
#define LANES 4
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD_LANE
#undef LANES

#define NAME product_u64
#define T uint64_t
#include "engines/cpu/kernels/product/tile.inc"
#undef NAME
#undef T
#undef MADD

// Panels, by the size of elements. Only bits matter.
#define LINES ROWS
#define NAME left_2
#define T uint16_t
#define UNIT T
#define SQUARE 4
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T

#define NAME left_4
#define T uint32_t
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T

#define NAME left_8
#define T uint64_t
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef LINES
#undef SQUARE

#define LINES (VECTORS * VECTOR_BYTES / 2)
#define NAME right_2
#define T uint16_t
#define SQUARE 8
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef LINES
#undef SQUARE

#define LINES (VECTORS * VECTOR_BYTES / 4)
#define NAME right_4
#define T uint32_t
#define SQUARE WORDS
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef LINES
#undef SQUARE

#define LINES (VECTORS * VECTOR_BYTES / 8)
#define NAME right_8
#define T uint64_t
#define SQUARE LONGS
#include "engines/cpu/kernels/product/pack.inc"
#undef NAME
#undef T
#undef LINES
#undef SQUARE
#undef UNIT

const product_fns KERNEL(product, table)[PRODUCT_COUNT] = {
#define PRODUCT_ROW(TYPE, PACKED, name, size)                                                      \
    [EMLX_##TYPE] = {.packed = EMLX_##PACKED,                                                      \
                     .sum = EMLX_##PACKED,                                                         \
                     .left = {ROWS, 1, KERNEL(left_##size, pack)},                                 \
                     .right = {VECTORS * VECTOR_BYTES / size, 1, KERNEL(right_##size, pack)},      \
                     .terms = size == 8 ? 160 : 256,                                               \
                     .tile = KERNEL(product_##name, tile),                                         \
                     .lines = KERNEL(product_##name, lines)},
    PRODUCT_ROW(U8, U16, u16, 2) PRODUCT_ROW(S8, U16, u16, 2) PRODUCT_ROW(U16, U16, u16, 2)
        PRODUCT_ROW(S16, U16, u16, 2) PRODUCT_ROW(U32, U32, u32, 4) PRODUCT_ROW(S32, U32, u32, 4)
            PRODUCT_ROW(U64, U64, u64, 8) PRODUCT_ROW(S64, U64, u64, 8)
#if defined(HAS_FLOATS)
                PRODUCT_ROW(F32, F32, f32, 4) PRODUCT_ROW(F64, F64, f64, 8)
#endif
};
