// SPDX-License-Identifier: Apache-2.0
// complex.c - scalar functions of complex numbers: libm's in long double where everything is
// finite.
//
// What comes of infinities and NaN, and on which side of a cut a value lies, is what Nx's formulas
// give, which are spelled out here for those cases.
#include <math.h>

#include "pairs.h"
#include "plain.h"

#undef I
#undef complex

typedef long double _Complex number;

static number make(long double re, long double im) { return CMPLXL(re, im); }
static number unknown(void) { return make(NAN, NAN); }
static bool is_finite(number z) { return isfinite(creall(z)) && isfinite(cimagl(z)); }
static bool is_nothing(number z) { return creall(z) == 0 && cimagl(z) == 0; }
static number sum(number x, number y) { return make(creall(x) + creall(y), cimagl(x) + cimagl(y)); }
static number minus(number z) { return make(-creall(z), -cimagl(z)); }

// By the schoolbook, which C's own products are not where infinities are about.
static number product(number x, number y) {
    long double a = creall(x), b = cimagl(x), c = creall(y), d = cimagl(y);
    return make(a * c - b * d, a * d + b * c);
}

// What is finite over a real infinity is 0.
static number ratio(number x, number y) {
    long double a = creall(x), b = cimagl(x), c = creall(y), d = cimagl(y), size = c * c + d * d;
    if (isinf(c) && d == 0 && is_finite(x)) return 0;
    return make((a * c + b * d) / size, (b * c - a * d) / size);
}

static number direction(number z) {
    long double re = creall(z), im = cimagl(z);
    if (is_nothing(z)) return z;
    if (isnan(re) || isnan(im)) return unknown();
    if (isinf(re) || isinf(im)) {
        re = copysignl(isinf(re), re);
        im = copysignl(isinf(im), im);
    }
    long double size = hypotl(re, im);
    return make(re / size, im / size);
}

static long double infinite_as(long double x) {
    return x > 0 ? (long double)INFINITY : x < 0 ? -(long double)INFINITY : (long double)NAN;
}

static number exponential(number z) {
    long double x = creall(z), y = cimagl(z);
    if (is_finite(z)) return cexpl(z);
    if (isinf(x) && x < 0) return 0;
    if (isinf(x) && isfinite(y)) return make(infinite_as(cosl(y)), infinite_as(sinl(y)));
    return isinf(x) && isnan(y) ? z : unknown();
}

static number exponential_less_one(number z) {
    long double x = creall(z), y = cimagl(z), half = sinl(y / 2);
    if (!is_finite(z)) return sum(exponential(z), make(-1, 0));
    return make(expm1l(x) * cosl(y) - 2 * half * half, expl(x) * sinl(y));
}

static number sigmoid(number z) { return ratio(1, sum(exponential(minus(z)), 1)); }

static number halved(number x, number y) {
    number both = sum(x, y);
    return make(creall(both) / 2, cimagl(both) / 2);
}

static number hyperbolic_sine(number z) {
    return is_finite(z) ? csinhl(z) : halved(exponential(z), minus(exponential(minus(z))));
}

static number hyperbolic_cosine(number z) {
    return is_finite(z) ? ccoshl(z) : halved(exponential(z), exponential(minus(z)));
}

static number hyperbolic_tangent(number z) {
    return is_finite(z) ? ctanhl(z) : ratio(hyperbolic_sine(z), hyperbolic_cosine(z));
}

static number sine(number z) {
    long double x = creall(z), y = cimagl(z);
    if (is_finite(z)) return csinl(z);
    return isfinite(x) && isinf(y) ? make(x * y, y) : unknown();
}

static number cosine(number z) {
    long double x = creall(z), y = cimagl(z);
    if (is_finite(z)) return ccosl(z);
    return isfinite(x) && isinf(y) ? make(INFINITY, -y * x) : unknown();
}

static number tangent(number z) { return is_finite(z) ? ctanl(z) : ratio(sine(z), cosine(z)); }

static number logarithm(number z) { return clogl(z); }
static number logarithm_and_one(number z) { return clogl(sum(1, z)); }

// On its cut it is above the real axis, whatever the sign of the 0.
static number root(number z) {
    long double x = creall(z), y = cimagl(z);
    if (is_nothing(z)) return z;
    if (isnan(x) || isnan(y)) return unknown();
    if (isinf(y)) return make(INFINITY, y);
    if (isinf(x)) return x > 0 ? make(x, 0) : make(0, -x);
    return y == 0 && x < 0 ? make(y, sqrtl(-x)) : csqrtl(z);
}

static number inverse_root(number z) { return ratio(1, root(z)); }

static number cubic_root(number z) {
    long double angle = cargl(z) / 3, size = cbrtl(cabsl(z));
    return angle == 0 ? make(size, 0) : make(size * cosl(angle), size * sinl(angle));
}

static number power(number x, number y) {
    long double c = creall(y), d = cimagl(y);
    if (is_nothing(x) && isinf(c) && c > 0 && d == 0) return 0;
    if (!is_finite(x) || !is_finite(y)) return unknown();
    if (is_nothing(x)) return is_nothing(y) ? 1 : 0;
    if (c == 1 && d == 0) return x;
    if (c == -1 && d == 0) return ratio(1, x);
    number polar = clogl(x);
    long double angle = c * cimagl(polar) + d * creall(polar);
    long double size = powl(cabsl(x), c) * expl(-d * cimagl(polar));
    return make(size * cosl(angle), size * sinl(angle));
}

// Nx's log(z + sqrt(z^2 + one)).
static number of_a_sum(number z, long double one) {
    return clogl(sum(z, root(sum(product(z, z), make(one, 0)))));
}

static number inverse_sine(number z) {
    long double x = creall(z);
    if (!is_finite(z)) return unknown();
    return casinl(cimagl(z) == 0 && fabsl(x) > 1 ? make(x, -copysignl(0, x)) : z);
}

// -i log(z + sqrt(z^2 - 1)) is the negative of the principal value where the signs of the parts
// differ.
static number inverse_cosine(number z) {
    long double x = creall(z), y = cimagl(z);
    if (!is_finite(z)) return unknown();
    if (y == 0 && x < -1) return cacosl(make(x, -0.0L));
    if (x == 0 || (y == 0 && x <= 1)) return cacosl(make(x, y == 0 ? 0.0L : y));
    return signbit(x) == signbit(y) ? cacosl(z) : minus(cacosl(z));
}

static number inverse_tangent(number z) {
    long double x = creall(z), y = cimagl(z);
    if (!is_finite(z)) return unknown();
    return catanl(x == 0 && fabsl(y) > 1 ? make(copysignl(0, y), y) : z);
}

static number inverse_hyperbolic_sine(number z) {
    long double x = creall(z), y = cimagl(z);
    if (!is_finite(z)) return of_a_sum(z, 1);
    return casinhl(x == 0 && fabsl(y) > 1 ? make(copysignl(0, y), y) : z);
}

static number inverse_hyperbolic_cosine(number z) {
    if (!is_finite(z)) return of_a_sum(z, -1);
    number angle = inverse_cosine(z);
    return make(-cimagl(angle), creall(angle));
}

static number inverse_hyperbolic_tangent(number z) {
    const long double quarter = 1.57079632679489661923L;
    long double x = creall(z);
    if (!is_finite(z)) return unknown();
    number value = catanhl(z);
    bool cut = cimagl(z) == 0 && fabsl(x) > 1;
    return cut ? make(creall(value), copysignl(quarter, -x)) : value;
}

static number conjugate(number z) { return make(creall(z), -cimagl(z)); }

typedef number (*function)(number z);

static const function functions[SCALAR_COUNT] = {
    [SCALAR_negate] = minus,
    [SCALAR_sign] = direction,
    [SCALAR_conjugate] = conjugate,
    [SCALAR_exp] = exponential,
    [SCALAR_expm1] = exponential_less_one,
    [SCALAR_sigmoid] = sigmoid,
    [SCALAR_sinh] = hyperbolic_sine,
    [SCALAR_cosh] = hyperbolic_cosine,
    [SCALAR_tanh] = hyperbolic_tangent,
    [SCALAR_sin] = sine,
    [SCALAR_cos] = cosine,
    [SCALAR_tan] = tangent,
    [SCALAR_log] = logarithm,
    [SCALAR_log1p] = logarithm_and_one,
    [SCALAR_sqrt] = root,
    [SCALAR_rsqrt] = inverse_root,
    [SCALAR_cbrt] = cubic_root,
    [SCALAR_asin] = inverse_sine,
    [SCALAR_acos] = inverse_cosine,
    [SCALAR_atan] = inverse_tangent,
    [SCALAR_asinh] = inverse_hyperbolic_sine,
    [SCALAR_acosh] = inverse_hyperbolic_cosine,
    [SCALAR_atanh] = inverse_hyperbolic_tangent,
};

static number pair_of(scalar_op op, number x, number y) {
    switch (op) {
    case SCALAR_add: return sum(x, y);
    case SCALAR_subtract: return sum(x, minus(y));
    case SCALAR_multiply: return product(x, y);
    case SCALAR_divide: return ratio(x, y);
    case SCALAR_pow: return power(x, y);
    default: return unknown();
    }
}

static number read(const emlx_number *n) { return make(n->as.f[0], n->as.f[1]); }

emlx_number of_complex(scalar_op op, emlx_type compute, const emlx_number *args) {
    (void)compute;
    emlx_number out = {.kind = EMLX_NUMBER_COMPLEX, .as.f = {args[0].as.f[0], args[1].as.f[0]}};
    if (op == SCALAR_complex) return out;
    number z = read(&args[0]);
    switch (op) {
    case SCALAR_real: return real_number(creall(z));
    case SCALAR_imag: return real_number(cimagl(z));
    case SCALAR_phase: return real_number(cargl(z));
    case SCALAR_abs: return real_number(hypotl(creall(z), cimagl(z)));
    default: break;
    }
    if (scalar_table[op].operands == 2)
        z = pair_of(op, z, read(&args[1]));
    else
        z = functions[op] != NULL ? functions[op](z) : unknown();
    out.as.f[0] = (double)creall(z);
    out.as.f[1] = (double)cimagl(z);
    return out;
}
