// SPDX-License-Identifier: Apache-2.0
// conv_avx2.c - inner loops of convolutions at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/conv.inc"
