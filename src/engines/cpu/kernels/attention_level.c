// SPDX-License-Identifier: Apache-2.0
// attention_level.c - what attention does with rows of scores: their softmax, in parts.
#include <math.h>

#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/attention.h"

#if defined(__FMA__)
#define MADD(x, y, z) __builtin_fmaf(x, y, z)
#else
#define MADD(x, y, z) ((x) * (y) + (z))
#endif

// Sums and maxima go into so many numbers side by side, which are put together at the end, the one
// half and the other, so that results are those of any vector's width.
enum { SIDE_BY_SIDE = 32 };

ALWAYS_INLINE float larger(float a, float b) { return b > a ? b : a; }
ALWAYS_INLINE float sum(float a, float b) { return a + b; }

ALWAYS_INLINE float put_together(float *x, float (*of)(float, float)) {
#pragma GCC unroll 2
    for (int half = SIDE_BY_SIDE / 2; half > 4; half /= 2) {
        INDEPENDENT
        for (int l = 0; l < half; l++) x[l] = of(x[l], x[l + half]);
    }
    for (int l = 0; l < 4; l++) x[l] = of(x[l], x[l + 4]);
    return of(of(x[0], x[2]), of(x[1], x[3]));
}

static float largest(const float *x, size_t n) {
    float most[SIDE_BY_SIDE];
    size_t i = 0;
    for (int l = 0; l < SIDE_BY_SIDE; l++) most[l] = -INFINITY;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (int l = 0; l < SIDE_BY_SIDE; l++)
            most[l] = x[i + (size_t)l] > most[l] ? x[i + (size_t)l] : most[l];
    for (; i < n; i++) most[0] = x[i] > most[0] ? x[i] : most[0];
    return put_together(most, larger);
}

static float KERNEL(attention, scale)(float *x, float by, const float *added, size_t n) {
    if (added != NULL) INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] = x[i] * by + added[i];
    else INDEPENDENT for (size_t i = 0; i < n; i++) x[i] = x[i] * by;
    return largest(x, n);
}

static float KERNEL(attention, hide)(float *x, const uint8_t *seen, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] = seen[i] ? x[i] : -INFINITY;
    return largest(x, n);
}

// exp(x) for x <= 0 within two units of the last place, 0 below -87, where it is next to nothing
// beside a term that is 1: 2^k times a polynomial on [-ln(2) / 2, ln(2) / 2], whose coefficients
// are those of Cephes.
ALWAYS_INLINE float exp_at_most_one(float x) {
    const float rounder = 0x1.8p23f + 127;
    float y = x > -87.0f ? x : -87.0f;
    float shifted = MADD(y, 0x1.715476p0f, rounder), k = shifted - rounder;
    float r = MADD(k, -0x1.62e4p-1f, y);
    r = MADD(k, -0x1.7f7d1cp-20f, r);
    float p = MADD(r, 1.9875691500e-4f, 1.3981999507e-3f);
    p = MADD(p, r, 8.3334519073e-3f);
    p = MADD(p, r, 4.1665795894e-2f);
    p = MADD(p, r, 1.6666665459e-1f);
    p = MADD(p, r, 5.0000001201e-1f);
    p = MADD(p, r * r, r) + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    float result = p * power;
    return x < -87.0f ? 0.0f : x != x ? x : result;
}

static float KERNEL(attention, powers)(float *x, float most, size_t n) {
    float sums[SIDE_BY_SIDE] = {0};
    size_t i = 0;
    INDEPENDENT
    for (size_t j = 0; j < n; j++) x[j] = exp_at_most_one(x[j] - most);
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (int l = 0; l < SIDE_BY_SIDE; l++) sums[l] += x[i + (size_t)l];
    for (; i < n; i++) sums[0] += x[i];
    return put_together(sums, sum);
}

static void KERNEL(attention, multiply)(float *x, float by, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] *= by;
}

static void KERNEL(attention, split)(const float *x, uint16_t *high, uint16_t *low, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, upper;
        float part, rest;
        memcpy(&bits, x + i, sizeof bits);
        upper = bits & 0xffff0000;
        memcpy(&part, &upper, sizeof part);
        rest = x[i] - part;
        memcpy(&upper, &rest, sizeof upper);
        high[i] = (uint16_t)(bits >> 16);
        low[i] = (uint16_t)((upper + 0x8000) >> 16);
    }
}

const attention_fns KERNEL(attention, table) = {
    KERNEL(attention, scale),    KERNEL(attention, hide),  KERNEL(attention, powers),
    KERNEL(attention, multiply), KERNEL(attention, split),
};
