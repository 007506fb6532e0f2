// SPDX-License-Identifier: Apache-2.0
// rows.h - which scalar functions the kernels have for which types, as rows from which the
// functions, their declarations and the tables are made. XX(op, type, TYPE).
#ifndef EMLX_CPU_KERNELS_ROWS_H
#define EMLX_CPU_KERNELS_ROWS_H

#include "engines/cpu/kernels/level.h"

#define INTEGER_UNARY(XX, type, TYPE)                                                              \
    XX(negate, type, TYPE)                                                                         \
    XX(abs, type, TYPE)                                                                            \
    XX(sign, type, TYPE)                                                                           \
    XX(floor, type, TYPE)                                                                          \
    XX(ceil, type, TYPE)                                                                           \
    XX(round, type, TYPE)                                                                          \
    XX(bitwise_not, type, TYPE)                                                                    \
    XX(population_count, type, TYPE)                                                               \
    XX(count_leading_zeros, type, TYPE)

#define FLOAT_UNARY(XX, type, TYPE)                                                                \
    XX(negate, type, TYPE)                                                                         \
    XX(abs, type, TYPE)                                                                            \
    XX(sign, type, TYPE)                                                                           \
    XX(floor, type, TYPE)                                                                          \
    XX(ceil, type, TYPE)                                                                           \
    XX(round, type, TYPE)

#define TESTS(XX, type, TYPE)                                                                      \
    XX(truth, type, TYPE)                                                                          \
    XX(logical_not, type, TYPE)                                                                    \
    XX(is_nan, type, TYPE)                                                                         \
    XX(is_infinity, type, TYPE)

// The math functions that complex numbers have as well.
#define ANALYTIC_UNARY(XX, type, TYPE)                                                             \
    XX(exp, type, TYPE)                                                                            \
    XX(expm1, type, TYPE)                                                                          \
    XX(log, type, TYPE)                                                                            \
    XX(log1p, type, TYPE)                                                                          \
    XX(sigmoid, type, TYPE)                                                                        \
    XX(sin, type, TYPE)                                                                            \
    XX(cos, type, TYPE)                                                                            \
    XX(tan, type, TYPE)                                                                            \
    XX(sinh, type, TYPE)                                                                           \
    XX(cosh, type, TYPE)                                                                           \
    XX(tanh, type, TYPE)                                                                           \
    XX(asin, type, TYPE)                                                                           \
    XX(acos, type, TYPE)                                                                           \
    XX(atan, type, TYPE)                                                                           \
    XX(asinh, type, TYPE)                                                                          \
    XX(acosh, type, TYPE)                                                                          \
    XX(atanh, type, TYPE)                                                                          \
    XX(sqrt, type, TYPE)                                                                           \
    XX(rsqrt, type, TYPE)                                                                          \
    XX(cbrt, type, TYPE)

#define MATH_UNARY(XX, type, TYPE)                                                                 \
    ANALYTIC_UNARY(XX, type, TYPE)                                                                 \
    XX(erf, type, TYPE)                                                                            \
    XX(erfc, type, TYPE)                                                                           \
    XX(erf_inv, type, TYPE)

// The three that go through tiles in ways of their own come first.
#define INTEGER_BINARY(XX, type, TYPE)                                                             \
    XX(quotient, type, TYPE)                                                                       \
    XX(remainder, type, TYPE)                                                                      \
    XX(pow, type, TYPE)                                                                            \
    INTEGER_PLAIN(XX, type, TYPE)

#define INTEGER_PLAIN(XX, type, TYPE)                                                              \
    XX(add, type, TYPE)                                                                            \
    XX(subtract, type, TYPE)                                                                       \
    XX(multiply, type, TYPE)                                                                       \
    XX(max, type, TYPE)                                                                            \
    XX(min, type, TYPE)                                                                            \
    XX(bitwise_and, type, TYPE)                                                                    \
    XX(bitwise_or, type, TYPE)                                                                     \
    XX(bitwise_xor, type, TYPE)                                                                    \
    XX(left_shift, type, TYPE)                                                                     \
    XX(right_shift, type, TYPE)

#define FLOAT_BINARY(XX, type, TYPE)                                                               \
    XX(add, type, TYPE)                                                                            \
    XX(subtract, type, TYPE)                                                                       \
    XX(multiply, type, TYPE)                                                                       \
    XX(divide, type, TYPE)                                                                         \
    XX(max, type, TYPE)                                                                            \
    XX(min, type, TYPE)

// Two steps in one loop: second(first(a, b), c), each rounded as by itself.
#define FLOAT_PAIRS(XX, type, TYPE)                                                                \
    XX(add, add, type, TYPE)                                                                       \
    XX(add, subtract, type, TYPE)                                                                  \
    XX(add, multiply, type, TYPE)                                                                  \
    XX(subtract, add, type, TYPE)                                                                  \
    XX(subtract, subtract, type, TYPE)                                                             \
    XX(subtract, multiply, type, TYPE)                                                             \
    XX(multiply, add, type, TYPE)                                                                  \
    XX(multiply, subtract, type, TYPE)                                                             \
    XX(multiply, multiply, type, TYPE)

// Three steps in one loop: join(left(a, b), right(a, c)).
#define INTEGER_FORKS(XX, type, TYPE)                                                              \
    XX(left_shift, right_shift, bitwise_or, type, TYPE)                                            \
    XX(right_shift, left_shift, bitwise_or, type, TYPE)

#define MATH_BINARY(XX, type, TYPE)                                                                \
    XX(remainder, type, TYPE)                                                                      \
    XX(pow, type, TYPE)                                                                            \
    XX(atan2, type, TYPE)

#define EQUALITY(XX, type, TYPE)                                                                   \
    XX(equal, type, TYPE)                                                                          \
    XX(not_equal, type, TYPE)

#define COMPARISONS(XX, type, TYPE)                                                                \
    EQUALITY(XX, type, TYPE)                                                                       \
    XX(less, type, TYPE)                                                                           \
    XX(less_equal, type, TYPE)                                                                     \
    XX(greater, type, TYPE)                                                                        \
    XX(greater_equal, type, TYPE)

#define CHOICES(XX, type, TYPE)                                                                    \
    XX(select, type, TYPE)                                                                         \
    XX(clip, type, TYPE)

#define INTEGER_ROWS(XX, type, TYPE)                                                               \
    INTEGER_UNARY(XX, type, TYPE)                                                                  \
    TESTS(XX, type, TYPE)                                                                          \
    INTEGER_BINARY(XX, type, TYPE)                                                                 \
    COMPARISONS(XX, type, TYPE)                                                                    \
    CHOICES(XX, type, TYPE)

#define FLOAT_ROWS(XX, type, TYPE)                                                                 \
    FLOAT_UNARY(XX, type, TYPE)                                                                    \
    TESTS(XX, type, TYPE)                                                                          \
    MATH_UNARY(XX, type, TYPE)                                                                     \
    FLOAT_BINARY(XX, type, TYPE)                                                                   \
    MATH_BINARY(XX, type, TYPE)                                                                    \
    COMPARISONS(XX, type, TYPE)                                                                    \
    CHOICES(XX, type, TYPE)

// Functions of complex numbers that are a few operations, and that give a part of one.
#define COMPLEX_UNARY(XX, type, TYPE)                                                              \
    XX(negate, type, TYPE)                                                                         \
    XX(conjugate, type, TYPE)

#define COMPLEX_PARTS(XX, type, TYPE)                                                              \
    XX(real, type, TYPE)                                                                           \
    XX(imag, type, TYPE)

#define COMPLEX_BINARY(XX, type, TYPE)                                                             \
    XX(add, type, TYPE)                                                                            \
    XX(subtract, type, TYPE)                                                                       \
    XX(multiply, type, TYPE)

#define COMPLEX_ROWS(XX, type, TYPE)                                                               \
    COMPLEX_UNARY(XX, type, TYPE)                                                                  \
    COMPLEX_PARTS(XX, type, TYPE)                                                                  \
    TESTS(XX, type, TYPE)                                                                          \
    COMPLEX_BINARY(XX, type, TYPE)                                                                 \
    EQUALITY(XX, type, TYPE)                                                                       \
    XX(select, type, TYPE)

// The others: each takes a function of libm or more.
#define COMPLEX_MATH_UNARY(XX, type, TYPE)                                                         \
    XX(sign, type, TYPE)                                                                           \
    ANALYTIC_UNARY(XX, type, TYPE)

#define COMPLEX_MATH_ROWS(XX, type, TYPE)                                                          \
    COMPLEX_MATH_UNARY(XX, type, TYPE)                                                             \
    XX(phase, type, TYPE)                                                                          \
    XX(pow, type, TYPE)

// Every function of the types that are compiled per level.
#define LEVEL_ROWS(XX)                                                                             \
    INTEGER_ROWS(XX, u8, U8)                                                                       \
    INTEGER_ROWS(XX, u16, U16)                                                                     \
    INTEGER_ROWS(XX, u32, U32)                                                                     \
    INTEGER_ROWS(XX, u64, U64)                                                                     \
    INTEGER_ROWS(XX, s8, S8)                                                                       \
    INTEGER_ROWS(XX, s16, S16)                                                                     \
    INTEGER_ROWS(XX, s32, S32)                                                                     \
    INTEGER_ROWS(XX, s64, S64)                                                                     \
    FLOAT_ROWS(XX, f32, F32)                                                                       \
    FLOAT_ROWS(XX, f64, F64)                                                                       \
    COMPLEX_ROWS(XX, c64, C64)                                                                     \
    COMPLEX_ROWS(XX, c128, C128)                                                                   \
    XX(abs, c64, C64)                                                                              \
    XX(divide, c64, C64)                                                                           \
    XX(complex, f32, F32)                                                                          \
    XX(complex, f64, F64)

// Sub-byte integers are rare: one build of their kernels serves all levels.
#define NARROW_ROWS(XX)                                                                            \
    INTEGER_ROWS(XX, u2, U2)                                                                       \
    INTEGER_ROWS(XX, u4, U4)                                                                       \
    INTEGER_ROWS(XX, s2, S2)                                                                       \
    INTEGER_ROWS(XX, s4, S4)

// Functions that call libm an element at a time gain nothing from another level either. Those of
// c64 whose squares and products are exact in double do without.
#define SHARED_ROWS(XX)                                                                            \
    COMPLEX_MATH_ROWS(XX, c64, C64)                                                                \
    COMPLEX_MATH_ROWS(XX, c128, C128)                                                              \
    XX(abs, c128, C128)                                                                            \
    XX(divide, c128, C128)

#define SHARED_KERNEL(type, op) KERNELS_JOIN(shared, type, op)
#define NARROW_KERNEL(type, op) KERNELS_JOIN(narrow, type, op)

#define DECLARE_TILE(op, type, TYPE) void KERNEL(type, op)(TILE_ARGS);
#define DECLARE_NARROW(op, type, TYPE) void NARROW_KERNEL(type, op)(TILE_ARGS);
#define DECLARE_SHARED(op, type, TYPE) void SHARED_KERNEL(type, op)(TILE_ARGS);
LEVEL_ROWS(DECLARE_TILE)
NARROW_ROWS(DECLARE_NARROW)
SHARED_ROWS(DECLARE_SHARED)
#undef DECLARE_TILE
#undef DECLARE_NARROW
#undef DECLARE_SHARED

#endif
