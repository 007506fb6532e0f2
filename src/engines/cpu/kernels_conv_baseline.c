// SPDX-License-Identifier: Apache-2.0
// kernels_conv_baseline.c - inner loops of convolutions at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_conv.inc"
