// SPDX-License-Identifier: Apache-2.0
// kernels_scalar_baseline.c - arithmetic on tiles, and the table of kernels, at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_scalar.inc"
