// SPDX-License-Identifier: Apache-2.0
// scalar_avx512.c - arithmetic on tiles, and the table of kernels, at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/scalar/scalar.inc"
