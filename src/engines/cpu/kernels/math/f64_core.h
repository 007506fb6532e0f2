// SPDX-License-Identifier: Apache-2.0
// f64_core.h - what the math functions of f64 share. They take and give doubles and err by
// less than one unit in the last place (erfc by up to 1.02 without fused operations), most by
// little more than the half that rounding costs.
//
// A value that has to be known better than a double can hold it is an unevaluated sum of two. The
// error of a sum is found after Knuth (two-sum) and Dekker (where the larger one is known), that of
// a product by a fused operation or after Dekker (The Art of Computer Programming 2, 4.2.2; A
// floating-point technique for extending the available precision, 1971). Only the last addition of
// a function then rounds a number as large as the result.
//
// All are free of branches, for loops to be vectorised. Arguments for which that is too hard go to
// libm: see scalar/math_level.c. Coefficients: as in core.h.
#ifndef EMLX_CPU_MATH_F64_CORE_H
#define EMLX_CPU_MATH_F64_CORE_H

#include "engines/cpu/kernels/math/core.h"

// ln(2) in two parts, of which the first has 42 bits, so that its products with exponents are
// exact.
#define F64_LN2_HIGH 0x1.62e42fefa3800p-1
#define F64_LN2_LOW 0x1.ef35793c76730p-45

// pi, rounded, and what is missing.
#define F64_PI_HIGH 0x1.921fb54442d18p+1
#define F64_PI_LOW 0x1.1a62633145c07p-53

// high + low, where low is at most a few units in the last place of high.
typedef struct f64_sum {
    double high;
    double low;
} f64_sum;

MATH_INLINE f64_sum f64_just(double x) { return (f64_sum){x, 0.0}; }

// By a power of two.
MATH_INLINE f64_sum f64_scale(f64_sum a, double scale) {
    return (f64_sum){a.high * scale, a.low * scale};
}

// a + b, exactly.
MATH_INLINE f64_sum f64_add(double a, double b) {
    f64_sum s;
    s.high = a + b;
    double back = s.high - a;
    s.low = (a - (s.high - back)) + (b - back);
    return s;
}

// a + b, exactly for |a| >= |b| or a = 0.
MATH_INLINE f64_sum f64_add_small(double a, double b) {
    f64_sum s;
    s.high = a + b;
    s.low = (a - s.high) + b;
    return s;
}

// The same sum with a small second part.
MATH_INLINE f64_sum f64_settle(f64_sum a) { return f64_add_small(a.high, a.low); }

// x with the lower half of its bits cleared.
MATH_INLINE double f64_upper_half(double x) {
    return math_from_bits(math_bits(x) & 0xfffffffff8000000u);
}

// a b, exactly but for a unit in the last place of `low`.
MATH_INLINE f64_sum f64_multiply(double a, double b) {
    f64_sum p;
    p.high = a * b;
#if defined(MATH_FUSED)
    p.low = __builtin_fma(a, b, -p.high);
#else
    double a1 = f64_upper_half(a), a2 = a - a1;
    double b1 = f64_upper_half(b), b2 = b - b1;
    p.low = (((a1 * b1 - p.high) + a1 * b2) + a2 * b1) + a2 * b2;
#endif
    return p;
}

// a - b q, for a q that is a / b but for a few units in the last place.
MATH_INLINE double f64_rest(double a, double b, double q) {
#if defined(MATH_FUSED)
    return __builtin_fma(-b, q, a);
#else
    f64_sum p = f64_multiply(b, q);
    return (a - p.high) - p.low;
#endif
}

MATH_INLINE f64_sum f64_divide(f64_sum a, f64_sum b) {
    double inverse = 1.0 / b.high;
    f64_sum q;
    q.high = a.high * inverse;
    q.low = (f64_rest(a.high, b.high, q.high) + (a.low - q.high * b.low)) * inverse;
    return q;
}

// The root of a positive number, and half its inverse.
MATH_INLINE f64_sum f64_sqrt(f64_sum a) {
    f64_sum r;
    r.high = sqrt(a.high);
    r.low = (f64_rest(a.high, r.high, r.high) + a.low) * (0.5 / r.high);
    return r;
}

// The lower or higher of x and a limit; NaN stays.
MATH_INLINE double f64_at_most(double x, double limit) { return limit < x ? limit : x; }
MATH_INLINE double f64_at_least(double x, double limit) { return limit > x ? limit : x; }

#endif
