// SPDX-License-Identifier: Apache-2.0
// pairs.h - C's complex numbers, made of two real ones whatever the compiler: glibc has that for
// gcc alone.
#ifndef EMLX_TEST_PAIRS_H
#define EMLX_TEST_PAIRS_H

#include <complex.h>

#if !defined(CMPLX)
#define CMPLX(x, y) __builtin_complex((double)(x), (double)(y))
#endif
#if !defined(CMPLXL)
#define CMPLXL(x, y) __builtin_complex((long double)(x), (long double)(y))
#endif

#endif
