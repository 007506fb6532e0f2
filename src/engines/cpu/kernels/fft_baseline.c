// SPDX-License-Identifier: Apache-2.0
// fft_baseline.c - passes of Fourier transforms at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/fft.inc"
