// SPDX-License-Identifier: Apache-2.0
// math_complex.h - products of complex numbers in double, by the plain formula. The compiler's own
// look for infinities that became NaN, which takes long and gives other results than Nx's.
#ifndef EMLX_CPU_MATH_COMPLEX_H
#define EMLX_CPU_MATH_COMPLEX_H

typedef double _Complex pair;

static inline __attribute__((always_inline, unused)) pair pair_times(pair x, pair y) {
    double a = __builtin_creal(x), b = __builtin_cimag(x);
    double c = __builtin_creal(y), d = __builtin_cimag(y);
    return __builtin_complex(a * c - b * d, b * c + a * d);
}

#endif
