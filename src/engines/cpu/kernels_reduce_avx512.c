// SPDX-License-Identifier: Apache-2.0
// kernels_reduce_avx512.c - folds at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels_reduce.inc"
