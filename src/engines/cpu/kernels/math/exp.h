// SPDX-License-Identifier: Apache-2.0
// exp.h - the exponential function and what is made of it. See core.h.
#ifndef EMLX_CPU_MATH_EXP_H
#define EMLX_CPU_MATH_EXP_H

#include "engines/cpu/kernels/math/core.h"

// exp(y) = scale * (1 + rest), scale a power of two, |rest| < 0.42. So exp(y) - 1 can be had
// without cancellation.
typedef struct math_scaled {
    double scale;
    double rest;
} math_scaled;

// As MATH_ROUNDER, with the exponent's bias in the sum's low bits, so that they have only to be
// moved up to make a power of two.
#define MATH_EXP_ROUNDER (MATH_ROUNDER + 1023)

MATH_INLINE double math_exp_scale(double rounded) {
    return math_from_bits(math_bits(rounded) << 52);
}

// exp(r) * 2^k for |r| <= ln(2) / 2, where `rounded` is k + MATH_EXP_ROUNDER.
// exp(r) - 1 = r + r^2 p(r); fit error 2^-43.4.
MATH_INLINE math_scaled math_exp_reduced(double r, double rounded) {
    static const double p[8] = {0x1.fffffffff839ap-2,  0x1.5555555566162p-3,  0x1.5555557265ff3p-5,
                                0x1.111110e3a63a7p-7,  0x1.6c1651130d8c8p-10, 0x1.a01a762614d06p-13,
                                0x1.a157015f6ca58p-16, 0x1.71effbe4d4d13p-19};
    double r2 = r * r;
    math_scaled e;
    e.scale = math_exp_scale(rounded);
    e.rest = math_madd(r2, math_poly8(r, r2, r2 * r2, p), r);
    return e;
}

// y = r + k ln(2), with *rounded = k + MATH_EXP_ROUNDER, for |y| < 700. The error of r is at most
// 2^-52 |y|.
MATH_INLINE double math_exp_reduce(double y, double *rounded) {
    *rounded = math_madd(y, MATH_LOG2E, MATH_EXP_ROUNDER);
    return math_madd(*rounded - MATH_EXP_ROUNDER, -MATH_LN2, y);
}

// For |y| < 700.
MATH_INLINE math_scaled math_exp_split(double y) {
    double rounded;
    double r = math_exp_reduce(y, &rounded);
    return math_exp_reduced(r, rounded);
}

MATH_INLINE double math_exp_join(math_scaled e) { return math_madd(e.scale, e.rest, e.scale); }

// exp(y) for |y| < 700.
MATH_INLINE double math_exp(double y) { return math_exp_join(math_exp_split(y)); }

// 2^y for |y| < 1000.
MATH_INLINE double math_exp2(double y) {
    double rounded = y + MATH_EXP_ROUNDER;
    return math_exp_join(math_exp_reduced((y - (rounded - MATH_EXP_ROUNDER)) * MATH_LN2, rounded));
}

MATH_INLINE double math_expm1_join(math_scaled e) {
    return math_madd(e.scale, e.rest, e.scale - 1.0);
}

// exp(y) - 1 for |y| < 700; loses the sign of zero.
MATH_INLINE double math_expm1(double y) { return math_expm1_join(math_exp_split(y)); }

// y = h + k ln(2) / 2, with *rounded = k + MATH_EXP_ROUNDER: half of what exp(2 y) reduces to.
MATH_INLINE double math_tanh_reduce(double y, double *rounded) {
    *rounded = math_madd(y, 2 * MATH_LOG2E, MATH_EXP_ROUNDER);
    return math_madd(*rounded - MATH_EXP_ROUNDER, -0.5 * MATH_LN2, y);
}

// tanh(h) = h q(h^2) for |h| <= ln(2) / 4; fit error 2^-41.1.
MATH_INLINE double math_tanh_small(double h) {
    double z = h * h;
    double q = math_madd(z, 0x1.5b9e4841a11a5p-6, -0x1.b9f7e4aacff90p-5);
    q = math_madd(z, q, 0x1.1110f899f579ap-3);
    q = math_madd(z, q, -0x1.555555499771dp-2);
    q = math_madd(z, q, 0x1.ffffffffff18fp-1);
    return h * q;
}

// tanh(y) for y = h + k ln(2) / 2, t = tanh(h) and rounded = k + MATH_EXP_ROUNDER. With s = 2^k,
// exp(2 y) = s (1 + t) / (1 - t), and so tanh(y) = ((s - 1) + (s + 1) t) / ((s + 1) + (s - 1) t).
// Near 0 that is t: nothing cancels. A zero that is subtracted keeps the sign of t = -0.
MATH_INLINE double math_tanh_join(double t, double rounded) {
    double s = math_exp_scale(rounded);
    double less = 1.0 - s, more = s + 1.0;
    return math_madd(more, t, -less) / math_madd(-less, t, more);
}

// With n = exp(y) - 1: sinh(y) = (n + n / (n + 1)) / 2.
MATH_INLINE double math_sinh(double y) {
    double n = math_expm1(y);
    return 0.5 * (n + n / (n + 1.0));
}

MATH_INLINE double math_cosh(double y) {
    double e = math_exp(y);
    return 0.5 * (e + 1.0 / e);
}

MATH_INLINE double math_sigmoid(double y) { return 1.0 / (1.0 + math_exp(-y)); }

#endif
