// SPDX-License-Identifier: Apache-2.0
// f64_exp.h - the exponential function of f64 and what is made of it. See f64_core.h.
#ifndef EMLX_CPU_MATH_F64_EXP_H
#define EMLX_CPU_MATH_F64_EXP_H

#include "engines/cpu/kernels/math/exp.h"
#include "engines/cpu/kernels/math/f64_core.h"

// y = r + k ln(2) with |r| <= ln(2) / 2, and *rounded = k + MATH_EXP_ROUNDER. |k| < 2^11, so that
// k times the first part of ln(2) is exact, and so is what it leaves of y.
MATH_INLINE f64_sum f64_exp_reduce(f64_sum y, double *rounded) {
    *rounded = math_madd(y.high, MATH_LOG2E, MATH_EXP_ROUNDER);
    double k = *rounded - MATH_EXP_ROUNDER;
    return f64_add_small(math_madd(k, -F64_LN2_HIGH, y.high), math_madd(k, -F64_LN2_LOW, y.low));
}

// (exp(r) - 1 - r - r^2 / 2) / r^3; fit error of r^3 times it 2^-63.5. z = r^2.
MATH_INLINE double f64_exp_polynomial(double r, double z) {
    static const double p[8] = {0x1.555555555555dp-3,  0x1.555555555556fp-5,  0x1.111111110e336p-7,
                                0x1.6c16c16c07eccp-10, 0x1.a01a01b6f4a4ap-13, 0x1.a01a01fc7ab40p-16,
                                0x1.71dde7b1e9b0cp-19, 0x1.27e40c00b8989p-22};
    double z2 = z * z;
    double top = math_madd(r, 0x1.20d14ee8334abp-29, 0x1.af7a37091dd94p-26);
    return math_madd(z2 * z2, top, math_poly8(r, z, z2, p));
}

// exp(r) - 1 - r.high.
MATH_INLINE double f64_exp_rest(f64_sum r) {
    double z = r.high * r.high;
    return math_madd(z, math_madd(r.high, f64_exp_polynomial(r.high, z), 0.5), r.low);
}

// exp(y) = scale * (high + low), scale a power of two, 0 for 2^-1023 and infinite for 2^1024.
typedef struct f64_scaled {
    double scale;
    double high;
    double low;
} f64_scaled;

// For y between -709.1 and 709.9.
MATH_INLINE f64_scaled f64_exp_split(f64_sum y) {
    double rounded;
    f64_sum r = f64_exp_reduce(y, &rounded);
    f64_sum h = f64_add_small(1.0, r.high);
    return (f64_scaled){math_exp_scale(rounded), h.high, h.low + f64_exp_rest(r)};
}

MATH_INLINE double f64_exp_of(f64_sum y) {
    f64_scaled e = f64_exp_split(y);
    return (e.high + e.low) * e.scale;
}

MATH_INLINE double f64_exp(double y) { return f64_exp_of(f64_just(y)); }

// exp(y) - 1 = (scale - 1) + scale (exp(r) - 1), for y between -40 and 709.4. Loses the sign of
// zero.
MATH_INLINE double f64_expm1(double y) {
    double rounded;
    f64_sum r = f64_exp_reduce(f64_just(y), &rounded);
    double scale = math_exp_scale(rounded);
    f64_sum half = f64_multiply(0.5 * r.high, r.high);
    double z = half.high + half.high;
    double rest = math_madd(r.high * z, f64_exp_polynomial(r.high, z), half.low + r.low);
    f64_sum less = f64_add(scale, -1.0);
    f64_sum h = f64_add_small(less.high, scale * r.high);
    f64_sum all = f64_add_small(h.high, scale * half.high);
    return all.high + (all.low + (h.low + math_madd(scale, rest, less.low)));
}

// 1 / (1 + exp(-x)) for y = -|x|, y >= -709.1, as exp(y) / (1 + exp(y)) for a negative x.
MATH_INLINE double f64_sigmoid(double y, int negative) {
    f64_scaled split = f64_exp_split(f64_just(y));
    f64_sum e = f64_scale(f64_add_small(split.high, split.low), split.scale);
    f64_sum bottom = f64_add_small(1.0, e.high);
    bottom.low += e.low;
    f64_sum top = {negative ? e.high : 1.0, negative ? e.low : 0.0};
    f64_sum q = f64_divide(top, bottom);
    return q.high + q.low;
}

// For 0 <= y <= 20. As math_tanh: y = h + k ln(2) / 2, s = 2^k, t = tanh(h), and tanh(y) is
// ((s - 1) + (s + 1) t) / ((s + 1) + (s - 1) t). t is h and a small part, h^3 q(h^2) and h.low;
// fit error 2^-57.7.
MATH_INLINE double f64_tanh(double y) {
    double rounded = math_madd(y, 2 * MATH_LOG2E, MATH_EXP_ROUNDER);
    double k = rounded - MATH_EXP_ROUNDER;
    double s = math_exp_scale(rounded);
    f64_sum h = f64_add_small(math_madd(k, -0.5 * F64_LN2_HIGH, y), k * (-0.5 * F64_LN2_LOW));
    double z = h.high * h.high, z2 = z * z;
    double low = math_poly4(z, z2, -0x1.55555555554bdp-2, 0x1.11111110e0e00p-3,
                            -0x1.ba1ba11770625p-5, 0x1.664eca3238277p-6);
    double high = math_madd(z, 0x1.c387bf8b09d53p-9, -0x1.223c89d4f8c12p-7);
    double q = math_madd(z2 * z2, high, low);
    double small = math_madd(h.high * z, q, h.low);
    f64_sum less = f64_add_small(s, -1.0), more = f64_add_small(s, 1.0);
    f64_sum p = f64_multiply(more.high, h.high), m = f64_multiply(less.high, h.high);
    f64_sum top = f64_add_small(less.high, p.high), bottom = f64_add_small(more.high, m.high);
    top.low += math_madd(more.high, small, p.low + less.low);
    bottom.low += math_madd(less.high, small, m.low + more.low);
    f64_sum t = f64_divide(f64_settle(top), f64_settle(bottom));
    return t.high + t.low;
}

// sinh(r) and cosh(r) for y = r + k ln(2), y >= 0, and those of k ln(2).
typedef struct f64_hyperbola {
    f64_sum sinh, cosh;
    f64_sum whole_sinh, whole_cosh;
} f64_hyperbola;

// For 0 <= y <= 710.47; 2^-k is not exact where it no longer counts. sinh(r) = r + r^3 a(r^2),
// cosh(r) = 1 + r^2 / 2 + r^4 b(r^2); fit errors 2^-61.7, 2^-57.3.
MATH_INLINE f64_hyperbola f64_hyperbola_of(double y) {
    double rounded;
    f64_sum r = f64_exp_reduce(f64_just(y), &rounded);
    f64_sum z = f64_multiply(r.high, r.high);
    double z2 = z.high * z.high;
    double a = math_poly4(z.high, z2, 0x1.5555555555559p-3, 0x1.111111110f6b1p-7,
                          0x1.a01a01afe42b0p-13, 0x1.71ddf8566f1bep-19);
    a = math_madd(z2 * z2, 0x1.af5eb992fcf29p-26, a);
    double b = math_poly4(z.high, z2, 0x1.555555555316bp-5, 0x1.6c16c17cf4154p-10,
                          0x1.a019aa9614a5ep-16, 0x1.28a01e1b08411p-22);
    f64_hyperbola p;
    p.sinh = (f64_sum){r.high, math_madd(r.high * z.high, a, r.low)};
    p.cosh = f64_add_small(1.0, 0.5 * z.high);
    p.cosh.low += math_madd(z2, b, math_madd(r.high, r.low, 0.5 * z.low));
    double up = math_exp_scale(rounded - 1.0);
    double less = f64_at_most(rounded, MATH_EXP_ROUNDER + 1000.0);
    double down = math_exp_scale((MATH_EXP_ROUNDER - 1.0) - (less - MATH_EXP_ROUNDER));
    p.whole_cosh = f64_add_small(up, down);
    p.whole_sinh = f64_add_small(up, -down);
    return p;
}

// a b + c d, whose first product is the larger one.
MATH_INLINE double f64_products(f64_sum a, f64_sum b, f64_sum c, f64_sum d) {
    f64_sum p = f64_multiply(a.high, b.high), q = f64_multiply(c.high, d.high);
    f64_sum s = f64_add_small(p.high, q.high);
    double low = math_madd(a.high, b.low, math_madd(a.low, b.high, p.low));
    low += math_madd(c.high, d.low, math_madd(c.low, d.high, q.low));
    return s.high + (s.low + low);
}

MATH_INLINE double f64_sinh(double y) {
    f64_hyperbola p = f64_hyperbola_of(y);
    return f64_products(p.whole_sinh, p.cosh, p.whole_cosh, p.sinh);
}

MATH_INLINE double f64_cosh(double y) {
    f64_hyperbola p = f64_hyperbola_of(y);
    return f64_products(p.whole_cosh, p.cosh, p.whole_sinh, p.sinh);
}

#endif
