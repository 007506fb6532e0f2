// SPDX-License-Identifier: Apache-2.0
// reduce_avx512.c - folds at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/fold/reduce.inc"
