// SPDX-License-Identifier: Apache-2.0
// f64_log.h - the logarithm of f64 and what is made of it. See f64_core.h.
#ifndef EMLX_CPU_MATH_F64_LOG_H
#define EMLX_CPU_MATH_F64_LOG_H

#include "engines/cpu/kernels/math/f64_core.h"
#include "engines/cpu/kernels/math/log.h"

// log(1 + f) + k ln(2) for sqrt(1/2) <= 1 + f <= sqrt(2). With s = f / (2 + f), log(1 + f) is
// 2 artanh(s) = 2 s + s z q(z), z = s^2, and as 2 s = f - s f that is also
// f - f^2 / 2 + s (f^2 / 2 + z q(z)), whose last term is small. Fit error 2^-58.5.
MATH_INLINE double f64_log_join(f64_sum f, double k) {
    double s = f.high / (2.0 + f.high);
    double z = s * s, z2 = z * z;
    double low = math_poly4(z, z2, 0x1.5555555555592p-1, 0x1.999999997fd78p-2, 0x1.24924941f4ee8p-2,
                            0x1.c71c520610828p-3);
    double high = math_madd(z, 0x1.39a1a71336e7bp-3, 0x1.74663fa0c1a4fp-3);
    high = math_madd(z2, 0x1.2f0633ae9bdc3p-3, high);
    double q = math_madd(z2 * z2, high, low);
    f64_sum half = f64_multiply(0.5 * f.high, f.high);
    f64_sum h = f64_add_small(f.high, -half.high);
    // The derivative for f.low is 1 / (1 + f), to a twentieth.
    double slope = math_madd(f.high, f.high - 1.0, 1.0);
    double rest = math_madd(s, math_madd(z, q, half.high), h.low - half.low);
    rest = math_madd(f.low, slope, math_madd(k, F64_LN2_LOW, rest));
    f64_sum sum = f64_add_small(k * F64_LN2_HIGH, h.high);
    return sum.high + (sum.low + rest);
}

// For a positive normal x.
MATH_INLINE double f64_log(double x) {
    math_parts p = math_split(x);
    return f64_log_join(f64_just(p.m - 1.0), p.k);
}

// log(1 + y) for -1 < y < 2^1000; loses the sign of zero. 1 + y = m 2^k with something lost, which
// goes to f = m - 1: for k = 0 that gives y again.
MATH_INLINE double f64_log1p(f64_sum y) {
    f64_sum u = f64_add(1.0, y.high);
    f64_sum lost = f64_add_small(u.low, y.low);
    math_parts p = math_split(u.high);
    double unscale = math_from_bits((2046 - p.exponent) << 52);
    f64_sum f = f64_add_small(p.m - 1.0, lost.high * unscale);
    f.low = math_madd(lost.low, unscale, f.low);
    return f64_log_join(f, p.k);
}

// asinh(y) = log(1 + w), w = y + (sqrt(1 + y^2) - 1), for 0 <= y < 2^500.
MATH_INLINE double f64_asinh(double y) {
    f64_sum square = f64_multiply(y, y);
    f64_sum more = f64_add(1.0, square.high);
    more.low += square.low;
    f64_sum root = f64_sqrt(more);
    f64_sum w = f64_add_small(y, root.high - 1.0);
    w.low += root.low;
    return f64_log1p(w);
}

// acosh(y) = log(1 + w), w = (y - 1) + sqrt(y^2 - 1), for 1 < y < 2^500.
MATH_INLINE double f64_acosh(double y) {
    f64_sum square = f64_multiply(y, y);
    f64_sum less = f64_add(square.high, -1.0);
    less.low += square.low;
    f64_sum root = f64_sqrt(less);
    f64_sum w = f64_add(root.high, y - 1.0);
    w.low += root.low;
    return f64_log1p(w);
}

// atanh(y) = log(1 + 2 y / (1 - y)) / 2, for 0 <= y < 1.
MATH_INLINE double f64_atanh(double y) {
    f64_sum w = f64_divide(f64_just(y + y), f64_add_small(1.0, -y));
    return 0.5 * f64_log1p(w);
}

#endif
