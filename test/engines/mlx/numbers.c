// SPDX-License-Identifier: Apache-2.0
// numbers.c - the instructions' functions of numbers, by libm in double.
#include <math.h>

#include "engines/mlx/plain.h"
#include "pairs.h"

emlx_number plain_real(double number) {
    return (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {number}};
}

emlx_number plain_integer(int64_t number) {
    return (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = number};
}

static emlx_number from_complex(double complex z) {
    return (emlx_number){.kind = EMLX_NUMBER_COMPLEX, .as.f = {creal(z), cimag(z)}};
}

static double complex as_complex(emlx_number x) { return CMPLX(x.as.f[0], x.as.f[1]); }
static bool is_integer(emlx_number x) { return x.kind <= EMLX_NUMBER_UNSIGNED; }

bool plain_is_nan(emlx_number x) {
    if (is_integer(x)) return false;
    return isnan(x.as.f[0]) || (x.kind == EMLX_NUMBER_COMPLEX && isnan(x.as.f[1]));
}

bool plain_less(emlx_number x, emlx_number y) {
    if (x.kind == EMLX_NUMBER_SIGNED) return x.as.s < y.as.s;
    return x.kind == EMLX_NUMBER_UNSIGNED ? x.as.u < y.as.u : x.as.f[0] < y.as.f[0];
}

static bool equal(emlx_number x, emlx_number y) {
    if (is_integer(x)) return x.as.u == y.as.u;
    return x.as.f[0] == y.as.f[0] && (x.kind != EMLX_NUMBER_COMPLEX || x.as.f[1] == y.as.f[1]);
}

// Of one operand ----------------------------------------------------------------------------------

static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static double negative(double x) { return -x; }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }

// Newton's steps from a guess that is right in three digits.
static double erfinv(double y) {
    const double pi = 3.14159265358979323846;
    if (!(fabs(y) < 1)) return fabs(y) == 1 ? copysign(INFINITY, y) : NAN;
    double l = log1p(-y * y), a = 2 / (pi * 0.147) + l / 2;
    double x = copysign(sqrt(sqrt(a * a - l / 0.147) - a), y);
    if (fabs(y) < 1e-4) x = sqrt(pi) / 2 * y;
    for (int i = 0; i < 6 && x != 0; i++) {
        double off = erf(x) - y;
        if (y > 0.5) off = (1 - y) - erfc(x);
        if (y < -0.5) off = erfc(-x) - (1 + y);
        x -= off / (2 / sqrt(pi) * exp(-x * x));
    }
    return x;
}

static double (*const reals[MLX_CODE_COUNT])(double) = {
    [MLX_negative] = negative, [MLX_abs] = fabs,        [MLX_sign] = sign,   [MLX_floor] = floor,
    [MLX_ceil] = ceil,         [MLX_exp] = exp,         [MLX_expm1] = expm1, [MLX_log] = log,
    [MLX_log1p] = log1p,       [MLX_sigmoid] = sigmoid, [MLX_sin] = sin,     [MLX_cos] = cos,
    [MLX_tan] = tan,           [MLX_sinh] = sinh,       [MLX_cosh] = cosh,   [MLX_tanh] = tanh,
    [MLX_arcsin] = asin,       [MLX_arccos] = acos,     [MLX_arctan] = atan, [MLX_arcsinh] = asinh,
    [MLX_arccosh] = acosh,     [MLX_arctanh] = atanh,   [MLX_sqrt] = sqrt,   [MLX_rsqrt] = rsqrt,
    [MLX_erf] = erf,           [MLX_erfinv] = erfinv,
};

static emlx_number unary_integer(const plain_call *c, emlx_number x) {
    bool down = x.kind == EMLX_NUMBER_SIGNED && x.as.s < 0;
    switch (c->code) {
    case MLX_abs: x.as.u = down ? 0 - x.as.u : x.as.u; return x;
    case MLX_sign: x.as.s = down ? -1 : x.as.u != 0; return x;
    case MLX_bitwise_invert: x.as.u = ~x.as.u; return x;
    default: plain_refuse(c->run, "instruction %d of an integer", c->code);
    }
}

static emlx_number unary_complex(const plain_call *c, emlx_number x) {
    double complex z = as_complex(x);
    switch (c->code) {
    case MLX_abs: return plain_real(cabs(z));
    case MLX_real: return plain_real(x.as.f[0]);
    case MLX_imag: return plain_real(x.as.f[1]);
    case MLX_conjugate: return from_complex(conj(z));
    case MLX_negative: return from_complex(-z);
    default: plain_refuse(c->run, "instruction %d of a complex number", c->code);
    }
}

emlx_number plain_unary(const plain_call *c, emlx_number x) {
    if (c->code == MLX_isnan) return plain_integer(plain_is_nan(x));
    if (c->code == MLX_isinf && x.kind != EMLX_NUMBER_COMPLEX)
        return plain_integer(x.kind == EMLX_NUMBER_REAL && isinf(x.as.f[0]));
    if (is_integer(x)) return unary_integer(c, x);
    if (x.kind == EMLX_NUMBER_COMPLEX) return unary_complex(c, x);
    if (reals[c->code] == NULL) plain_refuse(c->run, "instruction %d of a float", c->code);
    return plain_real(reals[c->code](x.as.f[0]));
}

// Of two operands ---------------------------------------------------------------------------------

static int64_t floor_divide(plain_run *run, emlx_number x, emlx_number y, int64_t lowest) {
    if (y.as.u == 0) plain_refuse(run, "a division by zero");
    if (x.kind == EMLX_NUMBER_UNSIGNED) return (int64_t)(x.as.u / y.as.u);
    if (y.as.s == -1 && x.as.s == lowest) plain_refuse(run, "the lowest integer by -1");
    int64_t q = x.as.s / y.as.s;
    bool down = x.as.s % y.as.s != 0 && (x.as.s < 0) != (y.as.s < 0);
    return q - (down && !run->truncates);
}

static uint64_t power(plain_run *run, emlx_number x, emlx_number y) {
    uint64_t product = 1, base = x.as.u;
    if (y.kind == EMLX_NUMBER_SIGNED && y.as.s < 0) plain_refuse(run, "a negative exponent");
    for (uint64_t n = y.as.u; n > 0; n >>= 1, base *= base)
        if (n & 1) product *= base;
    return product;
}

static uint64_t shift(plain_run *run, mlx_code code, int bits, emlx_number x, emlx_number y) {
    if (y.as.u >= (uint64_t)bits) plain_refuse(run, "a shift by the width or more");
    if (code == MLX_left_shift) return x.as.u << y.as.u;
    return x.kind == EMLX_NUMBER_SIGNED ? (uint64_t)(x.as.s >> y.as.u) : x.as.u >> y.as.u;
}

static emlx_number binary_integer(plain_run *run, mlx_code code, emlx_type type, emlx_number x,
                                  emlx_number y) {
    int bits = type_table[type].bits;
    int64_t lowest = -(int64_t)(UINT64_C(1) << (bits - 2)) * 2;
    uint64_t a = x.as.u, b = y.as.u;
    switch (code) {
    case MLX_add: a += b; break;
    case MLX_subtract: a -= b; break;
    case MLX_multiply: a *= b; break;
    case MLX_floor_divide: a = (uint64_t)floor_divide(run, x, y, lowest); break;
    case MLX_power: a = power(run, x, y); break;
    case MLX_bitwise_and: a &= b; break;
    case MLX_bitwise_or: a |= b; break;
    case MLX_bitwise_xor: a ^= b; break;
    case MLX_left_shift:
    case MLX_right_shift: a = shift(run, code, bits, x, y); break;
    default: plain_refuse(run, "instruction %d of integers", code);
    }
    x.as.u = a;
    return x;
}

static emlx_number binary_complex(plain_run *run, mlx_code code, double complex x,
                                  double complex y) {
    switch (code) {
    case MLX_add: return from_complex(x + y);
    case MLX_subtract: return from_complex(x - y);
    default: plain_refuse(run, "instruction %d of complex numbers", code);
    }
}

static double binary_real(plain_run *run, mlx_code code, double x, double y) {
    switch (code) {
    case MLX_add: return x + y;
    case MLX_subtract: return x - y;
    case MLX_multiply: return x * y;
    case MLX_divide: return x / y;
    case MLX_remainder: {
        double rest = fmod(x, y);
        return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    }
    case MLX_power: return pow(x, y);
    case MLX_arctan2: return atan2(x, y);
    default: plain_refuse(run, "instruction %d of floats", code);
    }
}

static int test(mlx_code code, emlx_number x, emlx_number y) {
    switch (code) {
    case MLX_equal: return equal(x, y);
    case MLX_not_equal: return !equal(x, y);
    case MLX_less: return plain_less(x, y);
    case MLX_greater: return plain_less(y, x);
    case MLX_less_equal: return plain_less(x, y) || equal(x, y);
    case MLX_greater_equal: return plain_less(y, x) || equal(x, y);
    case MLX_logical_or: return x.as.u != 0 || y.as.u != 0;
    case MLX_logical_and: return x.as.u != 0 && y.as.u != 0;
    default: return -1;
    }
}

emlx_number plain_binary(plain_run *run, mlx_code code, emlx_type type, emlx_number x,
                         emlx_number y) {
    int truth = test(code, x, y);
    if (truth >= 0) return plain_integer(truth);
    if (is_integer(x)) return binary_integer(run, code, type, x, y);
    if (x.kind == EMLX_NUMBER_COMPLEX)
        return binary_complex(run, code, as_complex(x), as_complex(y));
    return plain_real(binary_real(run, code, x.as.f[0], y.as.f[0]));
}
