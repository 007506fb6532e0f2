// SPDX-License-Identifier: Apache-2.0
// arithmetic_test.c - binary ops on every pair of types against exact arithmetic: integers as if
// unbounded, floats in double, stored once.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

// x87's 80 bits hold every double and every 64-bit integer.
_Static_assert(sizeof(long double) >= 16, "the reference needs extended precision");

__extension__ typedef __int128 wide;
__extension__ typedef unsigned __int128 unsigned_wide;

typedef struct number {
    bool is_float;
    wide i;
    double f;
} number;

static const emlx_type types[] = {EMLX_U8,  EMLX_U16, EMLX_U32, EMLX_U64, EMLX_S8,
                                  EMLX_S16, EMLX_S32, EMLX_S64, EMLX_F32, EMLX_F64};
enum { TYPES = sizeof types / sizeof *types, SAMPLES = 40 };

static bool is_signed(emlx_type t) { return t >= EMLX_S2 && t <= EMLX_S64; }

static number load(emlx_type type, const void *at) {
    number n = {.is_float = type >= EMLX_F8};
    float f;
    uint64_t bits = 0;
    size_t size = emlx_type_size(type);
    if (type == EMLX_F32) {
        memcpy(&f, at, 4);
        n.f = f;
    } else if (type == EMLX_F64) {
        memcpy(&n.f, at, 8);
    } else {
        memcpy(&bits, at, size);
        n.i = bits;
        if (is_signed(type) && size < 8 && bits >> (size * 8 - 1)) n.i -= (wide)1 << (size * 8);
        if (is_signed(type) && size == 8) n.i = (int64_t)bits;
    }
    return n;
}

static void store(emlx_type type, const number *n, void *at) {
    float f = (float)(n->is_float ? n->f : (double)n->i);
    double d = n->is_float ? n->f : (double)n->i;
    uint64_t bits = (uint64_t)n->i;
    if (type == EMLX_F32)
        memcpy(at, &f, 4);
    else if (type == EMLX_F64)
        memcpy(at, &d, 8);
    else
        memcpy(at, &bits, emlx_type_size(type));
}

static double real(const number *n) { return n->is_float ? n->f : (double)n->i; }

// -1, 0, 1, or 2 when unordered; exact.
static int order(const number *a, const number *b) {
    if (!a->is_float && !b->is_float) return (a->i > b->i) - (a->i < b->i);
    long double x = a->is_float ? (long double)a->f : (long double)a->i;
    long double y = b->is_float ? (long double)b->f : (long double)b->i;
    return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
}

static number integer(wide i) { return (number){.i = i}; }
static number floating(double f) { return (number){.is_float = true, .f = f}; }
static bool any_float(const number *a, const number *b) { return a->is_float || b->is_float; }

static number ref_add(const number *a, const number *b) {
    return any_float(a, b) ? floating(real(a) + real(b)) : integer(a->i + b->i);
}
static number ref_subtract(const number *a, const number *b) {
    return any_float(a, b) ? floating(real(a) - real(b)) : integer(a->i - b->i);
}
static number ref_multiply(const number *a, const number *b) {
    return any_float(a, b) ? floating(real(a) * real(b))
                           : integer((wide)((unsigned_wide)a->i * (unsigned_wide)b->i));
}
static number ref_divide(const number *a, const number *b) { return floating(real(a) / real(b)); }
static number ref_quotient(const number *a, const number *b) { return integer(a->i / b->i); }
static number ref_remainder(const number *a, const number *b) {
    return any_float(a, b) ? floating(fmod(real(a), real(b))) : integer(a->i % b->i);
}
static number ref_max(const number *a, const number *b) {
    int o = order(a, b);
    return o == 2 ? floating(NAN) : o >= 0 ? *a : *b;
}
static number ref_min(const number *a, const number *b) {
    int o = order(a, b);
    return o == 2 ? floating(NAN) : o <= 0 ? *a : *b;
}
static number ref_and(const number *a, const number *b) { return integer(a->i & b->i); }
static number ref_or(const number *a, const number *b) { return integer(a->i | b->i); }
static number ref_xor(const number *a, const number *b) { return integer(a->i ^ b->i); }
static number ref_less(const number *a, const number *b) { return integer(order(a, b) == -1); }
static number ref_less_equal(const number *a, const number *b) { return integer(order(a, b) <= 0); }
static number ref_greater(const number *a, const number *b) { return integer(order(a, b) == 1); }
static number ref_greater_equal(const number *a, const number *b) {
    return integer(order(a, b) == 0 || order(a, b) == 1);
}
static number ref_equal(const number *a, const number *b) { return integer(order(a, b) == 0); }
static number ref_not_equal(const number *a, const number *b) { return integer(order(a, b) != 0); }
static bool truth(const number *a) { return a->is_float ? a->f != 0 : a->i != 0; }
static number ref_logical_and(const number *a, const number *b) {
    return integer(truth(a) && truth(b));
}
static number ref_logical_or(const number *a, const number *b) {
    return integer(truth(a) || truth(b));
}
static number ref_logical_xor(const number *a, const number *b) {
    return integer(truth(a) != truth(b));
}
static number ref_atan2(const number *a, const number *b) {
    return floating(atan2(real(a), real(b)));
}

enum { INTEGERS = 1, NO_ZERO = 2 };

static const struct {
    const char *name;
    number (*reference)(const number *, const number *);
    int needs;
} cases[] = {
    {"add", ref_add, 0},
    {"subtract", ref_subtract, 0},
    {"multiply", ref_multiply, 0},
    {"divide", ref_divide, 0},
    {"quotient", ref_quotient, INTEGERS | NO_ZERO},
    {"remainder", ref_remainder, NO_ZERO},
    {"max", ref_max, 0},
    {"min", ref_min, 0},
    {"atan2", ref_atan2, 0},
    {"bitwise_and", ref_and, INTEGERS},
    {"bitwise_or", ref_or, INTEGERS},
    {"bitwise_xor", ref_xor, INTEGERS},
    {"less", ref_less, 0},
    {"less_equal", ref_less_equal, 0},
    {"greater", ref_greater, 0},
    {"greater_equal", ref_greater_equal, 0},
    {"equal", ref_equal, 0},
    {"not_equal", ref_not_equal, 0},
    {"logical_and", ref_logical_and, 0},
    {"logical_or", ref_logical_or, 0},
    {"logical_xor", ref_logical_xor, 0},
};

static const double floats[] = {0.0,    -0.0,  1.0,   -1.0,     0.5,    -7.5,     1e10,
                                0x1p53, 3.25,  1e-30, -0x1p24,  0x1p63, -0x1p63,  0x1p64,
                                0.1,    1e300, 77.0,  INFINITY, NAN,    -INFINITY};

// Zero, one, minus one, the ends of the range and what lies between.
static number sample(emlx_type type, int k) {
    enum { FLOATS = sizeof floats / sizeof *floats };
    if (type >= EMLX_F8) return floating(floats[k % FLOATS] * (k < FLOATS ? 1 : 1.25));
    int bits = (int)emlx_type_bits(type);
    wide top = (wide)1 << (is_signed(type) ? bits - 1 : bits);
    wide low = is_signed(type) ? -top : 0;
    switch (k) {
    case 0: return integer(low);
    case 1: return integer(top - 1);
    case 2: return integer(0);
    case 3: return integer(is_signed(type) ? -1 : 1);
    default: break;
    }
    uint64_t mixed = (uint64_t)k * 0x9e3779b97f4a7c15u;
    wide scattered = mixed;
    if (k % 3 == 0) return integer(low + scattered % (top - low));
    return integer((k % 3 == 1 && is_signed(type) ? -k : k) +
                   (bits > 32 && k % 5 == 0) * 9007199254740992);
}

static void fill_samples(emlx_type type, char *data, bool no_zero, int shift) {
    for (int k = 0; k < SAMPLES; k++) {
        number n = sample(type, (k + shift) % SAMPLES);
        if (no_zero && !n.is_float && n.i == 0) n.i = 3;
        store(type, &n, data + (size_t)k * emlx_type_size(type));
    }
}

static bool same(emlx_type type, const void *got, const void *wanted, const char *name) {
    number a = load(type, got), b = load(type, wanted);
    if (!a.is_float) return a.i == b.i;
    if (isnan(a.f) || isnan(b.f)) return isnan(a.f) && isnan(b.f);
    double slack = strcmp(name, "atan2") == 0 ? 1e-7 : 0;
    return a.f == b.f || fabs(a.f - b.f) <= slack * fabs(b.f);
}

static void check_pair(size_t c, emlx_type ta, emlx_type tb, int shift) {
    char x[SAMPLES * 8] = {0}, y[SAMPLES * 8] = {0}, wanted[8] = {0};
    emlx_shape shape = {1, {SAMPLES}};
    emlx_tensor *in[2], *out;
    emlx_error err;
    fill_samples(ta, x, false, 0);
    fill_samples(tb, y, cases[c].needs & NO_ZERO, shift);
    size_t xs = SAMPLES * emlx_type_size(ta), ys = SAMPLES * emlx_type_size(tb);
    assert_int_equal(emlx_tensor_from_data(test_device, ta, &shape, x, xs, &in[0], &err), EMLX_OK);
    assert_int_equal(emlx_tensor_from_data(test_device, tb, &shape, y, ys, &in[1], &err), EMLX_OK);
    if (emlx_apply(emlx_op_find(cases[c].name), test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT,
                   &out, &err) != EMLX_OK)
        fail_msg("%s", err.message);
    char *data = bytes_of(out);
    emlx_type type = emlx_tensor_type(out);
    for (int k = 0; k < SAMPLES; k++) {
        number a = load(ta, x + (size_t)k * emlx_type_size(ta));
        number b = load(tb, y + (size_t)k * emlx_type_size(tb));
        number r = cases[c].reference(&a, &b);
        store(type, &r, wanted);
        const char *got = data + (size_t)k * emlx_type_size(type);
        if (same(type, got, wanted, cases[c].name)) continue;
        number g = load(type, got), w = load(type, wanted);
        fail_msg("%s of %s %.17g and %s %.17g gives %s %.17g, not %.17g", cases[c].name,
                 emlx_type_name(ta), real(&a), emlx_type_name(tb), real(&b), emlx_type_name(type),
                 real(&g), real(&w));
    }
    free(data);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    emlx_tensor_release(out);
}

static void every_pair_of_types(void **unused) {
    (void)unused;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int a = 0; a < TYPES; a++)
            for (int b = 0; b < TYPES; b++) {
                bool has_float = types[a] >= EMLX_F8 || types[b] >= EMLX_F8;
                if (has_float && (cases[c].needs & INTEGERS)) continue;
                for (int shift = 0; shift < SAMPLES; shift += 7)
                    check_pair(c, types[a], types[b], shift);
            }
}

// Errors that depend on values -----------------------------------------------------------------

static emlx_tensor *constant_of(emlx_type type, int64_t value) {
    emlx_error err;
    emlx_tensor *out;
    emlx_attr attrs[2] = {{.name = "shape", .kind = EMLX_ATTR_INTS},
                          {.name = "value", .kind = EMLX_ATTR_NUMBER, .value = {.as.s = value}}};
    if (emlx_apply(emlx_op_find("constant"), test_device, NULL, 0, attrs, 2, type, &out, &err) !=
        EMLX_OK)
        fail_msg("%s", err.message);
    return out;
}

static emlx_tensor *negated(emlx_tensor *t) {
    emlx_error err;
    emlx_tensor *out;
    if (emlx_apply(emlx_op_find("negate"), test_device, &t, 1, NULL, 0, EMLX_TYPE_DEFAULT, &out,
                   &err) != EMLX_OK)
        fail_msg("%s", err.message);
    return out;
}

static void check_refusal(const char *name, int64_t value, emlx_status wanted, const char *text) {
    emlx_error err = {.code = EMLX_OK};
    emlx_tensor *one = constant_of(EMLX_S32, 1), *bad = constant_of(EMLX_S32, value), *out = NULL;
    emlx_tensor *in[2] = {one, bad};
    const emlx_op *op = emlx_op_find(name);
    // A literal is refused at the call.
    assert_int_equal(emlx_apply(op, test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err),
                     wanted);
    assert_non_null(strstr(err.message, text));
    assert_non_null(strstr(err.message, name));
    // A pending operand is refused when the result is read, and again when it is read again.
    emlx_tensor *opposite = constant_of(EMLX_S32, -value), *pending = negated(opposite);
    in[1] = pending;
    assert_int_equal(emlx_apply(op, test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err),
                     EMLX_OK);
    for (int i = 0; i < 2; i++) {
        int32_t data;
        assert_int_equal(emlx_tensor_read(out, 0, &data, sizeof data, &err), wanted);
        assert_non_null(strstr(err.message, text));
        assert_non_null(strstr(err.message, name));
    }
    emlx_tensor *all[] = {one, bad, opposite, pending, out};
    for (int i = 0; i < 5; i++) emlx_tensor_release(all[i]);
}

static void bad_values(void **unused) {
    (void)unused;
    check_refusal("quotient", 0, EMLX_ARITHMETIC, "division by zero");
    check_refusal("remainder", 0, EMLX_ARITHMETIC, "division by zero");
    check_refusal("left_shift", -1, EMLX_INVALID, "cannot left shift by");
    check_refusal("right_shift", -2, EMLX_INVALID, "cannot right shift by");
}

static emlx_status divide_fused(const char *op, bool folded, emlx_error *err) {
    emlx_tensor *zero = constant_of(EMLX_S32, 0), *pending = negated(zero);
    emlx_tensor *in[2] = {pending, pending}, *quotient, *sum, *out;
    assert_int_equal(emlx_apply(emlx_op_find(op), test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT,
                                &quotient, err),
                     EMLX_OK);
    emlx_tensor *add[2] = {quotient, quotient};
    assert_int_equal(
        emlx_apply(emlx_op_find("add"), test_device, add, 2, NULL, 0, EMLX_TYPE_DEFAULT, &sum, err),
        EMLX_OK);
    assert_int_equal(emlx_apply(emlx_op_find(folded ? "product" : "negate"), test_device, &sum, 1,
                                NULL, 0, EMLX_TYPE_DEFAULT, &out, err),
                     EMLX_OK);
    emlx_status status = emlx_eval(&out, 1, err);
    emlx_tensor *all[] = {zero, pending, quotient, sum, out};
    for (int i = 0; i < 5; i++) emlx_tensor_release(all[i]);
    return status;
}

// Of what is computed together, the op that failed is named and no other, also where a plan for
// another one would do.
static void the_failing_op_is_named(void **unused) {
    (void)unused;
    for (int i = 0; i < 4; i++) {
        emlx_error err = {.code = EMLX_OK};
        const char *op = i % 2 ? "remainder" : "quotient";
        assert_int_equal(divide_fused(op, i / 2, &err), EMLX_ARITHMETIC);
        if (strncmp(err.message, op, strlen(op)) != 0 || strstr(err.message, "zero") == NULL)
            fail_msg("%s failed with \"%s\"", op, err.message);
    }
}

enum { PERIOD = 1000, MANY = 1500 * PERIOD };

// The same few numbers again and again, once or MANY times over.
static emlx_tensor *periodic(emlx_type type, int64_t count, int64_t factor) {
    emlx_shape shape = {.rank = 1, .dims = {count}};
    double *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = (double)(i % PERIOD * factor % 101);
    emlx_tensor *t = tensor_of(type, &shape, values);
    free(values);
    return t;
}

// Functions whose operands and results have different sizes: the larger of two, of which one was of
// another type, as another type.
static void *mixed(emlx_type type, emlx_type other, int64_t count) {
    emlx_tensor *a = periodic(type, count, 7), *from = periodic(other, count, 13);
    emlx_tensor *b = as_type(from, type), *less = apply_two("less", a, b);
    emlx_tensor *larger =
        apply_to("select", (emlx_tensor *[]){less, b, a}, 3, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *out = as_type(larger, other);
    void *bytes = bytes_of(out);
    emlx_tensor *all[] = {a, from, b, less, larger, out};
    for (int i = 0; i < 6; i++) emlx_tensor_release(all[i]);
    return bytes;
}

// What caches do not hold is computed as what they do.
static void much_as_little(void **unused) {
    (void)unused;
    static const emlx_type some[] = {EMLX_U8, EMLX_S16, EMLX_S32, EMLX_BF16, EMLX_F32, EMLX_F64};
    enum { SOME = sizeof some / sizeof *some };
    for (int i = 0; i < SOME * SOME; i++) {
        emlx_type type = some[i / SOME], other = some[i % SOME];
        size_t period = PERIOD * emlx_type_size(other);
        char *little = mixed(type, other, PERIOD), *much = mixed(type, other, MANY);
        for (int64_t at = 0; at < MANY / PERIOD; at++)
            if (memcmp(much + (size_t)at * period, little, period) != 0)
                fail_msg("%s and %s differ from element %lld on", emlx_type_name(type),
                         emlx_type_name(other), (long long)(at * PERIOD));
        free(little);
        free(much);
    }
}

// Functions of two bytes are those in f64, rounded once, whatever they are computed in: of every
// number, and where the same kernel goes on with them.
static void check_narrow(const char *op, emlx_type type, bool goes_on) {
    emlx_shape every = {1, {65536}};
    emlx_attr attrs[] = {with_ints("shape", every.dims, 1)};
    emlx_error err;
    emlx_tensor *bits, *x, *wide, *exact, *once, *result;
    assert_ok(
        emlx_apply(emlx_op_find("iota"), test_device, NULL, 0, attrs, 1, EMLX_U16, &bits, &err),
        err);
    x = apply_to("bitcast", &bits, 1, NULL, 0, type);
    wide = apply_to("as_type", &x, 1, NULL, 0, EMLX_F64);
    free(bytes_of(wide));
    exact = apply_to(op, &wide, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    free(bytes_of(exact));
    once = apply_to("as_type", &exact, 1, NULL, 0, type);
    result = apply_to(op, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *moved = NULL;
    if (goes_on) {
        moved = apply_to("negate", &result, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(result);
        result = apply_to("negate", &moved, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    }
    uint16_t *want = bytes_of(once), *got = bytes_of(result);
    for (int i = 0; i < 65536; i++)
        if (want[i] != got[i] && !(goes_on && isnan(element_get(type, want, i))))
            fail_msg("%s of %s %04x: %04x, not %04x", op, emlx_type_name(type), i, got[i], want[i]);
    free(want);
    free(got);
    emlx_tensor *all[] = {bits, x, wide, exact, once, result, moved};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) emlx_tensor_release(all[i]);
}

static void functions_of_two_bytes(void **unused) {
    (void)unused;
    static const char *const ops[] = {"exp",   "expm1", "log",   "log1p", "sigmoid", "sin",
                                      "cos",   "tan",   "sinh",  "cosh",  "tanh",    "asin",
                                      "acos",  "atan",  "asinh", "acosh", "atanh",   "sqrt",
                                      "rsqrt", "cbrt",  "erf",   "erfc",  "erf_inv"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int further = 0; further < 2; further++) {
            check_narrow(ops[i], EMLX_BF16, further != 0);
            check_narrow(ops[i], EMLX_F16, further != 0);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(much_as_little),
        cmocka_unit_test(every_pair_of_types),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(functions_of_two_bytes),
        cmocka_unit_test(the_failing_op_is_named),
    };
    return RUN_ON_CPU("ops/arithmetic", tests);
}
