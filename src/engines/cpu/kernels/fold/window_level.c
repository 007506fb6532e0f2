// SPDX-License-Identifier: Apache-2.0
// window_level.c - folds of windows that slide along a row, and their table.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/shuffle.h"
#include "engines/cpu/kernels/tables/fold.h"
#include "engines/cpu/kernels/vectors.h"

#if defined(__AVX512F__)
#define WORDS 16
#define LONGS 8
#elif defined(__AVX2__)
#define WORDS 8
#define LONGS 4
#else
#define WORDS 4
#define LONGS 2
#endif

// gcc 12 converts vectors of floats in halves when it is left to itself.
#if defined(__AVX512F__)
#define TO_DOUBLE(v, few) v = (__typeof__(v))_mm512_cvtps_pd((__m256)(few))
#elif defined(__AVX2__)
#define TO_DOUBLE(v, few) v = (__typeof__(v))_mm256_cvtps_pd((__m128)(few))
#else
#define TO_DOUBLE(v, few) v = __builtin_convertvector(few, __typeof__(v))
#endif
#define AS_IT_IS(v, few) v = few

#if defined(__AVX512F__)
#define LOADS_FEW
#define MASK(count) ((1u << (count)) - 1)
#define FEW_WORDS(p, count) _mm512_maskz_loadu_ps((__mmask16)MASK(count), p)
#define FEW_LONGS(p, count) _mm512_maskz_loadu_pd((__mmask8)MASK(count), p)
#define FEW_TO_DOUBLE(p, count) _mm256_maskz_loadu_ps((__mmask8)MASK(count), p)
#endif

// Elements are folded in order; NaN wins, and of equal numbers the first stays.
#define BETTER(x, acc, by) (((x)by(acc)) | ((x) != (x)))
#define CHOOSE(m, x, y) (__typeof__(x))(((__typeof__(m))(x) & (m)) | ((__typeof__(m))(y) & ~(m)))
#define HIGHER(acc, x) CHOOSE(BETTER(x, acc, >), x, acc)
#define LOWER(acc, x) CHOOSE(BETTER(x, acc, <), x, acc)
#define ONE_HIGHER(acc, x) (BETTER(x, acc, >) ? (x) : (acc))
#define ONE_LOWER(acc, x) (BETTER(x, acc, <) ? (x) : (acc))
#define PLUS(acc, x) ((acc) + (x))
// CPUs make NaNs of either sign; a result has the one that is positive.
#define ONE_NAN(x) ((x) != (x) ? __builtin_nan("") : (x))
#define SAME(x) (x)

// In double the order of a few hardly matters.
#define NAME f32_sum
#define SLIDES 32
#define T float
#define A double
#define LANES LONGS
#define WIDEN TO_DOUBLE
#define START 0.0
#define STEP PLUS
#define ONE_STEP PLUS
#define END ONE_NAN
#define LOAD_FEW FEW_TO_DOUBLE
#include "engines/cpu/kernels/fold/window.inc"

#define NAME f32_max
#define T float
#define A float
#define LANES WORDS
#define WIDEN AS_IT_IS
#define START (-__builtin_inff())
#define STEP HIGHER
#define ONE_STEP ONE_HIGHER
#define END ONE_NAN
#define LOAD_FEW FEW_WORDS
#include "engines/cpu/kernels/fold/window.inc"

#define NAME f32_min
#define T float
#define A float
#define LANES WORDS
#define WIDEN AS_IT_IS
#define START __builtin_inff()
#define STEP LOWER
#define ONE_STEP ONE_LOWER
#define END ONE_NAN
#define LOAD_FEW FEW_WORDS
#include "engines/cpu/kernels/fold/window.inc"

#define NAME f64_max
#define T double
#define A double
#define LANES LONGS
#define WIDEN AS_IT_IS
#define START (-__builtin_inf())
#define STEP HIGHER
#define ONE_STEP ONE_HIGHER
#define END ONE_NAN
#define LOAD_FEW FEW_LONGS
#include "engines/cpu/kernels/fold/window.inc"

#define NAME f64_min
#define T double
#define A double
#define LANES LONGS
#define WIDEN AS_IT_IS
#define START __builtin_inf()
#define STEP LOWER
#define ONE_STEP ONE_LOWER
#define END ONE_NAN
#define LOAD_FEW FEW_LONGS
#include "engines/cpu/kernels/fold/window.inc"

// Sums of integers wrap, and are the same for both signs.
#define NAME u32_sum
#define T uint32_t
#define A uint32_t
#define LANES WORDS
#define WIDEN AS_IT_IS
#define START 0
#define STEP PLUS
#define ONE_STEP PLUS
#define END SAME
#define LOAD_FEW FEW_WORDS
#include "engines/cpu/kernels/fold/window.inc"

#define NAME s32_max
#define T int32_t
#define A int32_t
#define LANES WORDS
#define WIDEN AS_IT_IS
#define START INT32_MIN
#define STEP HIGHER
#define ONE_STEP ONE_HIGHER
#define END SAME
#define LOAD_FEW FEW_WORDS
#include "engines/cpu/kernels/fold/window.inc"

#define NAME s32_min
#define T int32_t
#define A int32_t
#define LANES WORDS
#define WIDEN AS_IT_IS
#define START INT32_MAX
#define STEP LOWER
#define ONE_STEP ONE_LOWER
#define END SAME
#define LOAD_FEW FEW_WORDS
#include "engines/cpu/kernels/fold/window.inc"

const window_fn KERNEL(window, table)[REDUCE_COUNT][EMLX_TYPE_COUNT] = {
    [REDUCE_SUM] = {[EMLX_F32] = window_f32_sum_windows,
                    [EMLX_S32] = window_u32_sum_windows,
                    [EMLX_U32] = window_u32_sum_windows},
    [REDUCE_MAX] = {[EMLX_F32] = window_f32_max_windows,
                    [EMLX_F64] = window_f64_max_windows,
                    [EMLX_S32] = window_s32_max_windows},
    [REDUCE_MIN] = {[EMLX_F32] = window_f32_min_windows,
                    [EMLX_F64] = window_f64_min_windows,
                    [EMLX_S32] = window_s32_min_windows},
};
