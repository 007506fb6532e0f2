// SPDX-License-Identifier: Apache-2.0
// types.c - the table of element types, Nx's rules for result types, and single numbers in and
// out of a type's memory form.
#include "base/types.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/odd.h"

// The table -------------------------------------------------------------------------------------

// Bits of precision. A signed integer's sign is not counted: of its numbers only the lowest has
// one bit more, and that one is a power of two.
enum {
    PRECISION_F8 = 3,
    PRECISION_F8_E4M3FN = 4,
    PRECISION_BF16 = 8,
    PRECISION_F16 = 11,
    PRECISION_F32 = 24,
    PRECISION_F64 = 53,
    PRECISION_C64 = PRECISION_F32,
    PRECISION_C128 = PRECISION_F64
};

#define DIGITS_UNSIGNED(NAME, bits) (bits)
#define DIGITS_SIGNED(NAME, bits) ((bits)-1)
#define DIGITS_FLOAT(NAME, bits) PRECISION_##NAME
#define DIGITS_COMPLEX(NAME, bits) PRECISION_##NAME
#define COMPUTE(NAME, bits, class)                                                                 \
    (CLASS_##class == CLASS_FLOAT && (bits) < 32 ? EMLX_F32 : EMLX_##NAME)

const type_info type_table[EMLX_TYPE_COUNT] = {
#define XX(name, NAME, bits, class)                                                                \
    [EMLX_##NAME] = {#name,                                                                        \
                     (bits),                                                                       \
                     (bits) < 8 ? 1 : (bits) / 8,                                                  \
                     CLASS_##class,                                                                \
                     COMPUTE(NAME, bits, class),                                                   \
                     DIGITS_##class(NAME, bits)},
    EMLX_TYPE_MAP(XX)
#undef XX
};

const char *emlx_type_name(emlx_type type) {
    return type_is_valid(type) ? type_table[type].name : "?";
}

size_t emlx_type_bits(emlx_type type) { return type_is_valid(type) ? type_table[type].bits : 0; }

size_t emlx_type_size(emlx_type type) { return type_is_valid(type) ? type_table[type].size : 0; }

emlx_status emlx_type_parse(const char *name, emlx_type *type, emlx_error *err) {
    REQUIRE(type);
    for (unsigned t = 0; name != NULL && t < EMLX_TYPE_COUNT; t++) {
        if (strcmp(name, type_table[t].name) == 0) {
            *type = (emlx_type)t;
            return EMLX_OK;
        }
    }
#define XX(name, NAME, bits, class) " " #name
    return error_set(err, EMLX_INVALID, "unknown type '%.40s', expected one of:" EMLX_TYPE_MAP(XX),
                     name == NULL ? "" : name);
#undef XX
}

// Result types ----------------------------------------------------------------------------------

// Nx's order of kinds; the higher one decides the result. bf16 is a kind of its own below the
// floats, f8_e4m3fn one beside them.
static int kind_rank(emlx_type t) {
    static const uint8_t ranks[] = {
        [CLASS_UNSIGNED] = 0, [CLASS_SIGNED] = 1, [CLASS_FLOAT] = 3, [CLASS_COMPLEX] = 4};
    return t == EMLX_BF16 ? 2 : ranks[type_class_of(t)];
}

static bool kind_is_plain_float(emlx_type t) {
    return type_is_float(t) && t != EMLX_BF16 && t != EMLX_F8_E4M3FN;
}

// The signed or complex type of that many bits.
static emlx_type type_of_bits(type_class class_, int bits) {
    unsigned t = 0;
    while (type_table[t].class_ != class_ || type_table[t].bits != bits) t++;
    return (emlx_type)t;
}

static int int_max(int a, int b) { return a > b ? a : b; }
static int int_min(int a, int b) { return a < b ? a : b; }

emlx_type type_merge(emlx_type a, emlx_type b) {
    int rank_a = kind_rank(a), rank_b = kind_rank(b);
    int bits_a = type_table[a].bits, bits_b = type_table[b].bits;
    if (rank_a < rank_b) return type_merge(b, a);
    if (rank_a == rank_b) {
        bool same_kind = (a == EMLX_F8_E4M3FN) == (b == EMLX_F8_E4M3FN);
        return !same_kind || bits_a >= bits_b ? a : b;
    }
    if (type_class_of(a) == CLASS_SIGNED) {
        return type_of_bits(CLASS_SIGNED, int_max(int_min(2 * bits_b, 64), bits_a));
    }
    if (type_is_complex(a) && kind_is_plain_float(b)) {
        return type_of_bits(CLASS_COMPLEX, int_max(2 * bits_b, bits_a));
    }
    return a;
}

emlx_type type_floating(emlx_type t) { return type_is_integer(t) ? EMLX_F32 : t; }

emlx_type type_aggregate(emlx_type t) {
    if (!type_is_integer(t)) return t;
    if (type_table[t].bits == 64) return EMLX_S64;
    return type_class_of(t) == CLASS_SIGNED ? EMLX_S32 : EMLX_U32;
}

emlx_type type_complex(emlx_type t) {
    return t == EMLX_F64 || t == EMLX_C128 ? EMLX_C128 : EMLX_C64;
}

emlx_type type_part(emlx_type t) {
    if (!type_is_complex(t)) return t;
    return t == EMLX_C64 ? EMLX_F32 : EMLX_F64;
}

static emlx_type real_holding(emlx_type t, emlx_type from) {
    if (type_is_integer(t)) return type_is_float(from) ? EMLX_F64 : t;
    if (type_table[from].digits > type_table[t].digits) return EMLX_F64;
    // Narrow floats differ in range as well; all of them fit into f32.
    bool narrow = type_is_float(from) && from != t && type_compute(t) != t;
    return narrow ? EMLX_F32 : t;
}

emlx_type type_holding(emlx_type t, emlx_type from) {
    emlx_type type = real_holding(type_part(t), type_part(from));
    return type_is_complex(t) || type_is_complex(from) ? type_complex(type) : type;
}

bool type_has(emlx_type to, emlx_type from) {
    if (to == from) return true;
    if (type_is_complex(to) || type_is_complex(from)) return false;
    if (type_is_float(from)) return to == EMLX_F64 || (to == EMLX_F32 && type_compute(from) == to);
    bool signs = type_class_of(from) != CLASS_SIGNED || type_class_of(to) != CLASS_UNSIGNED;
    return signs && type_table[to].digits >= type_table[from].digits;
}

// Narrow floats ---------------------------------------------------------------------------------

// A float format of at most 16 bits. `limit` is the code (without sign) of everything past the
// largest finite number: infinity, or that number itself. Codes above it are NaN.
typedef struct narrow_format {
    int mantissa;
    int bias;
    unsigned limit;
    unsigned nan;
    bool has_infinity;
} narrow_format;

static const narrow_format narrow_formats[EMLX_TYPE_COUNT] = {
    [EMLX_F8] = {2, 15, 0x7C, 0x7E, true},
    [EMLX_F8_E4M3FN] = {3, 7, 0x7E, 0x7F, false},
    [EMLX_BF16] = {7, 127, 0x7F80, 0x7FC0, true},
    [EMLX_F16] = {10, 15, 0x7C00, 0x7E00, true},
};

// The code of |x|, rounded once to nearest, ties to even. x is not NaN.
static unsigned narrow_code(const narrow_format *f, double x) {
    if (isinf(x)) return f->limit;
    if (x == 0) return 0; // has no exponent
    int exponent;
    (void)frexp(fabs(x), &exponent);
    exponent = int_max(exponent - 1, 1 - f->bias);
    // In units of the last place: an integer below 2^(mantissa + 2), its leading one included.
    // Adding it whole to the exponent's field makes that one the field's last increment, leaves
    // it out for subnormals, and lets a rounding carry into the exponent.
    double units = nearbyint(ldexp(fabs(x), f->mantissa - exponent));
    int64_t code = ((int64_t)(exponent + f->bias - 1) << f->mantissa) + (int64_t)units;
    return code > (int64_t)f->limit ? f->limit : (unsigned)code;
}

static unsigned narrow_encode(emlx_type type, double x) {
    const narrow_format *f = &narrow_formats[type];
    if (isnan(x)) return f->nan;
    unsigned sign = signbit(x) ? 1u << (type_table[type].bits - 1) : 0;
    return sign | narrow_code(f, x);
}

static double narrow_decode(emlx_type type, unsigned bits) {
    const narrow_format *f = &narrow_formats[type];
    unsigned sign_bit = 1u << (type_table[type].bits - 1);
    unsigned code = bits & (sign_bit - 1);
    double sign = bits & sign_bit ? -1.0 : 1.0;
    if (code > f->limit) return NAN;
    if (code == f->limit && f->has_infinity) return sign * INFINITY;
    int field = (int)(code >> f->mantissa);
    unsigned fraction = code & ((1u << f->mantissa) - 1);
    if (field > 0) fraction |= 1u << f->mantissa;
    return sign * ldexp(fraction, int_max(field, 1) - f->bias - f->mantissa);
}

// Storing ---------------------------------------------------------------------------------------

// The integer part of x modulo 2^64. x is finite. A plain cast is undefined past the range.
static uint64_t wrap_real(double x) {
    int exponent;
    double mantissa = frexp(fabs(x), &exponent);
    uint64_t magnitude = 0;
    if (exponent <= 64) {
        magnitude = (uint64_t)ldexp(mantissa, exponent);
    } else if (exponent < 64 + 53) {
        magnitude = (uint64_t)ldexp(mantissa, 53) << (exponent - 53);
    }
    return x < 0 ? 0 - magnitude : magnitude;
}

// NaN gives 0 and an infinity the nearest end of the type's range, as 64 bits.
static uint64_t integer_of_special(emlx_type type, double x) {
    if (isnan(x)) return 0;
    int bits = type_table[type].bits;
    if (type_class_of(type) == CLASS_UNSIGNED) return x > 0 ? UINT64_MAX >> (64 - bits) : 0;
    uint64_t highest = (UINT64_MAX >> (64 - bits)) >> 1;
    return x > 0 ? highest : ~highest;
}

static uint64_t integer_value(emlx_type type, const emlx_number *value) {
    switch (value->kind) {
    case EMLX_NUMBER_SIGNED: return (uint64_t)value->as.s;
    case EMLX_NUMBER_UNSIGNED: return value->as.u;
    default: break;
    }
    double x = value->as.f[0];
    return isfinite(x) ? wrap_real(x) : integer_of_special(type, x);
}

// Keeps the low bits. Types below a byte stay extended to the byte, so that reading the byte as an
// integer gives the value.
static void store_integer(emlx_type type, uint64_t value, void *out) {
    int bits = type_table[type].bits;
    if (bits < 8) {
        uint64_t low = value & ((1u << bits) - 1);
        bool negative = type_class_of(type) == CLASS_SIGNED && (low >> (bits - 1)) != 0;
        value = negative ? low | (UINT64_MAX << bits) : low;
    }
    uint8_t bits8 = (uint8_t)value;
    uint16_t bits16 = (uint16_t)value;
    uint32_t bits32 = (uint32_t)value;
    switch (type_size(type)) {
    case 1: memcpy(out, &bits8, 1); break;
    case 2: memcpy(out, &bits16, 2); break;
    case 4: memcpy(out, &bits32, 4); break;
    default: memcpy(out, &value, 8); break;
    }
}

static void store_f32(double x, void *out) {
    float value = isnan(x) ? NAN : (float)x;
    memcpy(out, &value, sizeof value);
}

// NaN loses its sign and payload here as in every type.
static void store_f64(double x, void *out) {
    double value = isnan(x) ? (double)NAN : x;
    memcpy(out, &value, sizeof value);
}

static void store_float(emlx_type type, double x, void *out) {
    if (type == EMLX_F32) {
        store_f32(x, out);
    } else if (type == EMLX_F64) {
        store_f64(x, out);
    } else {
        unsigned code = narrow_encode(type, x);
        uint8_t code8 = (uint8_t)code;
        uint16_t code16 = (uint16_t)code;
        memcpy(out, type_size(type) == 1 ? (void *)&code8 : (void *)&code16, type_size(type));
    }
}

static double real_value(const emlx_number *value) {
    switch (value->kind) {
    case EMLX_NUMBER_SIGNED: return (double)value->as.s;
    case EMLX_NUMBER_UNSIGNED: return (double)value->as.u;
    default: return value->as.f[0];
    }
}

// The same for storing it in a type narrower than a double, which rounds: wide integers do not
// round here already.
static double narrowing_value(const emlx_number *value) {
    if (value->kind > EMLX_NUMBER_UNSIGNED) return value->as.f[0];
    bool negative = value->kind == EMLX_NUMBER_SIGNED && value->as.s < 0;
    uint64_t size = negative ? 0 - value->as.u : value->as.u;
    if (size >> 53 != 0) size = integer_to_odd(size);
    return negative ? -(double)size : (double)size;
}

static double value_for(emlx_type type, const emlx_number *value) {
    return type == EMLX_F64 ? real_value(value) : narrowing_value(value);
}

void type_store(emlx_type type, const emlx_number *value, void *out) {
    if (type_is_integer(type)) {
        store_integer(type, integer_value(type, value), out);
        return;
    }
    if (type_is_float(type)) {
        store_float(type, value_for(type, value), out);
        return;
    }
    emlx_type part = type_part(type);
    double imaginary = value->kind == EMLX_NUMBER_COMPLEX ? value->as.f[1] : 0.0;
    store_float(part, value_for(part, value), out);
    store_float(part, imaginary, (char *)out + type_size(part));
}

// Loading ---------------------------------------------------------------------------------------

static uint64_t load_unsigned(size_t size, const void *in) {
    uint8_t bits8 = 0;
    uint16_t bits16 = 0;
    uint32_t bits32 = 0;
    uint64_t bits64 = 0;
    switch (size) {
    case 1: memcpy(&bits8, in, 1); return bits8;
    case 2: memcpy(&bits16, in, 2); return bits16;
    case 4: memcpy(&bits32, in, 4); return bits32;
    default: memcpy(&bits64, in, 8); return bits64;
    }
}

static int64_t load_signed(size_t size, const void *in) {
    uint64_t bits = load_unsigned(size, in);
    uint64_t sign = (uint64_t)1 << (8 * size - 1);
    return (int64_t)((bits ^ sign) - sign);
}

static double load_float(emlx_type type, const void *in) {
    float f32;
    double f64;
    switch (type) {
    case EMLX_F32: memcpy(&f32, in, sizeof f32); return (double)f32;
    case EMLX_F64: memcpy(&f64, in, sizeof f64); return f64;
    default: return narrow_decode(type, (unsigned)load_unsigned(type_size(type), in));
    }
}

emlx_number type_load(emlx_type type, const void *in) {
    emlx_number value = {.kind = EMLX_NUMBER_REAL};
    switch (type_class_of(type)) {
    case CLASS_UNSIGNED:
        value.kind = EMLX_NUMBER_UNSIGNED;
        value.as.u = load_unsigned(type_size(type), in);
        break;
    case CLASS_SIGNED:
        value.kind = EMLX_NUMBER_SIGNED;
        value.as.s = load_signed(type_size(type), in);
        break;
    case CLASS_FLOAT: value.as.f[0] = load_float(type, in); break;
    case CLASS_COMPLEX: {
        emlx_type part = type_part(type);
        value.kind = EMLX_NUMBER_COMPLEX;
        value.as.f[0] = load_float(part, in);
        value.as.f[1] = load_float(part, (const char *)in + type_size(part));
        break;
    }
    }
    return value;
}
