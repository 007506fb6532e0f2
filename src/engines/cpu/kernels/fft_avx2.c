// SPDX-License-Identifier: Apache-2.0
// fft_avx2.c - passes of Fourier transforms at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/fft.inc"
