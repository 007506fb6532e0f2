// SPDX-License-Identifier: Apache-2.0
// conv_avx512.c - inner loops of convolutions at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/conv.inc"
