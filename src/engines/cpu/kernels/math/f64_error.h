// SPDX-License-Identifier: Apache-2.0
// f64_error.h - the error function of f64 and its complement. See f64_core.h.
#ifndef EMLX_CPU_MATH_F64_ERROR_H
#define EMLX_CPU_MATH_F64_ERROR_H

#include "engines/cpu/kernels/math/f64_exp.h"

// (1 + 2 y) exp(y^2) erfc(y) for 0 <= y <= 26.7, which lies between 1 and 1.3, as a polynomial in
// t = (y - 3.75) / (y + 3.75) (after M. M. Shepherd and J. G. Laframboise, Chebyshev approximation
// of (1 + 2 x) exp(x^2) erfc x, 1981); fit error 2^-59.4.
MATH_INLINE f64_sum f64_erfc_polynomial(double y) {
    static const double p[8] = {-0x1.1f367683f89a7p-3, 0x1.d5f29481597b8p-9, 0x1.510169d09679bp-4,
                                -0x1.bda9309a27da0p-4, 0x1.7a14188a9ad67p-4, -0x1.e0d0fa6e234dbp-5,
                                0x1.d0b0037d688bap-6,  -0x1.3f603c2cc8ec4p-7};
    static const double q[8] = {0x1.cc3a0e7063fe2p-10,  0x1.33fb1e0ddb494p-12,
                                -0x1.303fa6feba77ap-12, 0x1.b1452d010318ap-15,
                                0x1.778d13a8e8334p-16,  -0x1.8012807b4120fp-17,
                                -0x1.05bc31f3ea34cp-20, 0x1.d73781dd6163dp-20};
    static const double r[8] = {-0x1.cd09711582d66p-25, -0x1.1a099869a4edfp-22,
                                0x1.39ea2fb4e6c29p-26,  0x1.5cb6f5c930a5dp-25,
                                0x1.e85cd386f7dbfp-34,  -0x1.5535121634bb4p-28,
                                -0x1.06179c1166a0ep-30, 0.0};
    double t = (y - 3.75) / (y + 3.75);
    double t2 = t * t, t4 = t2 * t2, t8 = t4 * t4;
    double high = math_madd(t8, math_poly8(t, t2, t4, r), math_poly8(t, t2, t4, q));
    double all = math_madd(t8, high, math_poly8(t, t2, t4, p));
    f64_sum g = f64_add_small(0x1.3ccda0b5d5dc2p+0, t * all);
    g.low += 0x1.ed47b4e5d9c13p-54;
    return g;
}

// erfc(y) for 0 <= y <= 26.63; 0 above 26.622.
MATH_INLINE f64_sum f64_erfc_sum(double y) {
    f64_sum square = f64_multiply(y, y);
    f64_scaled split = f64_exp_split((f64_sum){-square.high, -square.low});
    f64_sum e = f64_add_small(split.high, split.low), g = f64_erfc_polynomial(y);
    f64_sum top = f64_multiply(e.high, g.high);
    top.low += math_madd(e.high, g.low, e.low * g.high);
    return f64_scale(f64_divide(top, f64_add(1.0, y + y)), split.scale);
}

// Up to here erf is computed, above erfc, and the other one from it.
#define F64_ERF_NEAR 0.65

// erf(y) for y <= 0.65: 2 / sqrt(pi) y + y^3 p(y^2); fit error 2^-57.7.
MATH_INLINE f64_sum f64_erf_near(double y) {
    static const double p[8] = {0x1.ce2f21a0405d5p-4,  -0x1.b82ce311533bdp-6,
                                0x1.565bccc122e7ep-8,  -0x1.c02d9e1f74018p-11,
                                0x1.f99f66d8a1135p-14, -0x1.f46c9182f0113p-17,
                                0x1.b35a1e391d89cp-20, -0x1.22cecea05f1f6p-23};
    const double third = -0x1.812746b0379cdp-2;
    f64_sum square = f64_multiply(y, y);
    double z = square.high, z2 = z * z;
    f64_sum first = f64_multiply(y, 0x1.20dd750429b6dp+0);
    double low = math_madd(y, 0x1.1ae3a914fed80p-56, first.low);
    double all = math_madd(z, math_poly8(z, z2, z2 * z2, p), third);
    double rest = math_madd(z, all, square.low * third);
    return (f64_sum){first.high, math_madd(y, rest, low)};
}

// base + sign a, for a base that is 0 or larger than a.
MATH_INLINE double f64_error_join(double base, double sign, f64_sum a) {
    f64_sum s = f64_add_small(base, sign * a.high);
    return s.high + math_madd(sign, a.low, s.low);
}

// For y = |x|, limits as for f64_erfc_sum: erfc(y) or 2 - erfc(y), from near 0 1 -+ erf(y).
MATH_INLINE double f64_erfc(double y, int negative) {
    f64_sum near = f64_erf_near(y), far = f64_erfc_sum(y);
    int small = y < F64_ERF_NEAR;
    double base = small ? 1.0 : negative ? 2.0 : 0.0;
    // erfc(y) far out, and what is added to 1 for a negative x near 0, are not subtracted.
    double sign = small == negative ? 1.0 : -1.0;
    f64_sum value = {small ? near.high : far.high, small ? near.low : far.low};
    return f64_error_join(base, sign, value);
}

// For 0 <= y <= 6, where it rounds to 1.
MATH_INLINE double f64_erf(double y) {
    f64_sum near = f64_erf_near(y), far = f64_erfc_sum(y);
    int small = y < F64_ERF_NEAR;
    f64_sum value = {small ? near.high : far.high, small ? near.low : far.low};
    return f64_error_join(small ? 0.0 : 1.0, small ? 1.0 : -1.0, value);
}

#endif
