// SPDX-License-Identifier: Apache-2.0
// kernels_reduce_baseline.c - folds at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_reduce.inc"
