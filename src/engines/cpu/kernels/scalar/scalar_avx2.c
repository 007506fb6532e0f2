// SPDX-License-Identifier: Apache-2.0
// scalar_avx2.c - arithmetic on tiles, and the table of kernels, at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/scalar/scalar.inc"
