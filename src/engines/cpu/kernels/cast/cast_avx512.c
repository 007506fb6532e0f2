// SPDX-License-Identifier: Apache-2.0
// cast_avx512.c - casts, iota and strided copies at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/cast/cast.inc"
