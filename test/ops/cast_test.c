// SPDX-License-Identifier: Apache-2.0
// cast_test.c - casts and bitcasts between every pair of real types. Every element of types of up
// to 16 bits is tried, and of wider ones those around every limit. What is expected is worked out
// from the description of the types alone.
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

// A type: an integer, or a float of that many exponent and fraction bits.
typedef struct format {
    emlx_type type;
    int bits;
    bool is_signed;
    int exponent, fraction; // 0 for integers
} format;

static const format formats[] = {
    {EMLX_U2, 2, false, 0, 0},   {EMLX_U4, 4, false, 0, 0},       {EMLX_U8, 8, false, 0, 0},
    {EMLX_U16, 16, false, 0, 0}, {EMLX_U32, 32, false, 0, 0},     {EMLX_U64, 64, false, 0, 0},
    {EMLX_S2, 2, true, 0, 0},    {EMLX_S4, 4, true, 0, 0},        {EMLX_S8, 8, true, 0, 0},
    {EMLX_S16, 16, true, 0, 0},  {EMLX_S32, 32, true, 0, 0},      {EMLX_S64, 64, true, 0, 0},
    {EMLX_F8, 8, true, 5, 2},    {EMLX_F8_E4M3FN, 8, true, 4, 3}, {EMLX_BF16, 16, true, 8, 7},
    {EMLX_F16, 16, true, 5, 10}, {EMLX_F32, 32, true, 8, 23},     {EMLX_F64, 64, true, 11, 52},
};
enum { FORMATS = sizeof formats / sizeof *formats, MOST = 1 << 16 };

// Bits ------------------------------------------------------------------------------------------

static uint64_t bit(int number) { return number < 64 ? (uint64_t)1 << number : 0; }
static uint64_t low_bits(int bits) { return bit(bits) - 1; }
static uint64_t shift_down(uint64_t x, int bits) { return bits < 64 ? x >> bits : 0; }
static uint64_t sign_bit(const format *f) { return bit(f->bits - 1); }
static int bias_of(const format *f) { return (int)(low_bits(f->exponent) >> 1); }
static bool is_float(const format *f) { return f->exponent > 0; }
// It has no infinities, and one NaN of each sign.
static bool is_finite_only(const format *f) { return f->type == EMLX_F8_E4M3FN; }

// The element with these bits in memory: narrow signed ones are extended to a byte.
static void store_bits(const format *f, uint64_t bits, char *out) {
    if (f->bits < 8 && f->is_signed && bits & sign_bit(f)) bits |= 0xff & ~low_bits(f->bits);
    memcpy(out, &bits, emlx_type_size(f->type));
}

static uint64_t load_bits(const format *f, const char *in) {
    uint64_t bits = 0;
    memcpy(&bits, in, emlx_type_size(f->type));
    return bits;
}

// Numbers ---------------------------------------------------------------------------------------

// A long double holds every element of every type.
static long double decode(const format *f, uint64_t bits) {
    if (!is_float(f)) {
        if (!f->is_signed || !(bits & sign_bit(f))) return (long double)bits;
        return (long double)(int64_t)(bits | ~low_bits(f->bits));
    }
    uint64_t fraction = bits & low_bits(f->fraction);
    uint64_t exponent = shift_down(bits, f->fraction) & low_bits(f->exponent);
    long double sign = bits & sign_bit(f) ? -1 : 1;
    int bias = bias_of(f);
    bool top = exponent == low_bits(f->exponent);
    if (top && is_finite_only(f) && fraction == low_bits(f->fraction)) return NAN;
    if (top && !is_finite_only(f)) return fraction == 0 ? sign * INFINITY : (long double)NAN;
    if (exponent == 0) return sign * ldexpl((long double)fraction, 1 - bias - f->fraction);
    fraction |= bit(f->fraction);
    return sign * ldexpl((long double)fraction, (int)exponent - bias - f->fraction);
}

static uint64_t encode_integer(const format *f, long double x) {
    long double range = ldexpl(1, f->bits);
    uint64_t most = low_bits(f->bits) >> f->is_signed;
    if (isnan(x)) return 0;
    if (isinf(x)) return x > 0 ? most : f->is_signed ? most + 1 : 0;
    x = fmodl(truncl(x), range);
    if (x < 0) x += range;
    return (uint64_t)x & low_bits(f->bits);
}

// To the nearest, of two the one with an even last bit.
static uint64_t encode_float(const format *f, long double x) {
    int bias = bias_of(f), e = 0;
    uint64_t top = low_bits(f->exponent) * bit(f->fraction);
    uint64_t sign = signbit(x) ? sign_bit(f) : 0;
    uint64_t infinity = is_finite_only(f) ? 0x7e : top;
    if (isnan(x)) return is_finite_only(f) ? 0x7f : top | bit(f->fraction - 1);
    if (isinf(x)) return sign | infinity;
    if (x == 0) return sign;
    frexpl(x, &e);
    int unit = e - 1 < 1 - bias ? 1 - bias : e - 1;
    // In units of the last place: a normal number has its leading one there, and a carry out of the
    // fraction goes on into the exponent.
    long double places = rintl(ldexpl(fabsl(x), f->fraction - unit));
    uint64_t bits = (uint64_t)places + (uint64_t)(unit + bias - 1) * bit(f->fraction);
    return sign | (bits > infinity ? infinity : bits);
}

static uint64_t encode(const format *f, long double x) {
    return is_float(f) ? encode_float(f, x) : encode_integer(f, x);
}

// Elements --------------------------------------------------------------------------------------

static int add_exact(uint64_t *elements, int count, const format *f, long double x) {
    uint64_t bits = encode(f, x);
    // What the type does not have as it is would be another number.
    if (decode(f, bits) == x) elements[count++] = bits;
    return count;
}

// All, or what lies around the limits of every type.
static int list_elements(const format *f, uint64_t *elements) {
    int count = 0;
    if (f->bits <= 16) {
        for (; count < 1 << f->bits; count++) elements[count] = (uint64_t)count;
        return count;
    }
    for (int power = -160; power <= 160; power++)
        for (int sign = -1; sign <= 1; sign += 2)
            for (int near = -20; near <= 20; near++) {
                long double x = sign * ldexpl(1, power);
                count = add_exact(elements, count, f, x + near);
                count = add_exact(elements, count, f, x * (1 + ldexpl(near, -11)));
            }
    // Beside the middle between two numbers of the shorter floats.
    static const int places[] = {2, 3, 7, 10, 23};
    for (int power = 20; power < 64; power++)
        for (int p = 0; p < 5; p++)
            for (int near = -3; near <= 3; near++) {
                long double unit = ldexpl(1, power - places[p]);
                long double x = ldexpl(1, power) + unit / 2 + near;
                count = add_exact(elements, count, f, x);
                count = add_exact(elements, count, f, -x - unit);
            }
    for (int i = 0; i < 3000; i++) {
        uint64_t bits = 0;
        for (int part = 0; part < 4; part++) bits = bits << 16 | draw(1 << 16);
        elements[count++] = bits & low_bits(f->bits);
    }
    static const double specials[] = {INFINITY, -INFINITY, NAN, 0.0, -0.0, DBL_MAX, DBL_MIN, 0.1};
    for (int i = 0; is_float(f) && i < 8; i++) elements[count++] = encode_float(f, specials[i]);
    for (uint64_t i = 0; i < 3; i++) {
        elements[count++] = low_bits(f->bits) - i;
        elements[count++] = (low_bits(f->bits) >> 1) + i - 1;
    }
    assert_true(count <= MOST * 2);
    return count;
}

static emlx_tensor *tensor_of_bits(const format *f, const uint64_t *elements, int count) {
    size_t size = emlx_type_size(f->type);
    emlx_shape shape = {1, {count}};
    char *data = malloc((size_t)count * size + 1);
    emlx_tensor *t;
    emlx_error err;
    assert_non_null(data);
    for (int i = 0; i < count; i++) store_bits(f, elements[i], data + (size_t)i * size);
    assert_ok(
        emlx_tensor_from_data(test_device, f->type, &shape, data, (size_t)count * size, &t, &err),
        err);
    free(data);
    return t;
}

// Compares the elements with `expected`, or where that is a NaN which had other bits than the usual
// ones, with any.
static void compare_bits(const char *op, emlx_tensor *out, const format *from, const format *to,
                         const uint64_t *elements, const uint64_t *expected, int count) {
    char *data = bytes_of(out);
    for (int i = 0; i < count; i++) {
        char wanted[8] = {0};
        store_bits(to, expected[i], wanted);
        const char *got = data + (size_t)i * emlx_type_size(to->type);
        if (memcmp(got, wanted, emlx_type_size(to->type)) == 0) continue;
        bool nan = is_float(from) && is_float(to) && isnan(decode(from, elements[i]));
        if (nan && isnan(decode(to, load_bits(to, got)))) continue;
        fail_msg("%s of %s %llx (%Lg) to %s is %llx, not %llx", op, emlx_type_name(from->type),
                 (unsigned long long)elements[i], decode(from, elements[i]),
                 emlx_type_name(to->type), (unsigned long long)load_bits(to, got),
                 (unsigned long long)load_bits(to, wanted));
    }
    free(data);
    emlx_tensor_release(out);
}

static void check_cast(const char *op, const format *from, const format *to,
                       const uint64_t *elements, const uint64_t *expected, int count) {
    emlx_tensor *t = tensor_of_bits(from, elements, count);
    compare_bits(op, apply_to(op, &t, 1, NULL, 0, to->type), from, to, elements, expected, count);
    emlx_tensor_release(t);
}

static void over_all_pairs(const char *op, bool casts) {
    uint64_t *elements = malloc(2 * MOST * sizeof *elements);
    uint64_t *expected = malloc(2 * MOST * sizeof *expected);
    assert_non_null(elements);
    assert_non_null(expected);
    draw_seed(1);
    for (int a = 0; a < FORMATS; a++) {
        int count = list_elements(&formats[a], elements);
        for (int b = 0; b < FORMATS; b++) {
            if (!casts && formats[a].bits != formats[b].bits) continue;
            for (int i = 0; i < count; i++)
                expected[i] = !casts || a == b
                                  ? elements[i]
                                  : encode(&formats[b], decode(&formats[a], elements[i]));
            check_cast(op, &formats[a], &formats[b], elements, expected, count);
        }
    }
    free(expected);
    free(elements);
}

static void casts(void **state) {
    (void)state;
    over_all_pairs("as_type", true);
}

static void bitcasts(void **state) {
    (void)state;
    over_all_pairs("bitcast", false);
}

// Every way in which an integer becomes a float of another operand's type, or one that is asked
// for, without being computed with.
typedef emlx_tensor *(*way)(emlx_tensor *integers, emlx_type type);

static emlx_tensor *with_float(const char *op, emlx_tensor *t, emlx_type type, double value,
                               const emlx_attr *attrs, size_t attr_count) {
    emlx_shape one = *emlx_tensor_shape(t);
    for (int32_t d = 0; d < one.rank; d++) one.dims[d] = strcmp(op, "concatenate") == 0 ? 0 : 1;
    emlx_tensor *other = tensor_of(type, &one, &value);
    emlx_tensor *in[2] = {t, other};
    emlx_tensor *out = apply_to(op, in, 2, attrs, attr_count, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(other);
    return out;
}

static emlx_tensor *by_max(emlx_tensor *t, emlx_type type) {
    return with_float("max", t, type, -INFINITY, NULL, 0);
}
static emlx_tensor *by_min(emlx_tensor *t, emlx_type type) {
    return with_float("min", t, type, INFINITY, NULL, 0);
}
static emlx_tensor *by_concatenate(emlx_tensor *t, emlx_type type) {
    emlx_attr axis = with_int("axis", 0);
    return with_float("concatenate", t, type, 0, &axis, 1);
}
static emlx_tensor *by_real(emlx_tensor *t, emlx_type type) {
    return apply_to("real", &t, 1, NULL, 0, type);
}

static emlx_tensor *by_select(emlx_tensor *t, emlx_type type) {
    emlx_shape one = {1, {1}};
    double truth = 1, other = 0;
    emlx_tensor *in[3] = {tensor_of(EMLX_U8, &one, &truth), t, tensor_of(type, &one, &other)};
    emlx_tensor *out = apply_to("select", in, 3, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[2]);
    return out;
}

static emlx_tensor *by_clip(emlx_tensor *t, emlx_type type) {
    emlx_shape scalar = {0};
    double low = -INFINITY, high = INFINITY;
    emlx_tensor *in[3] = {t, tensor_of(type, &scalar, &low), tensor_of(type, &scalar, &high)};
    emlx_tensor *out = apply_to("clip", in, 3, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[1]);
    emlx_tensor_release(in[2]);
    return out;
}

static emlx_tensor *by_put_slice(emlx_tensor *t, emlx_type type) {
    emlx_tensor *base = as_type(t, type), *in[2] = {base, t};
    int64_t start = 0;
    emlx_attr starts = with_ints("starts", &start, 1);
    emlx_tensor *out = apply_to("put_slice", in, 2, &starts, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(base);
    return out;
}

// Each element a number that is known when the program is made.
static emlx_tensor *by_constants(emlx_tensor *t, emlx_type type) {
    size_t count = (size_t)emlx_shape_count(emlx_tensor_shape(t));
    emlx_tensor **all = malloc(count * sizeof(emlx_tensor *));
    int64_t none = 0, *data = bytes_of(t);
    assert_non_null(all);
    for (size_t i = 0; i < count; i++) {
        bool is_signed = emlx_tensor_type(t) == EMLX_S64;
        emlx_attr attrs[2] = {with_ints("shape", &none, 0),
                              {.name = "value", .kind = EMLX_ATTR_NUMBER}};
        attrs[1].value = (emlx_number){
            .kind = is_signed ? EMLX_NUMBER_SIGNED : EMLX_NUMBER_UNSIGNED, .as.s = data[i]};
        all[i] = apply_to("constant", NULL, 0, attrs, 2, type);
    }
    emlx_attr axis = with_int("axis", 0);
    emlx_tensor *out = apply_to("stack", all, count, &axis, 1, EMLX_TYPE_DEFAULT);
    for (size_t i = 0; i < count; i++) emlx_tensor_release(all[i]);
    free(all);
    free(data);
    return out;
}

static const struct {
    const char *name;
    way apply;
} ways[] = {{"max", by_max},
            {"min", by_min},
            {"select", by_select},
            {"clip", by_clip},
            {"real", by_real},
            {"concatenate", by_concatenate},
            {"constant", by_constants},
            {"put_slice", by_put_slice}};

static void integers_round_once(void **state) {
    (void)state;
    uint64_t *elements = malloc(2 * MOST * sizeof *elements);
    uint64_t *expected = malloc(2 * MOST * sizeof *expected);
    assert_non_null(elements);
    assert_non_null(expected);
    for (int a = 0; a < FORMATS; a++) {
        if (is_float(&formats[a]) || formats[a].bits < 64) continue;
        int count = list_elements(&formats[a], elements);
        emlx_tensor *t = tensor_of_bits(&formats[a], elements, count);
        for (int b = 0; b < FORMATS; b++) {
            // There is no infinity to choose against.
            if (!is_float(&formats[b]) || is_finite_only(&formats[b])) continue;
            for (int i = 0; i < count; i++)
                expected[i] = encode(&formats[b], decode(&formats[a], elements[i]));
            for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
                compare_bits(ways[w].name, ways[w].apply(t, formats[b].type), &formats[a],
                             &formats[b], elements, expected, count);
        }
        emlx_tensor_release(t);
    }
    free(expected);
    free(elements);
}

static void bitcasts_of_other_widths(void **state) {
    (void)state;
    emlx_error err;
    uint64_t zero = 0;
    for (int a = 0; a < FORMATS; a++)
        for (int b = 0; b < FORMATS; b++) {
            if (formats[a].bits == formats[b].bits) continue;
            emlx_tensor *t = tensor_of_bits(&formats[a], &zero, 1), *out;
            assert_error(emlx_apply(emlx_op_find("bitcast"), test_device, &t, 1, NULL, 0,
                                    formats[b].type, &out, &err),
                         EMLX_INVALID, err, "differ in size");
            emlx_tensor_release(t);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts),
        cmocka_unit_test(integers_round_once),
        cmocka_unit_test(bitcasts),
        cmocka_unit_test(bitcasts_of_other_widths),
    };
    return RUN_ON_CPU("ops/cast", tests);
}
