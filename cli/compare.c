// SPDX-License-Identifier: Apache-2.0
// compare.c - whether a result is the recorded one. Reads elements by itself, since casting them
// by the library would hide its errors.
#include "compare.h"

#include <math.h>
#include <string.h>

// Tolerances -------------------------------------------------------------------------------------

typedef enum scale { ELEMENT, LARGEST, ROUNDED } scale;

#define ONE_ULP (-1.0)

struct tolerance {
    const char *engine; // "": any that has no row of its own
    const char *name;
    uint64_t narrow;
    double f32, f64;
    scale scale;
    const char *reason; // for who reads the table
};

static const tolerance tolerances[] = {
#define TOLERANCE(name, narrow, f32, f64, scale, reason)                                           \
    {"", #name, narrow, f32, f64, scale, reason},
#define ENGINE_TOLERANCE(engine, name, narrow, f32, f64, scale, reason)                            \
    {engine, #name, narrow, f32, f64, scale, reason},
#include "tolerances.def"
#undef TOLERANCE
#undef ENGINE_TOLERANCE
};

static const tolerance *find_tolerance(const char *engine, size_t length, const char *name) {
    for (size_t i = 0; i < sizeof tolerances / sizeof *tolerances; i++) {
        const tolerance *t = &tolerances[i];
        bool theirs = strlen(t->engine) == length && strncmp(t->engine, engine, length) == 0;
        if (theirs && strcmp(t->name, name) == 0) return t;
    }
    return NULL;
}

const tolerance *tolerance_find(const char *device, const char *name) {
    const tolerance *own = find_tolerance(device, strcspn(device, ":"), name);
    return own != NULL ? own : find_tolerance("", 0, name);
}

bool last_places_fit(const last_places *counted) {
    // One is no share of anything.
    return counted->different <= 1 || counted->different * 10000 <= counted->compared;
}

// Numbers ----------------------------------------------------------------------------------------

// The bits of a floating-point number; none for integers.
typedef struct layout {
    unsigned bytes, exponent, mantissa;
    unsigned parts;   // 2 for complex numbers
    bool no_infinity; // the highest exponent has numbers too, and one NaN
} layout;

static const layout layouts[EMLX_TYPE_COUNT] = {
    [EMLX_F8] = {1, 5, 2, 1, false},   [EMLX_F8_E4M3FN] = {1, 4, 3, 1, true},
    [EMLX_BF16] = {2, 8, 7, 1, false}, [EMLX_F16] = {2, 5, 10, 1, false},
    [EMLX_F32] = {4, 8, 23, 1, false}, [EMLX_F64] = {8, 11, 52, 1, false},
    [EMLX_C64] = {4, 8, 23, 2, false}, [EMLX_C128] = {8, 11, 52, 2, false},
};

static uint64_t ones(unsigned bits) { return ((uint64_t)1 << bits) - 1; }

static uint64_t read_bits(const layout *l, const void *data, size_t index) {
    const uint8_t *at = (const uint8_t *)data + index * l->bytes;
    uint64_t bits = 0;
    for (unsigned i = 0; i < l->bytes; i++) bits |= (uint64_t)at[i] << (8 * i);
    return bits;
}

static double decode(const layout *l, uint64_t bits) {
    uint64_t mantissa = bits & ones(l->mantissa);
    uint64_t exponent = bits >> l->mantissa & ones(l->exponent), last = ones(l->exponent);
    double sign = bits >> (l->mantissa + l->exponent) ? -1 : 1;
    int bias = (int)(last >> 1);
    if (exponent == last && !l->no_infinity) return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == last && mantissa == ones(l->mantissa)) return NAN;
    double part = (double)mantissa / (double)((uint64_t)1 << l->mantissa);
    return exponent == 0 ? sign * ldexp(part, 1 - bias)
                         : sign * ldexp(1 + part, (int)exponent - bias);
}

// Last places between two numbers; the two zeros are one apart, so that they can be told.
static uint64_t places_between(const layout *l, uint64_t a, uint64_t b) {
    if (a == b) return 0;
    unsigned sign = l->mantissa + l->exponent;
    uint64_t x = a & ones(sign), y = b & ones(sign);
    if (a >> sign != b >> sign) return x + y + (x + y == 0);
    return x > y ? x - y : y - x;
}

double compare_largest(emlx_type type, const void *data, int64_t count) {
    const layout *l = &layouts[type];
    double largest = 0;
    for (size_t i = 0; i < (size_t)count * l->parts; i++) {
        double value = fabs(decode(l, read_bits(l, data, i)));
        if (isfinite(value) && value > largest) largest = value;
    }
    return largest;
}

// Comparing --------------------------------------------------------------------------------------

// What all elements of a comparison have in common.
typedef struct comparison {
    const tolerance *t;
    const layout *l;
    double largest;
    last_places *counted;
} comparison;

static bool close_by(double share, double a, double b, double size) {
    if (isinf(a) || isinf(b) || isnan(a) || isnan(b)) return a == b || (isnan(a) && isnan(b));
    // Below the normal numbers there are no 12 digits to compare.
    return fabs(a - b) <= share * fmax(size, 0x1p-1022 / 0x1p-52);
}

// Whether what differs is last places of the largest number.
static bool is_rounded(const comparison *c, double a, double b) {
    double place = ldexp((double)c->t->narrow, -(int)c->l->mantissa);
    return c->t->scale == ROUNDED && close_by(place, a, b, c->largest);
}

// `size` is the magnitude of the element that the part belongs to.
static bool same_part(const comparison *c, uint64_t actual, uint64_t expected, double size) {
    double a = decode(c->l, actual), b = decode(c->l, expected);
    double share = c->l->bytes == 8 ? c->t->f64 : c->t->f32;
    bool by_places = c->l->bytes < 4 || share == ONE_ULP || share == 0;
    if (isnan(a) && isnan(b)) return true;
    if (!by_places) return close_by(share, a, b, c->t->scale != ELEMENT ? c->largest : size);
    uint64_t places = isnan(a) || isnan(b) ? UINT64_MAX : places_between(c->l, actual, expected);
    if (c->l->bytes < 4) return places <= c->t->narrow || is_rounded(c, a, b);
    if (share == 0) return places == 0;
    c->counted->compared++;
    if (places == 0) return true;
    c->counted->different++;
    // What cancels keeps an error of the terms' last place.
    return places == 1 || (c->t->scale != ELEMENT && close_by(0x1p-53 * 16, a, b, c->largest));
}

static bool same_element(const comparison *c, const void *actual, const void *expected, size_t i) {
    uint64_t a[2] = {0}, b[2] = {0};
    double size = 0;
    for (unsigned part = 0; part < c->l->parts; part++) {
        a[part] = read_bits(c->l, actual, i * c->l->parts + part);
        b[part] = read_bits(c->l, expected, i * c->l->parts + part);
        double value = decode(c->l, b[part]);
        if (isfinite(value)) size = hypot(size, value);
    }
    for (unsigned part = 0; part < c->l->parts; part++)
        if (!same_part(c, a[part], b[part], size)) return false;
    return true;
}

static bool same_integer(size_t width, const void *actual, const void *expected, size_t i) {
    return memcmp((const char *)actual + i * width, (const char *)expected + i * width, width) == 0;
}

int64_t compare_first_difference(const tolerance *t, emlx_type type, const void *actual,
                                 const void *expected, int64_t count, double largest,
                                 last_places *counted) {
    comparison c = {t, &layouts[type], largest, counted};
    size_t width = emlx_type_size(type);
    for (size_t i = 0; i < (size_t)count; i++) {
        bool same = c.l->bytes == 0 ? same_integer(width, actual, expected, i)
                                    : same_element(&c, actual, expected, i);
        if (!same) return (int64_t)i;
    }
    return -1;
}
