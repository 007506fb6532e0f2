// SPDX-License-Identifier: Apache-2.0
// narrow_baseline.c - the scalar functions of sub-byte integers, one element a byte, always
// wrapped to its width. All levels use this one build.
#define LEVEL baseline
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/scalar.h"

#define FN(op) KERNEL(NAME, op)
#define U uint8_t
#define S int8_t
#define W uint32_t

#define WRAP(x) ((T)(3 & (x)))
#define NAME u2
#define T uint8_t
#define BITS 2
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"
#undef WRAP

#define U uint8_t
#define S int8_t
#define W uint32_t
#define WRAP(x) ((T)(15 & (x)))
#define NAME u4
#define T uint8_t
#define BITS 4
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"
#undef WRAP

// The sign bit is flipped and subtracted again to extend it.
#define U uint8_t
#define S int8_t
#define W uint32_t
#define WRAP(x) ((T)((int32_t)((3 & (x)) ^ 2) - 2))
#define NAME s2
#define T int8_t
#define BITS 2
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"
#undef WRAP

#define U uint8_t
#define S int8_t
#define W uint32_t
#define WRAP(x) ((T)((int32_t)((15 & (x)) ^ 8) - 8))
#define NAME s4
#define T int8_t
#define BITS 4
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"
#undef WRAP

const tile_fn narrow_scalars[SCALAR_COUNT][EMLX_TYPE_COUNT] = {
    INTEGER_ROWS(SCALAR_ROW, u2, U2) INTEGER_ROWS(SCALAR_ROW, u4, U4)
        INTEGER_ROWS(SCALAR_ROW, s2, S2) INTEGER_ROWS(SCALAR_ROW, s4, S4)};
