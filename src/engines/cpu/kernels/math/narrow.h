// SPDX-License-Identifier: Apache-2.0
// narrow.h - floats of 8 and 16 bits as they lie in memory, to and from f32. Stores round to
// nearest, ties to even, and write the one canonical NaN of the format.
#ifndef EMLX_CPU_MATH_NARROW_H
#define EMLX_CPU_MATH_NARROW_H

#include "engines/cpu/kernels/math/core.h"

MATH_INLINE uint32_t narrow_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

MATH_INLINE float narrow_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

// A format with a sign bit, an exponent, and `mantissa` bits below it. Codes without sign above
// `top` do not occur but for NaN: `top` is infinity, or the highest number when there is none.
typedef struct narrow_format {
    uint32_t mantissa;
    uint32_t bias;
    uint32_t sign; // the sign bit
    uint32_t top;
    uint32_t nan;
} narrow_format;

#define NARROW_F16 ((narrow_format){10, 15, 0x8000, 0x7c00, 0x7e00})
#define NARROW_F8 ((narrow_format){2, 15, 0x80, 0x7c, 0x7e})
#define NARROW_F8_E4M3FN ((narrow_format){3, 7, 0x80, 0x7e, 0x7f})

// Normal numbers round in their bits, the carry going into the exponent. Subnormal ones round by
// adding a number whose last bit is worth as much as theirs.
MATH_INLINE uint32_t narrow_encode(float x, narrow_format f) {
    uint32_t bits = narrow_bits(x), size = bits & 0x7fffffff;
    uint32_t shift = 23 - f.mantissa;
    uint32_t half = (1u << (shift - 1)) - 1 + ((size >> shift) & 1);
    uint32_t normal = ((size + half) >> shift) - ((127 - f.bias) << f.mantissa);
    uint32_t rounder = (127 + 24 - f.bias - f.mantissa) << 23;
    uint32_t subnormal = narrow_bits(narrow_from_bits(size) + narrow_from_bits(rounder)) - rounder;
    uint32_t code = size < (128 - f.bias) << 23 ? subnormal : normal;
    code = code > f.top ? f.top : code;
    code |= bits >> 31 ? f.sign : 0;
    return size > 0x7f800000 ? f.nan : code;
}

// The bits read as an f32 with too small an exponent, which a product by a power of two mends, for
// subnormal numbers as well.
MATH_INLINE float narrow_decode(uint32_t code, narrow_format f) {
    uint32_t size = code & (f.sign - 1);
    float scale = narrow_from_bits((254 - f.bias) << 23);
    uint32_t bits = narrow_bits(narrow_from_bits(size << (23 - f.mantissa)) * scale);
    bits |= (code & f.sign) ? 0x80000000u : 0;
    uint32_t special = size == f.nan || size > f.top ? 0x7fc00000u : (bits | 0x7f800000u);
    uint32_t last = f.top == f.nan - 1 ? f.nan : f.top;
    return narrow_from_bits(size >= last ? special : bits);
}

MATH_INLINE uint16_t bf16_encode(float x) {
    uint32_t bits = narrow_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

MATH_INLINE float bf16_decode(uint16_t code) { return narrow_from_bits((uint32_t)code << 16); }

// To f32 with the last bit standing for everything below it: rounding the result to a format at
// least two bits shorter then gives what rounding x itself would.
MATH_INLINE float narrow_to_odd(double x) {
    float near = (float)x;
    double back = (double)near;
    uint32_t bits = narrow_bits(near);
    uint32_t toward_zero = bits - (fabs(back) > fabs(x) ? 1 : 0);
    return narrow_from_bits(back < x || back > x ? toward_zero | 1 : bits);
}

#endif
