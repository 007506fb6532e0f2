// SPDX-License-Identifier: Apache-2.0
// f64_power.h - powers and cube roots of f64. See f64_core.h.
#ifndef EMLX_CPU_MATH_F64_POWER_H
#define EMLX_CPU_MATH_F64_POWER_H

#include "engines/cpu/kernels/math/f64_exp.h"
#include "engines/cpu/kernels/math/f64_log.h"

// log(x) for a positive normal x, to 2^-64. As in f64_log_join, but as 2 s + s z (2/3 + z q(z)),
// all but z q(z) as sums; fit error 2^-65.3.
MATH_INLINE f64_sum f64_log_sum(double x) {
    static const double c[8] = {0x1.9999999999996p-2, 0x1.2492492493036p-2, 0x1.c71c71c58047ap-3,
                                0x1.745d18326255cp-3, 0x1.3b1362b1eda44p-3, 0x1.1120b63e16ba7p-3,
                                0x1.de33581c8d58dp-4, 0x1.eb11ebfb887e0p-4};
    math_parts p = math_split(x);
    double f = p.m - 1.0;
    f64_sum s = f64_divide(f64_just(f), f64_add_small(2.0, f));
    f64_sum z = f64_multiply(s.high, s.high);
    z.low = math_madd(2.0 * s.high, s.low, z.low);
    double z2 = z.high * z.high;
    double q = math_poly8(z.high, z2, z2 * z2, c);
    f64_sum t = f64_add_small(0x1.5555555555555p-1, z.high * q);
    t.low += math_madd(z.low, q, 0x1.5555555555555p-55);
    f64_sum u = f64_multiply(z.high, t.high);
    u.low += math_madd(z.high, t.low, z.low * t.high);
    f64_sum last = f64_multiply(s.high, u.high);
    last.low += math_madd(s.high, u.low, s.low * u.high);
    f64_sum h = f64_add_small(2.0 * s.high, last.high);
    h.low += math_madd(2.0, s.low, last.low);
    f64_sum sum = f64_add_small(p.k * F64_LN2_HIGH, h.high);
    sum.low += math_madd(p.k, F64_LN2_LOW, h.low);
    return sum;
}

// y log(x) for a positive normal x; exp of it is x^y.
MATH_INLINE f64_sum f64_pow_exponent(double x, double y) {
    f64_sum log = f64_log_sum(x);
    f64_sum p = f64_multiply(y, log.high);
    p.low = math_madd(y, log.low, p.low);
    return p;
}

// For y between 2^-1000 and 2^1000. The upper half of the bits of a double is nearly a linear
// function of its logarithm: a third of it, and a constant found by trial, give a first t within
// 3.3 %. With w = t^3 / y - 1 the root is t (1 + w)^(-1/3), by a polynomial (error 2^-19.3), then
// by the first terms of its series; the last digit comes from what t^3 really leaves of y.
MATH_INLINE double f64_cbrt(double y) {
    double bits = math_from_bits(0x4330000000000000u | math_bits(y) >> 32) - 0x1p52;
    double third = math_madd(bits, 1.0 / 3.0, MATH_ROUNDER + 715092341.5552);
    double t = math_from_bits(math_bits(third) << 32);
    double inverse = 1.0 / y;
    double w = math_madd(t * t * t, inverse, -1.0);
    t *= math_poly4(w, w * w, 0x1.ffffcd12760a7p-1, -0x1.5553f32263791p-2, 0x1.c9d3502b7f1c8p-3,
                    -0x1.658312600e664p-3);
    w = math_madd(t * t * t, inverse, -1.0);
    t = math_madd(t * w, math_madd(w, 2.0 / 9.0, -1.0 / 3.0), t);
    f64_sum square = f64_multiply(t, t);
    double rest = math_madd(-square.low, t, f64_rest(y, square.high, t));
    return math_madd(rest * (1.0 / 3.0), t * inverse, t);
}

#endif
