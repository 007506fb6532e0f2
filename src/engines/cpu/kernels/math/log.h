// SPDX-License-Identifier: Apache-2.0
// log.h - the logarithm and what is made of it. See core.h.
#ifndef EMLX_CPU_MATH_LOG_H
#define EMLX_CPU_MATH_LOG_H

#include "engines/cpu/kernels/math/exp.h"

#define MATH_SQRT_HALF_BITS 0x3fe6a09e667f3bcdu

// x = m * 2^k with sqrt(1/2) <= m < sqrt(2), for a positive normal x. `exponent` is k + 1023.
typedef struct math_parts {
    double m;
    double k;
    uint64_t exponent;
} math_parts;

MATH_INLINE math_parts math_split(double x) {
    uint64_t shifted = math_bits(x) + (MATH_EXPONENT_ONE - MATH_SQRT_HALF_BITS);
    math_parts p;
    p.exponent = shifted >> 52;
    p.m = math_from_bits((shifted & 0x000fffffffffffffu) + MATH_SQRT_HALF_BITS);
    // An integer below 2^52 set into the low bits of 2^52 gives their sum.
    p.k = math_from_bits(0x4330000000000000u | p.exponent) - (0x1p52 + 1023.0);
    return p;
}

// log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2): with s = f / (2 + f), it is
// 2 artanh(s) = 2 s + s^3 p(s^2); fit error 2^-52.2.
MATH_INLINE double math_log_near_one(double f) {
    double s = f / (2.0 + f);
    double z = s * s, z2 = z * z;
    double low = math_poly4(z, z2, 0x1.5555555553bd8p-1, 0x1.999999a21c1b2p-2, 0x1.249241b706918p-2,
                            0x1.c72259a1e8c51p-3);
    double high = math_madd(z, 0x1.5852bd81f6090p-3, 0x1.732f8c8c4f6e5p-3);
    return math_madd(s * z, math_madd(z2 * z2, high, low), s + s);
}

// For a positive normal x.
MATH_INLINE double math_log(double x) {
    math_parts p = math_split(x);
    return math_madd(p.k, MATH_LN2, math_log_near_one(p.m - 1.0));
}

MATH_INLINE double math_log2(double x) {
    math_parts p = math_split(x);
    return math_madd(math_log_near_one(p.m - 1.0), MATH_LOG2E, p.k);
}

// log(1 + y) for -1 < y < 2^900; loses the sign of zero. What is lost in u = 1 + y is found exactly
// (Knuth's two-sum) and added to the fraction.
MATH_INLINE double math_log1p(double y) {
    double u = 1.0 + y;
    double back = u - 1.0;
    double lost = (1.0 - (u - back)) + (y - back);
    math_parts p = math_split(u);
    double unscale = math_from_bits((2046 - p.exponent) << 52);
    double f = math_madd(lost, unscale, p.m - 1.0);
    return math_madd(p.k, MATH_LN2, math_log_near_one(f));
}

// For y >= 0.
MATH_INLINE double math_asinh(double y) {
    double square = y * y;
    return math_log1p(y + square / (1.0 + sqrt(square + 1.0)));
}

// For y >= 1.
MATH_INLINE double math_acosh(double y) {
    double t = y - 1.0;
    return math_log1p(t + sqrt(t * (t + 2.0)));
}

// For 0 <= y < 1.
MATH_INLINE double math_atanh(double y) { return 0.5 * math_log1p((y + y) / (1.0 - y)); }

// For a positive normal y below 2^200.
MATH_INLINE double math_cbrt(double y) { return math_exp2(math_log2(y) * (1.0 / 3.0)); }

#endif
