// SPDX-License-Identifier: Apache-2.0
// packed.c - rows of packed weights against vectors by dot instructions of bytes. A
// vector's numbers become whole ones of 16 bits, with a step for each chunk, and those two bytes, a
// high and a low one with a sign: they err by at most a 65,024th of the largest of their chunk,
// less than bf16 does, and products are exact from there on.
#include "engines/cpu/kernels/product/packed.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL vnni

// Vectors: the high bytes and the low ones of each chunk, in the order in which its codes come; the
// step of each chunk; the sum of each group.
static size_t vector_bytes(int64_t terms, int64_t group) {
    int64_t chunks = terms / CHUNK;
    return (size_t)(2 * terms) + (size_t)(chunks + terms / group) * sizeof(float);
}

// Which element of a chunk is at place p among its codes.
typedef int (*order_fn)(int p);
static int in_order(int p) { return p; }
static int by_nibbles(int p) { return p % 32 * 2 + p / 32; }
static int by_quarters(int p) { return p % 16 * 4 + p / 16; }
static int by_halves(int p) { return p % 32 / 16 * 32 + p / 32 * 16 + p % 16; }

// NaN where a number is not finite.
static float largest(const float *x) {
    float most = 0, none = 0;
    for (int i = 0; i < CHUNK; i++) {
        float size = __builtin_fabsf(x[i]);
        most = size > most ? size : most;
        none += x[i] * 0;
    }
    return most + none;
}

static void prepare(void *to, const float *x, int64_t terms, int64_t group, order_fn order) {
    int8_t *bytes = to;
    float *steps = (float *)(bytes + 2 * terms), *sums = steps + terms / CHUNK;
    memset(sums, 0, (size_t)(terms / group) * sizeof *sums);
    for (int64_t at = 0; at < terms; at += CHUNK, bytes += 2 * CHUNK) {
        // What is not finite makes a step, and with it the sums, NaN.
        float step = largest(x + at) / 32512;
        bool whole = step > 0;
        steps[at / CHUNK] = step;
        int32_t places[CHUNK];
        for (int i = 0; i < CHUNK; i++)
            places[i] = whole ? (int32_t)__builtin_nearbyintf(x[at + i] / step) : 0;
        for (int p = 0; p < CHUNK; p++) {
            int32_t n = places[order(p)], high = (n + 128) >> 8;
            bytes[p] = (int8_t)high;
            bytes[CHUNK + p] = (int8_t)(n - high * 256);
        }
        int64_t span = group < CHUNK ? group : CHUNK;
        for (int64_t i = 0; i < CHUNK; i += span) {
            int32_t sum = 0;
            for (int64_t j = 0; j < span; j++) sum += places[i + j];
            sums[(at + i) / group] += (float)sum * step;
        }
    }
}

// Codes ------------------------------------------------------------------------------------------

ALWAYS_INLINE __m512i join(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

ALWAYS_INLINE __m512i nibbles(__m256i bytes) {
    __m512i both = join(bytes, _mm256_srli_epi16(bytes, 4));
    return _mm512_and_si512(both, _mm512_set1_epi8(15));
}

ALWAYS_INLINE __m512i load_4(const uint8_t *row, int64_t at) {
    return nibbles(_mm256_loadu_si256((const void *)(row + at / 2)));
}

ALWAYS_INLINE __m512i load_e2m1(const uint8_t *row, int64_t at) {
    __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)e2m1_codes));
    return _mm512_shuffle_epi8(table, load_4(row, at));
}

ALWAYS_INLINE __m512i load_2(const uint8_t *row, int64_t at) {
    __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(row + at / 4)));
    const __m512i shifts = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi32(bytes, shifts), _mm512_set1_epi8(3));
}

// Eight elements of a few bits are a deposit of those bits.
#define STREAM(bits, mask)                                                                         \
    ALWAYS_INLINE __m512i load_##bits(const uint8_t *row, int64_t at) {                            \
        uint64_t words[8];                                                                         \
        row += at / 8 * bits;                                                                      \
        for (int i = 0; i < 8; i++) {                                                              \
            uint64_t word = 0;                                                                     \
            memcpy(&word, row + i * bits, bits);                                                   \
            words[i] = _pdep_u64(word, mask);                                                      \
        }                                                                                          \
        return _mm512_loadu_si512(words);                                                          \
    }
STREAM(3, 0x0707070707070707u)
STREAM(6, 0x3f3f3f3f3f3f3f3fu)
#undef STREAM

ALWAYS_INLINE __m512i load_8(const uint8_t *row, int64_t at) {
    return _mm512_loadu_si512(row + at);
}

ALWAYS_INLINE __m512i load_q4_0(const uint8_t *row, int64_t at) {
    row += at / 32 * 18 + 2;
    __m128i first = _mm_loadu_si128((const void *)row);
    __m128i second = _mm_loadu_si128((const void *)(row + 18));
    return nibbles(_mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1));
}

ALWAYS_INLINE __m512i load_q8_0(const uint8_t *row, int64_t at) {
    row += at / 32 * 34 + 2;
    __m512i codes =
        join(_mm256_loadu_si256((const void *)row), _mm256_loadu_si256((const void *)(row + 34)));
    return _mm512_xor_si512(codes, _mm512_set1_epi8((char)0x80));
}

ALWAYS_INLINE __m512i load_q4_k(const uint8_t *row, int64_t at) {
    return nibbles(_mm256_loadu_si256((const void *)(row + at / 256 * 144 + 16 + at % 256 / 2)));
}

ALWAYS_INLINE __m512i load_q6_k(const uint8_t *row, int64_t at) {
    int64_t half = at % 256 / 128;
    int shift = at % 128 / 64 * 4;
    row += at / 256 * 210;
    __m512i low = _mm512_srli_epi16(_mm512_loadu_si512(row + half * 64), (unsigned)shift);
    __m256i bits = _mm256_loadu_si256((const void *)(row + 128 + half * 32));
    bits = _mm256_srli_epi16(bits, shift);
    __m512i high = join(bits, _mm256_srli_epi16(bits, 2));
    high = _mm512_and_si512(high, _mm512_set1_epi8(3));
    low = _mm512_and_si512(low, _mm512_set1_epi8(15));
    return _mm512_or_si512(low, _mm512_slli_epi16(high, 4));
}

// Groups -----------------------------------------------------------------------------------------

// The group, within a chunk, of each lane of four codes.
static const uint8_t lanes_32[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
static const uint8_t lanes_16[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
static const uint8_t nibbles_32[16] = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
static const uint8_t nibbles_16[16] = {0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 3, 3};
static const uint8_t quarters_32[16] = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};

ALWAYS_INLINE __m512 scales_at(const float *scale, int64_t at, int64_t group, __m512i lanes) {
    if (group >= CHUNK) return _mm512_set1_ps(scale[at / group]);
    __mmask16 some = group == 32 ? 3 : 15;
    return _mm512_permutexvar_ps(lanes, _mm512_maskz_loadu_ps(some, scale + at / group));
}

static float of_biases(const float *bias, const float *sums, int64_t groups) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g += 16) {
        __mmask16 some = groups - g < 16 ? (__mmask16)((1u << (groups - g)) - 1) : 0xffff;
        total = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, bias + g),
                                _mm512_maskz_loadu_ps(some, sums + g), total);
    }
    return _mm512_reduce_add_ps(total);
}

// The whole numbers of a chunk's products are exact in 32 bits.
#define KIND(name, load, order_of, lanes_of_32, lanes_of_16)                                       \
    static void name##_prepare(void *to, const float *x, int64_t terms, int64_t group) {           \
        prepare(to, x, terms, group, order_of);                                                    \
    }                                                                                              \
    static void name##_dot(const packed_row *row, int64_t terms, int64_t group,                    \
                           const void *const *vectors, int count, float *sums) {                   \
        __m512 total[PACKED_VECTORS];                                                              \
        const uint8_t *of_lanes = group == 32 ? lanes_of_32 : lanes_of_16;                         \
        __m512i lanes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)of_lanes));             \
        for (int v = 0; v < count; v++) total[v] = _mm512_setzero_ps();                            \
        for (int64_t at = 0; at < terms; at += CHUNK) {                                            \
            __m512i codes = load(row->bits, at);                                                   \
            __m512 scale = scales_at(row->scale, at, group, lanes);                                \
            for (int v = 0; v < count; v++) {                                                      \
                const int8_t *x = (const int8_t *)vectors[v] + 2 * at;                             \
                const float *steps = (const float *)((const int8_t *)vectors[v] + 2 * terms);      \
                __m512i none = _mm512_setzero_si512();                                             \
                __m512i high = _mm512_dpbusd_epi32(none, codes, _mm512_loadu_si512(x));            \
                __m512i low = _mm512_dpbusd_epi32(none, codes, _mm512_loadu_si512(x + CHUNK));     \
                low = _mm512_add_epi32(low, _mm512_slli_epi32(high, 8));                           \
                __m512 part = _mm512_mul_ps(scale, _mm512_set1_ps(steps[at / CHUNK]));             \
                total[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), part, total[v]);               \
            }                                                                                      \
        }                                                                                          \
        for (int v = 0; v < count; v++) {                                                          \
            const float *of = (const float *)((const int8_t *)vectors[v] + 2 * terms);             \
            sums[v] = _mm512_reduce_add_ps(total[v]) +                                             \
                      of_biases(row->bias, of + terms / CHUNK, terms / group);                     \
        }                                                                                          \
    }
KIND(affine_2, load_2, by_quarters, quarters_32, quarters_32)
KIND(affine_3, load_3, in_order, lanes_32, lanes_16)
KIND(affine_4, load_4, by_nibbles, nibbles_32, nibbles_16)
KIND(affine_6, load_6, in_order, lanes_32, lanes_16)
KIND(affine_8, load_8, in_order, lanes_32, lanes_16)
KIND(e2m1, load_e2m1, by_nibbles, nibbles_32, nibbles_16)
KIND(q4_0, load_q4_0, by_halves, nibbles_32, nibbles_16)
KIND(q8_0, load_q8_0, in_order, lanes_32, lanes_16)
KIND(q4_k, load_q4_k, in_order, lanes_32, lanes_16)
KIND(q6_k, load_q6_k, in_order, lanes_32, lanes_16)

// mxfp8 is not whole numbers, and stays in f32.
const packed_fns vnni_packed_table[PACKED_COUNT] = {
#define ROW(kind, name)                                                                            \
    [PACKED_##kind] = {.bytes = vector_bytes, .prepare = name##_prepare, .dot = name##_dot}
    ROW(affine_2, affine_2), ROW(affine_3, affine_3), ROW(affine_4, affine_4),
    ROW(affine_6, affine_6), ROW(affine_8, affine_8), ROW(mxfp4, e2m1),
    ROW(nvfp4, e2m1),        ROW(q4_0, q4_0),         ROW(q8_0, q8_0),
    ROW(q4_k, q4_k),         ROW(q6_k, q6_k),
#undef ROW
};
#endif
