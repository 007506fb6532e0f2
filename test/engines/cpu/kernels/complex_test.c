// SPDX-License-Identifier: Apache-2.0
// complex_test.c - the scalar functions of complex numbers: those of a few operations
// against plain code, the others against <complex.h> in long double, and the values of Nx's
// reference at infinities and on branch cuts.
#undef complex

#include "pairs.h"
#include "support.h"

typedef long double _Complex wide;
typedef double _Complex pair;

static const emlx_type types[] = {EMLX_C64, EMLX_C128};

static pair pair_at(emlx_type type, const void *data, size_t i) {
    emlx_number z = type_load(type, (const char *)data + i * type_size(type));
    return CMPLX(z.as.f[0], z.as.f[1]);
}

static void put_pair(emlx_type type, void *data, size_t i, pair z) {
    emlx_number number = {.kind = EMLX_NUMBER_COMPLEX, .as.f = {creal(z), cimag(z)}};
    type_store(type, &number, (char *)data + i * type_size(type));
}

// Exact functions ---------------------------------------------------------------------------------

// Every one as a function of two numbers that gives one, a real result without an imaginary part.
typedef pair (*plain_fn)(pair x, pair y);

#define PLAIN(name, re, im)                                                                        \
    static pair plain_##name(pair x, pair y) {                                                     \
        double a = creal(x), b = cimag(x), c = creal(y), d = cimag(y);                             \
        (void)a, (void)b, (void)c, (void)d;                                                        \
        return CMPLX(re, im);                                                                      \
    }

PLAIN(negate, -a, -b)
PLAIN(conjugate, a, -b)
PLAIN(real, a, 0)
PLAIN(imag, b, 0)
PLAIN(truth, a != 0 || b != 0, 0)
PLAIN(logical_not, a == 0 && b == 0, 0)
PLAIN(is_nan, isnan(a) || isnan(b), 0)
PLAIN(is_infinity, isinf(a) || isinf(b), 0)
PLAIN(add, a + c, b + d)
PLAIN(subtract, a - c, b - d)
PLAIN(multiply, a *c - b * d, b *c + a * d)
PLAIN(equal, a == c && b == d, 0)
PLAIN(not_equal, a != c || b != d, 0)

static const plain_fn plain_table[SCALAR_COUNT] = {
    [SCALAR_negate] = plain_negate,
    [SCALAR_conjugate] = plain_conjugate,
    [SCALAR_real] = plain_real,
    [SCALAR_imag] = plain_imag,
    [SCALAR_truth] = plain_truth,
    [SCALAR_logical_not] = plain_logical_not,
    [SCALAR_is_nan] = plain_is_nan,
    [SCALAR_is_infinity] = plain_is_infinity,
    [SCALAR_add] = plain_add,
    [SCALAR_subtract] = plain_subtract,
    [SCALAR_multiply] = plain_multiply,
    [SCALAR_equal] = plain_equal,
    [SCALAR_not_equal] = plain_not_equal,
};

static void check_plain(const cpu_kernels *k, scalar_op op, emlx_type type, size_t n) {
    emlx_type result = scalar_result_type(op, type);
    area x = area_new(type, n), y = area_new(type, n), out = area_new(result, n);
    fill(type, x.at, n);
    fill(type, y.at, n);
    for (size_t i = 0; i < n; i += 3) put_pair(type, y.at, i, pair_at(type, x.at, i));
    cpu_scalar(k, op, type)(out.at, x.at, y.at, y.at, n);
    for (size_t i = 0; i < n; i++) {
        char want[16];
        pair value = plain_table[op](pair_at(type, x.at, i), pair_at(type, y.at, i));
        emlx_number number = {.kind = EMLX_NUMBER_COMPLEX, .as.f = {creal(value), cimag(value)}};
        type_store(result, &number, want);
        const char *have = out.at + i * type_size(result);
        if (distance(result, have, want) == 0) continue;
        pair a = pair_at(type, x.at, i), b = pair_at(type, y.at, i);
        fail_msg("%s %s of %s, element %zu of %zu: f(%g%+gi, %g%+gi) is %.17g, not %.17g%+.17gi",
                 k->level, scalar_table[op].name, emlx_type_name(type), i, n, creal(a), cimag(a),
                 creal(b), cimag(b), type_load(result, have).as.f[0], creal(value), cimag(value));
    }
    if (result == type) {
        cpu_scalar(k, op, type)(y.at, x.at, y.at, y.at, n);
        assert_memory_equal(y.at, out.at, n * type_size(type));
    }
    area_free(&x);
    area_free(&y);
    area_free(&out);
}

static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 257, 1000};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void test_plain(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (size_t t = 0; t < 2; t++)
            for (unsigned op = 0; op < SCALAR_COUNT; op++)
                for (size_t l = 0; plain_table[op] != NULL && l < LENGTHS; l++)
                    check_plain(k, (scalar_op)op, types[t], lengths[l]);
    }
}

// Two numbers make one, and `select` takes one of two.
static void test_making(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (size_t t = 0; t < 2; t++) {
            emlx_type type = types[t], part = type_part(type);
            size_t n = 777, size = type_size(type);
            area re = area_new(part, n), im = area_new(part, n), z = area_new(type, n);
            area other = area_new(type, n), chosen = area_new(type, n),
                 where = area_new(EMLX_U8, n);
            fill(part, re.at, n);
            fill(part, im.at, n);
            fill(type, other.at, n);
            cpu_scalar(k, SCALAR_complex, part)(z.at, re.at, im.at, NULL, n);
            for (size_t i = 0; i < n; i++) where.at[i] = (char)(random_bits() >> 40 & 1);
            cpu_scalar(k, SCALAR_select, type)(chosen.at, where.at, z.at, other.at, n);
            for (size_t i = 0; i < n; i++) {
                assert_memory_equal(z.at + i * size, re.at + i * size / 2, size / 2);
                assert_memory_equal(z.at + i * size + size / 2, im.at + i * size / 2, size / 2);
                const char *from = where.at[i] ? z.at : other.at;
                assert_memory_equal(chosen.at + i * size, from + i * size, size);
            }
            area *all[] = {&re, &im, &z, &other, &chosen, &where};
            for (size_t i = 0; i < 6; i++) area_free(all[i]);
        }
    }
}

// Rounded functions -------------------------------------------------------------------------------

typedef wide (*wide_fn)(wide x, wide y);

static wide times(wide x, wide y) {
    long double a = creall(x), b = cimagl(x), c = creall(y), d = cimagl(y);
    return CMPLXL(a * c - b * d, a * d + b * c);
}

static wide over(wide x, wide y) {
    long double size = creall(y) * creall(y) + cimagl(y) * cimagl(y);
    wide z = times(x, conjl(y));
    return CMPLXL(creall(z) / size, cimagl(z) / size);
}

static wide by_i(wide z) { return CMPLXL(-cimagl(z), creall(z)); }

// Nx's own formulas, which decide what a branch is.
static wide log_of_sum(wide z, long double one) { return clogl(z + csqrtl(times(z, z) + one)); }

static wide turned(wide z, long double angle) { return times(z, CMPLXL(cosl(angle), sinl(angle))); }

#define WIDE(name, value)                                                                          \
    static wide wide_##name(wide x, wide y) {                                                      \
        (void)x, (void)y;                                                                          \
        return value;                                                                              \
    }

WIDE(abs, cabsl(x))
WIDE(phase, cargl(x))
WIDE(sign, over(x, cabsl(x)))
WIDE(exp, cexpl(x))
WIDE(expm1, cexpl(x) - 1)
WIDE(log, clogl(x))
WIDE(log1p, clogl(1 + x))
WIDE(sigmoid, over(1, 1 + cexpl(-x)))
WIDE(sin, csinl(x))
WIDE(cos, ccosl(x))
WIDE(tan, ctanl(x))
WIDE(sinh, csinhl(x))
WIDE(cosh, ccoshl(x))
WIDE(tanh, ctanhl(x))
WIDE(asin, -by_i(clogl(by_i(x) + csqrtl(1 - times(x, x)))))
WIDE(acos, -by_i(log_of_sum(x, -1)))
WIDE(atan, by_i(clogl(1 - by_i(x)) - clogl(1 + by_i(x))) / 2)
WIDE(asinh, log_of_sum(x, 1))
WIDE(acosh, log_of_sum(x, -1))
WIDE(atanh, clogl(over(1 + x, 1 - x)) / 2)
WIDE(sqrt, csqrtl(x))
WIDE(rsqrt, over(1, csqrtl(x)))
WIDE(cbrt, turned(cbrtl(cabsl(x)), cargl(x) / 3))
WIDE(divide, over(x, y))
WIDE(pow, turned(expl(creall(times(y, clogl(x)))), cimagl(times(y, clogl(x)))))

// `error` is what may be lost, relative to the result's size, in units of the last place of f64.
static const struct rounded {
    scalar_op op;
    wide_fn fn;
    double error;
} rounded_table[] = {
    {SCALAR_abs, wide_abs, 2},     {SCALAR_phase, wide_phase, 1},
    {SCALAR_sign, wide_sign, 2},   {SCALAR_exp, wide_exp, 3},
    {SCALAR_expm1, wide_expm1, 6}, {SCALAR_log, wide_log, 3},
    {SCALAR_log1p, wide_log1p, 3}, {SCALAR_sigmoid, wide_sigmoid, 20},
    {SCALAR_sin, wide_sin, 4},     {SCALAR_cos, wide_cos, 4},
    {SCALAR_tan, wide_tan, 6},     {SCALAR_sinh, wide_sinh, 4},
    {SCALAR_cosh, wide_cosh, 4},   {SCALAR_tanh, wide_tanh, 6},
    {SCALAR_asin, wide_asin, 6},   {SCALAR_acos, wide_acos, 6},
    {SCALAR_atan, wide_atan, 6},   {SCALAR_asinh, wide_asinh, 6},
    {SCALAR_acosh, wide_acosh, 6}, {SCALAR_atanh, wide_atanh, 6},
    {SCALAR_sqrt, wide_sqrt, 3},   {SCALAR_rsqrt, wide_rsqrt, 6},
    {SCALAR_cbrt, wide_cbrt, 4},   {SCALAR_divide, wide_divide, 5},
    {SCALAR_pow, wide_pow, 400},
};
enum { ROUNDED = sizeof rounded_table / sizeof *rounded_table };

// A part is right if rounding, to its type, a value near enough to the exact one gives it.
static bool part_fits(emlx_type part, double got, long double want, long double slack) {
    if (part == EMLX_F64) return fabsl((long double)got - want) <= slack;
    return got >= (double)(float)(want - slack) && got <= (double)(float)(want + slack);
}

static void check_rounded(const cpu_kernels *k, const struct rounded *r, emlx_type type,
                          double scale) {
    enum { COUNT = 600 };
    emlx_type result = scalar_result_type(r->op, type), part = type_part(type);
    static char x[COUNT * 16], y[COUNT * 16], out[COUNT * 16];
    for (size_t i = 0; i < COUNT; i++) {
        put_pair(type, x, i, CMPLX(random_real(-scale, scale), random_real(-scale, scale)));
        put_pair(type, y, i, CMPLX(random_real(-4, 4), random_real(-4, 4)));
    }
    cpu_scalar(k, r->op, type)(out, x, y, y, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        pair in = pair_at(type, x, i), other = pair_at(type, y, i);
        wide want = r->fn((wide)in, (wide)other);
        emlx_number got = type_load(result, out + i * type_size(result));
        double im = result == type ? got.as.f[1] : 0;
        long double slack = cabsl(want) * (long double)r->error * 0x1p-53L;
        if (part_fits(part, got.as.f[0], creall(want), slack) &&
            part_fits(part, im, cimagl(want), slack))
            continue;
        fail_msg("%s %s of %s: f(%.17g%+.17gi, %.17g%+.17gi) is %.17g%+.17gi, not %.17Lg%+.17Lgi",
                 k->level, scalar_table[r->op].name, emlx_type_name(type), creal(in), cimag(in),
                 creal(other), cimag(other), got.as.f[0], im, creall(want), cimagl(want));
    }
}

static void test_rounded(void **state) {
    (void)state;
    static const double scales[] = {0.03, 1, 4, 20};
    FOR_EACH_LEVEL(k) {
        for (size_t r = 0; r < ROUNDED; r++)
            for (size_t t = 0; t < 2; t++)
                for (size_t s = 0; s < 4; s++)
                    check_rounded(k, &rounded_table[r], types[t], scales[s]);
    }
}

// Every function has a kernel for both types or for none.
static void test_complete(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (unsigned op = 0; op < SCALAR_COUNT; op++) {
            bool known = plain_table[op] != NULL || op == SCALAR_select;
            for (size_t r = 0; r < ROUNDED; r++) known = known || rounded_table[r].op == op;
            for (size_t t = 0; t < 2; t++)
                assert_int_equal(cpu_scalar(k, op, types[t]) != NULL, known);
        }
    }
}

// Digits that plain formulas lose -----------------------------------------------------------------

static pair apply(const cpu_kernels *k, scalar_op op, emlx_type type, pair x, pair y) {
    char a[16], b[16], out[16] = {0};
    put_pair(type, a, 0, x);
    put_pair(type, b, 0, y);
    cpu_scalar(k, op, type)(out, a, b, b, 1);
    emlx_type result = scalar_result_type(op, type);
    emlx_number got = type_load(result, out);
    return CMPLX(got.as.f[0], result == type ? got.as.f[1] : 0);
}

static void assert_near(pair got, double re, double im) {
    if (fabs(creal(got) - re) > 4e-16 * fabs(re) || fabs(cimag(got) - im) > 4e-16 * fabs(im))
        fail_msg("%.17g%+.17gi, expected %.17g%+.17gi", creal(got), cimag(got), re, im);
}

static void test_digits(void **state) {
    (void)state;
    const pair none = CMPLX(0, 0), big = CMPLX(3e300, 4e300), small = CMPLX(3e-300, 4e-300);
    FOR_EACH_LEVEL(k) {
        const emlx_type t = EMLX_C128;
        assert_near(apply(k, SCALAR_abs, t, big, none), 5e300, 0);
        assert_near(apply(k, SCALAR_divide, t, big, big), 1, 0);
        assert_near(apply(k, SCALAR_divide, t, small, small), 1, 0);
        assert_near(apply(k, SCALAR_divide, t, CMPLX(5e-324, 0), CMPLX(5e-324, 0)), 1, 0);
        assert_near(apply(k, SCALAR_sign, t, small, none), 0.6, 0.8);
        assert_near(apply(k, SCALAR_expm1, t, CMPLX(1e-12, 0), none), 1.0000000000005e-12, 0);
        assert_near(apply(k, SCALAR_log1p, t, CMPLX(1e-12, 0), none), 9.999999999995e-13, 0);
        // |1 + z|^2 is 1 + 2^-80
        assert_near(apply(k, SCALAR_log1p, t, CMPLX(0, 0x1p-40), none), 0x1p-81, 0x1p-40);
        assert_near(apply(k, SCALAR_sigmoid, t, CMPLX(-740, 0), none), exp(-740), 0);
        assert_near(apply(k, SCALAR_tanh, t, CMPLX(900, 1), none), 1, 0);
        assert_near(apply(k, SCALAR_cbrt, t, CMPLX(1.7e308, 1.7e308), none),
                    2 * cbrt(1.7e308 / 8 * sqrt(2)) * cos(M_PI / 12),
                    2 * cbrt(1.7e308 / 8 * sqrt(2)) * sin(M_PI / 12));
        // (1 + 2^-52) (1 - 2^-52) - 1, and the other part in full
        assert_near(apply(k, SCALAR_divide, t, CMPLX(1 + 0x1p-52, 1), CMPLX(1 - 0x1p-52, -1)),
                    -0x1p-105, 1);
    }
}

// Nx's reference ----------------------------------------------------------------------------------

#define INF ((double)INFINITY)
#define NIL ((double)NAN)

static const struct known {
    scalar_op op;
    double x[2], y[2], want[2];
} known_values[] = {
    // infinity + 3i
    {SCALAR_exp, {INF, 3}, {0}, {-INF, INF}},
    {SCALAR_expm1, {INF, 3}, {0}, {-INF, INF}},
    {SCALAR_sinh, {INF, 3}, {0}, {-INF, INF}},
    {SCALAR_cosh, {INF, 3}, {0}, {-INF, INF}},
    {SCALAR_log, {INF, 3}, {0}, {INF, 0}},
    {SCALAR_log1p, {INF, 3}, {0}, {INF, 0}},
    {SCALAR_sqrt, {INF, 3}, {0}, {INF, 0}},
    {SCALAR_cbrt, {INF, 3}, {0}, {INF, 0}},
    {SCALAR_rsqrt, {INF, 3}, {0}, {0, 0}},
    {SCALAR_sigmoid, {INF, 3}, {0}, {1, 0}},
    {SCALAR_asinh, {INF, 3}, {0}, {INF, M_PI_4}},
    {SCALAR_acosh, {INF, 3}, {0}, {INF, M_PI_4}},
    {SCALAR_sin, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_cos, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_tan, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_tanh, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_asin, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_acos, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_atan, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_atanh, {INF, 3}, {0}, {NIL, NIL}},
    {SCALAR_pow, {INF, 3}, {2, 0}, {NIL, NIL}},
    {SCALAR_abs, {NIL, -INF}, {0}, {INF, 0}},
    {SCALAR_abs, {NIL, 0}, {0}, {NIL, 0}},
    {SCALAR_sign, {-INF, 7}, {0}, {-1, 0}},
    {SCALAR_sign, {0, 0}, {0}, {0, 0}},
    {SCALAR_exp, {-INF, NIL}, {0}, {0, 0}},
    // products and quotients by the formula
    {SCALAR_multiply, {0, 1}, {INF, 0}, {NIL, INF}},
    {SCALAR_multiply, {INF, 0}, {2, 0}, {INF, NIL}},
    {SCALAR_divide, {1, 1}, {0, 0}, {NIL, NIL}},
    {SCALAR_divide, {1, 1}, {-INF, 0}, {0, 0}},
    {SCALAR_divide, {1, 1}, {0, INF}, {NIL, NIL}},
    {SCALAR_divide, {INF, 1}, {2, 0}, {INF, NIL}},
    {SCALAR_divide, {1, 0}, {-2, 0}, {-0.5, -0.0}},
    {SCALAR_pow, {0, 0}, {0, 0}, {1, 0}},
    {SCALAR_pow, {0, 0}, {-2, 1}, {0, 0}},
    {SCALAR_pow, {3, 4}, {1, 0}, {3, 4}},
    {SCALAR_pow, {3, 4}, {-1, 0}, {0.12, -0.16}},
    // branch cuts
    {SCALAR_log, {0, 0}, {0}, {-INF, 0}},
    {SCALAR_log, {-1, 0}, {0}, {0, M_PI}},
    {SCALAR_log1p, {-2, -0.0}, {0}, {0, M_PI}},
    {SCALAR_sqrt, {-4, 0}, {0}, {0, 2}},
    {SCALAR_sqrt, {-4, -0.0}, {0}, {-0.0, 2}},
    {SCALAR_sqrt, {-0.0, -0.0}, {0}, {-0.0, -0.0}},
    {SCALAR_asin, {2, 0}, {0}, {M_PI_2, -1.3169578969248167}},
    {SCALAR_asin, {2, -0.0}, {0}, {M_PI_2, -1.3169578969248167}},
    {SCALAR_asin, {-2, 0}, {0}, {-M_PI_2, 1.3169578969248167}},
    {SCALAR_acos, {2, 0}, {0}, {0, -1.3169578969248167}},
    {SCALAR_acos, {-2, 0}, {0}, {M_PI, 1.3169578969248167}},
    {SCALAR_acos, {-2, -0.0}, {0}, {M_PI, 1.3169578969248167}},
    {SCALAR_acos, {-2, 0x1p-60}, {0}, {-M_PI, 1.3169578969248167}},
    {SCALAR_acosh, {-2, 0x1p-60}, {0}, {-1.3169578969248167, -M_PI}},
    {SCALAR_acosh, {-2, 0}, {0}, {-1.3169578969248167, M_PI}},
    {SCALAR_atan, {0, 2}, {0}, {M_PI_2, 0.5493061443340548}},
    {SCALAR_atan, {-0.0, 2}, {0}, {M_PI_2, 0.5493061443340548}},
    {SCALAR_atan, {0, -2}, {0}, {-M_PI_2, -0.5493061443340548}},
    {SCALAR_asinh, {-0.0, 2}, {0}, {1.3169578969248167, M_PI_2}},
    {SCALAR_asinh, {0, -2}, {0}, {-1.3169578969248167, -M_PI_2}},
    {SCALAR_atanh, {2, 0}, {0}, {0.5493061443340548, -M_PI_2}},
    {SCALAR_atanh, {2, -0.0}, {0}, {0.5493061443340548, -M_PI_2}},
    {SCALAR_atanh, {-2, 0}, {0}, {-0.5493061443340548, M_PI_2}},
    {SCALAR_cbrt, {-8, 0}, {0}, {1, 1.7320508075688772}},
    // the sign of 0
    {SCALAR_negate, {0, -0.0}, {0}, {-0.0, 0}},
    {SCALAR_conjugate, {1, 0}, {0}, {1, -0.0}},
};

static bool same_value(emlx_type part, double got, double want) {
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (signbit(got) != signbit(want)) return false;
    double error = part == EMLX_F32 ? 1e-7 : 4e-16;
    return got == want || fabs(got - want) <= error * fabs(want);
}

static void test_reference(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (size_t i = 0; i < sizeof known_values / sizeof *known_values; i++) {
            const struct known *v = &known_values[i];
            for (size_t t = 0; t < 2; t++) {
                emlx_type part = type_part(types[t]);
                pair got =
                    apply(k, v->op, types[t], CMPLX(v->x[0], v->x[1]), CMPLX(v->y[0], v->y[1]));
                if (same_value(part, creal(got), v->want[0]) &&
                    same_value(part, cimag(got), v->want[1]))
                    continue;
                fail_msg("%s %s of %s: f(%g%+gi, %g%+gi) is %.17g%+.17gi, not %.17g%+.17gi",
                         k->level, scalar_table[v->op].name, emlx_type_name(types[t]), v->x[0],
                         v->x[1], v->y[0], v->y[1], creal(got), cimag(got), v->want[0], v->want[1]);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),   cmocka_unit_test(test_making),
        cmocka_unit_test(test_rounded), cmocka_unit_test(test_complete),
        cmocka_unit_test(test_digits),  cmocka_unit_test(test_reference),
    };
    return RUN_TESTS("engines/cpu/kernels/complex", tests);
}
