// SPDX-License-Identifier: Apache-2.0
// core.h - what the math functions share. They take and give doubles, for arguments that come
// from f32: a relative error below 2^-42 then leaves the f32 result rounded as the exact one, but
// for a few in a million next to a tie. All are free of branches, for loops to be vectorised, and
// static, because every CPU level compiles its own.
//
// Coefficients are our own minimax fits (Remez exchange for polynomials, reweighted least squares
// for quotients), made in 50 digits; the error given with each is that of the fit, relative to the
// function, before rounding.
#ifndef EMLX_CPU_MATH_CORE_H
#define EMLX_CPU_MATH_CORE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MATH_INLINE static inline __attribute__((always_inline, unused))

// Adding and subtracting this rounds to an integer, which stands in the low bits of the sum.
#define MATH_ROUNDER 0x1.8p52
#define MATH_EXPONENT_ONE 0x3ff0000000000000u
#define MATH_LN2 0x1.62e42fefa39efp-1
#define MATH_LOG2E 0x1.71547652b82fep+0

// Where arguments are cut off. These are variables, not constants, because the compiler would turn
// `x < constant` into two copies of what follows, one of them folded, and a blend at the end.
typedef struct math_limits {
    float exp_low, exp_high; // exp is 0 below and infinite above
    float exp_lanes_high;    // exp of registers is left to double above, in size
    float expm1_low;         // expm1 rounds to -1 below
    float tanh_high;         // tanh rounds to 1 above
    float erf_high;          // as erf
    float erfc_high;         // erfc is 0 above
    float circle_high;       // sin, cos and tan are left to libm above
    double pow_high;         // 2^x is infinite above, 0 below the negative of it
    double ratio_low, ratio_high;
    // Of the functions of f64.
    double f64_exp_low, f64_exp_high; // exp is 0 below and infinite above
    double f64_expm1_low;             // expm1 rounds to -1 below
    double f64_tanh_high;             // tanh rounds to 1 above
    double f64_erf_high;              // as erf
    double f64_erfc_high;             // erfc is 0 above
    double f64_atan_high;             // atan rounds to pi / 2 above
} math_limits;

extern const math_limits math_limit;

MATH_INLINE uint64_t math_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

MATH_INLINE double math_from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MATH_FUSED // the level has instructions for a * b + c with one rounding
#endif

// a * b + c, in one rounding where that is as quick.
MATH_INLINE double math_madd(double a, double b, double c) {
#if defined(MATH_FUSED)
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

// The lower or higher of x and a limit; NaN stays.
MATH_INLINE float math_at_most(float x, float limit) { return limit < x ? limit : x; }
MATH_INLINE float math_at_least(float x, float limit) { return limit > x ? limit : x; }

// Polynomials with 4 and 8 coefficients, lowest first, evaluated in pairs: the chain of dependent
// steps is shorter than Horner's. x2, x4 are powers of x.
MATH_INLINE double math_poly4(double x, double x2, double c0, double c1, double c2, double c3) {
    return math_madd(x2, math_madd(x, c3, c2), math_madd(x, c1, c0));
}

MATH_INLINE double math_poly8(double x, double x2, double x4, const double c[8]) {
    return math_madd(x4, math_poly4(x, x2, c[4], c[5], c[6], c[7]),
                     math_poly4(x, x2, c[0], c[1], c[2], c[3]));
}

#endif
