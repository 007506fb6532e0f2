// SPDX-License-Identifier: Apache-2.0
// narrow_baseline.c - the scalar functions of sub-byte integers, one element a byte, always
// wrapped to its width. All levels use this one build.
#define LEVEL baseline
#include "engines/cpu/kernels/rows.h"

#define FN(op) NARROW_KERNEL(NAME, op)
#define U uint8_t
#define S int8_t
#define W uint32_t

#define WRAP(x) ((T)(3 & (x)))
#define NAME u2
#define T uint8_t
#define BITS 2
#define SIGNED 0
#include "engines/cpu/kernels/scalar/integer.inc"
#undef WRAP

#define U uint8_t
#define S int8_t
#define W uint32_t
#define WRAP(x) ((T)(15 & (x)))
#define NAME u4
#define T uint8_t
#define BITS 4
#define SIGNED 0
#include "engines/cpu/kernels/scalar/integer.inc"
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
#include "engines/cpu/kernels/scalar/integer.inc"
#undef WRAP

#define U uint8_t
#define S int8_t
#define W uint32_t
#define WRAP(x) ((T)((int32_t)((15 & (x)) ^ 8) - 8))
#define NAME s4
#define T int8_t
#define BITS 4
#define SIGNED 1
#include "engines/cpu/kernels/scalar/integer.inc"
#undef WRAP
