// SPDX-License-Identifier: Apache-2.0
// reduce_level.c - folds of all kinds and types, and their table.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/kernels/tables/fold.h"
#include "engines/cpu/kernels/vectors.h"

#define KERNELS_JOIN_2_(a, b) a##_##b
#define KERNELS_JOIN_2(a, b) KERNELS_JOIN_2_(a, b)

// Bytes between what a fold reads and what it asks memory for: the machine's own look-ahead ends
// with the page. FETCH(at, bytes) asks for as much as is read from `at` on.
enum { FETCH_AHEAD = 6144, FETCH_LINE = 64 };
#define FETCH(at, bytes)                                                                           \
    do {                                                                                           \
        _Pragma("GCC unroll 16") for (size_t ahead_ = 0; ahead_ < (bytes); ahead_ += FETCH_LINE)   \
            __builtin_prefetch((const char *)(at) + FETCH_AHEAD + ahead_);                         \
    } while (0)

// CPUs make NaNs of either sign; a result has the one that is positive.
#define ONE_NAN(x) ((x) != (x) ? __builtin_nan("") : (x))

// Integers ----------------------------------------------------------------------------------------

// Sums and products wrap, and so have the same bits for both signs. They are computed in 32 bits or
// more, as the product of two u16 does not fit an int.
#define T uint8_t
#define NAME u8_sum
#define START 0
#define STEP(acc, x) ((uint32_t)(acc) + (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#define NAME u8_product
#define START 1
#define STEP(acc, x) ((uint32_t)(acc) * (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#undef T

#define T uint16_t
#define NAME u16_sum
#define START 0
#define STEP(acc, x) ((uint32_t)(acc) + (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#define NAME u16_product
#define START 1
#define STEP(acc, x) ((uint32_t)(acc) * (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#undef T

#define T uint32_t
#define NAME u32_sum
#define START 0
#define STEP(acc, x) ((uint32_t)(acc) + (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#define NAME u32_product
#define START 1
#define STEP(acc, x) ((uint32_t)(acc) * (uint32_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#undef T

#define T uint64_t
#define NAME u64_sum
#define START 0
#define STEP(acc, x) ((uint64_t)(acc) + (uint64_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#define NAME u64_product
#define START 1
#define STEP(acc, x) ((uint64_t)(acc) * (uint64_t)(x))
#include "engines/cpu/kernels/fold/integer.inc"
#undef T

#define FOLD(op) u8_##op
#define T uint8_t
#define LOWEST 0
#define HIGHEST UINT8_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) u16_##op
#define T uint16_t
#define LOWEST 0
#define HIGHEST UINT16_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) u32_##op
#define T uint32_t
#define LOWEST 0
#define HIGHEST UINT32_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) u64_##op
#define T uint64_t
#define LOWEST 0
#define HIGHEST UINT64_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) s8_##op
#define T int8_t
#define LOWEST INT8_MIN
#define HIGHEST INT8_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) s16_##op
#define T int16_t
#define LOWEST INT16_MIN
#define HIGHEST INT16_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) s32_##op
#define T int32_t
#define LOWEST INT32_MIN
#define HIGHEST INT32_MAX
#include "engines/cpu/kernels/fold/order.inc"

#define FOLD(op) s64_##op
#define T int64_t
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#include "engines/cpu/kernels/fold/order.inc"

// Floats ------------------------------------------------------------------------------------------

#include "engines/cpu/kernels/fold/exact.inc"

#define NAME f32_sum
#define T float
#define START 0.0
#define STEP(acc, x) ((acc) + (x))
#define WIDE(x) WIDE_F32(x)
#include "engines/cpu/kernels/fold/wide.inc"

#define NAME f32_product
#define T float
#define START 1.0
#define STEP(acc, x) ((acc) * (x))
#define WIDE(x) WIDE_F32(x)
#include "engines/cpu/kernels/fold/wide.inc"

#define NAME f64_product
#define T double
#define START 1.0
#define STEP(acc, x) ((acc) * (x))
#define WIDE(x) (x)
#include "engines/cpu/kernels/fold/wide.inc"

#define IS_NAN(x) ((x) != (x))
#define NOT_A_NUMBER __builtin_nan("")

#define T float
#define I int32_t
#define NAME f32_max
#define START (-(T)__builtin_inf())
#define BETTER(x, y) ((x) > (y))
#include "engines/cpu/kernels/fold/extreme.inc"
#define NAME f32_min
#define START ((T)__builtin_inf())
#define BETTER(x, y) ((x) < (y))
#include "engines/cpu/kernels/fold/extreme.inc"
#define FOLD(op) f32_##op
#define SCAN_MAX(x, n, nan) f32_max_scan(x, n, nan)
#define SCAN_MIN(x, n, nan) f32_min_scan(x, n, nan)
#include "engines/cpu/kernels/fold/args.inc"
#undef FOLD
#undef SCAN_MAX
#undef SCAN_MIN
#undef T
#undef I

#define T double
#define I int64_t
#define NAME f64_max
#define START (-(T)__builtin_inf())
#define BETTER(x, y) ((x) > (y))
#include "engines/cpu/kernels/fold/extreme.inc"
#define NAME f64_min
#define START ((T)__builtin_inf())
#define BETTER(x, y) ((x) < (y))
#include "engines/cpu/kernels/fold/extreme.inc"
#define FOLD(op) f64_##op
#define SCAN_MAX(x, n, nan) f64_max_scan(x, n, nan)
#define SCAN_MIN(x, n, nan) f64_min_scan(x, n, nan)
#include "engines/cpu/kernels/fold/args.inc"
#undef FOLD
#undef SCAN_MAX
#undef SCAN_MIN
#undef T
#undef I

// Complex numbers ---------------------------------------------------------------------------------

#define NAME c64
#define T float _Complex
#define R float
#define REAL(op) f32_sum_##op
#define SUM double
#include "engines/cpu/kernels/fold/complex.inc"

#define NAME c128
#define T double _Complex
#define R double
#define REAL(op) f64_sum_##op
#define SUM exact_sum
#include "engines/cpu/kernels/fold/complex.inc"

// Narrow floats -----------------------------------------------------------------------------------

// They are folded as f32, decoded a block at a time; the accumulators are those of f32. Only what
// comes out at the end differs.
typedef void (*rows_fn)(void *acc, const void *x, size_t rows, size_t length, int64_t index);
typedef void (*columns_fn)(void *acc, const void *x, size_t rows, size_t columns, int64_t step,
                           int64_t index);

// Rows that fit a block are decoded many at a time.
static void narrow_rows(void *acc, size_t accumulator, const void *x, size_t rows, size_t length,
                        int64_t index, emlx_type type, rows_fn fold) {
    tile_fn decode = KERNEL(cast, table)[type][EMLX_F32];
    size_t size = type == EMLX_BF16 || type == EMLX_F16 ? 2 : 1;
    float block[BLOCK];
    uint8_t *a = acc;
    const uint8_t *from = x;
    size_t many = length > 0 && length < BLOCK ? BLOCK / length : 1;
    for (size_t m; rows > 0; rows -= m, a += m * accumulator) {
        m = many < rows ? many : rows;
        for (size_t at = 0, part; at < length; at += part, from += m * part * size) {
            part = block_length(length - at);
            decode(block, from, NULL, NULL, m * part);
            fold(a, block, m, part, index + (int64_t)at);
        }
    }
}

// A few columns of many rows at a time: setting out on a fold costs more than a row of it.
static void narrow_columns(void *acc, size_t accumulator, const void *x, size_t rows,
                           size_t columns, int64_t step, int64_t index, emlx_type type,
                           columns_fn fold) {
    tile_fn decode = KERNEL(cast, table)[type][EMLX_F32];
    size_t size = type == EMLX_BF16 || type == EMLX_F16 ? 2 : 1;
    float block[BLOCK];
    for (size_t at = 0, m; at < columns; at += m) {
        m = columns - at < BLOCK / 4 ? columns - at : BLOCK / 4;
        const uint8_t *from = (const uint8_t *)x + at * size;
        for (size_t r = 0, part; r < rows; r += part) {
            part = rows - r < BLOCK / m ? rows - r : BLOCK / m;
            for (size_t i = 0; i < part; i++, from += step * (int64_t)size) {
                decode(block + i * m, from, NULL, NULL, m);
            }
            fold((uint8_t *)acc + at * accumulator, block, part, m, (int64_t)m, index + (int64_t)r);
        }
    }
}

// Rows: the folds of one kind for one type. `wide` is the type of the accumulators, from which
// results are converted.
#define NARROW_FOLD(type, TYPE, kind, accumulator)                                                 \
    static void type##_##kind##_rows(void *acc, const void *x, size_t rows, size_t length,         \
                                     int64_t index) {                                              \
        narrow_rows(acc, accumulator, x, rows, length, index, TYPE, f32_##kind##_rows);            \
    }                                                                                              \
    static void type##_##kind##_columns(void *acc, const void *x, size_t rows, size_t columns,     \
                                        int64_t step, int64_t index) {                             \
        narrow_columns(acc, accumulator, x, rows, columns, step, index, TYPE,                      \
                       f32_##kind##_columns);                                                      \
    }
#define NARROW_FINISH(type, TYPE, kind, wide)                                                      \
    static void type##_##kind##_finish(void *dst, const void *acc, size_t n) {                     \
        KERNEL(cast, table)[wide][TYPE](dst, acc, NULL, NULL, n);                                  \
    }
#define NARROW_FOLDS(type, TYPE)                                                                   \
    NARROW_FOLD(type, TYPE, sum, sizeof(double))                                                   \
    NARROW_FINISH(type, TYPE, sum, EMLX_F64)                                                       \
    NARROW_FOLD(type, TYPE, product, sizeof(double))                                               \
    NARROW_FINISH(type, TYPE, product, EMLX_F64)                                                   \
    NARROW_FOLD(type, TYPE, max, sizeof(float))                                                    \
    NARROW_FINISH(type, TYPE, max, EMLX_F32)                                                       \
    NARROW_FOLD(type, TYPE, min, sizeof(float))                                                    \
    NARROW_FINISH(type, TYPE, min, EMLX_F32)                                                       \
    NARROW_FOLD(type, TYPE, argmax_low, sizeof(f32_argmax_low_best))                               \
    NARROW_FOLD(type, TYPE, argmax_high, sizeof(f32_argmax_high_best))                             \
    NARROW_FOLD(type, TYPE, argmin_low, sizeof(f32_argmin_low_best))                               \
    NARROW_FOLD(type, TYPE, argmin_high, sizeof(f32_argmin_high_best))

NARROW_FOLDS(bf16, EMLX_BF16)
NARROW_FOLDS(f16, EMLX_F16)
NARROW_FOLDS(f8, EMLX_F8)
NARROW_FOLDS(f8_e4m3fn, EMLX_F8_E4M3FN)

// Sub-byte integers fold as what they are in memory; sums and products are wrapped at the end.
#define WRAPPED_FINISH(type, TYPE, WIDE)                                                           \
    static void type##_finish(void *dst, const void *acc, size_t n) {                              \
        KERNEL(cast, table)[WIDE][TYPE](dst, acc, NULL, NULL, n);                                  \
    }
WRAPPED_FINISH(u2, EMLX_U2, EMLX_U8)
WRAPPED_FINISH(u4, EMLX_U4, EMLX_U8)
WRAPPED_FINISH(s2, EMLX_S2, EMLX_S8)
WRAPPED_FINISH(s4, EMLX_S4, EMLX_S8)

// Table -------------------------------------------------------------------------------------------

// accumulator size, init, rows, columns, merge, finish: of the fold `wide`, with `own` rows,
// columns and finish.
#define FNS(size, wide, own, end)                                                                  \
    { size, wide##_init, own##_rows, own##_columns, wide##_merge, end##_finish }
#define SAME(size, fold) FNS(size, fold, fold, fold)
#define ARG(kind, own) FNS(sizeof(kind##_best), kind, own, kind)

#define SUMS(KIND, kind)                                                                           \
    [REDUCE_##KIND] = {                                                                            \
        [EMLX_U2] = FNS(1, u8_##kind, u8_##kind, u2),                                              \
        [EMLX_U4] = FNS(1, u8_##kind, u8_##kind, u4),                                              \
        [EMLX_S2] = FNS(1, u8_##kind, u8_##kind, s2),                                              \
        [EMLX_S4] = FNS(1, u8_##kind, u8_##kind, s4),                                              \
        [EMLX_U8] = SAME(1, u8_##kind),                                                            \
        [EMLX_U16] = SAME(2, u16_##kind),                                                          \
        [EMLX_U32] = SAME(4, u32_##kind),                                                          \
        [EMLX_U64] = SAME(8, u64_##kind),                                                          \
        [EMLX_S8] = SAME(1, u8_##kind),                                                            \
        [EMLX_S16] = SAME(2, u16_##kind),                                                          \
        [EMLX_S32] = SAME(4, u32_##kind),                                                          \
        [EMLX_S64] = SAME(8, u64_##kind),                                                          \
        [EMLX_F8] = FNS(8, f32_##kind, f8_##kind, f8_##kind),                                      \
        [EMLX_F8_E4M3FN] = FNS(8, f32_##kind, f8_e4m3fn_##kind, f8_e4m3fn_##kind),                 \
        [EMLX_BF16] = FNS(8, f32_##kind, bf16_##kind, bf16_##kind),                                \
        [EMLX_F16] = FNS(8, f32_##kind, f16_##kind, f16_##kind),                                   \
        [EMLX_F32] = SAME(8, f32_##kind),                                                          \
        [EMLX_F64] = SAME(F64_##KIND, f64_##kind),                                                 \
        [EMLX_C64] = SAME(2 * sizeof(double), c64_##kind),                                         \
        [EMLX_C128] = SAME(2 * F64_##KIND, c128_##kind),                                           \
    }
#define F64_SUM sizeof(exact_sum)
#define F64_PRODUCT sizeof(double)

#define EXTREMES(KIND, kind)                                                                       \
    [REDUCE_##KIND] = {                                                                            \
        [EMLX_U2] = SAME(1, u8_##kind),                                                            \
        [EMLX_U4] = SAME(1, u8_##kind),                                                            \
        [EMLX_S2] = SAME(1, s8_##kind),                                                            \
        [EMLX_S4] = SAME(1, s8_##kind),                                                            \
        [EMLX_U8] = SAME(1, u8_##kind),                                                            \
        [EMLX_U16] = SAME(2, u16_##kind),                                                          \
        [EMLX_U32] = SAME(4, u32_##kind),                                                          \
        [EMLX_U64] = SAME(8, u64_##kind),                                                          \
        [EMLX_S8] = SAME(1, s8_##kind),                                                            \
        [EMLX_S16] = SAME(2, s16_##kind),                                                          \
        [EMLX_S32] = SAME(4, s32_##kind),                                                          \
        [EMLX_S64] = SAME(8, s64_##kind),                                                          \
        [EMLX_F8] = FNS(4, f32_##kind, f8_##kind, f8_##kind),                                      \
        [EMLX_F8_E4M3FN] = FNS(4, f32_##kind, f8_e4m3fn_##kind, f8_e4m3fn_##kind),                 \
        [EMLX_BF16] = FNS(4, f32_##kind, bf16_##kind, bf16_##kind),                                \
        [EMLX_F16] = FNS(4, f32_##kind, f16_##kind, f16_##kind),                                   \
        [EMLX_F32] = SAME(4, f32_##kind),                                                          \
        [EMLX_F64] = SAME(8, f64_##kind),                                                          \
    }

#define POSITIONS(KIND, kind)                                                                      \
    [REDUCE_##KIND] = {                                                                            \
        [EMLX_U2] = ARG(u8_##kind, u8_##kind),                                                     \
        [EMLX_U4] = ARG(u8_##kind, u8_##kind),                                                     \
        [EMLX_S2] = ARG(s8_##kind, s8_##kind),                                                     \
        [EMLX_S4] = ARG(s8_##kind, s8_##kind),                                                     \
        [EMLX_U8] = ARG(u8_##kind, u8_##kind),                                                     \
        [EMLX_U16] = ARG(u16_##kind, u16_##kind),                                                  \
        [EMLX_U32] = ARG(u32_##kind, u32_##kind),                                                  \
        [EMLX_U64] = ARG(u64_##kind, u64_##kind),                                                  \
        [EMLX_S8] = ARG(s8_##kind, s8_##kind),                                                     \
        [EMLX_S16] = ARG(s16_##kind, s16_##kind),                                                  \
        [EMLX_S32] = ARG(s32_##kind, s32_##kind),                                                  \
        [EMLX_S64] = ARG(s64_##kind, s64_##kind),                                                  \
        [EMLX_F8] = ARG(f32_##kind, f8_##kind),                                                    \
        [EMLX_F8_E4M3FN] = ARG(f32_##kind, f8_e4m3fn_##kind),                                      \
        [EMLX_BF16] = ARG(f32_##kind, bf16_##kind),                                                \
        [EMLX_F16] = ARG(f32_##kind, f16_##kind),                                                  \
        [EMLX_F32] = ARG(f32_##kind, f32_##kind),                                                  \
        [EMLX_F64] = ARG(f64_##kind, f64_##kind),                                                  \
    }

const reduce_fns KERNEL(reduce, table)[REDUCE_COUNT][EMLX_TYPE_COUNT] = {
    SUMS(SUM, sum),
    SUMS(PRODUCT, product),
    EXTREMES(MAX, max),
    EXTREMES(MIN, min),
    POSITIONS(ARGMAX_LOW, argmax_low),
    POSITIONS(ARGMAX_HIGH, argmax_high),
    POSITIONS(ARGMIN_LOW, argmin_low),
    POSITIONS(ARGMIN_HIGH, argmin_high),
};
