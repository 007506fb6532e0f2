// SPDX-License-Identifier: Apache-2.0
// kernels_reduce_avx2.c - folds at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels_reduce.inc"
