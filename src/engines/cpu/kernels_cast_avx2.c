// SPDX-License-Identifier: Apache-2.0
// kernels_cast_avx2.c - casts, iota and strided copies at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels_cast.inc"
