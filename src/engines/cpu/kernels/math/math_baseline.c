// SPDX-License-Identifier: Apache-2.0
// math_baseline.c - math functions on tiles at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/math/math.inc"
