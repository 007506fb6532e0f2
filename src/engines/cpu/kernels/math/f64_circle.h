// SPDX-License-Identifier: Apache-2.0
// f64_circle.h - trigonometric functions of f64 and their inverses. See f64_core.h.
#ifndef EMLX_CPU_MATH_F64_CIRCLE_H
#define EMLX_CPU_MATH_F64_CIRCLE_H

#include "engines/cpu/kernels/math/circle.h"
#include "engines/cpu/kernels/math/f64_core.h"

// y = r + k pi / 2 with |r| <= pi / 4, and the sine and cosine of r.
typedef struct f64_angle {
    uint64_t quadrant; // k in the low bits
    f64_sum sine;
    f64_sum cosine;
} f64_angle;

// For |y| <= 10^6, so that k has at most 20 bits. The first part of pi / 2 has 33 bits: k times it
// is exact, and so is what it leaves of y. With the other two parts r is known to 2^-118; no double
// in this range is as near as 2^-60 to a multiple of pi / 2.
MATH_INLINE f64_sum f64_reduce_angle(double y, uint64_t *quadrant) {
    double rounded = math_madd(y, 0x1.45f306dc9c883p-1, MATH_ROUNDER);
    double k = rounded - MATH_ROUNDER;
    f64_sum p = f64_multiply(k, -0x1.0b4611a626331p-34);
    f64_sum r = f64_add(math_madd(k, -0x1.921fb54400000p+0, y), p.high);
    r.low += math_madd(k, -0x1.1701b839a2520p-88, p.low);
    *quadrant = math_bits(rounded);
    return r;
}

// sin(r) = r + r^3 s(r^2), cos(r) = 1 - r^2 / 2 + r^4 c(r^2); fit errors 2^-58.0, 2^-64.0.
MATH_INLINE f64_angle f64_angle_of(double y) {
    f64_angle angle;
    f64_sum r = f64_reduce_angle(y, &angle.quadrant);
    f64_sum square = f64_multiply(r.high, r.high);
    double z = square.high, z2 = z * z, z4 = z2 * z2;
    double s = math_madd(z4, 0x1.5d9246c4de8aap-33,
                         math_poly4(z, z2, 0x1.111111110f861p-7, -0x1.a01a019c0e4bbp-13,
                                    0x1.71de3574ba1e2p-19, -0x1.ae5e63cd60b47p-26));
    double c = math_madd(z4, -0x1.8fa395b2e02dap-37,
                         math_poly4(z, z2, -0x1.6c16c16c14f6cp-10, 0x1.a01a019c80970p-16,
                                    -0x1.27e4f7e802ecfp-22, 0x1.1ee9d5c96bf1cp-29));
    s = math_madd(z, s, -0x1.5555555555549p-3);
    c = math_madd(z, c, 0x1.555555555554bp-5);
    // The derivative for r.low is 1 - z / 2, to a fiftieth.
    double slope = math_madd(z, -0.5, 1.0);
    angle.sine = (f64_sum){r.high, math_madd(r.high * z, s, r.low * slope)};
    angle.cosine = f64_add_small(1.0, -0.5 * z);
    angle.cosine.low += math_madd(z2, c, math_madd(-r.high, r.low, -0.5 * square.low));
    return angle;
}

// The sine of an angle advanced by `quarters` right angles; loses the sign of zero.
MATH_INLINE double f64_turn(f64_angle a, uint64_t quarters) {
    uint64_t quadrant = a.quadrant + quarters;
    double sine = a.sine.high + a.sine.low, cosine = a.cosine.high + a.cosine.low;
    double value = quadrant & 1 ? cosine : sine;
    return math_from_bits(math_bits(value) ^ ((quadrant & 2) << 62));
}

MATH_INLINE double f64_sin(double y) { return f64_turn(f64_angle_of(y), 0); }
MATH_INLINE double f64_cos(double y) { return f64_turn(f64_angle_of(y), 1); }

// Loses the sign of zero.
MATH_INLINE double f64_tan(double y) {
    f64_angle a = f64_angle_of(y);
    int odd = a.quadrant & 1;
    f64_sum top = {odd ? -a.cosine.high : a.sine.high, odd ? -a.cosine.low : a.sine.low};
    f64_sum bottom = {odd ? a.sine.high : a.cosine.high, odd ? a.sine.low : a.cosine.low};
    f64_sum t = f64_divide(f64_settle(top), f64_settle(bottom));
    return t.high + t.low;
}

// The angle between 0 and pi / 2 whose tangent is opposite / adjacent, both 0 or between 2^-500 and
// 2^500, not both 0. Turned as in math_angle_of; atan(t) = t + t^3 p(t^2); fit error 2^-59.5.
MATH_INLINE f64_sum f64_angle_between(double opposite, double adjacent) {
    static const double p[8] = {-0x1.555555555553dp-2, 0x1.99999999958ebp-3,  -0x1.24924922b1204p-3,
                                0x1.c71c70e7a2326p-4,  -0x1.745cf90b18bc3p-4, 0x1.3b111c6468d57p-4,
                                -0x1.10ebdd9c78d0fp-4, 0x1.df1167586898cp-5};
    int low = opposite <= adjacent * 0x1.a827999fcef32p-2;
    int high = opposite > adjacent * 0x1.3504f333f9de6p+1;
    f64_sum less = f64_add(opposite, -adjacent), more = f64_add(opposite, adjacent);
    f64_sum top = {low ? opposite : less.high, low ? 0.0 : less.low};
    f64_sum bottom = {low ? adjacent : more.high, low ? 0.0 : more.low};
    f64_sum base = {low ? 0.0 : 0.25 * F64_PI_HIGH, low ? 0.0 : 0.25 * F64_PI_LOW};
    top = (f64_sum){high ? -adjacent : top.high, high ? 0.0 : top.low};
    bottom = (f64_sum){high ? opposite : bottom.high, high ? 0.0 : bottom.low};
    base = (f64_sum){high ? 0.5 * F64_PI_HIGH : base.high, high ? 0.5 * F64_PI_LOW : base.low};
    f64_sum t = f64_divide(top, bottom);
    double z = t.high * t.high, z2 = z * z, z4 = z2 * z2;
    double rest = math_madd(z, 0x1.37ed3d111a89bp-5, -0x1.9cdc25e97fda5p-5);
    rest = math_madd(z2, -0x1.259d405dad99fp-6, rest);
    rest = math_madd(z4 * z4, rest, math_poly8(z, z2, z4, p));
    f64_sum angle = f64_add_small(base.high, t.high);
    // The derivative for t.low is 1 / (1 + z), to a thirtieth.
    angle.low += math_madd(t.high * z, rest, math_madd(t.low, 1.0 - z, base.low));
    return angle;
}

// For 0 <= y <= 2^60; higher ones give the same.
MATH_INLINE double f64_atan(double y) {
    f64_sum angle = f64_angle_between(y, 1.0);
    return angle.high + angle.low;
}

// The angle of the point (x, y) for y >= 0, limits as for f64_angle_between.
MATH_INLINE double f64_atan2(double y, double x) {
    f64_sum angle = f64_angle_between(y, __builtin_fabs(x));
    int behind = x < 0;
    f64_sum turned = f64_add_small(F64_PI_HIGH, -angle.high);
    turned.low += F64_PI_LOW - angle.low;
    return behind ? turned.high + turned.low : angle.high + angle.low;
}

// asin(y) = y + y^3 p(y^2) for |y| <= 1/2; fit error 2^-59.8. Up to 1 it is
// pi / 2 - 2 asin(sqrt((1 - y) / 2)). `root` is y or that root, and `rest` is asin(root) - root.
typedef struct f64_arc {
    double root;
    double rest;
} f64_arc;

MATH_INLINE f64_arc f64_arc_of(double y, int small) {
    static const double p[8] = {0x1.5555555555578p-3, 0x1.333333332df72p-4, 0x1.6db6db7226a90p-5,
                                0x1.f1c71a8d8518fp-6, 0x1.6e8bdfad96915p-6, 0x1.1c49e235c33c6p-6,
                                0x1.ca20db0514f94p-7, 0x1.757b0ca5d535ep-7};
    double z = small ? y * y : 0.5 * (1.0 - y);
    double root = sqrt(z);
    // The root of 0 is exact: nothing is added to it.
    double lost = f64_rest(z, root, root) * (0.5 / (root + 0x1p-600));
    root = small ? y : root;
    lost = small ? 0.0 : lost;
    double z2 = z * z, z4 = z2 * z2;
    double top = math_poly4(z, z2, 0x1.61766a9b715c8p-7, 0x1.e29852e8aa131p-9, 0x1.649e9ac1baea6p-6,
                            -0x1.5965c953bc616p-6);
    top = math_madd(z4, 0x1.0bb5ea1308ee1p-5, top);
    double all = math_madd(z4 * z4, top, math_poly8(z, z2, z4, p));
    return (f64_arc){root, math_madd(root * z, all, lost)};
}

// base + times * arc, for a base that is 0 or larger than the product.
MATH_INLINE double f64_arc_join(f64_arc arc, double base, double base_low, double times) {
    f64_sum s = f64_add_small(base, times * arc.root);
    return s.high + (s.low + math_madd(times, arc.rest, base_low));
}

// For y >= 0; NaN above 1.
MATH_INLINE double f64_asin(double y) {
    int small = y < 0.5;
    f64_arc arc = f64_arc_of(y, small);
    return f64_arc_join(arc, small ? 0.0 : 0.5 * F64_PI_HIGH, small ? 0.0 : 0.5 * F64_PI_LOW,
                        small ? 1.0 : -2.0);
}

// For |x| <= 1, else NaN.
MATH_INLINE double f64_acos(double x) {
    double y = __builtin_fabs(x);
    int small = y < 0.5, negative = x < 0;
    double base = small ? 0.5 : negative ? 1.0 : 0.0; // of pi
    double times = small ? -1.0 : 2.0;
    times = negative ? -times : times;
    return f64_arc_join(f64_arc_of(y, small), base * F64_PI_HIGH, base * F64_PI_LOW, times);
}

#endif
