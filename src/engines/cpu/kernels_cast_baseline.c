// SPDX-License-Identifier: Apache-2.0
// kernels_cast_baseline.c - casts, iota and strided copies at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_cast.inc"
