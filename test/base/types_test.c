// SPDX-License-Identifier: Apache-2.0
// types_test.c - the table of types, result types, and every rule of Nx's casts for one number.
#include "base/types.h"

#include <math.h>

#include "test.h"

static emlx_number number_s(int64_t s) {
    return (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = s};
}
static emlx_number number_u(uint64_t u) {
    return (emlx_number){.kind = EMLX_NUMBER_UNSIGNED, .as.u = u};
}
static emlx_number number_r(double x) {
    return (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {x}};
}
static emlx_number number_c(double re, double im) {
    return (emlx_number){.kind = EMLX_NUMBER_COMPLEX, .as.f = {re, im}};
}

// The bits that storing a number gives, as an unsigned integer of the type's size.
static uint64_t bits_of(emlx_type type, emlx_number value) {
    uint8_t bytes[16] = {0};
    uint64_t bits;
    type_store(type, &value, bytes);
    memcpy(&bits, bytes, sizeof bits);
    return bits;
}

// The number that remains of `value` in a float type.
static double through(emlx_type type, double value) {
    uint8_t bytes[16];
    emlx_number number = number_r(value);
    type_store(type, &number, bytes);
    return type_load(type, bytes).as.f[0];
}

// Table -----------------------------------------------------------------------------------------

static void names_and_sizes(void **state) {
    (void)state;
    for (unsigned t = 0; t < EMLX_TYPE_COUNT; t++) {
        emlx_type parsed;
        assert_int_equal(emlx_type_parse(emlx_type_name((emlx_type)t), &parsed, NULL), EMLX_OK);
        assert_int_equal(parsed, t);
        size_t bits = emlx_type_bits((emlx_type)t);
        assert_int_equal(emlx_type_size((emlx_type)t), bits < 8 ? 1 : bits / 8);
    }
    assert_string_equal(emlx_type_name(EMLX_TYPE_DEFAULT), "?");
    assert_int_equal(emlx_type_size((emlx_type)1000), 0);
    assert_int_equal(emlx_type_bits((emlx_type)-1), 0);
    emlx_type type;
    emlx_error err;
    assert_error(emlx_type_parse("f23", &type, &err), EMLX_INVALID, err, "f23");
    assert_error(emlx_type_parse("", &type, &err), EMLX_INVALID, err, "c128");
    assert_error(emlx_type_parse(NULL, &type, &err), EMLX_INVALID, err, "u2 u4");
}

static void compute_types(void **state) {
    (void)state;
    assert_int_equal(type_compute(EMLX_F8), EMLX_F32);
    assert_int_equal(type_compute(EMLX_F8_E4M3FN), EMLX_F32);
    assert_int_equal(type_compute(EMLX_BF16), EMLX_F32);
    assert_int_equal(type_compute(EMLX_F16), EMLX_F32);
    for (unsigned t = 0; t < EMLX_TYPE_COUNT; t++) {
        if (t >= EMLX_F8 && t <= EMLX_F16) continue;
        assert_int_equal(type_compute((emlx_type)t), t);
    }
}

// Every integer of `digits` bits is exact, and one of one bit more is not.
static void digits_are_exact(void **state) {
    (void)state;
    for (unsigned t = EMLX_F8; t <= EMLX_F32; t++) {
        double whole = ldexp(1.0, type_table[t].digits);
        assert_true(through((emlx_type)t, whole - 1) == whole - 1);
        assert_true(through((emlx_type)t, whole + 1) != whole + 1);
    }
    assert_int_equal(type_table[EMLX_U2].digits, 2);
    assert_int_equal(type_table[EMLX_S8].digits, 7);
    assert_int_equal(type_table[EMLX_C64].digits, 24);
    assert_int_equal(type_table[EMLX_C128].digits, 53);
}

// Also as single numbers have it.
static void has_what_casts_keep(void **state) {
    (void)state;
    assert_true(type_has(EMLX_S16, EMLX_U8) && type_has(EMLX_S16, EMLX_S8));
    assert_true(type_has(EMLX_F32, EMLX_BF16) && type_has(EMLX_F64, EMLX_F32));
    assert_true(type_has(EMLX_F32, EMLX_S16) && type_has(EMLX_F64, EMLX_U32));
    assert_false(type_has(EMLX_U32, EMLX_S8) || type_has(EMLX_S8, EMLX_U8));
    assert_false(type_has(EMLX_F32, EMLX_S32) || type_has(EMLX_F32, EMLX_F64));
    assert_false(type_has(EMLX_S64, EMLX_F8) || type_has(EMLX_F16, EMLX_BF16));
    assert_false(type_has(EMLX_C64, EMLX_F32) || type_has(EMLX_F32, EMLX_C64));
    for (unsigned to = EMLX_F8; to <= EMLX_F64; to++)
        for (unsigned from = 0; from <= EMLX_S16; from++) {
            bool low = type_class_of((emlx_type)from) == CLASS_SIGNED;
            double most = ldexp(1, type_table[from].digits) - 1, least = low ? -most - 1 : 0;
            if (!type_has((emlx_type)to, (emlx_type)from) || type_is_complex((emlx_type)to))
                continue;
            assert_true(through((emlx_type)to, most) == most);
            assert_true(through((emlx_type)to, least) == least);
        }
}

// Result types ----------------------------------------------------------------------------------

static void merges(void **state) {
    (void)state;
    static const emlx_type rows[][3] = {
        {EMLX_U8, EMLX_U8, EMLX_U8},          {EMLX_U8, EMLX_U32, EMLX_U32},
        {EMLX_U8, EMLX_S8, EMLX_S16},         {EMLX_U8, EMLX_S64, EMLX_S64},
        {EMLX_U64, EMLX_S8, EMLX_S64},        {EMLX_U32, EMLX_S8, EMLX_S64},
        {EMLX_U4, EMLX_S4, EMLX_S8},          {EMLX_U2, EMLX_S2, EMLX_S4},
        {EMLX_S64, EMLX_F32, EMLX_F32},       {EMLX_S64, EMLX_F8, EMLX_F8},
        {EMLX_U64, EMLX_BF16, EMLX_BF16},     {EMLX_BF16, EMLX_F16, EMLX_F16},
        {EMLX_BF16, EMLX_F8, EMLX_F8},        {EMLX_BF16, EMLX_F8_E4M3FN, EMLX_F8_E4M3FN},
        {EMLX_F8, EMLX_F16, EMLX_F16},        {EMLX_F16, EMLX_F64, EMLX_F64},
        {EMLX_F32, EMLX_C64, EMLX_C64},       {EMLX_F64, EMLX_C64, EMLX_C128},
        {EMLX_F8_E4M3FN, EMLX_C64, EMLX_C64}, {EMLX_BF16, EMLX_C64, EMLX_C64},
        {EMLX_S64, EMLX_C64, EMLX_C64},       {EMLX_C64, EMLX_C128, EMLX_C128},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(type_merge(rows[i][0], rows[i][1]), rows[i][2]);
        assert_int_equal(type_merge(rows[i][1], rows[i][0]), rows[i][2]);
    }
}

// Beside the other floats f8_e4m3fn has neither a larger nor a smaller kind: the left one wins.
static void merges_e4m3_leftwards(void **state) {
    (void)state;
    assert_int_equal(type_merge(EMLX_F8_E4M3FN, EMLX_F32), EMLX_F8_E4M3FN);
    assert_int_equal(type_merge(EMLX_F32, EMLX_F8_E4M3FN), EMLX_F32);
    assert_int_equal(type_merge(EMLX_F8_E4M3FN, EMLX_F8), EMLX_F8_E4M3FN);
    assert_int_equal(type_merge(EMLX_F8, EMLX_F8_E4M3FN), EMLX_F8);
}

static void floating_and_aggregate(void **state) {
    (void)state;
    for (unsigned t = 0; t < EMLX_TYPE_COUNT; t++) {
        emlx_type type = (emlx_type)t;
        assert_int_equal(type_floating(type), t < EMLX_F8 ? EMLX_F32 : t);
        if (t >= EMLX_F8) assert_int_equal(type_aggregate(type), t);
    }
    assert_int_equal(type_aggregate(EMLX_U2), EMLX_U32);
    assert_int_equal(type_aggregate(EMLX_U32), EMLX_U32);
    assert_int_equal(type_aggregate(EMLX_U64), EMLX_S64);
    assert_int_equal(type_aggregate(EMLX_S4), EMLX_S32);
    assert_int_equal(type_aggregate(EMLX_S64), EMLX_S64);
}

// Casts -----------------------------------------------------------------------------------------

typedef struct cast_row {
    emlx_type type;
    emlx_number value;
    uint64_t bits;
} cast_row;

static void check_rows(const cast_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = bits_of(rows[i].type, rows[i].value);
        if (bits != rows[i].bits) {
            fail_msg("row %zu to %s: %#llx, expected %#llx", i, emlx_type_name(rows[i].type),
                     (unsigned long long)bits, (unsigned long long)rows[i].bits);
        }
    }
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

static void integers_keep_low_bits(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_U8, number_s(256), 0},
        {EMLX_U8, number_s(-1), 255},
        {EMLX_U8, number_s(300), 44},
        {EMLX_S8, number_s(128), 0x80},
        {EMLX_S64, number_u(UINT64_MAX), UINT64_MAX},
        {EMLX_U64, number_s(-2), UINT64_MAX - 1},
        {EMLX_U16, number_s(-1), 0xFFFF},
        {EMLX_S32, number_s(INT64_C(0x180000000)), 0x80000000},
        // Sub-byte values fill their byte: signed ones with their sign.
        {EMLX_S4, number_s(-9), 7},
        {EMLX_S4, number_s(8), 0xF8},
        {EMLX_S2, number_s(-2), 0xFE},
        {EMLX_S2, number_s(5), 1},
        {EMLX_U2, number_s(-1), 3},
        {EMLX_U4, number_s(300), 12},
    };
    CHECK_ROWS(rows);
}

static void reals_truncate_and_wrap(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_U8, number_r(300.7), 44},
        {EMLX_U8, number_r(-1.5), 255},
        {EMLX_U8, number_r(-0.9), 0},
        {EMLX_S8, number_r(200.0), 200},
        {EMLX_S32, number_r(3e9), 3000000000},
        {EMLX_S32, number_r((double)1e20F), 0},
        {EMLX_U64, number_r(-1e20), UINT64_C(10680464442257309696)},
        {EMLX_U64, number_r(1e20), UINT64_C(7766279631452241920)},
        {EMLX_U64, number_r(18446744073709549568.0), UINT64_C(18446744073709549568)},
        {EMLX_U64, number_r(18446744073709551616.0), 0},
        {EMLX_S64, number_r(9223372036854775808.0), UINT64_C(1) << 63},
        {EMLX_S64, number_r(-9223372036854775808.0), UINT64_C(1) << 63},
        {EMLX_S64, number_r(1e300), 0},
        // The highest bit of the mantissa just outside, the lowest just inside of 64 bits.
        {EMLX_U64, number_r(0x1.0000000000001p115), UINT64_C(1) << 63},
        {EMLX_U64, number_r(0x1.0000000000001p116), 0},
        {EMLX_S4, number_r(-9.5), 7},
        {EMLX_U8, number_r(5e-324), 0},
    };
    CHECK_ROWS(rows);
}

static void specials_to_integers(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_U8, number_r(NAN), 0},
        {EMLX_U8, number_r(INFINITY), 255},
        {EMLX_U8, number_r(-INFINITY), 0},
        {EMLX_S8, number_r(INFINITY), 127},
        {EMLX_S8, number_r(-INFINITY), 0x80},
        {EMLX_S4, number_r(INFINITY), 7},
        {EMLX_S4, number_r(-INFINITY), 0xF8},
        {EMLX_U2, number_r(INFINITY), 3},
        {EMLX_S64, number_r(INFINITY), INT64_MAX},
        {EMLX_S64, number_r(-INFINITY), UINT64_C(1) << 63},
        {EMLX_U64, number_r(INFINITY), UINT64_MAX},
        {EMLX_S32, number_c(-INFINITY, NAN), 0x80000000},
        {EMLX_S32, number_c(NAN, 1.0), 0},
    };
    CHECK_ROWS(rows);
}

static void rounds_f16_once(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_F16, number_r(1.0 + 0x1p-11 + 0x1p-30), 0x3C01},
        {EMLX_F16, number_r(1.0 + 0x1p-11), 0x3C00},
        {EMLX_F16, number_r(1.0 + 3 * 0x1p-11), 0x3C02},
        {EMLX_F16, number_r(65519.0), 0x7BFF},
        {EMLX_F16, number_r(65520.0), 0x7C00},
        {EMLX_F16, number_s(65520), 0x7C00},
        {EMLX_F16, number_s(65519), 0x7BFF},
        {EMLX_F16, number_r(-INFINITY), 0xFC00},
        {EMLX_F16, number_r(-NAN), 0x7E00},
        {EMLX_F16, number_r(-0.0), 0x8000},
        {EMLX_F16, number_r(0x1p-24), 1},
        {EMLX_F16, number_r(0x1p-25), 0},
        {EMLX_F16, number_r(0x1.8p-25), 1},
        {EMLX_F16, number_r(0x1.FFCp-15), 0x400},
        {EMLX_F16, number_r(5e-324), 0},
        {EMLX_F16, number_r(1e300), 0x7C00},
    };
    CHECK_ROWS(rows);
}

static void rounds_bf16_to_even(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_BF16, number_r(511.0), 0x4400},
        {EMLX_BF16, number_r(0.1), 0x3DCD},
        {EMLX_BF16, number_r(1.0 / 3.0), 0x3EAB},
        {EMLX_BF16, number_r(257.0), 0x4380},
        {EMLX_BF16, number_r(259.0), 0x4382},
        {EMLX_BF16, number_r(3.38e38), 0x7F7E},
        {EMLX_BF16, number_r(3.4e38), 0x7F80},
        {EMLX_BF16, number_r(-INFINITY), 0xFF80},
        {EMLX_BF16, number_r(NAN), 0x7FC0},
        {EMLX_BF16, number_r(0x1p-133), 1},
        // Rounded once: over f32 this would be a tie, and 1.0.
        {EMLX_BF16, number_r(1.0 + 0x1p-8 + 0x1p-40), 0x3F81},
    };
    CHECK_ROWS(rows);
}

static void rounds_f8_to_even(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_F8, number_r(1.24), 0x3D},     {EMLX_F8, number_r(3.9), 0x44},
        {EMLX_F8, number_r(57344.0), 0x7B},  {EMLX_F8, number_r(60000.0), 0x7B},
        {EMLX_F8, number_r(61440.0), 0x7C},  {EMLX_F8, number_r(65535.0), 0x7C},
        {EMLX_F8, number_r(1.125), 0x3C},    {EMLX_F8, number_r(1.375), 0x3E},
        {EMLX_F8, number_r(-1.875), 0xC0},   {EMLX_F8, number_r(NAN), 0x7E},
        {EMLX_F8, number_r(INFINITY), 0x7C}, {EMLX_F8, number_r(0x1p-16), 0x01},
        {EMLX_F8, number_r(0x1p-17), 0x00},  {EMLX_F8, number_r(-0.0), 0x80},
    };
    CHECK_ROWS(rows);
}

static void e4m3_saturates(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_F8_E4M3FN, number_r(1.95), 0x40},      {EMLX_F8_E4M3FN, number_r(1.0625), 0x38},
        {EMLX_F8_E4M3FN, number_r(448.0), 0x7E},     {EMLX_F8_E4M3FN, number_r(464.0), 0x7E},
        {EMLX_F8_E4M3FN, number_r(1e30), 0x7E},      {EMLX_F8_E4M3FN, number_r(INFINITY), 0x7E},
        {EMLX_F8_E4M3FN, number_r(-INFINITY), 0xFE}, {EMLX_F8_E4M3FN, number_r(NAN), 0x7F},
        {EMLX_F8_E4M3FN, number_r(0.0155), 0x08},    {EMLX_F8_E4M3FN, number_r(0x1p-9), 0x01},
        {EMLX_F8_E4M3FN, number_r(0x1p-10), 0x00},   {EMLX_F8_E4M3FN, number_r(0.013671875), 0x07},
    };
    CHECK_ROWS(rows);
}

static void f32_and_f64(void **state) {
    (void)state;
    const cast_row rows[] = {
        {EMLX_F32, number_r(1e300), 0x7F800000},
        {EMLX_F32, number_r(NAN), 0x7FC00000},
        {EMLX_F32, number_r(-0.0), 0x80000000},
        {EMLX_F32, number_r(0x1.000001p0), 0x3F800000},
        // Just above the middle of two; as a double it would be in the middle.
        {EMLX_F32, number_s((INT64_C(1) << 60) + (INT64_C(1) << 36) + 1), 0x5D800001},
        {EMLX_F32, number_u(UINT64_MAX), 0x5F800000},
        {EMLX_F64, number_u(UINT64_MAX), UINT64_C(0x43F0000000000000)},
        {EMLX_F64, number_s((INT64_C(1) << 53) + 1), UINT64_C(0x4340000000000000)},
        {EMLX_F64, number_r(-NAN), UINT64_C(0x7FF8000000000000)},
        {EMLX_F64, number_r(-0.0), UINT64_C(1) << 63},
        {EMLX_F32, number_c(INFINITY, 3.0), 0x7F800000},
        {EMLX_F32, number_c(2.0, NAN), 0x40000000},
        {EMLX_C64, number_r(NAN), 0x7FC00000},
        {EMLX_C64, number_c(1.0, 2.0), UINT64_C(0x400000003F800000)},
        {EMLX_C64, number_s(-1), 0xBF800000},
    };
    CHECK_ROWS(rows);
}

static void complex_parts(void **state) {
    (void)state;
    uint8_t bytes[16];
    emlx_number value = number_c(-1.5, 1e300);
    type_store(EMLX_C128, &value, bytes);
    emlx_number back = type_load(EMLX_C128, bytes);
    assert_int_equal(back.kind, EMLX_NUMBER_COMPLEX);
    assert_true(back.as.f[0] == -1.5 && back.as.f[1] == 1e300);
    type_store(EMLX_C64, &value, bytes);
    back = type_load(EMLX_C64, bytes);
    assert_true(back.as.f[0] == -1.5 && isinf(back.as.f[1]));
}

// Round trips -----------------------------------------------------------------------------------

static void integers_come_back(void **state) {
    (void)state;
    for (unsigned t = EMLX_U2; t <= EMLX_S64; t++) {
        bool is_signed = type_class_of((emlx_type)t) == CLASS_SIGNED;
        int bits = type_table[t].bits;
        for (int64_t i = is_signed ? -2 : 0; i < 2; i++) {
            // The middle of the range and its two ends.
            uint64_t value = (uint64_t)i * ((uint64_t)1 << (bits - 1)) + (i < 0 ? (i + 2) : 0);
            if (is_signed) value = (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
            uint8_t bytes[16];
            emlx_number number = is_signed ? number_s((int64_t)value) : number_u(value);
            type_store((emlx_type)t, &number, bytes);
            emlx_number back = type_load((emlx_type)t, bytes);
            assert_int_equal(back.kind, number.kind);
            assert_true(back.as.u == number.as.u);
        }
    }
}

// Every code of the narrow floats decodes to a number that encodes to it again.
static void narrow_codes_come_back(void **state) {
    (void)state;
    for (unsigned t = EMLX_F8; t <= EMLX_F16; t++) {
        for (uint32_t code = 0; code < 1u << emlx_type_bits((emlx_type)t); code++) {
            emlx_number value = type_load((emlx_type)t, &code);
            uint64_t bits = bits_of((emlx_type)t, value);
            if (isnan(value.as.f[0])) {
                assert_true(isnan(through((emlx_type)t, NAN)));
            } else {
                assert_int_equal(bits, code);
            }
        }
    }
}

// Between two neighbours a number goes to the nearer one, in the middle to the even code.
static void narrow_floats_round_to_nearest(void **state) {
    (void)state;
    static const uint32_t last[] = {
        [EMLX_F8] = 0x7B, [EMLX_F8_E4M3FN] = 0x7E, [EMLX_BF16] = 0x7F7F, [EMLX_F16] = 0x7BFF};
    for (unsigned t = EMLX_F8; t <= EMLX_F16; t++) {
        for (uint32_t code = 0; code < last[t]; code++) {
            uint32_t above = code + 1;
            double low = type_load((emlx_type)t, &code).as.f[0];
            double high = type_load((emlx_type)t, &above).as.f[0];
            double middle = (low + high) / 2;
            emlx_type type = (emlx_type)t;
            assert_int_equal(bits_of(type, number_r(middle)), code % 2 == 0 ? code : above);
            assert_int_equal(bits_of(type, number_r(nextafter(middle, 0))), code);
            assert_int_equal(bits_of(type, number_r(nextafter(middle, INFINITY))), above);
        }
    }
}

static void decodes_known_values(void **state) {
    (void)state;
    const uint16_t f16 = 0x3555, bf16 = 0x3EAB;
    const uint8_t f8 = 0x03, e4m3 = 0x07;
    assert_true(type_load(EMLX_F16, &f16).as.f[0] == 0.333251953125);
    assert_true(type_load(EMLX_BF16, &bf16).as.f[0] == 0.333984375);
    assert_true(type_load(EMLX_F8, &f8).as.f[0] == 3 * 0x1p-16);
    assert_true(type_load(EMLX_F8_E4M3FN, &e4m3).as.f[0] == 0.013671875);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes),        cmocka_unit_test(compute_types),
        cmocka_unit_test(digits_are_exact),       cmocka_unit_test(merges),
        cmocka_unit_test(merges_e4m3_leftwards),  cmocka_unit_test(floating_and_aggregate),
        cmocka_unit_test(integers_keep_low_bits), cmocka_unit_test(reals_truncate_and_wrap),
        cmocka_unit_test(specials_to_integers),   cmocka_unit_test(rounds_f16_once),
        cmocka_unit_test(rounds_bf16_to_even),    cmocka_unit_test(rounds_f8_to_even),
        cmocka_unit_test(e4m3_saturates),         cmocka_unit_test(f32_and_f64),
        cmocka_unit_test(complex_parts),          cmocka_unit_test(integers_come_back),
        cmocka_unit_test(narrow_codes_come_back), cmocka_unit_test(narrow_floats_round_to_nearest),
        cmocka_unit_test(decodes_known_values),   cmocka_unit_test(has_what_casts_keep),
    };
    return RUN_TESTS("base/types", tests);
}
