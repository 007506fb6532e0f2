// SPDX-License-Identifier: Apache-2.0
// cast_avx2.c - casts, iota and strided copies at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/cast/cast.inc"
