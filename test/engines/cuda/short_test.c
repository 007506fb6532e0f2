// SPDX-License-Identifier: Apache-2.0
// short_test.c - CUDA's short forms of f32 functions (kernels/short.cu), compiled for the host,
// give the CPU engine's bits. EMLX_TEST_STEP=1 tries every f32, which takes minutes.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engines/cpu/kernels/kernels.h"

#include "test.h"

// What the text takes of a card.
#define DEVICE static inline
#define __device__
#define __constant__
#define INFINITE ((double)INFINITY)
#define NOT_A_NUMBER ((double)NAN)

static inline uint64_t word_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double __hiloint2double(int high, int low) {
    uint64_t bits = (uint64_t)(uint32_t)high << 32 | (uint32_t)low;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __double2hiint(double x) { return (int)(word_of(x) >> 32); }
static inline int __double2loint(double x) { return (int)(uint32_t)word_of(x); }
static inline int __float_as_int(float x) {
    int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }

#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#include "engines/cuda/kernels/short.cu"

static const struct {
    scalar_op op;
    float (*call)(float);
} functions[] = {
    {SCALAR_exp, exp_short}, {SCALAR_sigmoid, sigmoid_short}, {SCALAR_tanh, tanh_short},
    {SCALAR_log, log_short}, {SCALAR_log1p, log1p_short},     {SCALAR_erf_inv, erf_inv_short},
};

enum { MANY = 4096 };

// How many of the results of `n` operands have other bits than the CPU engine's; any NaN is one.
static size_t count_others(size_t function, const float *x, size_t n) {
    static float want[MANY];
    size_t others = 0;
    cpu_scalar(cpu_kernels_select(), functions[function].op, EMLX_F32)(want, x, NULL, NULL, n);
    for (size_t i = 0; i < n; i++) {
        float have = functions[function].call(x[i]);
        bool none = isnan(want[i]) && isnan(have);
        others += !none && __float_as_int(have) != __float_as_int(want[i]);
    }
    return others;
}

// Sums of both engines err by some 2^-50 and may round either way where the exact result is that
// close to the middle of two f32.
static void test_bits(void **state) {
    (void)state;
    static float x[MANY];
    const char *asked = getenv("EMLX_TEST_STEP");
    uint64_t step = asked != NULL ? strtoull(asked, NULL, 10) : 16381;
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
        size_t others = 0, all = 0;
        for (uint64_t bits = 0; bits <= UINT32_MAX;) {
            size_t n = 0;
            for (; n < MANY && bits <= UINT32_MAX; n++, bits += step)
                x[n] = __int_as_float((int)(uint32_t)bits);
            others += count_others(f, x, n);
            all += n;
        }
        print_message("%s: %zu of %zu have other bits\n", scalar_table[functions[f].op].name,
                      others, all);
        assert_true(others * 100000 <= all);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits)};
    return RUN_TESTS("engines/cuda/short", tests);
}
