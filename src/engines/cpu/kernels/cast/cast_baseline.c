// SPDX-License-Identifier: Apache-2.0
// cast_baseline.c - casts, iota and strided copies at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/cast/cast.inc"
