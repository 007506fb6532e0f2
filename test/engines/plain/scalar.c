// SPDX-License-Identifier: Apache-2.0
// scalar.c - scalar functions of integers and of real numbers: libm's in long double.
#include <math.h>

#include "plain.h"

// Real numbers ------------------------------------------------------------------------------------

static long double sigmoid(long double x) { return 1 / (1 + expl(-x)); }
static long double rsqrt(long double x) { return 1 / sqrtl(x); }
static long double sign(long double x) { return x > 0 || x < 0 ? copysignl(1, x) : x; }
static long double negate(long double x) { return -x; }
// Half away from 0; there is no -0.
static long double round_away(long double x) { return roundl(x) + 0.0L; }

// By the polynomials of M. Giles (Approximating the erfinv function, 2010), which Nx has: they give
// the digits of f32 only, but those of random numbers depend on them.
static long double erf_inv(long double x) {
    static const double near[] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                  -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                  -0.00417768164,  0.246640727,    1.50140941};
    static const double far[] = {-0.000200214257, 0.000100950558, 0.00134934322,
                                 -0.00367342844,  0.00573950773,  -0.0076224613,
                                 0.00943887047,   1.00167406,     2.83297682};
    double y = (double)x, w = (double)-logl((1 - x) * (1 + x));
    bool is_near = w < 5;
    const double *factors = is_near ? near : far;
    double at = is_near ? w - 2.5 : sqrt(w) - 3, sum = factors[0];
    for (int i = 1; i < 9; i++) sum = sum * at + factors[i];
    if (fabs(y) == 1) return copysignl(INFINITY, x);
    return sum * y;
}

typedef long double (*real_fn)(long double x);

static const real_fn real_functions[SCALAR_COUNT] = {
    [SCALAR_negate] = negate,   [SCALAR_abs] = fabsl,       [SCALAR_sign] = sign,
    [SCALAR_floor] = floorl,    [SCALAR_ceil] = ceill,      [SCALAR_round] = round_away,
    [SCALAR_exp] = expl,        [SCALAR_expm1] = expm1l,    [SCALAR_log] = logl,
    [SCALAR_log1p] = log1pl,    [SCALAR_sin] = sinl,        [SCALAR_cos] = cosl,
    [SCALAR_tan] = tanl,        [SCALAR_sinh] = sinhl,      [SCALAR_cosh] = coshl,
    [SCALAR_tanh] = tanhl,      [SCALAR_asin] = asinl,      [SCALAR_acos] = acosl,
    [SCALAR_atan] = atanl,      [SCALAR_asinh] = asinhl,    [SCALAR_acosh] = acoshl,
    [SCALAR_atanh] = atanhl,    [SCALAR_sqrt] = sqrtl,      [SCALAR_rsqrt] = rsqrt,
    [SCALAR_cbrt] = cbrtl,      [SCALAR_erf] = erfl,        [SCALAR_erfc] = erfcl,
    [SCALAR_sigmoid] = sigmoid, [SCALAR_erf_inv] = erf_inv,
};

static long double real_pair(scalar_op op, long double x, long double y) {
    switch (op) {
    case SCALAR_add: return x + y;
    case SCALAR_subtract: return x - y;
    case SCALAR_multiply: return x * y;
    case SCALAR_divide: return x / y;
    case SCALAR_remainder: return fmodl(x, y);
    case SCALAR_pow: return powl(x, y);
    case SCALAR_atan2: return atan2l(x, y);
    // NaN if either is; of equals the first.
    case SCALAR_max: return y > x || y != y ? y : x;
    case SCALAR_min: return y < x || y != y ? y : x;
    default: return (long double)NAN;
    }
}

static emlx_number of_reals(scalar_op op, const emlx_number *args) {
    long double x = args[0].as.f[0];
    if (scalar_table[op].operands == 2) return real_number(real_pair(op, x, args[1].as.f[0]));
    return real_number(real_functions[op] != NULL ? real_functions[op](x) : (long double)NAN);
}

// Integers ----------------------------------------------------------------------------------------

// They are computed in 64 bits, and wrap to their own width when they are stored.
typedef struct integers {
    bool is_signed;
    int bits;
    uint64_t x, y;
} integers;

static bool negative(const integers *n, uint64_t x) { return n->is_signed && (int64_t)x < 0; }
static uint64_t size_of(const integers *n, uint64_t x) { return negative(n, x) ? 0 - x : x; }

// Toward 0, and 0 where the divisor is.
static uint64_t quotient(const integers *n) {
    if (n->y == 0) return 0;
    uint64_t size = size_of(n, n->x) / size_of(n, n->y);
    return negative(n, n->x) != negative(n, n->y) ? 0 - size : size;
}

static uint64_t power(const integers *n) {
    uint64_t result = 1;
    if (negative(n, n->y)) {
        bool odd = n->y & 1;
        if (n->x == 1) return 1;
        return n->x != UINT64_MAX ? 0 : odd ? UINT64_MAX : 1;
    }
    for (uint64_t left = n->y, square = n->x; left > 0; left >>= 1, square *= square)
        if (left & 1) result *= square;
    return result;
}

// A negative amount is as good as a large one.
static uint64_t shift_left(const integers *n) {
    return n->y < (uint64_t)n->bits ? n->x << n->y : 0;
}

static uint64_t shift_right(const integers *n) {
    if (n->y >= (uint64_t)n->bits) return negative(n, n->x) ? UINT64_MAX : 0;
    return n->is_signed ? (uint64_t)((int64_t)n->x >> n->y) : n->x >> n->y;
}

// The bits of its own width.
static uint64_t own_bits(const integers *n) { return n->x & UINT64_MAX >> (64 - n->bits); }

static uint64_t count_ones(uint64_t x) {
    uint64_t count = 0;
    for (; x != 0; x >>= 1) count += x & 1;
    return count;
}

static uint64_t leading_zeros(const integers *n) {
    uint64_t count = (uint64_t)n->bits;
    for (uint64_t x = own_bits(n); x != 0; x >>= 1) count--;
    return count;
}

static uint64_t integer_one(scalar_op op, const integers *n) {
    switch (op) {
    case SCALAR_negate: return 0 - n->x;
    case SCALAR_abs: return size_of(n, n->x);
    case SCALAR_sign: return negative(n, n->x) ? UINT64_MAX : n->x != 0;
    case SCALAR_bitwise_not: return ~n->x;
    case SCALAR_population_count: return count_ones(own_bits(n));
    case SCALAR_count_leading_zeros: return leading_zeros(n);
    case SCALAR_floor:
    case SCALAR_ceil:
    case SCALAR_round: return n->x;
    default: return 0;
    }
}

static uint64_t integer_pair(scalar_op op, const integers *n, bool first_less, bool last_less) {
    switch (op) {
    case SCALAR_add: return n->x + n->y;
    case SCALAR_subtract: return n->x - n->y;
    case SCALAR_multiply: return n->x * n->y;
    case SCALAR_quotient: return quotient(n);
    case SCALAR_remainder: return n->y == 0 ? 0 : n->x - quotient(n) * n->y;
    case SCALAR_pow: return power(n);
    case SCALAR_max: return first_less ? n->y : n->x;
    case SCALAR_min: return last_less ? n->y : n->x;
    case SCALAR_bitwise_and: return n->x & n->y;
    case SCALAR_bitwise_or: return n->x | n->y;
    case SCALAR_bitwise_xor: return n->x ^ n->y;
    case SCALAR_left_shift: return shift_left(n);
    case SCALAR_right_shift: return shift_right(n);
    default: return 0;
    }
}

static emlx_number of_integers(scalar_op op, emlx_type type, const emlx_number *args) {
    bool two = scalar_table[op].operands == 2;
    integers n = {type_class_of(type) == CLASS_SIGNED, type_table[type].bits, args[0].as.u,
                  two ? args[1].as.u : 0};
    emlx_number out = {.kind = n.is_signed ? EMLX_NUMBER_SIGNED : EMLX_NUMBER_UNSIGNED};
    if (two)
        out.as.u =
            integer_pair(op, &n, number_less(args[0], args[1]), number_less(args[1], args[0]));
    else
        out.as.u = integer_one(op, &n);
    return out;
}

// Tests and choices, of all kinds -----------------------------------------------------------------

static bool is_zero(emlx_number x) {
    if (x.kind < EMLX_NUMBER_REAL) return x.as.u == 0;
    return x.as.f[0] == 0 && (x.kind == EMLX_NUMBER_REAL || x.as.f[1] == 0);
}

static bool is_infinite(emlx_number x) {
    if (x.kind < EMLX_NUMBER_REAL) return false;
    return isinf(x.as.f[0]) || (x.kind == EMLX_NUMBER_COMPLEX && isinf(x.as.f[1]));
}

static bool are_equal(emlx_number x, emlx_number y) {
    if (x.kind < EMLX_NUMBER_REAL) return x.as.u == y.as.u;
    return x.as.f[0] == y.as.f[0] && (x.kind == EMLX_NUMBER_REAL || x.as.f[1] == y.as.f[1]);
}

static bool test_of(scalar_op op, const emlx_number *args) {
    emlx_number x = args[0], y = args[1];
    switch (op) {
    case SCALAR_truth: return !is_zero(x);
    case SCALAR_logical_not: return is_zero(x);
    case SCALAR_is_nan: return number_is_nan(x);
    case SCALAR_is_infinity: return is_infinite(x);
    case SCALAR_equal: return are_equal(x, y);
    case SCALAR_not_equal: return !are_equal(x, y);
    case SCALAR_less: return number_less(x, y);
    case SCALAR_less_equal: return number_less(x, y) || are_equal(x, y);
    case SCALAR_greater: return number_less(y, x);
    default: return number_less(y, x) || are_equal(x, y);
    }
}

// A NaN is not between its bounds and gives the lower one; a NaN for the upper bound is the result.
static emlx_number clip(const emlx_number *args) {
    emlx_number x = number_less(args[1], args[0]) ? args[0] : args[1];
    return number_less(x, args[2]) ? x : args[2];
}

emlx_number scalar_of(scalar_op op, emlx_type compute, const emlx_number *args) {
    if (scalar_table[op].gives == GIVES_BOOL)
        return (emlx_number){.kind = EMLX_NUMBER_UNSIGNED, .as.u = test_of(op, args)};
    if (op == SCALAR_select) return is_zero(args[0]) ? args[2] : args[1];
    if (op == SCALAR_clip) return clip(args);
    if (op == SCALAR_identity) return args[0];
    if (type_is_complex(compute) || scalar_table[op].gives == GIVES_COMPLEX)
        return of_complex(op, compute, args);
    return type_is_integer(compute) ? of_integers(op, compute, args) : of_reals(op, args);
}

// Maps --------------------------------------------------------------------------------------------

static emlx_number same_bits(emlx_type from, emlx_type to, emlx_number x) {
    scalar_value room = {0};
    type_store(from, &x, room.bytes);
    return type_load(to, room.bytes);
}

emlx_status map_of(const map_params *p, const emlx_type *from, emlx_type type, emlx_number *args,
                   emlx_number *out, emlx_error *err) {
    scalar_op op = (scalar_op)p->op;
    emlx_type compute = (emlx_type)p->compute;
    if (p->guard != GUARD_NONE) {
        *out = rounded_to(type, args[0]);
        return is_zero(args[1]) ? EMLX_OK : guard_error((guard_kind)p->guard, NULL, err);
    }
    if (op == SCALAR_bitcast) {
        *out = same_bits(from[0], type, args[0]);
        return EMLX_OK;
    }
    for (int i = op == SCALAR_select; i < scalar_table[op].operands; i++)
        args[i] = rounded_to(compute, args[i]);
    *out = rounded_to(scalar_result_type(op, compute), scalar_of(op, compute, args));
    *out = rounded_to(type, *out);
    return EMLX_OK;
}
