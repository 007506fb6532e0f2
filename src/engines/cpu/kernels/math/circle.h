// SPDX-License-Identifier: Apache-2.0
// circle.h - trigonometric functions and their inverses. See core.h.
#ifndef EMLX_CPU_MATH_CIRCLE_H
#define EMLX_CPU_MATH_CIRCLE_H

#include "engines/cpu/kernels/math/core.h"

// y = r + k pi / 2 with |r| <= pi / 4, and the sine and cosine of r.
typedef struct math_angle {
    uint64_t quadrant; // k in the low bits
    double sine;
    double cosine;
} math_angle;

// For |y| <= 10^6, so that k has at most 20 bits. pi / 2 is split in three (after Cody and Waite);
// the first two parts have 33 bits, so that k times them is exact.
// Fit errors: sine 2^-47.6, cosine 2^-53.4.
MATH_INLINE math_angle math_reduce_angle(double y) {
    double rounded = math_madd(y, 0x1.45f306dc9c883p-1, MATH_ROUNDER);
    double k = rounded - MATH_ROUNDER;
    double r = math_madd(k, -0x1.921fb54400000p+0, y);
    r = math_madd(k, -0x1.0b4611a600000p-34, r);
    r = math_madd(k, -0x1.3198a2e037073p-69, r);
    double z = r * r, z2 = z * z, z4 = z2 * z2;
    double s = math_madd(z4, -0x1.a96845affa850p-26,
                         math_poly4(z, z2, -0x1.55555555524b3p-3, 0x1.1111110cabe9cp-7,
                                    -0x1.a019f964b8967p-13, 0x1.71d781734d3f1p-19));
    double c = math_madd(z4, 0x1.1bcd2368ba27dp-29,
                         math_poly4(z, z2, 0x1.5555555553392p-5, -0x1.6c16c1679fea4p-10,
                                    0x1.a019fadaace48p-16, -0x1.27e03d7ae79b5p-22));
    math_angle angle;
    angle.quadrant = math_bits(rounded);
    angle.sine = math_madd(z, s, 1.0) * r; // in this order -0 stays -0
    angle.cosine = math_madd(z2, c, math_madd(z, -0.5, 1.0));
    return angle;
}

// The sine of an angle advanced by `quarters` right angles.
MATH_INLINE double math_turn(math_angle a, uint64_t quarters) {
    uint64_t quadrant = a.quadrant + quarters;
    double value = quadrant & 1 ? a.cosine : a.sine;
    return math_from_bits(math_bits(value) ^ ((quadrant & 2) << 62));
}

MATH_INLINE double math_sin(double y) { return math_turn(math_reduce_angle(y), 0); }
MATH_INLINE double math_cos(double y) { return math_turn(math_reduce_angle(y), 1); }

MATH_INLINE double math_tan(double y) {
    math_angle a = math_reduce_angle(y);
    double top = a.quadrant & 1 ? -a.cosine : a.sine;
    double bottom = a.quadrant & 1 ? a.sine : a.cosine;
    return top / bottom;
}

// The angle between 0 and pi / 2 whose tangent is opposite / adjacent, both >= 0, not both 0 or
// infinite. A turn by pi / 4 or pi / 2 brings the tangent t to |t| <= tan(pi / 8).
// atan(t) = t + t^3 p(t^2); fit error 2^-45.
MATH_INLINE double math_angle_of(double opposite, double adjacent) {
    static const double p[8] = {-0x1.5555555517205p-2, 0x1.99999936a5899p-3,  -0x1.24922ee811b73p-3,
                                0x1.c715c4964d241p-4,  -0x1.73e4a8441d3cbp-4, 0x1.36158b6a9fb5ep-4,
                                -0x1.e31f81a4d63f7p-5, 0x1.fba9161e4a8bap-6};
    int low = opposite <= adjacent * 0x1.a827999fcef32p-2;
    int high = opposite > adjacent * 0x1.3504f333f9de6p+1;
    double top = low ? opposite : opposite - adjacent;
    double bottom = low ? adjacent : opposite + adjacent;
    double base = low ? 0.0 : 0x1.921fb54442d18p-1;
    top = high ? -adjacent : top;
    bottom = high ? opposite : bottom;
    base = high ? 0x1.921fb54442d18p+0 : base;
    double t = top / bottom;
    double z = t * t, z2 = z * z;
    return base + math_madd(t * z, math_poly8(z, z2, z2 * z2, p), t);
}

#endif
