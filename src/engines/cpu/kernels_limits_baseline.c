// SPDX-License-Identifier: Apache-2.0
// kernels_limits_baseline.c - where the math functions' arguments are cut off, for all levels.
#include "engines/cpu/math_core.h"

const math_limits math_limit = {
    .exp_low = -105.0f, // exp(-103.98) is 2^-150, which rounds to 0
    .exp_high = 90.0f,  // exp(88.73) is above the highest f32
    .expm1_low = -20.0f,
    .tanh_high = 10.0f,
    .erf_high = 3.949f,
    .erfc_high = 10.1f, // erfc(10.06) is below 2^-150
    .circle_high = 1e6f,
    .pow_high = 200.0,
    .ratio_low = 0x1p-1000,
    .ratio_high = 0x1p1000,
};
