// SPDX-License-Identifier: Apache-2.0
// math_avx512.c - math functions on tiles at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/math/math.inc"
