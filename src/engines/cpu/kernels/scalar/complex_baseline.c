// SPDX-License-Identifier: Apache-2.0
// complex_baseline.c - the scalar functions of complex numbers that take libm, one element
// at a time in double. All levels use this one build.
//
// Nx's reference decides on which side branch cuts belong, and what comes of infinities and NaN:
// there its formulas are followed to the letter. Finite numbers are computed by libm, whose
// functions keep the digits that those formulas lose.
#include <complex.h>
#undef complex
#undef I
#include <math.h>

#define LEVEL baseline
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/kernels/tables/scalar.h"

static const double half_pi = 1.57079632679489661923;

static wide_complex complex_of(double re, double im) { return __builtin_complex(re, im); }
static wide_complex unknown(void) { return complex_of((double)NAN, (double)NAN); }
static bool finite_parts(wide_complex z) { return isfinite(creal(z)) && isfinite(cimag(z)); }
static bool both_zero(wide_complex z) { return creal(z) == 0 && cimag(z) == 0; }
static wide_complex minus(wide_complex z) { return complex_of(-creal(z), -cimag(z)); }
static wide_complex plus(wide_complex x, wide_complex y) {
    return complex_of(creal(x) + creal(y), cimag(x) + cimag(y));
}

// Division ----------------------------------------------------------------------------------------

// a * b + c * d with an error of at most 1.5 units in the last place (Kahan's method), and with the
// sign of a 0 that the plain sum has.
static double sum_of_products(double a, double b, double c, double d) {
    double product = c * d, lost = fma(c, d, -product), sum = fma(a, b, product);
    return lost == 0 ? sum : sum + lost;
}

static wide_complex divide_plain(wide_complex x, wide_complex y) {
    double a = creal(x), b = cimag(x), c = creal(y), d = cimag(y);
    if (isinf(c) && d == 0 && finite_parts(x)) return complex_of(0, 0);
    double size = c * c + d * d;
    return complex_of((a * c + b * d) / size, (b * c - a * d) / size);
}

static wide_complex quotient(double a, double b, double c, double d) {
    double size = c * c + d * d;
    return complex_of(sum_of_products(a, c, b, d) / size, sum_of_products(b, c, -a, d) / size);
}

// Whether squares and products of the parts stay far from the ends of the range.
static bool is_moderate(double x) { return x == 0 || (fabs(x) > 0x1p-250 && fabs(x) < 0x1p250); }
static bool moderate_parts(wide_complex z) {
    return is_moderate(creal(z)) && is_moderate(cimag(z));
}

static int larger_exponent(wide_complex z) { return ilogb(fmax(fabs(creal(z)), fabs(cimag(z)))); }

// Large and small numbers are scaled by a power of two, so that squares do not overflow.
static wide_complex one_divide(wide_complex x, wide_complex y) {
    if (both_zero(y) || both_zero(x)) return divide_plain(x, y);
    if (moderate_parts(x) && moderate_parts(y))
        return quotient(creal(x), cimag(x), creal(y), cimag(y));
    if (!finite_parts(y) || !finite_parts(x)) return divide_plain(x, y);
    int up = larger_exponent(x), down = larger_exponent(y);
    wide_complex scaled = quotient(scalbn(creal(x), -up), scalbn(cimag(x), -up),
                                   scalbn(creal(y), -down), scalbn(cimag(y), -down));
    return complex_of(scalbn(creal(scaled), up - down), scalbn(cimag(scaled), up - down));
}

// Size and direction ------------------------------------------------------------------------------

static double one_abs(wide_complex z) { return hypot(creal(z), cimag(z)); }
static double one_phase(wide_complex z) { return atan2(cimag(z), creal(z)); }

static double unit_if_infinite(double x) { return copysign(isinf(x) ? 1.0 : 0.0, x); }

static wide_complex one_sign(wide_complex z) {
    double re = creal(z), im = cimag(z);
    if (both_zero(z)) return z;
    if (isnan(re) || isnan(im)) return unknown();
    if (isinf(re) || isinf(im)) {
        re = unit_if_infinite(re);
        im = unit_if_infinite(im);
    }
    int exponent = larger_exponent(complex_of(re, im));
    re = scalbn(re, -exponent);
    im = scalbn(im, -exponent);
    double size = hypot(re, im);
    return complex_of(re / size, im / size);
}

// Exponentials ------------------------------------------------------------------------------------

static double infinity_like(double x) {
    return x > 0 ? (double)INFINITY : x < 0 ? -(double)INFINITY : (double)NAN;
}

static wide_complex one_exp(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (finite_parts(z)) return cexp(z);
    if (x < 0 && isinf(x)) return complex_of(0, 0);
    if (isinf(x) && isfinite(y)) return complex_of(infinity_like(cos(y)), infinity_like(sin(y)));
    return isinf(x) && isnan(y) ? complex_of(x, y) : unknown();
}

// exp(z) - 1 is exp(x) cos(y) - 1 and exp(x) sin(y); of the first the 1 is taken from both factors.
static wide_complex one_expm1(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (!finite_parts(z) || x > 1) return plus(one_exp(z), complex_of(-1, 0));
    double s = sin(y / 2);
    return complex_of(expm1(x) * cos(y) - 2 * s * s, exp(x) * sin(y));
}

// exp of a number with a negative real part does not overflow.
static wide_complex one_sigmoid(wide_complex z) {
    const wide_complex one = complex_of(1, 0);
    if (!finite_parts(z)) return one_divide(one, plus(one_exp(minus(z)), one));
    wide_complex e = cexp(creal(z) < 0 ? z : minus(z));
    return one_divide(creal(z) < 0 ? e : one, plus(e, one));
}

static wide_complex one_sinh(wide_complex z) {
    if (finite_parts(z)) return csinh(z);
    wide_complex twice = plus(one_exp(z), minus(one_exp(minus(z))));
    return complex_of(creal(twice) / 2, cimag(twice) / 2);
}

static wide_complex one_cosh(wide_complex z) {
    if (finite_parts(z)) return ccosh(z);
    wide_complex twice = plus(one_exp(z), one_exp(minus(z)));
    return complex_of(creal(twice) / 2, cimag(twice) / 2);
}

static wide_complex one_tanh(wide_complex z) {
    return finite_parts(z) ? ctanh(z) : divide_plain(one_sinh(z), one_cosh(z));
}

static wide_complex one_sin(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (finite_parts(z)) return csin(z);
    return isfinite(x) && isinf(y) ? complex_of(x * y, y) : unknown();
}

static wide_complex one_cos(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (finite_parts(z)) return ccos(z);
    return isfinite(x) && isinf(y) ? complex_of((double)INFINITY, -y * x) : unknown();
}

static wide_complex one_tan(wide_complex z) {
    return finite_parts(z) ? ctan(z) : divide_plain(one_sin(z), one_cos(z));
}

// Logarithms and roots ----------------------------------------------------------------------------

static wide_complex one_log(wide_complex z) { return clog(z); }

// What a + b loses when it is rounded.
static double lost_in_sum(double a, double b) {
    double sum = a + b, part = sum - a;
    return (a - (sum - part)) + (b - part);
}

// |1 + z|^2 - 1 is 2x + x^2 + y^2, summed with what each step loses; where it is near -1, 1 + x is
// exact instead.
static wide_complex one_log1p(wide_complex z) {
    double x = creal(z), y = cimag(z);
    wide_complex above = plus(complex_of(1, 0), z);
    if (!(fabs(x) < 4 && fabs(y) < 4)) return clog(above);
    double xx = x * x, yy = y * y, sum = 2 * x + xx, excess = sum + yy;
    double lost = fma(x, x, -xx) + fma(y, y, -yy) + lost_in_sum(2 * x, xx) + lost_in_sum(sum, yy);
    if (excess < -0.5) return clog(above);
    return complex_of(log1p(excess + lost) / 2, one_phase(above));
}

// On the cut the root is above the real axis, whatever the sign of the 0.
static wide_complex one_sqrt(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (both_zero(z)) return z;
    if (isnan(x) || isnan(y)) return unknown();
    if (isinf(y)) return complex_of((double)INFINITY, y);
    if (isinf(x)) return x > 0 ? complex_of(x, 0) : complex_of(0, -x);
    if (y == 0 && x < 0) return complex_of(y, sqrt(-x));
    return csqrt(z);
}

static wide_complex one_rsqrt(wide_complex z) { return one_divide(complex_of(1, 0), one_sqrt(z)); }

static double real_cbrt(double x) {
    double root;
    KERNEL(math, table)[SCALAR_cbrt][EMLX_F64](&root, &x, NULL, NULL, 1);
    return root;
}

static wide_complex one_cbrt(wide_complex z) {
    double size = one_abs(z), angle = one_phase(z) / 3, root = real_cbrt(size);
    if (isinf(size) && finite_parts(z)) root = 2 * real_cbrt(hypot(creal(z) / 8, cimag(z) / 8));
    return angle == 0 ? complex_of(root, 0) : complex_of(root * cos(angle), root * sin(angle));
}

static wide_complex one_pow(wide_complex x, wide_complex y) {
    double c = creal(y), d = cimag(y);
    bool from_zero = both_zero(x);
    if (from_zero && isinf(c) && c > 0 && d == 0) return complex_of(0, 0);
    if (!finite_parts(x) || !finite_parts(y)) return unknown();
    if (from_zero) return complex_of(both_zero(y) ? 1 : 0, 0);
    if (c == 1 && d == 0) return x;
    if (c == -1 && d == 0) return one_divide(complex_of(1, 0), x);
    wide_complex polar = clog(x);
    double angle = cimag(polar), size = pow(one_abs(x), c) * exp(-d * angle);
    double turned = c * angle + d * creal(polar);
    return complex_of(size * cos(turned), size * sin(turned));
}

// Inverse functions -------------------------------------------------------------------------------

// Nx's: log(z + sqrt(z^2 + one)).
static wide_complex log_of_sum(wide_complex z, double one) {
    return one_log(plus(z, one_sqrt(plus(wide_times(z, z), complex_of(one, 0)))));
}

static wide_complex one_asin(wide_complex z) {
    double x = creal(z);
    if (!finite_parts(z)) return unknown();
    return casin(cimag(z) == 0 && fabs(x) > 1 ? complex_of(x, -copysign(0.0, x)) : z);
}

// Nx's -i log(z + sqrt(z^2 - 1)) is the principal value where both parts have one sign, and its
// negative where they do not.
static wide_complex one_acos(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (!finite_parts(z)) return unknown();
    if (y == 0 && x < -1) return cacos(complex_of(x, -0.0));
    if (x == 0 || (y == 0 && x <= 1)) return cacos(complex_of(x, y == 0 ? 0.0 : y));
    bool one_sign_only = (signbit(x) != 0) == (signbit(y) != 0);
    return one_sign_only ? cacos(z) : minus(cacos(z));
}

static wide_complex one_atan(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (!finite_parts(z)) return unknown();
    return catan(x == 0 && fabs(y) > 1 ? complex_of(copysign(0.0, y), y) : z);
}

static wide_complex one_asinh(wide_complex z) {
    double x = creal(z), y = cimag(z);
    if (!finite_parts(z)) return log_of_sum(z, 1);
    return casinh(x == 0 && fabs(y) > 1 ? complex_of(copysign(0.0, y), y) : z);
}

static wide_complex one_acosh(wide_complex z) {
    if (!finite_parts(z)) return log_of_sum(z, -1);
    wide_complex turned = one_acos(z);
    return complex_of(-cimag(turned), creal(turned));
}

static wide_complex one_atanh(wide_complex z) {
    double x = creal(z);
    if (!finite_parts(z)) return unknown();
    wide_complex value = catanh(z);
    bool on_cut = cimag(z) == 0 && fabs(x) > 1;
    return on_cut ? complex_of(creal(value), copysign(half_pi, -x)) : value;
}

// Tile functions ----------------------------------------------------------------------------------

typedef float part_c64;
typedef double part_c128;
typedef float _Complex c_c64;
typedef double _Complex c_c128;

// Rows: each makes the tile function of one scalar function, rounded once.
#define DEFINE_UNARY(op, type, TYPE)                                                               \
    static void KERNEL(type, op)(TILE_ARGS) {                                                      \
        (void)b, (void)c;                                                                          \
        c_##type *d = dst;                                                                         \
        const c_##type *x = a;                                                                     \
        for (size_t i = 0; i < n; i++) d[i] = (c_##type)one_##op((wide_complex)x[i]);              \
    }
#define DEFINE_PART(op, type, TYPE)                                                                \
    static void KERNEL(type, op)(TILE_ARGS) {                                                      \
        (void)b, (void)c;                                                                          \
        part_##type *d = dst;                                                                      \
        const c_##type *x = a;                                                                     \
        for (size_t i = 0; i < n; i++) d[i] = (part_##type)one_##op((wide_complex)x[i]);           \
    }
#define DEFINE_BINARY(op, type, TYPE)                                                              \
    static void KERNEL(type, op)(TILE_ARGS) {                                                      \
        (void)c;                                                                                   \
        c_##type *d = dst;                                                                         \
        const c_##type *x = a, *y = b;                                                             \
        for (size_t i = 0; i < n; i++)                                                             \
            d[i] = (c_##type)one_##op((wide_complex)x[i], (wide_complex)y[i]);                     \
    }

#define UNARY(XX, type, TYPE)                                                                      \
    XX(sign, type, TYPE)                                                                           \
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

#define PARTS(XX, type, TYPE) XX(phase, type, TYPE)
#define BINARY(XX, type, TYPE) XX(pow, type, TYPE)

// For c64 these are in complex.inc, as squares and products are exact in double there.
#define WIDE_PARTS(XX, type, TYPE) XX(abs, type, TYPE)
#define WIDE_BINARY(XX, type, TYPE) XX(divide, type, TYPE)

#define ROWS(XX_UNARY, XX_PART, XX_BINARY)                                                         \
    UNARY(XX_UNARY, c64, C64)                                                                      \
    PARTS(XX_PART, c64, C64)                                                                       \
    BINARY(XX_BINARY, c64, C64)                                                                    \
    UNARY(XX_UNARY, c128, C128)                                                                    \
    PARTS(XX_PART, c128, C128)                                                                     \
    BINARY(XX_BINARY, c128, C128)                                                                  \
    WIDE_PARTS(XX_PART, c128, C128)                                                                \
    WIDE_BINARY(XX_BINARY, c128, C128)

ROWS(DEFINE_UNARY, DEFINE_PART, DEFINE_BINARY)

const tile_fn complex_scalars[SCALAR_COUNT][EMLX_TYPE_COUNT] = {
    ROWS(SCALAR_ROW, SCALAR_ROW, SCALAR_ROW)};
