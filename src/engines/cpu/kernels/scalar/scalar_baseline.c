// SPDX-License-Identifier: Apache-2.0
// scalar_baseline.c - arithmetic on tiles, and the table of kernels, at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/scalar/scalar.inc"
