// SPDX-License-Identifier: Apache-2.0
// packed_level.c - rows of packed weights against vectors, in f32: elements become numbers in
// registers, sums of a group are multiplied by its scale once.
#include "engines/cpu/kernels/product/packed.h"

#define WIDTH 16
typedef float lanes __attribute__((vector_size(WIDTH * 4)));
typedef uint8_t few_codes __attribute__((vector_size(WIDTH)));
typedef uint32_t wide_codes __attribute__((vector_size(WIDTH * 4)));

// Vectors are handed on by address, as calls that pass them by value differ between levels.
ALWAYS_INLINE float sum_of(const lanes *v) {
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += (*v)[i];
    return sum;
}

// Vectors are their numbers, then the sum of each group.
static size_t f32_bytes(int64_t terms, int64_t group) {
    return (size_t)(terms + terms / group) * sizeof(float);
}

static void f32_prepare(void *to, const float *x, int64_t terms, int64_t group) {
    float *sums = (float *)to + terms;
    memcpy(to, x, (size_t)terms * sizeof(float));
    for (int64_t g = 0; g < terms / group; g++) {
        double sum = 0;
        for (int64_t i = 0; i < group; i++) sum += x[g * group + i];
        sums[g] = (float)sum;
    }
}

ALWAYS_INLINE void numbers(lanes *to, const uint8_t *codes) {
    few_codes few;
    memcpy(&few, codes, sizeof few);
    *to = __builtin_convertvector(few, lanes);
}

// E4M3 is the upper part of an f32 whose exponent counts from 120 less.
ALWAYS_INLINE void e4m3_numbers(lanes *to, const uint8_t *codes) {
    few_codes few;
    memcpy(&few, codes, sizeof few);
    wide_codes wide = __builtin_convertvector(few, wide_codes);
    wide = (wide & 0x7f) << 20 | (wide & 0x80) << 24;
    *to = (lanes)wide * 0x1p120f;
}

// Of each vector the sum over groups of scale * sum of products, and of bias * sum of the vector.
#define KIND(name, code, number)                                                                   \
    static void KERNELS_JOIN(LEVEL, name, values)(float *to, const uint8_t *row, int64_t at,       \
                                                  const float *scale, const float *bias,           \
                                                  int64_t group) {                                 \
        uint8_t codes[CHUNK];                                                                      \
        code(codes, row, at);                                                                      \
        for (int i = 0; i < CHUNK; i += WIDTH) {                                                   \
            int64_t g = (at + i) / group;                                                          \
            lanes v;                                                                               \
            number(&v, codes + i);                                                                 \
            v = v * scale[g] + bias[g];                                                            \
            memcpy(to + i, &v, sizeof v);                                                          \
        }                                                                                          \
    }                                                                                              \
    static void KERNELS_JOIN(LEVEL, name, dot)(const packed_row *row, int64_t terms,               \
                                               int64_t group, const void *const *vectors,          \
                                               int count, float *sums) {                           \
        lanes total[PACKED_VECTORS] = {{0}};                                                       \
        uint8_t codes[CHUNK];                                                                      \
        for (int64_t at = 0; at < terms; at += CHUNK) {                                            \
            code(codes, row->bits, at);                                                            \
            for (int i = 0; i < CHUNK; i += WIDTH) {                                               \
                lanes w;                                                                           \
                number(&w, codes + i);                                                             \
                w *= row->scale[(at + i) / group];                                                 \
                for (int v = 0; v < count; v++) {                                                  \
                    lanes x;                                                                       \
                    memcpy(&x, (const float *)vectors[v] + at + i, sizeof x);                      \
                    total[v] += w * x;                                                             \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (int v = 0; v < count; v++)                                                            \
            sums[v] = sum_of(&total[v]) +                                                          \
                      of_biases(row->bias, (const float *)vectors[v] + terms, terms / group);      \
    }

ALWAYS_INLINE float of_biases(const float *bias, const float *sums, int64_t groups) {
    lanes total = {0};
    float rest = 0;
    int64_t g = 0;
    for (; g + WIDTH <= groups; g += WIDTH) {
        lanes b, s;
        memcpy(&b, bias + g, sizeof b), memcpy(&s, sums + g, sizeof s);
        total += b * s;
    }
    for (; g < groups; g++) rest += bias[g] * sums[g];
    return sum_of(&total) + rest;
}

KIND(affine_2, codes_2, numbers)
KIND(affine_3, codes_3, numbers)
KIND(affine_4, codes_4, numbers)
KIND(affine_6, codes_6, numbers)
KIND(affine_8, codes_8, numbers)
KIND(mxfp4, codes_e2m1, numbers)
KIND(mxfp8, codes_8, e4m3_numbers)
KIND(q4_0, codes_q4_0, numbers)
KIND(q8_0, codes_q8_0, numbers)
KIND(q4_k, codes_q4_k, numbers)
KIND(q6_k, codes_q6_k, numbers)

const packed_fns KERNEL(packed, table)[PACKED_COUNT] = {
#define ROW(kind, name)                                                                            \
    [PACKED_##kind] = {f32_bytes, f32_prepare, KERNELS_JOIN(LEVEL, name, values),                  \
                       KERNELS_JOIN(LEVEL, name, dot)}
    ROW(affine_2, affine_2), ROW(affine_3, affine_3), ROW(affine_4, affine_4),
    ROW(affine_6, affine_6), ROW(affine_8, affine_8), ROW(mxfp4, mxfp4),
    ROW(mxfp8, mxfp8),       ROW(nvfp4, mxfp4),       ROW(q4_0, q4_0),
    ROW(q8_0, q8_0),         ROW(q4_k, q4_k),         ROW(q6_k, q6_k),
#undef ROW
};
