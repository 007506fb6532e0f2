// SPDX-License-Identifier: Apache-2.0
// kernels_math_baseline.c - math functions on tiles at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_math.inc"
