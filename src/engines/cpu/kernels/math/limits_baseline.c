// SPDX-License-Identifier: Apache-2.0
// limits_baseline.c - where the math functions' arguments are cut off, for all levels.
#include "engines/cpu/kernels/math/core.h"

const math_limits math_limit = {
    .exp_low = -105.0f,      // exp(-103.98) is 2^-150, which rounds to 0
    .exp_high = 90.0f,       // exp(88.73) is above the highest f32
    .exp_lanes_high = 87.3f, // exp(-87.34) is the lowest normal number
    .expm1_low = -20.0f,
    .tanh_high = 10.0f,
    .erf_high = 3.949f,
    .erfc_high = 10.1f, // erfc(10.06) is below 2^-150
    .circle_high = 1e6f,
    .pow_high = 200.0,
    .ratio_low = 0x1p-1000,
    .ratio_high = 0x1p1000,
    // As split, exp has the scale 0 and infinity there; between -745.2 and -708.4, and up to 709.8,
    // it is left to libm.
    .f64_exp_low = -709.1,
    .f64_exp_high = 709.9,
    .f64_expm1_low = -40.0,
    .f64_tanh_high = 20.0,
    .f64_erf_high = 6.0,
    .f64_erfc_high = 26.6288, // erfc is computed as 0 there, since exp is
    .f64_atan_high = 0x1p60,
};
