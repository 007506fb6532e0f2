// SPDX-License-Identifier: Apache-2.0
// scalar.c - scalar functions with MLX's: where ours mean something else, a few of its functions
// together. Nothing that ends the process there (a division by zero, the lowest integer by -1, a
// shift by more than the width) reaches it.
#include "base/types.h"
#include "engines/mlx/lower/builder.h"

// The type a function is computed in, and its operands in it.
typedef struct scalar_call {
    emlx_type type;
    mlx_dtype dtype;
    bool integer, sign, complex;
    value x, y, z;
} scalar_call;

static value zero(builder *b, const scalar_call *c) { return mlx_integer(b, 0, c->dtype); }
static value one(builder *b, const scalar_call *c) { return mlx_integer(b, 1, c->dtype); }
static value minus_one(builder *b, const scalar_call *c) { return mlx_integer(b, -1, c->dtype); }
// Real numbers have literals of their own, as an integer's bits are not theirs.
static value number(builder *b, const scalar_call *c, double n) {
    return c->integer ? mlx_integer(b, (int64_t)n, c->dtype) : mlx_real(b, n, c->dtype);
}
static value truth(builder *b, value x) { return mlx_to_dtype(b, x, MLX_DTYPE_u8); }

// Signs and rounding ------------------------------------------------------------------------------

static value lower_identity(builder *b, const scalar_call *c) {
    (void)b;
    return c->x;
}

static value lower_negate(builder *b, const scalar_call *c) {
    return c->integer ? mlx_binary(b, MLX_subtract, zero(b, c), c->x)
                      : mlx_unary(b, MLX_negative, c->x);
}

static value lower_abs(builder *b, const scalar_call *c) {
    if (c->complex) return mlx_emit(b, MLX_abs, MLX_DTYPE_f32, &c->x, 1, NULL, 0);
    return c->integer && !c->sign ? c->x : mlx_unary(b, MLX_abs, c->x);
}

// A zero keeps its sign, a NaN stays.
static value sign_of_real(builder *b, const scalar_call *c, value x) {
    value nought = number(b, c, 0);
    value down = mlx_where(b, mlx_test(b, MLX_less, x, nought), number(b, c, -1), x);
    return mlx_where(b, mlx_test(b, MLX_greater, x, nought), number(b, c, 1), down);
}

static value lower_sign(builder *b, const scalar_call *c) {
    return c->integer ? mlx_unary(b, MLX_sign, c->x) : sign_of_real(b, c, c->x);
}

static value lower_floor(builder *b, const scalar_call *c) {
    return c->integer ? c->x : mlx_unary(b, MLX_floor, c->x);
}

static value lower_ceil(builder *b, const scalar_call *c) {
    return c->integer ? c->x : mlx_unary(b, MLX_ceil, c->x);
}

// Half away from zero, and never -0.
static value lower_round(builder *b, const scalar_call *c) {
    if (c->integer) return c->x;
    value down = mlx_test(b, MLX_less, c->x, number(b, c, 0));
    value whole = mlx_where(b, down, mlx_unary(b, MLX_ceil, c->x), mlx_unary(b, MLX_floor, c->x));
    value rest = mlx_unary(b, MLX_abs, mlx_binary(b, MLX_subtract, c->x, whole));
    value far = mlx_test(b, MLX_greater_equal, rest, number(b, c, 0.5));
    value next = mlx_binary(b, MLX_add, whole, sign_of_real(b, c, c->x));
    return mlx_binary(b, MLX_add, mlx_where(b, far, next, whole), number(b, c, 0));
}

// Bits --------------------------------------------------------------------------------------------

static value lower_bitwise_not(builder *b, const scalar_call *c) {
    return mlx_unary(b, MLX_bitwise_invert, c->x);
}

// The bits of an integer, as a number of 32 or 64 of them.
static value bits_of(builder *b, const scalar_call *c, mlx_dtype d) {
    static const mlx_dtype same[] = {
        [1] = MLX_DTYPE_u8, [2] = MLX_DTYPE_u16, [4] = MLX_DTYPE_u32, [8] = MLX_DTYPE_u64};
    int bits = type_table[c->type].bits;
    value x = c->x;
    if (c->sign) x = mlx_emit(b, MLX_view, same[type_size(c->type)], &x, 1, NULL, 0);
    if (bits < 8)
        x = mlx_binary(b, MLX_bitwise_and, x, mlx_integer(b, (1 << bits) - 1, MLX_DTYPE_u8));
    return mlx_to_dtype(b, x, d);
}

static mlx_dtype counting(const scalar_call *c) {
    return type_table[c->type].bits <= 32 ? MLX_DTYPE_u32 : MLX_DTYPE_u64;
}

static value shifted(builder *b, value x, int64_t by) {
    return mlx_binary(b, MLX_right_shift, x, mlx_integer(b, by, mlx_dtype_of(b, x)));
}

static value masked(builder *b, value x, uint64_t mask) {
    return mlx_binary(b, MLX_bitwise_and, x, mlx_integer(b, (int64_t)mask, mlx_dtype_of(b, x)));
}

// Sums of pairs of bits, of pairs of those, and so on.
static value count_bits(builder *b, value x) {
    bool wide = mlx_dtype_of(b, x) == MLX_DTYPE_u64;
    uint64_t cut = wide ? UINT64_MAX : UINT32_MAX;
    value odd = masked(b, shifted(b, x, 1), 0x5555555555555555u & cut);
    x = mlx_binary(b, MLX_subtract, x, odd);
    value high = masked(b, shifted(b, x, 2), 0x3333333333333333u & cut);
    x = mlx_binary(b, MLX_add, masked(b, x, 0x3333333333333333u & cut), high);
    x = masked(b, mlx_binary(b, MLX_add, x, shifted(b, x, 4)), 0x0f0f0f0f0f0f0f0fu & cut);
    value ones = mlx_integer(b, (int64_t)(0x0101010101010101u & cut), mlx_dtype_of(b, x));
    return shifted(b, mlx_binary(b, MLX_multiply, x, ones), wide ? 56 : 24);
}

static value lower_population_count(builder *b, const scalar_call *c) {
    return mlx_to_dtype(b, count_bits(b, bits_of(b, c, counting(c))), c->dtype);
}

static value lower_count_leading_zeros(builder *b, const scalar_call *c) {
    value x = bits_of(b, c, counting(c));
    int bits = counting(c) == MLX_DTYPE_u32 ? 32 : 64;
    for (int n = 1; n < bits; n *= 2) x = mlx_binary(b, MLX_bitwise_or, x, shifted(b, x, n));
    value all = mlx_integer(b, type_table[c->type].bits, mlx_dtype_of(b, x));
    return mlx_to_dtype(b, mlx_binary(b, MLX_subtract, all, count_bits(b, x)), c->dtype);
}

static value lower_bitwise_and(builder *b, const scalar_call *c) {
    return mlx_binary(b, MLX_bitwise_and, c->x, c->y);
}
static value lower_bitwise_or(builder *b, const scalar_call *c) {
    return mlx_binary(b, MLX_bitwise_or, c->x, c->y);
}
static value lower_bitwise_xor(builder *b, const scalar_call *c) {
    return mlx_binary(b, MLX_bitwise_xor, c->x, c->y);
}

// *far: where the shift is by the width or more, or by less than nothing.
static value safe_shift(builder *b, const scalar_call *c, value *far) {
    *far = mlx_test(b, MLX_greater_equal, c->y, mlx_integer(b, type_table[c->type].bits, c->dtype));
    if (c->sign) *far = mlx_test(b, MLX_logical_or, *far, mlx_test(b, MLX_less, c->y, zero(b, c)));
    return mlx_where(b, *far, zero(b, c), c->y);
}

static value lower_left_shift(builder *b, const scalar_call *c) {
    value far, by = safe_shift(b, c, &far);
    return mlx_where(b, far, zero(b, c), mlx_binary(b, MLX_left_shift, c->x, by));
}

static value lower_right_shift(builder *b, const scalar_call *c) {
    value far, by = safe_shift(b, c, &far), gone = zero(b, c);
    if (c->sign)
        gone = mlx_where(b, mlx_test(b, MLX_less, c->x, zero(b, c)), minus_one(b, c), gone);
    return mlx_where(b, far, gone, mlx_binary(b, MLX_right_shift, c->x, by));
}

// Complex numbers --------------------------------------------------------------------------------

static value part(builder *b, mlx_code code, value x) {
    return mlx_emit(b, code, MLX_DTYPE_f32, &x, 1, NULL, 0);
}

static value lower_real(builder *b, const scalar_call *c) { return part(b, MLX_real, c->x); }
static value lower_imag(builder *b, const scalar_call *c) { return part(b, MLX_imag, c->x); }

static value lower_phase(builder *b, const scalar_call *c) {
    return mlx_binary(b, MLX_arctan2, part(b, MLX_imag, c->x), part(b, MLX_real, c->x));
}

static value lower_complex(builder *b, const scalar_call *c) {
    return mlx_emit(b, MLX_pair, MLX_DTYPE_c64, (value[]){c->x, c->y}, 2, NULL, 0);
}

// Tests ------------------------------------------------------------------------------------------

static value nought(builder *b, const scalar_call *c) {
    return c->complex ? mlx_real(b, 0, MLX_DTYPE_c64) : number(b, c, 0);
}
static value lower_truth(builder *b, const scalar_call *c) {
    return truth(b, mlx_test(b, MLX_not_equal, c->x, nought(b, c)));
}
static value lower_logical_not(builder *b, const scalar_call *c) {
    return truth(b, mlx_test(b, MLX_equal, c->x, nought(b, c)));
}
static value lower_is_nan(builder *b, const scalar_call *c) {
    return truth(b, mlx_emit(b, MLX_isnan, MLX_DTYPE_bool, &c->x, 1, NULL, 0));
}

static value lower_is_infinity(builder *b, const scalar_call *c) {
    if (!c->complex) return truth(b, mlx_emit(b, MLX_isinf, MLX_DTYPE_bool, &c->x, 1, NULL, 0));
    value parts[2] = {part(b, MLX_real, c->x), part(b, MLX_imag, c->x)};
    for (int i = 0; i < 2; i++)
        parts[i] = mlx_emit(b, MLX_isinf, MLX_DTYPE_bool, &parts[i], 1, NULL, 0);
    return truth(b, mlx_test(b, MLX_logical_or, parts[0], parts[1]));
}

// Math -------------------------------------------------------------------------------------------

static value lower_cbrt(builder *b, const scalar_call *c) {
    value root = mlx_binary(b, MLX_power, mlx_unary(b, MLX_abs, c->x), number(b, c, 1.0 / 3));
    value down = mlx_test(b, MLX_less, c->x, number(b, c, 0));
    value signed_root = mlx_where(b, down, mlx_unary(b, MLX_negative, root), root);
    return mlx_where(b, mlx_test(b, MLX_equal, c->x, number(b, c, 0)), c->x, signed_root);
}

// Arithmetic -------------------------------------------------------------------------------------

// Truncated. MLX's division of integers rounds down in some versions and truncates in others: where
// the rest has not the sign of the dividend, it went one too far.
static value truncated(builder *b, const scalar_call *c) {
    value none = mlx_test(b, MLX_equal, c->y, zero(b, c)), by = mlx_where(b, none, one(b, c), c->y);
    value minus = none;
    if (c->sign) {
        minus = mlx_test(b, MLX_equal, c->y, minus_one(b, c));
        by = mlx_where(b, minus, one(b, c), by);
    }
    value q = mlx_binary(b, MLX_floor_divide, c->x, by);
    if (!c->sign) return mlx_where(b, none, zero(b, c), q);
    value rest = mlx_binary(b, MLX_subtract, c->x, mlx_binary(b, MLX_multiply, q, by));
    value left = mlx_test(b, MLX_not_equal, rest, zero(b, c));
    value other = mlx_test(b, MLX_not_equal, mlx_test(b, MLX_less, rest, zero(b, c)),
                           mlx_test(b, MLX_less, c->x, zero(b, c)));
    value up = mlx_test(b, MLX_logical_and, left, other);
    q = mlx_where(b, up, mlx_binary(b, MLX_add, q, one(b, c)), q);
    q = mlx_where(b, minus, mlx_binary(b, MLX_subtract, zero(b, c), c->x), q);
    return mlx_where(b, none, zero(b, c), q);
}

// With the dividend's sign, that of a zero included. Of magnitudes, MLX's remainder is fmod.
static value lower_remainder(builder *b, const scalar_call *c) {
    if (c->integer) {
        value q = mlx_wrap(b, truncated(b, c), c->type);
        value rest = mlx_binary(b, MLX_subtract, c->x, mlx_binary(b, MLX_multiply, q, c->y));
        return mlx_where(b, mlx_test(b, MLX_equal, c->y, zero(b, c)), zero(b, c), rest);
    }
    value rest =
        mlx_binary(b, MLX_remainder, mlx_unary(b, MLX_abs, c->x), mlx_unary(b, MLX_abs, c->y));
    value inverse = mlx_binary(b, MLX_divide, number(b, c, 1), c->x);
    value down = mlx_test(b, MLX_logical_or, mlx_test(b, MLX_less, c->x, number(b, c, 0)),
                          mlx_test(b, MLX_less, inverse, number(b, c, 0)));
    return mlx_where(b, down, mlx_unary(b, MLX_negative, rest), rest);
}

// Negative exponents of integers: 1 and -1 have a power, others give 0.
static value lower_pow(builder *b, const scalar_call *c) {
    if (!c->sign) return mlx_binary(b, MLX_power, c->x, c->y);
    value down = mlx_test(b, MLX_less, c->y, zero(b, c));
    value power = mlx_binary(b, MLX_power, c->x, mlx_where(b, down, zero(b, c), c->y));
    value even =
        mlx_test(b, MLX_equal, mlx_binary(b, MLX_bitwise_and, c->y, one(b, c)), zero(b, c));
    value of_minus = mlx_where(b, even, one(b, c), minus_one(b, c));
    value of_one = mlx_where(b, mlx_test(b, MLX_equal, c->x, one(b, c)), one(b, c), zero(b, c));
    value inverse = mlx_where(b, mlx_test(b, MLX_equal, c->x, minus_one(b, c)), of_minus, of_one);
    return mlx_where(b, down, inverse, power);
}

// NaN where either is; the first of two that compare equal.
static value extreme(builder *b, const scalar_call *c, mlx_code code) {
    value second = mlx_test(b, code, c->y, c->x);
    if (!c->integer) {
        value nan = mlx_emit(b, MLX_isnan, MLX_DTYPE_bool, &c->y, 1, NULL, 0);
        second = mlx_test(b, MLX_logical_or, second, nan);
    }
    return mlx_where(b, second, c->y, c->x);
}
static value lower_max(builder *b, const scalar_call *c) { return extreme(b, c, MLX_greater); }
static value lower_min(builder *b, const scalar_call *c) { return extreme(b, c, MLX_less); }

static value lower_select(builder *b, const scalar_call *c) {
    return mlx_where(b, mlx_to_dtype(b, c->x, MLX_DTYPE_bool), c->y, c->z);
}

static value lower_clip(builder *b, const scalar_call *c) {
    value low = mlx_where(b, mlx_test(b, MLX_greater, c->x, c->y), c->x, c->y);
    return mlx_where(b, mlx_test(b, MLX_less, low, c->z), low, c->z);
}

// The table --------------------------------------------------------------------------------------

// A function of ours: one of MLX's of one or two operands, a comparison, or what is above.
typedef struct scalar_row {
    value (*lower)(builder *, const scalar_call *);
    uint16_t unary, binary, test; // mlx_code + 1; 0: not so
} scalar_row;

#define COMPOSED(name) [SCALAR_##name] = {.lower = lower_##name}
#define ONE(name, code) [SCALAR_##name] = {.unary = MLX_##code + 1}
#define TWO(name, code) [SCALAR_##name] = {.binary = MLX_##code + 1}
#define TEST(name) [SCALAR_##name] = {.test = MLX_##name + 1}

static const scalar_row rows[SCALAR_COUNT] = {
    COMPOSED(identity),
    COMPOSED(negate),
    COMPOSED(abs),
    COMPOSED(sign),
    COMPOSED(floor),
    COMPOSED(ceil),
    COMPOSED(round),
    COMPOSED(bitwise_not),
    COMPOSED(population_count),
    COMPOSED(count_leading_zeros),
    ONE(conjugate, conjugate),
    COMPOSED(real),
    COMPOSED(imag),
    COMPOSED(phase),
    COMPOSED(complex),
    COMPOSED(truth),
    COMPOSED(logical_not),
    COMPOSED(is_nan),
    COMPOSED(is_infinity),
    ONE(exp, exp),
    ONE(expm1, expm1),
    ONE(log, log),
    ONE(log1p, log1p),
    ONE(sigmoid, sigmoid),
    ONE(sin, sin),
    ONE(cos, cos),
    ONE(tan, tan),
    ONE(sinh, sinh),
    ONE(cosh, cosh),
    ONE(tanh, tanh),
    ONE(asin, arcsin),
    ONE(acos, arccos),
    ONE(atan, arctan),
    ONE(asinh, arcsinh),
    ONE(acosh, arccosh),
    ONE(atanh, arctanh),
    ONE(sqrt, sqrt),
    ONE(rsqrt, rsqrt),
    COMPOSED(cbrt),
    ONE(erf, erf),
    ONE(erf_inv, erfinv),
    TWO(add, add),
    TWO(subtract, subtract),
    TWO(multiply, multiply),
    TWO(divide, divide),
    [SCALAR_quotient] = {.lower = truncated},
    COMPOSED(remainder),
    COMPOSED(pow),
    TWO(atan2, arctan2),
    COMPOSED(max),
    COMPOSED(min),
    COMPOSED(bitwise_and),
    COMPOSED(bitwise_or),
    COMPOSED(bitwise_xor),
    COMPOSED(left_shift),
    COMPOSED(right_shift),
    TEST(equal),
    TEST(not_equal),
    TEST(less),
    TEST(less_equal),
    TEST(greater),
    TEST(greater_equal),
    COMPOSED(select),
    COMPOSED(clip),
};

value mlx_lower_scalar(builder *b, scalar_op op, emlx_type type, const value *operands) {
    const scalar_row *row = &rows[op];
    scalar_call c = {.type = type,
                     .dtype = mlx_dtype_for(type),
                     .integer = type_is_integer(type),
                     .sign = type_class_of(type) == CLASS_SIGNED,
                     .complex = type_is_complex(type),
                     .x = operands[0],
                     .y = operands[1],
                     .z = operands[2]};
    value out;
    if (row->lower != NULL)
        out = row->lower(b, &c);
    else if (row->test != 0)
        out = truth(b, mlx_test(b, (mlx_code)(row->test - 1), c.x, c.y));
    else if (row->binary != 0)
        out = mlx_binary(b, (mlx_code)(row->binary - 1), c.x, c.y);
    else
        out = mlx_unary(b, (mlx_code)(row->unary - 1), c.x);
    return mlx_wrap(b, out, scalar_result_type(op, type));
}

// Map --------------------------------------------------------------------------------------------

static value broadcast(builder *b, value x, const plan_node *n) {
    return mlx_emit(b, MLX_broadcast_to, mlx_dtype_of(b, x), &x, 1, n->shape.dims,
                    (size_t)n->shape.rank);
}

static value lower_guard(builder *b, const plan_node *n, guard_kind guard) {
    value bad = mlx_to_dtype(b, mlx_operand_value(b, n, 1), MLX_DTYPE_bool);
    int64_t ints[EMLX_MAX_RANK + 1] = {0};
    int32_t rank = mlx_operand_node(b, n, 1)->shape.rank;
    for (int32_t d = 0; d < rank; d++) ints[d + 1] = d;
    bad = mlx_emit(b, MLX_any, MLX_DTYPE_bool, &bad, 1, ints, (size_t)rank + 1);
    mlx_add_check(b, (mlx_check){.guard = (uint8_t)guard}, bad, bad);
    return broadcast(b, mlx_operand_value(b, n, 0), n);
}

value mlx_lower_map(builder *b, const plan_node *n) {
    const map_params *p = n->params;
    value operands[3] = {0};
    if (p->guard != GUARD_NONE) return lower_guard(b, n, (guard_kind)p->guard);
    for (uint32_t i = 0; i < n->operand_count; i++) {
        bool as_is = p->op == SCALAR_bitcast || (i == 0 && p->op == SCALAR_select);
        operands[i] = mlx_operand_value(b, n, i);
        if (!as_is)
            operands[i] =
                mlx_cast(b, operands[i], mlx_operand_node(b, n, i)->type, (emlx_type)p->compute);
    }
    if (p->op == SCALAR_bitcast)
        return broadcast(b, mlx_emit(b, MLX_view, mlx_dtype_for(n->type), operands, 1, NULL, 0), n);
    emlx_type computed = scalar_result_type((scalar_op)p->op, (emlx_type)p->compute);
    value y = mlx_lower_scalar(b, (scalar_op)p->op, (emlx_type)p->compute, operands);
    return broadcast(b, mlx_cast(b, y, computed, n->type), n);
}
