// SPDX-License-Identifier: Apache-2.0
// packed.c - rows of packed weights against vectors by dot instructions of bytes. A
// vector's numbers become whole ones of 16 bits, with a step for each unit of 32 or 16, and those
// two bytes, a high and a low one with a sign: they err by at most a 65,024th of the largest of
// their unit, less than bf16 does, and products are exact from there on.
#include "engines/cpu/kernels/product/packed.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL vnni

// Elements go through registers a pair of these at a time, and scales of a span are multiplied by
// the vector's steps before its elements come.
enum { PAIR = 128, SPAN = 1024, SPAN_UNITS = SPAN / 16 };
// Room for the codes of a pair, scales among them included.
enum { LAST_BYTES = 160 };

// Vectors -----------------------------------------------------------------------------------------

// Vectors: of each pair the high bytes and the low ones of both registers, in the order in which
// codes come; the step of each unit; the sum of each group. What is missing from whole pairs is 0.
ALWAYS_INLINE int64_t unit_of(int64_t group) { return group == 16 ? 16 : 32; }
ALWAYS_INLINE int64_t pairs_of(int64_t terms) { return (terms + PAIR - 1) / PAIR; }

static size_t vector_bytes(int64_t terms, int64_t group) {
    int64_t pairs = pairs_of(terms), units = pairs * (PAIR / unit_of(group));
    int64_t sums = (terms / group + 15) / 16 * 16;
    return (size_t)(2 * PAIR * pairs) + (size_t)(units + 16 + sums) * sizeof(float);
}

ALWAYS_INLINE const float *steps_of(const void *vector, int64_t terms) {
    return (const float *)((const int8_t *)vector + 2 * PAIR * pairs_of(terms));
}

ALWAYS_INLINE const float *sums_of(const void *vector, int64_t terms, int64_t group) {
    return steps_of(vector, terms) + pairs_of(terms) * (PAIR / unit_of(group)) + 16;
}

// Which element of a pair is at place p among its codes, p from 0 to 127.
typedef int (*order_fn)(int p);
static int in_order(int p) { return p; }
static int by_nibbles(int p) { return p % 64 * 2 + p / 64; }
static int by_quarters(int p) { return p / 64 * 64 + p % 16 * 4 + p % 64 / 16; }
static int by_halves(int p) { return p % 64 / 16 * 32 + p / 64 * 16 + p % 16; }
static int by_rows(int p) { return p % 64 / 32 * 64 + p / 64 * 32 + p % 32; }

// NaN where a number is not finite.
ALWAYS_INLINE float largest(const float *x, int64_t count) {
    __m512 most = _mm512_setzero_ps(), none = most;
    for (int64_t i = 0; i < count; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        most = _mm512_max_ps(_mm512_abs_ps(v), most);
        none = _mm512_add_ps(none, _mm512_mul_ps(v, _mm512_setzero_ps()));
    }
    return _mm512_reduce_max_ps(most) + _mm512_reduce_add_ps(none);
}

// The whole numbers of a unit in bytes, and its step. Gives the sum of the numbers.
// What is not finite makes a step, and with it the sums, NaN.
ALWAYS_INLINE int32_t prepare_unit(const float *x, int64_t unit, int8_t *high, int8_t *low,
                                   float *step) {
    *step = largest(x, unit) / 32512;
    __m512 by = _mm512_set1_ps(*step > 0 ? *step : 1);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < unit; i += 16) {
        __m512i n = _mm512_cvtps_epi32(_mm512_div_ps(_mm512_loadu_ps(x + i), by));
        if (!(*step > 0)) n = _mm512_setzero_si512();
        __m512i h = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(128)), 8);
        __m512i l = _mm512_sub_epi32(n, _mm512_slli_epi32(h, 8));
        _mm_storeu_si128((void *)(high + i), _mm512_cvtepi32_epi8(h));
        _mm_storeu_si128((void *)(low + i), _mm512_cvtepi32_epi8(l));
        sum = _mm512_add_epi32(sum, n);
    }
    return _mm512_reduce_add_epi32(sum);
}

ALWAYS_INLINE void prepare(void *to, const float *x, int64_t terms, int64_t group, order_fn order) {
    int64_t unit = unit_of(group), pairs = pairs_of(terms);
    int8_t *bytes = to;
    float *steps = (float *)(bytes + 2 * PAIR * pairs), *sums = steps + pairs * (PAIR / unit) + 16;
    memset(sums - 16, 0, (size_t)(16 + (terms / group + 15) / 16 * 16) * sizeof *sums);
    for (int64_t at = 0; at < terms; at += PAIR, bytes += 2 * PAIR) {
        float padded[PAIR] = {0};
        const float *from = x + at;
        int8_t high[PAIR], low[PAIR];
        if (terms - at < PAIR) from = memcpy(padded, from, (size_t)(terms - at) * sizeof *x);
        for (int64_t i = 0; i < PAIR; i += unit) {
            float *step = &steps[(at + i) / unit];
            int32_t sum = prepare_unit(from + i, unit, high + i, low + i, step);
            if (at + i < terms) sums[(at + i) / group] += (float)sum * *step;
        }
        for (int p = 0; p < PAIR; p++) bytes[p] = high[order(p)];
        for (int p = 0; p < PAIR; p++) bytes[PAIR + p] = low[order(p)];
    }
}

// Codes -------------------------------------------------------------------------------------------

// The codes of a pair from `at` on, in two registers.
typedef void (*load_fn)(const uint8_t *row, int64_t at, __m512i *to);

ALWAYS_INLINE __m512i bytes_at(const uint8_t *at) { return _mm512_loadu_si512(at); }

ALWAYS_INLINE void nibbles(__m512i bytes, __m512i *to) {
    const __m512i mask = _mm512_set1_epi8(15);
    to[0] = _mm512_and_si512(bytes, mask);
    to[1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
}

// 16 bytes from four places.
ALWAYS_INLINE __m512i four_places(const uint8_t *at, int64_t step) {
    __m512i all = _mm512_castsi128_si512(_mm_loadu_si128((const void *)at));
    all = _mm512_mask_broadcast_i32x4(all, 0x00f0, _mm_loadu_si128((const void *)(at + step)));
    all = _mm512_mask_broadcast_i32x4(all, 0x0f00, _mm_loadu_si128((const void *)(at + 2 * step)));
    return _mm512_mask_broadcast_i32x4(all, 0xf000, _mm_loadu_si128((const void *)(at + 3 * step)));
}

ALWAYS_INLINE void load_4(const uint8_t *row, int64_t at, __m512i *to) {
    nibbles(bytes_at(row + at / 2), to);
}

ALWAYS_INLINE void load_e2m1(const uint8_t *row, int64_t at, __m512i *to) {
    __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)e2m1_codes));
    load_4(row, at, to);
    for (int i = 0; i < 2; i++) to[i] = _mm512_shuffle_epi8(table, to[i]);
}

ALWAYS_INLINE void load_2(const uint8_t *row, int64_t at, __m512i *to) {
    const __m512i shifts = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
    for (int i = 0; i < 2; i++) {
        __m128i bytes = _mm_loadu_si128((const void *)(row + at / 4 + 16 * i));
        to[i] = _mm512_srlv_epi32(_mm512_broadcast_i32x4(bytes), shifts);
        to[i] = _mm512_and_si512(to[i], _mm512_set1_epi8(3));
    }
}

// Eight elements of a few bits are a deposit of those bits.
#define STREAM(bits, mask)                                                                         \
    ALWAYS_INLINE void load_##bits(const uint8_t *row, int64_t at, __m512i *to) {                  \
        uint64_t words[16];                                                                        \
        row += at / 8 * bits;                                                                      \
        for (int i = 0; i < 16; i++) {                                                             \
            uint64_t word = 0;                                                                     \
            memcpy(&word, row + i * bits, bits);                                                   \
            words[i] = _pdep_u64(word, mask);                                                      \
        }                                                                                          \
        for (int i = 0; i < 2; i++) to[i] = _mm512_loadu_si512(words + 8 * i);                     \
    }
STREAM(3, 0x0707070707070707u)
STREAM(6, 0x3f3f3f3f3f3f3f3fu)
#undef STREAM

ALWAYS_INLINE void load_8(const uint8_t *row, int64_t at, __m512i *to) {
    for (int i = 0; i < 2; i++) to[i] = bytes_at(row + at + 64 * i);
}

ALWAYS_INLINE void load_q4_0(const uint8_t *row, int64_t at, __m512i *to) {
    nibbles(four_places(row + at / 32 * 18 + 2, 18), to);
}

ALWAYS_INLINE void load_q8_0(const uint8_t *row, int64_t at, __m512i *to) {
    row += at / 32 * 34 + 2;
    for (int i = 0; i < 2; i++)
        to[i] = _mm512_xor_si512(four_places(row + 16 * i, 34), _mm512_set1_epi8((char)0x80));
}

ALWAYS_INLINE void load_q4_k(const uint8_t *row, int64_t at, __m512i *to) {
    nibbles(bytes_at(row + at / 256 * 144 + 16 + at % 256 / 2), to);
}

ALWAYS_INLINE void load_q6_k(const uint8_t *row, int64_t at, __m512i *to) {
    int64_t half = at % 256 / 128;
    row += at / 256 * 210;
    nibbles(bytes_at(row + half * 64), to);
    __m256i bits = _mm256_loadu_si256((const void *)(row + 128 + half * 32));
    __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(bits), _mm256_srli_epi16(bits, 2), 1);
    const __m512i mask = _mm512_set1_epi8(48);
    to[0] = _mm512_or_si512(to[0], _mm512_and_si512(_mm512_slli_epi16(high, 4), mask));
    to[1] = _mm512_or_si512(to[1], _mm512_and_si512(high, mask));
}

// Units -------------------------------------------------------------------------------------------

// Which of a pair's units each lane of four codes belongs to, in both registers; where they are the
// same, sums of both are added before they are scaled.
typedef struct lanes {
    uint8_t of[2][16];
    bool same;
} lanes;

#define TWICE(...) {{__VA_ARGS__}, {__VA_ARGS__}}, true
static const lanes lanes_apart = {TWICE(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)};
static const lanes lanes_apart_16 = {TWICE(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7)};
static const lanes lanes_in_order = {{{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
                                      {2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3}},
                                     false};
static const lanes lanes_in_order_16 = {{{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3},
                                         {4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7}},
                                        false};
static const lanes lanes_by_quarters = {{{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1},
                                         {2, 2, 3, 3, 2, 2, 3, 3, 2, 2, 3, 3, 2, 2, 3, 3}},
                                        false};
static const lanes lanes_by_rows = {{{0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2},
                                     {1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3}},
                                    false};

// The scale of each unit times the vector's step.
ALWAYS_INLINE void fold_steps(float *to, const float *scale, const float *steps, int64_t units,
                              int64_t unit, int64_t group) {
    unsigned shift = group == 128 ? 2 : group == 64 && unit == 32 ? 1 : 0;
    const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i of = _mm512_srli_epi32(count, shift);
    for (int64_t u = 0; u < units; u += 16) {
        __m512 s = _mm512_permutexvar_ps(of, _mm512_loadu_ps(scale + (u >> shift)));
        __mmask16 some = units - u < 16 ? (__mmask16)((1u << (units - u)) - 1) : 0xffff;
        _mm512_storeu_ps(to + u, _mm512_maskz_mul_ps(some, s, _mm512_loadu_ps(steps + u)));
    }
}

ALWAYS_INLINE __m512 of_biases(const float *bias, const float *sums, int64_t groups) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g += 16) {
        __mmask16 some = groups - g < 16 ? (__mmask16)((1u << (groups - g)) - 1) : 0xffff;
        total = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, bias + g), _mm512_loadu_ps(sums + g),
                                total);
    }
    return total;
}

// Products ----------------------------------------------------------------------------------------

// What a kind of weights is read by.
typedef struct kind {
    load_fn load;
    int64_t unit, bytes; // of a unit of 32
    const lanes *lanes;
} kind;

// The whole numbers of a pair's products are exact in 32 bits.
ALWAYS_INLINE __m512 add_pair(const kind *k, const __m512i *codes, const int8_t *x,
                              const float *steps, const __m512i *of, __m512 total) {
    __m512 by = _mm512_castps256_ps512(_mm256_loadu_ps(steps));
    __m512i sum[2];
    for (int i = 0; i < 2; i++) {
        __m512i before = k->lanes->same && i == 1 ? sum[0] : _mm512_setzero_si512();
        sum[i] = _mm512_dpbusd_epi32(before, codes[i], bytes_at((const void *)(x + 64 * i)));
    }
    for (int i = 0; i < 2; i++) {
        bool low_first = !k->lanes->same || i == 0;
        __m512i high = k->lanes->same ? sum[1] : sum[i];
        __m512i before = low_first ? _mm512_slli_epi32(high, 8) : sum[0];
        sum[i] = _mm512_dpbusd_epi32(before, codes[i], bytes_at((const void *)(x + PAIR + 64 * i)));
    }
    for (int i = k->lanes->same; i < 2; i++)
        total =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i]), _mm512_permutexvar_ps(of[i], by), total);
    return total;
}

// A row by `count` vectors, a constant.
ALWAYS_INLINE void multiply_row(const kind *k, const packed_rows *rows, int64_t row,
                                const void *const *vectors, int count, float *sums, int64_t step) {
    const int64_t terms = rows->terms, group = rows->group, unit = k->unit;
    const uint8_t *bits = rows->bits + row * rows->row_bytes;
    const float *scale = rows->scale + row * rows->groups;
    __m512 total[PACKED_VECTORS];
    __m512i of[2];
    for (int i = 0; i < 2; i++)
        of[i] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)k->lanes->of[i]));
    for (int v = 0; v < count; v++)
        total[v] = of_biases(rows->bias + row * rows->groups, sums_of(vectors[v], terms, group),
                             rows->groups);
    for (int64_t span = 0; span < terms; span += SPAN) {
        int64_t end = terms - span < SPAN ? terms : span + SPAN;
        float steps[PACKED_VECTORS][SPAN_UNITS + 16];
        for (int v = 0; v < count; v++)
            fold_steps(steps[v], scale + span / group, steps_of(vectors[v], terms) + span / unit,
                       (end - span + unit - 1) / unit, unit, group);
        for (int64_t at = span; at < end; at += PAIR) {
            uint8_t last[LAST_BYTES];
            const uint8_t *from = bits;
            int64_t place = at;
            __m512i codes[2];
            if (__builtin_expect(terms - at < PAIR, 0)) {
                int64_t first = at / 32 * k->bytes;
                memset(last, 0, sizeof last);
                from = memcpy(last, bits + first, (size_t)(rows->row_bytes - first));
                place = 0;
            }
            const char *ahead = (const char *)bits + at / 32 * k->bytes + rows->ahead;
            for (int64_t i = 0; i < 4 * k->bytes; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T0);
            k->load(from, place, codes);
            for (int v = 0; v < count; v++)
                total[v] = add_pair(k, codes, (const int8_t *)vectors[v] + 2 * at,
                                    steps[v] + (at - span) / unit, of, total[v]);
        }
    }
    for (int v = 0; v < count; v++) sums[v * step + row] = _mm512_reduce_add_ps(total[v]);
}

ALWAYS_INLINE void multiply_rows(const kind *k, const packed_rows *rows, int64_t count,
                                 const void *const *vectors, int vector_count, float *sums,
                                 int64_t step) {
    for (int64_t r = 0; r < count; r++) {
        int v = 0;
        for (; v + 4 <= vector_count; v += 4)
            multiply_row(k, rows, r, vectors + v, 4, sums + v * step, step);
        for (; v + 2 <= vector_count; v += 2)
            multiply_row(k, rows, r, vectors + v, 2, sums + v * step, step);
        for (; v < vector_count; v++)
            multiply_row(k, rows, r, vectors + v, 1, sums + v * step, step);
    }
}

#define KIND(name, load, order, unit, bytes, lanes)                                                \
    static void name##_prepare(void *to, const float *x, int64_t terms, int64_t group) {           \
        prepare(to, x, terms, group, order);                                                       \
    }                                                                                              \
    static void name##_dot(const packed_rows *rows, int64_t count, const void *const *vectors,     \
                           int vector_count, float *sums, int64_t step) {                          \
        const kind k = {load, unit, bytes, &lanes};                                                \
        multiply_rows(&k, rows, count, vectors, vector_count, sums, step);                         \
    }
KIND(affine_2, load_2, by_quarters, 32, 8, lanes_by_quarters)
KIND(affine_3, load_3, in_order, 32, 12, lanes_in_order)
KIND(affine_4, load_4, by_nibbles, 32, 16, lanes_apart)
KIND(affine_6, load_6, in_order, 32, 24, lanes_in_order)
KIND(affine_8, load_8, in_order, 32, 32, lanes_in_order)
KIND(mxfp4, load_e2m1, by_nibbles, 32, 16, lanes_apart)
KIND(nvfp4, load_e2m1, by_nibbles, 16, 16, lanes_apart_16)
KIND(q4_0, load_q4_0, by_halves, 32, 18, lanes_apart)
KIND(q8_0, load_q8_0, by_halves, 32, 34, lanes_apart)
KIND(q4_k, load_q4_k, by_rows, 32, 18, lanes_by_rows)
KIND(q6_k, load_q6_k, in_order, 16, 26, lanes_in_order_16)

// mxfp8 is not whole numbers, and stays in f32.
const packed_fns vnni_packed_table[PACKED_COUNT] = {
#define ROW(kind) [PACKED_##kind] = {vector_bytes, kind##_prepare, NULL, NULL, kind##_dot}
    ROW(affine_2), ROW(affine_3), ROW(affine_4), ROW(affine_6), ROW(affine_8), ROW(mxfp4),
    ROW(nvfp4),    ROW(q4_0),     ROW(q8_0),     ROW(q4_k),     ROW(q6_k),
#undef ROW
};
#endif
