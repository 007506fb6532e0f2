// SPDX-License-Identifier: Apache-2.0
// fft_avx512.c - passes of Fourier transforms at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/fft.inc"
