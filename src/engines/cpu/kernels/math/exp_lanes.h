// SPDX-License-Identifier: Apache-2.0
// exp_lanes.h - exp of a register of f32 in f32, where elements of a register can be looked up
// (LOOK_UP_F32): two thirds of the work in double. The result is had in two parts, whose sum is so
// close that it rounds as the exact one does, but for a few in a hundred registers, which say so.
#ifndef EMLX_CPU_MATH_EXP_LANES_H
#define EMLX_CPU_MATH_EXP_LANES_H

#include "engines/cpu/kernels/math/core.h"
#include "engines/cpu/kernels/shuffle.h"
#include "engines/cpu/kernels/vectors.h"

#if defined(LOOK_UP_F32)

enum { EXP_LANES = VECTOR_BYTES / sizeof(float) };

typedef float exp_lanes __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t exp_bits __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t exp_words __attribute__((vector_size(VECTOR_BYTES)));
typedef exp_lanes exp_loose __attribute__((aligned(sizeof(float)), may_alias));

// 2^(i / 16) to nearest, and the logarithm of what it lacks.
static const float exp_steps[16] = {0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f,
                                    0x1.306fep+0f,  0x1.3dea64p+0f, 0x1.4bfdaep+0f, 0x1.5ab07ep+0f,
                                    0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
                                    0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
static const float exp_rests[16] = {0,
                                    0x1.8d96d4p-25f,
                                    -0x1.9c0c22p-27f,
                                    0x1.964902p-25f,
                                    0x1.125002p-25f,
                                    0x1.370be4p-25f,
                                    -0x1.0a3552p-25f,
                                    -0x1.00d8acp-27f,
                                    0x1.26055cp-26f,
                                    -0x1.05cb44p-25f,
                                    0x1.67a1cap-28f,
                                    0x1.a3b5e4p-28f,
                                    -0x1.f9c306p-27f,
                                    -0x1.6961b4p-28f,
                                    -0x1.a5217cp-28f,
                                    0x1.61428ep-28f};

#define EXP_ALL(x) ((x) - (exp_lanes){0})

// One register of a table: 2^(i / EXP_LANES). ln(2) / EXP_LANES in two parts; its reciprocal. Then
// exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2 / EXP_LANES, fit errors 2^-37.5 and 2^-32.4. The
// error of both parts of the result, relative to its step, is below EXP_ERROR: 2^-34.2 and 2^-31.5
// at most over all f32 between exp_lanes_low and exp_lanes_high.
#if VECTOR_BYTES == 64
#define EXP_TABLE(t) (*(const exp_loose *)(t))
#define EXP_SHIFT 4
#define EXP_ERROR 0x1p-33f
#define EXP_P1 0x1.55571ep-3f
#define EXP_P2 0x1.55576ap-5f
#else
#define EXP_TABLE(t) PICK_EVEN(8, *(const exp_loose *)(t), *(const exp_loose *)((t) + 8))
#define EXP_SHIFT 3
#define EXP_ERROR 0x1p-31f
#define EXP_P1 0x1.555c76p-3f
#define EXP_P2 0x1.555da6p-5f
#endif
#define EXP_STEP_HIGH (0x1.62e43p-1f / EXP_LANES)
#define EXP_STEP_LOW (-0x1.05c61p-29f / EXP_LANES)
#define EXP_STEPS_IN_ONE (0x1.715476p+0f * EXP_LANES)

// The two tables, rests higher by the error.
typedef struct exp_tables {
    exp_lanes steps, rests;
} exp_tables;

MATH_INLINE exp_tables exp_lanes_tables(void) {
    return (exp_tables){EXP_TABLE(exp_steps), EXP_TABLE(exp_rests) + EXP_ERROR};
}

// x = r + k ln(2) / EXP_LANES. `high` of r is exact, as the product is not rounded and the
// difference has no digit below those of x. With t = 2^(k / EXP_LANES) and what exp(r) is above
// 1 + r, exp(x) = t + t r + t rest: its first two terms leave `lost` when they are rounded. A sum
// that rounds the same with and without twice the error is the result. Where x is too low for
// exp to be more than 0, it is 0; where it is subnormal, infinite or NaN, nothing is known.
MATH_INLINE exp_lanes exp_of_lanes(exp_lanes x, exp_tables t, exp_bits *unsure) {
    exp_lanes shifted = FMA_F32(EXP_ALL(0x1.8p23f), x, EXP_ALL(EXP_STEPS_IN_ONE));
    exp_lanes k = shifted - 0x1.8p23f;
    exp_lanes high = FMA_F32(x, k, EXP_ALL(-EXP_STEP_HIGH));
    exp_lanes low = FMA_F32(LOOK_UP_F32(t.rests, shifted), k, EXP_ALL(-EXP_STEP_LOW));
    exp_lanes step = LOOK_UP_F32(t.steps, shifted), r = high + low;
    exp_lanes p = FMA_F32(EXP_ALL(0.5f), r, FMA_F32(EXP_ALL(EXP_P1), r, EXP_ALL(EXP_P2)));
    exp_lanes first = FMA_F32(step, step, high), lost = FMA_F32(step - first, step, high);
    exp_lanes most = FMA_F32(lost, step, FMA_F32(low, r * r, p));
    exp_lanes y = first + most;
    exp_lanes least = first + FMA_F32(most, step, EXP_ALL(-2 * EXP_ERROR));
    exp_bits none = x < math_limit.exp_low;
    exp_lanes size = (exp_lanes)((exp_bits)x & INT32_MAX);
    *unsure = (y != least) | (~(size < math_limit.exp_lanes_high) & ~none);
    exp_words power = (exp_words)shifted << (23 - EXP_SHIFT) & 0xff800000u;
    return (exp_lanes)(((exp_words)y + power) & ~(exp_words)none);
}

#endif

#endif
