// SPDX-License-Identifier: Apache-2.0
// f64_test.c - the math functions of f64 at every level against libm's in long double: each
// result lies within one unit in the last place of the exact one. Where long double is no wider
// than double, that is libm's opinion and the tests are left out.
#include <float.h>

#include "support.h"

enum { MANY = 4096, ROUNDS = 40 };

typedef long double (*wide1)(long double);
typedef long double (*wide2)(long double, long double);

static long double wide_sigmoid(long double x) { return 1 / (1 + expl(-x)); }

// The range that matters to a function, beside what all are tried on.
static const struct {
    scalar_op op;
    wide1 exact;
    double low, high;
} unary[] = {
    {SCALAR_exp, expl, -750, 712},
    {SCALAR_expm1, expm1l, -45, 712},
    {SCALAR_sigmoid, wide_sigmoid, -750, 50},
    {SCALAR_tanh, tanhl, -20, 20},
    {SCALAR_sinh, sinhl, -712, 712},
    {SCALAR_cosh, coshl, -712, 712},
    {SCALAR_log, logl, 0.5, 2},
    {SCALAR_log1p, log1pl, -1, 2},
    {SCALAR_asinh, asinhl, -10, 10},
    {SCALAR_acosh, acoshl, 1, 10},
    {SCALAR_atanh, atanhl, -1, 1},
    {SCALAR_cbrt, cbrtl, -8, 8},
    {SCALAR_erf, erfl, -6.5, 6.5},
    {SCALAR_erfc, erfcl, -6, 27.4},
    {SCALAR_sin, sinl, -2e6, 2e6},
    {SCALAR_cos, cosl, -2e6, 2e6},
    {SCALAR_tan, tanl, -2e6, 2e6},
    {SCALAR_asin, asinl, -1, 1},
    {SCALAR_acos, acosl, -1, 1},
    {SCALAR_atan, atanl, -5, 5},
};

static const struct {
    scalar_op op;
    wide2 exact;
} binary[] = {
    {SCALAR_pow, powl},
    {SCALAR_atan2, atan2l},
    {SCALAR_remainder, fmodl},
};

// How far `got` is from `exact`, in units of the last place that a double near `exact` has.
static double units_off(double got, long double exact) {
    double near = (double)exact;
    if (isnan(near) || isnan(got)) return isnan(near) && isnan(got) ? 0 : INFINITY;
    if (got == near) return signbit(got) == signbit(near) ? 0 : INFINITY;
    if (isinf(near) || isinf(got)) {
        // On either side of the highest double.
        return fabs(isinf(near) ? got : near) == DBL_MAX && signbit(got) == signbit(near)
                   ? 1
                   : INFINITY;
    }
    if (near != 0 && signbit(got) != signbit(near)) return INFINITY;
    int exponent;
    frexp(near, &exponent);
    exponent = exponent < DBL_MIN_EXP ? DBL_MIN_EXP : exponent;
    return fabs((double)ldexpl((long double)got - exact, DBL_MANT_DIG - exponent));
}

// Numbers of every size, ordinary ones, and such as functions have difficulties with: near 0, near
// 1, near multiples of pi / 2.
static double some_real(int kind, double low, double high) {
    switch (kind % 8) {
    case 0: return ldexp(random_real(-2, 2), (int)(random_bits() % 2000) - 1000);
    case 1: return ldexp(random_real(-2, 2), -(int)(random_bits() % 60));
    case 2: return 1 + ldexp(random_real(-1, 1), -(int)(random_bits() % 54));
    case 3: return nextafter((double)(random_bits() % 600000) * M_PI_2, random_real(-1e7, 1e7));
    case 4: return random_real(-3, 3);
    case 5: return random_real(-40, 40);
    default: return random_real(low, high);
    }
}

static void check_units(const cpu_kernels *k, scalar_op op, double x, double y, double got,
                        long double exact) {
    // At baseline erf is libm's, which is off by up to 1.02, and so is our erfc without fused
    // operations.
    double allowed = strcmp(k->level, "baseline") == 0 ? 1.05 : 1;
    double off = units_off(got, exact);
    if (off <= allowed) return;
    fail_msg("%s %s(%.17g, %.17g) is %.17g, which is %.3g units from %.20Lg", k->level,
             scalar_table[op].name, x, y, got, off, exact);
}

static void test_unary(void **state) {
    (void)state;
    static double x[MANY], out[MANY];
    static long double exact[MANY];
    if (LDBL_MANT_DIG <= DBL_MANT_DIG) skip();
    for (size_t f = 0; f < sizeof unary / sizeof unary[0]; f++) {
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < MANY; i++) {
                x[i] = some_real(i, unary[f].low, unary[f].high);
                exact[i] = unary[f].exact(x[i]);
            }
            FOR_EACH_LEVEL(k) {
                cpu_scalar(k, unary[f].op, EMLX_F64)(out, x, NULL, NULL, MANY);
                for (int i = 0; i < MANY; i++)
                    check_units(k, unary[f].op, x[i], 0, out[i], exact[i]);
            }
        }
    }
}

// For powers also operands whose result is anywhere in range, and whole exponents.
static void fill_pair(int i, double *x, double *y) {
    *x = some_real(i, -10, 10);
    *y = some_real((int)(random_bits() % 8), -10, 10);
    if (i % 3 == 0) *y = random_real(-745, 710) / log(fabs(*x));
    if (i % 16 == 1) *x = random_real(-20, 20), *y = (double)(random_bits() % 60) - 30;
    if (i % 16 == 2) *x = -*x;
}

static void test_binary(void **state) {
    (void)state;
    static double x[MANY], y[MANY], out[MANY];
    static long double exact[MANY];
    if (LDBL_MANT_DIG <= DBL_MANT_DIG) skip();
    for (size_t f = 0; f < sizeof binary / sizeof binary[0]; f++) {
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < MANY; i++) {
                fill_pair(i, &x[i], &y[i]);
                exact[i] = binary[f].exact(x[i], y[i]);
            }
            FOR_EACH_LEVEL(k) {
                cpu_scalar(k, binary[f].op, EMLX_F64)(out, x, y, NULL, MANY);
                for (int i = 0; i < MANY; i++) {
                    check_units(k, binary[f].op, x[i], y[i], out[i], exact[i]);
                }
            }
        }
    }
}

// Every special operand, and every pair of them, gives what libm gives, to a unit: signs of zeros,
// infinities, NaN, and results that are subnormal.
static const double special[] = {0.0,
                                 -0.0,
                                 (double)INFINITY,
                                 (double)-INFINITY,
                                 (double)NAN,
                                 1,
                                 -1,
                                 2,
                                 -2,
                                 0.5,
                                 -0.5,
                                 3,
                                 -3,
                                 0x1p-1074,
                                 -0x1p-1074,
                                 0x1p-1022,
                                 -0x1p-1022,
                                 DBL_MAX,
                                 -DBL_MAX,
                                 0x1p53,
                                 -0x1p53,
                                 0x1.8p52,
                                 1e22,
                                 -1e22,
                                 1e6,
                                 1000001,
                                 708.39,
                                 708.4,
                                 709.4,
                                 709.44,
                                 709.78,
                                 709.79,
                                 710,
                                 710.47,
                                 710.5,
                                 -708.39,
                                 -708.4,
                                 -745.1,
                                 -745.2,
                                 -745.13321,
                                 -750,
                                 -1e300,
                                 -37.5,
                                 37.5,
                                 -40,
                                 19.1,
                                 -19.1,
                                 22,
                                 26.5,
                                 26.54,
                                 27.2,
                                 27.3,
                                 28,
                                 -6,
                                 6,
                                 0x1p-500,
                                 0x1p500,
                                 0x1p-501,
                                 0x1p501,
                                 0x1p1000,
                                 0x1p-1000,
                                 0x1p-28,
                                 0x1p-54};

enum { SPECIALS = sizeof special / sizeof special[0] };

static void test_special(void **state) {
    (void)state;
    if (LDBL_MANT_DIG <= DBL_MANT_DIG) skip();
    FOR_EACH_LEVEL(k) {
        for (size_t f = 0; f < sizeof unary / sizeof unary[0]; f++) {
            double out[SPECIALS];
            cpu_scalar(k, unary[f].op, EMLX_F64)(out, special, NULL, NULL, SPECIALS);
            for (int i = 0; i < SPECIALS; i++) {
                check_units(k, unary[f].op, special[i], 0, out[i], unary[f].exact(special[i]));
            }
        }
        for (size_t f = 0; f < sizeof binary / sizeof binary[0]; f++) {
            for (int i = 0; i < SPECIALS; i++) {
                double x[SPECIALS], out[SPECIALS];
                for (int j = 0; j < SPECIALS; j++) x[j] = special[i];
                cpu_scalar(k, binary[f].op, EMLX_F64)(out, x, special, NULL, SPECIALS);
                for (int j = 0; j < SPECIALS; j++) {
                    check_units(k, binary[f].op, x[j], special[j], out[j],
                                binary[f].exact(x[j], special[j]));
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_binary),
    };
    return RUN_TESTS("engines/cpu/kernels/f64", tests);
}
