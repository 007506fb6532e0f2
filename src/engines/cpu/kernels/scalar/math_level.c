// SPDX-License-Identifier: Apache-2.0
// math_level.c - math functions on tiles, and the table of them. f32 is computed in double by
// circle.h, error.h, exp.h and log.h and rounded once, exp in two f32 where exp_lanes.h can;
// special values are put in place afterwards, in f32, where they cost least. f64 is computed by
// f64_*.h. What these do not take goes to libm, an element at a time.
#include <math.h>

#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/circle.h"
#include "engines/cpu/kernels/math/error.h"
#include "engines/cpu/kernels/math/exp.h"
#include "engines/cpu/kernels/math/exp_lanes.h"
#include "engines/cpu/kernels/math/f64_circle.h"
#include "engines/cpu/kernels/math/f64_error.h"
#include "engines/cpu/kernels/math/f64_exp.h"
#include "engines/cpu/kernels/math/f64_log.h"
#include "engines/cpu/kernels/math/f64_power.h"
#include "engines/cpu/kernels/math/log.h"
#include "engines/cpu/kernels/math/narrow.h"
#include "engines/cpu/kernels/tables/scalar.h"

#define FN(op) KERNEL(NAME, op)
#define NAME f32
#define T float
#include "engines/cpu/kernels/scalar/map.inc"
#undef NAME
#undef T

#define NAME f64
#define T double
#include "engines/cpu/kernels/scalar/map.inc"

// f32: F32(op) is op of one element. ------------------------------------------------------------

#define F32(op) KERNELS_JOIN(one, f32, op)
#define F32_NAN __builtin_nanf("")
#define F32_INFINITY __builtin_inff()

// Rows: each makes the tile function of one scalar function.
#define F32_UNARY(op) MAP_UNARY(f32, op, F32(op))
#define F32_BINARY(op) MAP_BINARY(f32, op, F32(op))
#define MAP_UNARY(type, op, f)                                                                     \
    static void KERNEL(type, op)(TILE_ARGS) {                                                      \
        (void)b, (void)c;                                                                          \
        KERNEL(type, map1)(dst, a, n, f);                                                          \
    }
#define MAP_BINARY(type, op, f)                                                                    \
    static void KERNEL(type, op)(TILE_ARGS) {                                                      \
        (void)c;                                                                                   \
        KERNEL(type, map2)(dst, a, b, n, f);                                                       \
    }

// f64: F64(op) is op of one element, HARD(op) says for which ones FAST(op) does not do.
// --------------

#define F64(op) KERNELS_JOIN(one, f64, op)
#define FAST(op) KERNELS_JOIN(fast, f64, op)
#define HARD(op) KERNELS_JOIN(hard, f64, op)
#define F64_NAN __builtin_nan("")
#define F64_INFINITY __builtin_inf()
#define F64_LOWEST_NORMAL 0x1p-1022

// f for elements that are not hard, `exact` for the others. Those are few or none, so that a look
// at the operands beforehand costs least.
ALWAYS_INLINE void KERNEL(f64, map1_but)(void *dst, const void *a, size_t n, double (*f)(double),
                                         uint64_t (*hard)(double), double (*exact)(double)) {
    double *d = dst, kept[BLOCK];
    const double *x = a;
    for (size_t at = 0, m; at < n; at += m, d += m, x += m) {
        m = block_length(n - at);
        uint64_t any = 0;
        for (size_t i = 0; i < m; i++) any |= hard(x[i]);
        if (any) memcpy(kept, x, m * sizeof(double));
        KERNEL(f64, map1)(d, x, m, f);
        for (size_t i = 0; any && i < m; i++) {
            if (hard(kept[i])) d[i] = exact(kept[i]);
        }
    }
}

// As map1_but for functions of two elements; `f` itself says which are hard.
ALWAYS_INLINE void KERNEL(f64, map2_but)(void *dst, const void *a, const void *b, size_t n,
                                         double (*f)(double, double, uint64_t *),
                                         double (*exact)(double, double)) {
    double *d = dst, r[BLOCK];
    const double *x = a, *y = b;
    uint64_t hard[BLOCK];
    for (size_t at = 0, m; at < n; at += m, d += m, x += m, y += m) {
        m = block_length(n - at);
        uint64_t any = 0;
        for (size_t i = 0; i < m; i++) {
            r[i] = f(x[i], y[i], &hard[i]);
            any |= hard[i];
        }
        for (size_t i = 0; any && i < m; i++) {
            if (hard[i]) r[i] = exact(x[i], y[i]);
        }
        memcpy(d, r, m * sizeof(double));
    }
}

ALWAYS_INLINE double F64(size)(double x) { return __builtin_fabs(x); }
ALWAYS_INLINE double F64(with_sign)(double y, double x) { return __builtin_copysign(y, x); }

// Rows, as those of f32.
#define F64_UNARY(op) MAP_UNARY(f64, op, F64(op))
#define F64_BINARY(op) MAP_BINARY(f64, op, F64(op))
#define F64_FAST(op) MAP_UNARY(f64, op, FAST(op))
#define F64_BUT(op, hard)                                                                          \
    static void KERNEL(f64, op)(TILE_ARGS) {                                                       \
        (void)b, (void)c;                                                                          \
        KERNEL(f64, map1_but)(dst, a, n, FAST(op), hard, F64(op));                                 \
    }
#define F64_BUT2(op)                                                                               \
    static void KERNEL(f64, op)(TILE_ARGS) {                                                       \
        (void)c;                                                                                   \
        KERNEL(f64, map2_but)(dst, a, b, n, FAST(op), F64(op));                                    \
    }

// Without fused operations an exact product takes some ten steps. Some functions have so many of
// them, or are so quick in libm, that vectors of two elements do not make up for it; and there libm
// is as close to the exact result.
#if defined(MATH_FUSED)
#define WHERE_FUSED(fast, exact) fast
#else
#define WHERE_FUSED(fast, exact) exact
#endif

// The functions, with rows of them behind each family. ------------------------------------------

#include "engines/cpu/kernels/scalar/exponential.inc"
#include "engines/cpu/kernels/scalar/logarithm.inc"

#include "engines/cpu/kernels/scalar/angle.inc"
#include "engines/cpu/kernels/scalar/error.inc"
#include "engines/cpu/kernels/scalar/power.inc"
#include "engines/cpu/kernels/scalar/root.inc"

#define MATH_ROWS(XX, type, TYPE)                                                                  \
    EXPONENTIALS(XX, type, TYPE)                                                                   \
    LOGARITHMS(XX, type, TYPE)                                                                     \
    ROOTS(XX, type, TYPE)                                                                          \
    ERRORS(XX, type, TYPE)                                                                         \
    ANGLES(XX, type, TYPE)                                                                         \
    POWERS(XX, type, TYPE)

const tile_fn KERNEL(math, table)[SCALAR_COUNT][EMLX_TYPE_COUNT] = {
    MATH_ROWS(SCALAR_ROW, f32, F32) MATH_ROWS(SCALAR_ROW, f64, F64)};
