// SPDX-License-Identifier: Apache-2.0
// support.h - what the tests of kernels share: the levels that run here, operands worth
// trying, and comparison of results.
#ifndef EMLX_TEST_KERNELS_SUPPORT_H
#define EMLX_TEST_KERNELS_SUPPORT_H

#include <math.h>
#include <stdlib.h>

#include "base/types.h"
#include "engines/cpu/kernels/kernels.h"
#include "test.h"

#define TEST_INLINE static inline __attribute__((unused))

// The levels that this CPU runs, lowest first.
#define FOR_EACH_LEVEL(k)                                                                          \
    for (size_t level_ = 0; cpu_kernels_level(level_) != NULL; level_++)                           \
        for (const cpu_kernels *k = cpu_kernels_level(level_); k != NULL; k = NULL)

// The same numbers in every run (xorshift, after Marsaglia).
TEST_INLINE uint64_t random_bits(void) {
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1du;
}

TEST_INLINE double random_real(double low, double high) {
    return low + (high - low) * (double)(random_bits() >> 11) * 0x1p-53;
}

TEST_INLINE emlx_number number_real(double x) {
    emlx_number number = {.kind = EMLX_NUMBER_REAL};
    number.as.f[0] = x;
    return number;
}

TEST_INLINE emlx_number number_signed(int64_t s) {
    emlx_number number = {.kind = EMLX_NUMBER_SIGNED};
    number.as.s = s;
    return number;
}

TEST_INLINE emlx_number some_value(emlx_type type);

TEST_INLINE emlx_number some_pair(emlx_type part) {
    emlx_number number = {.kind = EMLX_NUMBER_COMPLEX};
    for (int i = 0; i < 2; i++) number.as.f[i] = some_value(part).as.f[0];
    return number;
}

// A value of the type that is special in some way, or random at some scale.
TEST_INLINE emlx_number some_value(emlx_type type) {
    if (type_is_complex(type)) return some_pair(type_part(type));
    static const double reals[] = {0.0,     -0.0,   1.0,      -1.0,      0.5,         -0.5,
                                   1.5,     2.5,    -2.5,     0.4999,    1e-310,      1e-40,
                                   1e30,    -1e300, INFINITY, -INFINITY, (double)NAN, 16777217.0,
                                   65504.0, 300.7,  3e9,      -3e9,      0x1p63,      -0x1p63,
                                   1e20,    2.0,    3.0,      127.5};
    static const int64_t integers[] = {
        0,   1,         -1,        2,         -2,        3,         7,        8,        15,
        16,  31,        32,        63,        64,        100,       127,      128,      255,
        256, INT16_MAX, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, INT8_MIN, INT16_MIN};
    uint64_t pick = random_bits() >> 20;
    if (!type_is_integer(type)) {
        if (pick % 4 == 0) return number_real(reals[(pick >> 2) % (sizeof reals / sizeof *reals)]);
        if (pick % 4 == 1)
            return number_real(ldexp(random_real(-1, 1), (int)(pick >> 2 & 255) - 160));
        return number_real(random_real(-10, 10));
    }
    if (pick % 3 == 0)
        return number_signed(integers[(pick >> 2) % (sizeof integers / sizeof *integers)]);
    return number_signed((int64_t)random_bits() >> (pick >> 2) % 64);
}

TEST_INLINE void fill(emlx_type type, void *data, size_t n) {
    for (size_t i = 0; i < n; i++) {
        emlx_number value = some_value(type);
        type_store(type, &value, (char *)data + i * type_size(type));
    }
}

// Elements that can be one past an aligned address, as tiles may be, with room behind them that
// must stay as it is.
typedef struct area {
    char *block;
    char *at;
    size_t size;
} area;

#define AREA_MARK 0x5a

TEST_INLINE area area_new(emlx_type type, size_t n) {
    size_t element = type_size(type);
    area a = {.size = n * element};
    a.block = malloc(a.size + element + 64);
    assert_non_null(a.block);
    memset(a.block, AREA_MARK, a.size + element + 64);
    a.at = a.block + element;
    return a;
}

TEST_INLINE void area_free(area *a) {
    for (size_t i = 0; i < 64; i++) assert_int_equal(a->at[a->size + i], AREA_MARK);
    free(a->block);
}

// How many representable numbers lie between two elements: 0 when the same, or both are NaN. Of
// complex numbers, between the parts that lie farther apart.
TEST_INLINE uint64_t distance(emlx_type type, const void *x, const void *y) {
    size_t size = type_size(type);
    if (type_is_complex(type)) {
        emlx_type part = type_part(type);
        const char *x_imag = (const char *)x + size / 2, *y_imag = (const char *)y + size / 2;
        uint64_t re = distance(part, x, y), im = distance(part, x_imag, y_imag);
        return re > im ? re : im;
    }
    uint64_t a = 0, b = 0;
    memcpy(&a, x, size);
    memcpy(&b, y, size);
    if (a == b) return 0;
    if (type_is_integer(type)) return UINT64_MAX;
    double left = type_load(type, x).as.f[0], right = type_load(type, y).as.f[0];
    if (isnan(left) && isnan(right)) return 0;
    if (isnan(left) || isnan(right) || signbit(left) != signbit(right)) return UINT64_MAX;
    return a > b ? a - b : b - a;
}

#endif
