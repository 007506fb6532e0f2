// SPDX-License-Identifier: Apache-2.0
// reduce_baseline.c - folds at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/fold/reduce.inc"
