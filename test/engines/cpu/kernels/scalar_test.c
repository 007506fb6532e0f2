// SPDX-License-Identifier: Apache-2.0
// scalar_test.c - every scalar function of every type and level, against plain code: integers in
// 128 bits, floats in double. Lengths around the widths of vectors, in place, at odd addresses.
#include "support.h"

__extension__ typedef __int128 wide;

// References --------------------------------------------------------------------------------------

typedef struct integer_type {
    int bits;
    bool is_signed;
} integer_type;

typedef wide (*integer_fn)(wide x, wide y, wide z, integer_type t);

#define INTEGER(name, value)                                                                       \
    static wide integer_##name(wide x, wide y, wide z, integer_type t) {                           \
        (void)x, (void)y, (void)z, (void)t;                                                        \
        return value;                                                                              \
    }

static wide low_bits(wide x, integer_type t) { return x & (((wide)1 << t.bits) - 1); }

static wide bits_set(wide x, integer_type t) {
    wide count = 0;
    for (int i = 0; i < t.bits; i++) count += x >> i & 1;
    return count;
}

static wide zeros_above(wide x, integer_type t) {
    int count = 0;
    while (count < t.bits && (low_bits(x, t) >> (t.bits - 1 - count) & 1) == 0) count++;
    return count;
}

// From the highest bit of the exponent down.
static wide power(wide x, wide y) {
    if (y < 0) return x == 1 ? 1 : x == -1 ? (y & 1 ? -1 : 1) : 0;
    uint64_t result = 1;
    for (int i = 63; i >= 0; i--) {
        result *= result;
        if (y >> i & 1) result *= (uint64_t)x;
    }
    return (wide)result;
}

static wide shift_left(wide x, wide y, integer_type t) {
    return low_bits(y, t) >= t.bits || y < 0 ? 0 : x * ((wide)1 << y);
}

static wide shift_right(wide x, wide y, integer_type t) {
    return y < 0 || y >= t.bits ? (x < 0 ? -1 : 0) : x >> y;
}

INTEGER(negate, -x)
INTEGER(abs, x < 0 ? -x : x)
INTEGER(sign, (x > 0) - (x < 0))
INTEGER(same, x)
INTEGER(bitwise_not, ~x)
INTEGER(population_count, bits_set(x, t))
INTEGER(count_leading_zeros, zeros_above(x, t))
INTEGER(truth, x != 0)
INTEGER(logical_not, x == 0)
INTEGER(no, 0)
INTEGER(add, x + y)
INTEGER(subtract, x - y)
INTEGER(multiply, (wide)((uint64_t)x *(uint64_t)y))
INTEGER(quotient, y == 0 ? 0 : x / y)
INTEGER(remainder, y == 0 ? 0 : x % y)
INTEGER(pow, power(x, y))
INTEGER(max, x > y ? x : y)
INTEGER(min, x < y ? x : y)
INTEGER(bitwise_and, x &y)
INTEGER(bitwise_or, x | y)
INTEGER(bitwise_xor, x ^ y)
INTEGER(left_shift, shift_left(x, y, t))
INTEGER(right_shift, shift_right(x, y, t))
INTEGER(equal, x == y)
INTEGER(not_equal, x != y)
INTEGER(less, x < y)
INTEGER(less_equal, x <= y)
INTEGER(greater, x > y)
INTEGER(greater_equal, x >= y)
INTEGER(select, x != 0 ? y : z)
INTEGER(clip, x <= y ? (y < z ? y : z) : x < z ? x : z)

static const integer_fn integer_table[SCALAR_COUNT] = {
    [SCALAR_negate] = integer_negate,
    [SCALAR_abs] = integer_abs,
    [SCALAR_sign] = integer_sign,
    [SCALAR_floor] = integer_same,
    [SCALAR_ceil] = integer_same,
    [SCALAR_round] = integer_same,
    [SCALAR_bitwise_not] = integer_bitwise_not,
    [SCALAR_population_count] = integer_population_count,
    [SCALAR_count_leading_zeros] = integer_count_leading_zeros,
    [SCALAR_truth] = integer_truth,
    [SCALAR_logical_not] = integer_logical_not,
    [SCALAR_is_nan] = integer_no,
    [SCALAR_is_infinity] = integer_no,
    [SCALAR_add] = integer_add,
    [SCALAR_subtract] = integer_subtract,
    [SCALAR_multiply] = integer_multiply,
    [SCALAR_quotient] = integer_quotient,
    [SCALAR_remainder] = integer_remainder,
    [SCALAR_pow] = integer_pow,
    [SCALAR_max] = integer_max,
    [SCALAR_min] = integer_min,
    [SCALAR_bitwise_and] = integer_bitwise_and,
    [SCALAR_bitwise_or] = integer_bitwise_or,
    [SCALAR_bitwise_xor] = integer_bitwise_xor,
    [SCALAR_left_shift] = integer_left_shift,
    [SCALAR_right_shift] = integer_right_shift,
    [SCALAR_equal] = integer_equal,
    [SCALAR_not_equal] = integer_not_equal,
    [SCALAR_less] = integer_less,
    [SCALAR_less_equal] = integer_less_equal,
    [SCALAR_greater] = integer_greater,
    [SCALAR_greater_equal] = integer_greater_equal,
    [SCALAR_select] = integer_select,
    [SCALAR_clip] = integer_clip,
};

typedef double (*float_fn)(double x, double y, double z);

#define FLOAT(name, value)                                                                         \
    static double float_##name(double x, double y, double z) {                                     \
        (void)x, (void)y, (void)z;                                                                 \
        return value;                                                                              \
    }

static double sigmoid(double x) { return (double)(1 / (1 + expl(-(long double)x))); }

static double clip(double x, double y, double z) {
    double raised = x > y ? x : y;
    return raised < z ? raised : z;
}

FLOAT(negate, -x)
FLOAT(abs, fabs(x))
FLOAT(sign, isnan(x) || x == 0 ? x : copysign(1, x))
FLOAT(floor, floor(x))
FLOAT(ceil, ceil(x))
FLOAT(round, round(x) == 0 ? 0 : round(x))
FLOAT(truth, x != 0)
FLOAT(logical_not, x == 0)
FLOAT(is_nan, isnan(x))
FLOAT(is_infinity, isinf(x) != 0)
// In long double where libm's own in double are off by up to two units in the last place or more.
FLOAT(exp, exp(x))
FLOAT(expm1, (double)expm1l(x))
FLOAT(log, log(x))
FLOAT(log1p, (double)log1pl(x))
FLOAT(sigmoid, sigmoid(x))
FLOAT(sin, sin(x))
FLOAT(cos, cos(x))
FLOAT(tan, tan(x))
FLOAT(sinh, (double)sinhl(x))
FLOAT(cosh, (double)coshl(x))
FLOAT(tanh, (double)tanhl(x))
FLOAT(asin, asin(x))
FLOAT(acos, acos(x))
FLOAT(atan, atan(x))
FLOAT(asinh, (double)asinhl(x))
FLOAT(acosh, (double)acoshl(x))
FLOAT(atanh, (double)atanhl(x))
FLOAT(sqrt, sqrt(x))
FLOAT(rsqrt, 1 / sqrt(x))
FLOAT(cbrt, (double)cbrtl(x))
FLOAT(erf, (double)erfl(x))
FLOAT(erfc, (double)erfcl(x))
FLOAT(add, x + y)
FLOAT(subtract, x - y)
FLOAT(multiply, x *y)
FLOAT(divide, x / y)
FLOAT(remainder, fmod(x, y))
FLOAT(pow, pow(x, y))
FLOAT(atan2, atan2(x, y))
FLOAT(max, isnan(x) || isnan(y) ? (double)NAN : y > x ? y : x)
FLOAT(min, isnan(x) || isnan(y) ? (double)NAN : y < x ? y : x)
FLOAT(equal, x == y)
FLOAT(not_equal, x != y)
FLOAT(less, x < y)
FLOAT(less_equal, x <= y)
FLOAT(greater, x > y)
FLOAT(greater_equal, x >= y)
FLOAT(select, x != 0 ? y : z)
FLOAT(clip, clip(x, y, z))

// `close` where the last bit of f64 may differ; f32 is held to a count of such cases as well.
static const struct {
    float_fn fn;
    bool close;
} float_table[SCALAR_COUNT] = {
    [SCALAR_negate] = {float_negate, false},
    [SCALAR_abs] = {float_abs, false},
    [SCALAR_sign] = {float_sign, false},
    [SCALAR_floor] = {float_floor, false},
    [SCALAR_ceil] = {float_ceil, false},
    [SCALAR_round] = {float_round, false},
    [SCALAR_truth] = {float_truth, false},
    [SCALAR_logical_not] = {float_logical_not, false},
    [SCALAR_is_nan] = {float_is_nan, false},
    [SCALAR_is_infinity] = {float_is_infinity, false},
    [SCALAR_exp] = {float_exp, true},
    [SCALAR_expm1] = {float_expm1, true},
    [SCALAR_log] = {float_log, true},
    [SCALAR_log1p] = {float_log1p, true},
    [SCALAR_sigmoid] = {float_sigmoid, true},
    [SCALAR_sin] = {float_sin, true},
    [SCALAR_cos] = {float_cos, true},
    [SCALAR_tan] = {float_tan, true},
    [SCALAR_sinh] = {float_sinh, true},
    [SCALAR_cosh] = {float_cosh, true},
    [SCALAR_tanh] = {float_tanh, true},
    [SCALAR_asin] = {float_asin, true},
    [SCALAR_acos] = {float_acos, true},
    [SCALAR_atan] = {float_atan, true},
    [SCALAR_asinh] = {float_asinh, true},
    [SCALAR_acosh] = {float_acosh, true},
    [SCALAR_atanh] = {float_atanh, true},
    [SCALAR_sqrt] = {float_sqrt, false},
    [SCALAR_rsqrt] = {float_rsqrt, true},
    [SCALAR_cbrt] = {float_cbrt, true},
    [SCALAR_erf] = {float_erf, true},
    [SCALAR_erfc] = {float_erfc, true},
    [SCALAR_add] = {float_add, false},
    [SCALAR_subtract] = {float_subtract, false},
    [SCALAR_multiply] = {float_multiply, false},
    [SCALAR_divide] = {float_divide, false},
    [SCALAR_remainder] = {float_remainder, false},
    [SCALAR_pow] = {float_pow, true},
    [SCALAR_atan2] = {float_atan2, true},
    [SCALAR_max] = {float_max, false},
    [SCALAR_min] = {float_min, false},
    [SCALAR_equal] = {float_equal, false},
    [SCALAR_not_equal] = {float_not_equal, false},
    [SCALAR_less] = {float_less, false},
    [SCALAR_less_equal] = {float_less_equal, false},
    [SCALAR_greater] = {float_greater, false},
    [SCALAR_greater_equal] = {float_greater_equal, false},
    [SCALAR_select] = {float_select, false},
    [SCALAR_clip] = {float_clip, false},
};

// Comparing ---------------------------------------------------------------------------------------

typedef struct scalar_case {
    const cpu_kernels *kernels;
    scalar_op op;
    emlx_type type;
    tile_fn fn;
    emlx_type result;
    size_t checked, inexact; // elements compared, and those off by one
} scalar_case;

// The type of operand `i`.
static emlx_type operand_type(const scalar_case *c, int i) {
    return c->op == SCALAR_select && i == 0 ? EMLX_U8 : c->type;
}

static wide integer_of(emlx_type type, const char *at) {
    emlx_number v = type_load(type, at);
    return v.kind == EMLX_NUMBER_UNSIGNED ? (wide)v.as.u : (wide)v.as.s;
}

static double real_of(emlx_type type, const char *at) {
    emlx_number v = type_load(type, at);
    return v.kind == EMLX_NUMBER_REAL       ? v.as.f[0]
           : v.kind == EMLX_NUMBER_UNSIGNED ? (double)v.as.u
                                            : (double)v.as.s;
}

// What element i should be, in memory form.
static void expected(const scalar_case *c, char *const operands[3], size_t i, void *out) {
    emlx_type t0 = operand_type(c, 0), t = c->type;
    const char *x = operands[0] + i * type_size(t0);
    const char *y = operands[1] + i * type_size(t), *z = operands[2] + i * type_size(t);
    if (type_is_integer(t)) {
        integer_type info = {(int)emlx_type_bits(t), type_class_of(t) == CLASS_SIGNED};
        wide value =
            integer_table[c->op](integer_of(t0, x), integer_of(t, y), integer_of(t, z), info);
        emlx_number number = number_signed((int64_t)value);
        type_store(c->result, &number, out);
    } else {
        emlx_number number =
            number_real(float_table[c->op].fn(real_of(t0, x), real_of(t, y), real_of(t, z)));
        type_store(c->result, &number, out);
    }
}

static void compare(scalar_case *c, char *const operands[3], const char *got, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char want[16];
        const char *have = got + i * type_size(c->result);
        expected(c, operands, i, want);
        uint64_t off = distance(c->result, have, want);
        uint64_t allowed = type_is_float(c->type) && float_table[c->op].close ? 1 : 0;
        c->checked++;
        c->inexact += off != 0;
        if (off <= allowed) continue;
        fail_msg("%s %s of %s, element %zu of %zu: f(%.17g, %.17g, %.17g) is %.17g, not %.17g",
                 c->kernels->level, scalar_table[c->op].name, emlx_type_name(c->type), i, n,
                 real_of(operand_type(c, 0), operands[0] + i * type_size(operand_type(c, 0))),
                 real_of(c->type, operands[1] + i * type_size(c->type)),
                 real_of(c->type, operands[2] + i * type_size(c->type)), real_of(c->result, have),
                 real_of(c->result, want));
    }
}

// Runs the function apart from its operands, then on top of each that has the result's size.
static void check_tile(scalar_case *c, char *const operands[3], size_t n) {
    size_t bytes = n * type_size(c->result);
    area out = area_new(c->result, n);
    c->fn(out.at, operands[0], operands[1], operands[2], n);
    compare(c, operands, out.at, n);
    for (int i = 0; i < scalar_table[c->op].operands; i++) {
        if (type_size(operand_type(c, i)) != type_size(c->result)) continue;
        area same = area_new(c->result, n);
        memcpy(same.at, operands[i], bytes);
        c->fn(same.at, i == 0 ? same.at : operands[0], i == 1 ? same.at : operands[1],
              i == 2 ? same.at : operands[2], n);
        assert_memory_equal(same.at, out.at, bytes);
        area_free(&same);
    }
    area_free(&out);
}

static void check_lengths(scalar_case *c) {
    static const size_t lengths[] = {0,  1,  2,  3,  4,  5,  7,   8,   9,   15,  16,  17,
                                     31, 32, 33, 63, 64, 65, 255, 256, 257, 513, 1000};
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        size_t n = lengths[l];
        area operands[3];
        for (int i = 0; i < 3; i++) {
            operands[i] = area_new(operand_type(c, i), n);
            fill(operand_type(c, i), operands[i].at, n);
        }
        check_tile(c, (char *const[3]){operands[0].at, operands[1].at, operands[2].at}, n);
        for (int i = 0; i < 3; i++) area_free(&operands[i]);
    }
}

static bool has_reference(scalar_op op, emlx_type type) {
    if (op == SCALAR_complex) return type_is_float(type); // see complex_test.c
    if (type_is_integer(type)) return integer_table[op] != NULL;
    return float_table[op].fn != NULL || op == SCALAR_erf_inv;
}

static void test_scalar(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (unsigned op = 0; op < SCALAR_COUNT; op++) {
            for (unsigned type = 0; type < EMLX_C64; type++) {
                if (type >= EMLX_F8 && type <= EMLX_F16) continue; // computed in f32
                tile_fn fn = cpu_scalar(k, op, type);
                assert_int_equal(fn != NULL, has_reference((scalar_op)op, (emlx_type)type));
                if (fn == NULL || op == SCALAR_erf_inv || op == SCALAR_complex) continue;
                scalar_case c = {k, (scalar_op)op, (emlx_type)type, fn, (emlx_type)type, 0, 0};
                if (scalar_table[op].gives == GIVES_BOOL) c.result = EMLX_U8;
                check_lengths(&c);
            }
        }
    }
}

// Every pair of 8-bit numbers, and every pair of sub-byte ones.
static void test_scalar_pairs(void **state) {
    (void)state;
    static const emlx_type types[] = {EMLX_U2, EMLX_S2, EMLX_U4, EMLX_S4, EMLX_U8, EMLX_S8};
    static char x[65536], y[65536];
    FOR_EACH_LEVEL(k) {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            for (int i = 0; i < 65536; i++) {
                emlx_number low = number_signed(i & 255), high = number_signed(i >> 8);
                type_store(types[t], &low, &x[i]);
                type_store(types[t], &high, &y[i]);
            }
            for (unsigned op = 0; op < SCALAR_COUNT; op++) {
                tile_fn fn = cpu_scalar(k, op, types[t]);
                if (fn == NULL || scalar_table[op].operands != 2) continue;
                scalar_case c = {k, (scalar_op)op, types[t], fn, types[t], 0, 0};
                if (scalar_table[op].gives == GIVES_BOOL) c.result = EMLX_U8;
                static char out[65536];
                fn(out, x, y, y, 65536);
                compare(&c, (char *const[3]){x, y, y}, out, 65536);
            }
        }
    }
}

// Loops of several steps give what the steps give.
static void test_joined_steps(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    FOR_EACH_LEVEL(k) {
        for (const fork_fn *f = k->forks; f->fn != NULL; f++) {
            static char a[COUNT * 8], b[COUNT * 8], c[COUNT * 8], out[COUNT * 8], want[COUNT * 8];
            fill(f->type, a, COUNT);
            fill(f->type, b, COUNT);
            fill(f->type, c, COUNT);
            for (int i = 0; i < COUNT; i++) { // as far as bits go, and a bit more
                emlx_number low = number_signed(i % 70), high = number_signed((i / 3) % 70);
                if (i % 4 != 0) type_store(f->type, &low, b + (size_t)i * type_size(f->type));
                if (i % 5 != 0) type_store(f->type, &high, c + (size_t)i * type_size(f->type));
            }
            f->fn(out, a, b, c, COUNT);
            cpu_scalar(k, f->left, f->type)(b, a, b, NULL, COUNT);
            cpu_scalar(k, f->right, f->type)(c, a, c, NULL, COUNT);
            cpu_scalar(k, f->join, f->type)(want, b, c, NULL, COUNT);
            assert_memory_equal(out, want, COUNT * type_size(f->type));
        }
    }
}

// Math --------------------------------------------------------------------------------------------

// Of f32 results at most 1 in 10,000 may differ from the rounded double result.
static void check_rate(const scalar_case *c) {
    if (c->inexact * 10000 > c->checked) {
        fail_msg("%s %s of f32: %zu of %zu not as the rounded double result", c->kernels->level,
                 scalar_table[c->op].name, c->inexact, c->checked);
    }
}

#define MANY 4096

// Steps through all bit patterns of f32.
static void check_all_floats(scalar_case *c, uint32_t step) {
    static float x[MANY], out[MANY];
    char *const operands[3] = {(char *)x, (char *)x, (char *)x};
    for (uint64_t bits = 0; bits <= UINT32_MAX;) {
        size_t n = 0;
        for (; n < MANY && bits <= UINT32_MAX; n++, bits += step) {
            uint32_t pattern = (uint32_t)bits;
            memcpy(&x[n], &pattern, sizeof pattern);
        }
        c->fn(out, x, x, x, n);
        compare(c, operands, (const char *)out, n);
    }
    check_rate(c);
}

// EMLX_TEST_STEP=1 tries all of them, which takes an hour.
static void test_math_f32(void **state) {
    (void)state;
    const char *asked = getenv("EMLX_TEST_STEP");
    uint32_t step = asked != NULL ? (uint32_t)strtoul(asked, NULL, 10) : 16381;
    FOR_EACH_LEVEL(k) {
        for (unsigned op = 0; op < SCALAR_COUNT; op++) {
            bool unary = scalar_table[op].operands == 1 && scalar_table[op].gives != GIVES_BOOL;
            if (!unary || float_table[op].fn == NULL) continue;
            scalar_case c = {k, (scalar_op)op, EMLX_F32, cpu_scalar(k, op, EMLX_F32), EMLX_F32, 0,
                             0};
            check_all_floats(&c, step == 0 ? 1 : step);
        }
    }
}

// Operands of `pow`, `remainder` and `atan2`: any bits; ordinary ones; whole numbers, whose powers
// are often exactly between two floats.
static void fill_pairs(float *x, float *y, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = random_bits();
        memcpy(&x[i], &bits, 4);
        memcpy(&y[i], (char *)&bits + 4, 4);
        if (kind == 1) x[i] = (float)random_real(-9, 9);
        if (kind == 1) y[i] = (float)random_real(-9, 9);
        if (kind == 2) x[i] = (float)((int)(bits % 20000) - 4000);
        if (kind == 2) y[i] = (float)((int)(bits >> 32 & 15) - 4);
    }
}

static void test_math_pairs(void **state) {
    (void)state;
    static const scalar_op ops[] = {SCALAR_pow, SCALAR_remainder, SCALAR_atan2};
    static float x[MANY], y[MANY], out[MANY];
    char *const operands[3] = {(char *)x, (char *)y, (char *)y};
    FOR_EACH_LEVEL(k) {
        for (size_t o = 0; o < 3; o++) {
            scalar_case c = {k, ops[o], EMLX_F32, cpu_scalar(k, ops[o], EMLX_F32), EMLX_F32, 0, 0};
            for (int round = 0; round < 60; round++) {
                fill_pairs(x, y, MANY, round % 3);
                c.fn(out, x, y, y, MANY);
                compare(&c, operands, (const char *)out, MANY);
            }
            check_rate(&c);
        }
    }
}

// The digits that Nx's random numbers rest on.
static void test_erf_inv(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        double x[7] = {0.5, 0.0, 1.0, -1.0, 1.5, (double)NAN, -0.5}, out[7];
        cpu_scalar(k, SCALAR_erf_inv, EMLX_F64)(out, x, NULL, NULL, 7);
        assert_true(out[0] == 0.47693629334671295 && out[6] == -out[0]);
        assert_true(out[1] == 0 && out[2] == INFINITY && out[3] == -INFINITY);
        assert_true(isnan(out[4]) && isnan(out[5]));
        for (int i = 0; i < 20000; i++) {
            float narrow = (float)random_real(-1, 1), got;
            double value = (double)narrow, want;
            cpu_scalar(k, SCALAR_erf_inv, EMLX_F32)(&got, &narrow, NULL, NULL, 1);
            cpu_scalar(k, SCALAR_erf_inv, EMLX_F64)(&want, &value, NULL, NULL, 1);
            assert_true(got == (float)want);
            assert_true(fabs(erf(want) - value) < 1e-6);
        }
    }
}

static void test_levels(void **state) {
    (void)state;
    assert_string_equal(cpu_kernels_baseline.level, "baseline");
    assert_ptr_equal(cpu_kernels_select(), cpu_kernels_select());
    for (size_t i = 0; cpu_kernels_level(i) != NULL; i++)
        print_message("level %s\n", cpu_kernels_level(i)->level);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),       cmocka_unit_test(test_scalar),
        cmocka_unit_test(test_joined_steps), cmocka_unit_test(test_scalar_pairs),
        cmocka_unit_test(test_math_f32),     cmocka_unit_test(test_math_pairs),
        cmocka_unit_test(test_erf_inv),
    };
    return RUN_TESTS("engines/cpu/kernels/scalar", tests);
}
