// SPDX-License-Identifier: Apache-2.0
// kernels_fft_baseline.c - passes of Fourier transforms at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels_fft.inc"
