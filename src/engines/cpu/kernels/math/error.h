// SPDX-License-Identifier: Apache-2.0
// error.h - the error function, its complement and its inverse. See core.h.
#ifndef EMLX_CPU_MATH_ERROR_H
#define EMLX_CPU_MATH_ERROR_H

#include "engines/cpu/kernels/math/log.h"

// For 0 <= y <= 3.949, where it is 1 - 2^-25.4: y p(y^2) / q(y^2); fit error 2^-45.5. All
// coefficients are positive, so that nothing cancels.
MATH_INLINE double math_erf(double y) {
    static const double p[8] = {0x1.20dd750429b0ap+0,  0x1.226609ad9c669p-2,  0x1.2f579696e5811p-4,
                                0x1.3a1e9db9cc3d2p-7,  0x1.f78d4319e69b7p-11, 0x1.29a018c6baecdp-14,
                                0x1.bfdab93324603p-19, 0x1.0824ab1fe99f6p-23};
    static const double q[8] = {1.0,
                                0x1.2b589fdce865bp-1,
                                0x1.48be44ec8356bp-3,
                                0x1.c006d524b076ap-6,
                                0x1.a41e2f797260ep-9,
                                0x1.1a8d1afc8ed7ep-12,
                                0x1.1114607160453p-16,
                                0x1.69b6f1363f23fp-21};
    double z = y * y, z2 = z * z, z4 = z2 * z2, z8 = z4 * z4;
    double top = math_madd(z8, 0x1.5ba0b0e19dc59p-30, math_poly8(z, z2, z4, p));
    double bottom = math_madd(z8, math_madd(z, 0x1.790b300925269p-35, 0x1.16f47a8d1c667p-26),
                              math_poly8(z, z2, z4, q));
    return y * top / bottom;
}

// For 0 <= y <= 10.1: exp(-y^2) p(y) / q(y); fit error 2^-46.2. The square of an f32 is exact.
MATH_INLINE double math_erfc(double y) {
    static const double p[8] = {0x1.fffffffffff87p-1, 0x1.c842dd6ca4f4bp+0, 0x1.9207e52e8e712p+0,
                                0x1.b58c30864b06ap-1, 0x1.39db8f110cf43p-2, 0x1.27f50372d199cp-4,
                                0x1.554f8806933e5p-7, 0x1.78b14304e232bp-11};
    static const double q[8] = {1.0,
                                0x1.7490293865cb1p+1,
                                0x1.ed686bb6779bcp+1,
                                0x1.85dd026d4deadp+1,
                                0x1.93ffcccadb44dp+0,
                                0x1.1adff8b52123fp-1,
                                0x1.0796da9057593p-3,
                                0x1.2e7a8ad53cdb4p-6};
    double y2 = y * y, y4 = y2 * y2;
    double bottom = math_madd(y4 * y4, 0x1.4dd5c12d50753p-10, math_poly8(y, y2, y4, q));
    return math_exp(-y2) * math_poly8(y, y2, y4, p) / bottom;
}

// M. Giles' polynomials for the inverse error function (Approximating the erfinv function, 2010),
// given w = -log((1 - y) (1 + y)). Random numbers depend on their digits: the steps are those of
// Nx, each rounded.
MATH_INLINE double math_erf_inv(double y, double w) {
    static const double near[9] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                   -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                   -0.00417768164,  0.246640727,    1.50140941};
    static const double far[9] = {-0.000200214257, 0.000100950558, 0.00134934322,
                                  -0.00367342844,  0.00573950773,  -0.0076224613,
                                  0.00943887047,   1.00167406,     2.83297682};
    double a = w - 2.5, b = sqrt(w) - 3.0;
    double p = near[0], q = far[0];
    for (int i = 1; i < 9; i++) {
        p = p * a + near[i];
        q = q * b + far[i];
    }
    return (w < 5.0 ? p : q) * y;
}

#endif
