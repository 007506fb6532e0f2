// SPDX-License-Identifier: Apache-2.0
// reduce_avx2.c - folds at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/fold/reduce.inc"
