// SPDX-License-Identifier: Apache-2.0
// math_level.c - math functions on tiles. f32 is computed in double by circle.h, error.h, exp.h and
// log.h and rounded once; special values are put in place afterwards, in f32, where they cost
// least. f64 is computed by f64_*.h.
#include <math.h>

#include "engines/cpu/kernels/math/circle.h"
#include "engines/cpu/kernels/math/error.h"
#include "engines/cpu/kernels/math/exp.h"
#include "engines/cpu/kernels/math/f64_circle.h"
#include "engines/cpu/kernels/math/f64_error.h"
#include "engines/cpu/kernels/math/f64_exp.h"
#include "engines/cpu/kernels/math/f64_log.h"
#include "engines/cpu/kernels/math/f64_power.h"
#include "engines/cpu/kernels/math/log.h"
#include "engines/cpu/kernels/math/narrow.h"
#include "engines/cpu/kernels/rows.h"

#define DEFINE_UNARY(op, type, TYPE)                                                               \
    void FN(op)(TILE_ARGS) {                                                                       \
        (void)b, (void)c;                                                                          \
        FN(map1)(dst, a, n, ONE(op));                                                              \
    }
#define DEFINE_BINARY(op, type, TYPE)                                                              \
    void FN(op)(TILE_ARGS) {                                                                       \
        (void)c;                                                                                   \
        FN(map2)(dst, a, b, n, ONE(op));                                                           \
    }

#define FN(op) KERNEL(NAME, op)
#define ONE(op) KERNELS_JOIN(one, NAME, op)

#define NAME f32
#define T float
#include "engines/cpu/kernels/math/f32.inc"
#undef NAME
#undef T

#define NAME f64
#define T double
#include "engines/cpu/kernels/math/f64.inc"
