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

ALWAYS_INLINE void begin_largest(float *most) {
    for (int l = 0; l < SIDE_BY_SIDE; l++) most[l] = -INFINITY;
}

static float largest(const float *x, size_t n) {
    float most[SIDE_BY_SIDE];
    size_t i = 0;
    begin_largest(most);
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (size_t l = 0; l < SIDE_BY_SIDE; l++) most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
    for (; i < n; i++) most[0] = x[i] > most[0] ? x[i] : most[0];
    return put_together(most, larger);
}

static float scale_only(float *x, float by, size_t n) {
    float most[SIDE_BY_SIDE];
    size_t i = 0;
    begin_largest(most);
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        INDEPENDENT for (size_t l = 0; l < SIDE_BY_SIDE; l++) {
            float y = x[i + l] * by;
            x[i + l] = y;
            most[l] = y > most[l] ? y : most[l];
        }
    for (; i < n; i++) {
        x[i] *= by;
        most[0] = x[i] > most[0] ? x[i] : most[0];
    }
    return put_together(most, larger);
}

static float KERNEL(attention, scale)(float *x, float by, const float *added, size_t n) {
    if (added == NULL) return scale_only(x, by, n);
    INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] = x[i] * by + added[i];
    return largest(x, n);
}

static float KERNEL(attention, hide)(float *x, const uint8_t *seen, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] = seen[i] ? x[i] : -INFINITY;
    return largest(x, n);
}

// exp(x) for x <= 0 within two units of the last place, 0 below -87, where it is next to nothing
// beside a term that is 1: 2^k times a polynomial on [-ln(2) / 2, ln(2) / 2], whose coefficients
// are those of Cephes. NaN goes through all of it.
ALWAYS_INLINE float exp_at_most_one(float x) {
    const float rounder = 0x1.8p23f + 127;
    float y = x < -87.0f ? -87.0f : x;
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
    return x < -87.0f ? 0.0f : result;
}

static float KERNEL(attention, powers)(float *x, float most, size_t n) {
    float sums[SIDE_BY_SIDE] = {0};
    size_t i = 0;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        INDEPENDENT for (size_t l = 0; l < SIDE_BY_SIDE; l++) {
            x[i + l] = exp_at_most_one(x[i + l] - most);
            sums[l] += x[i + l];
        }
    for (; i < n; i++) {
        x[i] = exp_at_most_one(x[i] - most);
        sums[0] += x[i];
    }
    return put_together(sums, sum);
}

static void KERNEL(attention, multiply)(float *x, float by, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) x[i] *= by;
}

ALWAYS_INLINE void split_one(float x, uint16_t *high, uint16_t *low) {
    uint32_t bits, upper;
    float part, rest;
    memcpy(&bits, &x, sizeof bits);
    upper = bits & 0xffff0000;
    memcpy(&part, &upper, sizeof part);
    rest = x - part;
    memcpy(&upper, &rest, sizeof upper);
    *high = (uint16_t)(bits >> 16);
    *low = (uint16_t)((upper + 0x8000) >> 16);
}

// A group of each line, of which there are `count` terms.
ALWAYS_INLINE void split_groups(const float *x, int64_t step, size_t lines, size_t count,
                                size_t group, uint16_t *high, uint16_t *low) {
    for (size_t l = 0; l < lines; l++, x += step, high += group, low += group) {
        INDEPENDENT
        for (size_t i = 0; i < count; i++) split_one(x[i], &high[i], &low[i]);
        for (size_t i = count; i < group; i++) high[i] = low[i] = 0;
    }
}

static void KERNEL(attention, split)(const float *x, int64_t step, size_t lines, size_t terms,
                                     const panel_form *form, uint16_t *high, uint16_t *low) {
    size_t group = (size_t)form->group, size = group * (size_t)form->lines;
    size_t own = lines * group, missing = (size - own) * sizeof *high;
    for (size_t t = 0; t < terms; t += group, high += size, low += size) {
        size_t count = terms - t < group ? terms - t : group;
        if (count == SIDE_BY_SIDE && group == SIDE_BY_SIDE)
            split_groups(x + t, step, lines, SIDE_BY_SIDE, SIDE_BY_SIDE, high, low);
        else
            split_groups(x + t, step, lines, count, group, high, low);
        memset(high + own, 0, missing);
        memset(low + own, 0, missing);
    }
}

static bool KERNEL(attention, plain)(const uint16_t *x, size_t n) {
    uint16_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t size = x[i] & 0x7fff;
        odd |= (uint16_t)((uint16_t)(size - 1) < 0x7f) | (uint16_t)(size >= 0x7f80);
    }
    return odd == 0;
}

const attention_fns KERNEL(attention, table) = {
    KERNEL(attention, scale),    KERNEL(attention, hide),  KERNEL(attention, powers),
    KERNEL(attention, multiply), KERNEL(attention, split), KERNEL(attention, plain),
};
