// SPDX-License-Identifier: Apache-2.0
// conv_baseline.c - inner loops of convolutions at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/conv.inc"
