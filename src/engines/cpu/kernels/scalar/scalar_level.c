// SPDX-License-Identifier: Apache-2.0
// scalar_level.c - arithmetic on tiles of the integer and float types, and the level's table.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/kernels/math/core.h"
#include "engines/cpu/kernels/tables/scalar.h"

#define FN(op) KERNEL(NAME, op)
#define WRAP(x) ((T)(x))

#define NAME u8
#define T uint8_t
#define U uint8_t
#define S int8_t
#define W uint32_t
#define BITS 8
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME u16
#define T uint16_t
#define U uint16_t
#define S int16_t
#define W uint32_t
#define BITS 16
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME u32
#define T uint32_t
#define U uint32_t
#define S int32_t
#define W uint32_t
#define BITS 32
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME u64
#define T uint64_t
#define U uint64_t
#define S int64_t
#define W uint64_t
#define BITS 64
#define SIGNED 0
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME s8
#define T int8_t
#define U uint8_t
#define S int8_t
#define W uint32_t
#define BITS 8
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME s16
#define T int16_t
#define U uint16_t
#define S int16_t
#define W uint32_t
#define BITS 16
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME s32
#define T int32_t
#define U uint32_t
#define S int32_t
#define W uint32_t
#define BITS 32
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"

#define NAME s64
#define T int64_t
#define U uint64_t
#define S int64_t
#define W uint64_t
#define BITS 64
#define SIGNED 1
#include "engines/cpu/kernels/scalar/real.inc"

#define LIBM(name) __builtin_##name##f
#define NAME f32
#define T float
#include "engines/cpu/kernels/scalar/real.inc"

#define LIBM(name) __builtin_##name
#define NAME f64
#define T double
#include "engines/cpu/kernels/scalar/real.inc"

#define EXACT_IN_DOUBLE
#define NAME c64
#define PART f32
#define T float _Complex
#define R float
#include "engines/cpu/kernels/scalar/complex.inc"
#undef EXACT_IN_DOUBLE

#define NAME c128
#define PART f64
#define T double _Complex
#define R double
#include "engines/cpu/kernels/scalar/complex.inc"

#define INTEGER_TYPES(XX)                                                                          \
    INTEGER_ROWS(XX, u8, U8)                                                                       \
    INTEGER_ROWS(XX, u16, U16)                                                                     \
    INTEGER_ROWS(XX, u32, U32)                                                                     \
    INTEGER_ROWS(XX, u64, U64)                                                                     \
    INTEGER_ROWS(XX, s8, S8)                                                                       \
    INTEGER_ROWS(XX, s16, S16)                                                                     \
    INTEGER_ROWS(XX, s32, S32)                                                                     \
    INTEGER_ROWS(XX, s64, S64)

#define FLOAT_TYPES(XX)                                                                            \
    FLOAT_ROWS(XX, f32, F32)                                                                       \
    FLOAT_ROWS(XX, f64, F64)                                                                       \
    XX(complex, f32, F32)                                                                          \
    XX(complex, f64, F64)

#define COMPLEX_TYPES(XX)                                                                          \
    COMPLEX_ROWS(XX, c64, C64)                                                                     \
    COMPLEX_ROWS(XX, c128, C128)                                                                   \
    EXACT_PARTS(XX, c64, C64)                                                                      \
    EXACT_BINARY(XX, c64, C64)

const tile_fn KERNEL(scalar, table)[SCALAR_COUNT][EMLX_TYPE_COUNT] = {
    INTEGER_TYPES(SCALAR_ROW) FLOAT_TYPES(SCALAR_ROW) COMPLEX_TYPES(SCALAR_ROW)};

const chain_fn KERNEL(chain, table)[] = {
#define CHAIN_ROW(first, second, type, TYPE)                                                       \
    {SCALAR_##first, SCALAR_##second, EMLX_##TYPE, KERNEL(type, KERNELS_JOIN(first, then, second))},
    FLOAT_CHAINS(CHAIN_ROW, f32, F32) FLOAT_CHAINS(CHAIN_ROW, f64, F64){.fn = NULL},
#undef CHAIN_ROW
};

const fork_fn KERNEL(fork, table)[] = {
#define FORK_ROW(left, right, join, type, TYPE)                                                    \
    {SCALAR_##left, SCALAR_##right, SCALAR_##join, EMLX_##TYPE,                                    \
     KERNEL(type, KERNELS_JOIN(left, join, right))},
    INTEGER_FORKS(FORK_ROW, u32, U32) INTEGER_FORKS(FORK_ROW, u64, U64){.fn = NULL},
#undef FORK_ROW
};
