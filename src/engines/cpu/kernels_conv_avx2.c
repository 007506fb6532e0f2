// SPDX-License-Identifier: Apache-2.0
// kernels_conv_avx2.c - inner loops of convolutions at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels_conv.inc"
