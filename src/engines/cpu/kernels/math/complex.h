// SPDX-License-Identifier: Apache-2.0
// complex.h - products of complex numbers in double, by the plain formula. The compiler's own
// look for infinities that became NaN, which takes long and gives other results than Nx's.
#ifndef EMLX_CPU_MATH_COMPLEX_H
#define EMLX_CPU_MATH_COMPLEX_H

#include <stdint.h>
#include <string.h>

typedef double _Complex wide_complex;

#define COMPLEX_INLINE static inline __attribute__((always_inline, unused))

// -x. Where one product is subtracted from another and two are added beside it, gcc 12 fuses the
// operations of vectors although it is told not to; it does not see through this.
COMPLEX_INLINE double wide_flip(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits ^= UINT64_C(1) << 63;
    memcpy(&x, &bits, sizeof x);
    return x;
}

COMPLEX_INLINE wide_complex wide_times(wide_complex x, wide_complex y) {
    double a = __builtin_creal(x), b = __builtin_cimag(x);
    double c = __builtin_creal(y), d = __builtin_cimag(y);
    return __builtin_complex(a * c + wide_flip(b * d), b * c + a * d);
}

#endif
