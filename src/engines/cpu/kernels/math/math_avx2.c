// SPDX-License-Identifier: Apache-2.0
// math_avx2.c - math functions on tiles at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/math/math.inc"
