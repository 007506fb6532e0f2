// SPDX-License-Identifier: Apache-2.0
// packed.c - rows of packed weights against vectors by dot instructions of bytes. A
// vector's numbers become whole ones of 16 bits, with a step for each unit of 32 or 16, and those
// two bytes, a high and a low one with a sign: they err by at most a 65,024th of the largest of
// their unit, less than bf16 does, and products are exact from there on. Scales are read where they
// are, as elements are.
#include "engines/cpu/kernels/product/packed.h"
#include "engines/cpu/kernels/product/kinds.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL vnni

// Elements go through registers a pair of these at a time; rows a few at a time, so that a vector
// is loaded once for them.
enum { PAIR = 128, LANES = 16, MOST_ROWS = 4 };
// Room for the codes of a pair, scales among them included.
enum { LAST_BYTES = 160 };
// How far behind the rows that are read memory is asked for, in bytes: into the second-level cache,
// and, of kinds whose blocks take many loads each, from there into the first.
enum { AHEAD = 4096, NEAR = 512 };

// Vectors -----------------------------------------------------------------------------------------

// Of each pair of a vector the high bytes and the low ones, in the order in which codes come; of
// each lane of four codes what these have too much, and the step of its unit. Behind them is the
// sum of each group, where weights have biases. What is missing from a whole pair is 0.
typedef struct pair {
    int8_t high[PAIR], low[PAIR];
    int32_t less[2][LANES];
    float steps[2][LANES];
} pair;

ALWAYS_INLINE int64_t pairs_of(int64_t terms) { return (terms + PAIR - 1) / PAIR; }
ALWAYS_INLINE int64_t unit_of(int64_t group) { return group == 16 ? 16 : 32; }

static size_t vector_bytes(int64_t terms, int64_t group) {
    return (size_t)pairs_of(terms) * sizeof(pair) +
           (size_t)(terms / group * 2 + LANES) * sizeof(float);
}

ALWAYS_INLINE float *sums_of(const void *vector, int64_t terms) {
    return (float *)((pair *)vector + pairs_of(terms));
}

// Lays the elements of a pair in the order in which codes come.
typedef void (*order_fn)(int8_t *to, const int8_t *from);

ALWAYS_INLINE void in_order(int8_t *to, const int8_t *from) { memcpy(to, from, PAIR); }

ALWAYS_INLINE void by_nibbles(int8_t *to, const int8_t *from) {
    for (int high = 0; high < 2; high++)
        for (int i = 0; i < 64; i++) to[high * 64 + i] = from[i * 2 + high];
}

ALWAYS_INLINE void by_quarters(int8_t *to, const int8_t *from) {
    for (int i = 0; i < PAIR; i++) to[i] = from[i / 64 * 64 + i % 16 * 4 + i % 64 / 16];
}

ALWAYS_INLINE void by_halves(int8_t *to, const int8_t *from) {
    for (int i = 0; i < 8; i++) memcpy(to + i * 16, from + i % 4 * 32 + i / 4 * 16, 16);
}

ALWAYS_INLINE void by_rows(int8_t *to, const int8_t *from) {
    for (int i = 0; i < 4; i++) memcpy(to + i * 32, from + i % 2 * 64 + i / 2 * 32, 32);
}

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

ALWAYS_INLINE __m512i bytes_at(const void *at) { return _mm512_loadu_si512(at); }

// Codes -------------------------------------------------------------------------------------------

// The codes of a pair from `at` on, in two registers.
typedef void (*load_fn)(const uint8_t *row, int64_t at, __m512i *to);

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

static const uint8_t e2m1_codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

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

// Kinds -------------------------------------------------------------------------------------------

// Which of a pair's units each lane belongs to, in both registers; where they are the same, sums of
// both are added before they are scaled.
typedef struct lanes {
    uint8_t of[2][LANES];
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

// The scales of a span of a row: a pair's, one a lane, or those of up to 16 groups. `block` is
// where the span's elements begin, `group` its first one.
typedef __m512 (*scales_fn)(const packed_rows *rows, int64_t row, const uint8_t *block,
                            int64_t group);

// What a kind of weights is read by. Codes are `zero` too large. What belongs to the biases of a
// span are the last `biases` of 16 numbers.
typedef struct kind {
    load_fn load;
    order_fn order;
    scales_fn scales, biases;
    const lanes *lanes;
    int64_t unit, bytes; // of 256 codes
    int64_t span;        // terms; 0: of 16 groups
    int zero, bias_lanes;
    bool near; // what comes next is wanted in the first-level cache
} kind;

ALWAYS_INLINE int64_t span_of(const kind *k, int64_t group) {
    return k->span > 0 ? k->span : LANES * group;
}

ALWAYS_INLINE __mmask16 some_of(int64_t count) {
    return count < LANES ? (__mmask16)((1u << count) - 1) : 0xffff;
}

static __m512 floats_at(const void *from, emlx_type type, int64_t at, __mmask16 some) {
    if (type == EMLX_F32) return _mm512_maskz_loadu_ps(some, (const float *)from + at);
    __m256i few = _mm256_maskz_loadu_epi16(some, (const uint16_t *)from + at);
    if (type == EMLX_F16) return _mm512_cvtph_ps(few);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(few), 16));
}

static __m512 affine_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                            int64_t group) {
    (void)block;
    return floats_at(rows->scales, rows->type, row * rows->groups + group,
                     some_of(rows->groups - group));
}

static __m512 affine_biases(const packed_rows *rows, int64_t row, const uint8_t *block,
                            int64_t group) {
    (void)block;
    return floats_at(rows->biases, rows->type, row * rows->groups + group,
                     some_of(rows->groups - group));
}

ALWAYS_INLINE __m512i bytes_apart(const packed_rows *rows, int64_t row, int64_t group) {
    const uint8_t *from = (const uint8_t *)rows->scales + row * rows->groups + group;
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some_of(rows->groups - group), from));
}

// Codes of E2M1 are twice as large as what they stand for.
static __m512 power_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                           int64_t group) {
    (void)block;
    __m512i bits = bytes_apart(rows, row, group);
    __mmask16 least = _mm512_cmpeq_epi32_mask(bits, _mm512_setzero_si512());
    bits = _mm512_slli_epi32(bits, 23);
    bits = _mm512_mask_mov_epi32(bits, least, _mm512_set1_epi32(0x400000));
    return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0.5f));
}

static __m512 e4m3_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                          int64_t group) {
    (void)block;
    __m512i bits = bytes_apart(rows, row, group);
    __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7f));
    __mmask16 none = _mm512_cmpeq_epi32_mask(size, _mm512_set1_epi32(0x7f));
    __m512i sign = _mm512_slli_epi32(_mm512_andnot_si512(_mm512_set1_epi32(0x7f), bits), 24);
    __m512 wide =
        _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(size, 20)), _mm512_set1_ps(0x1p119f));
    wide = _mm512_or_ps(wide, _mm512_castsi512_ps(sign));
    return _mm512_mask_mul_ps(wide, none, wide, _mm512_set1_ps(__builtin_nanf("")));
}

// The first numbers of a pair's blocks, one a lane.
static __m512 q4_0_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                          int64_t group) {
    (void)rows, (void)row, (void)group;
    const __m512i of = _mm512_castsi256_si512(
        _mm256_set_epi16(27, 27, 27, 27, 18, 18, 18, 18, 9, 9, 9, 9, 0, 0, 0, 0));
    __m512i halves = _mm512_permutexvar_epi16(of, bytes_at(block));
    return _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
}

static __m512 q8_0_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                          int64_t group) {
    (void)rows, (void)row, (void)group;
    const __m512i of = _mm512_castsi256_si512(
        _mm256_set_epi16(51, 51, 51, 51, 34, 34, 34, 34, 17, 17, 17, 17, 0, 0, 0, 0));
    __m512i halves = _mm512_permutex2var_epi16(bytes_at(block), of, bytes_at(block + 64));
    return _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
}

// Eight scales, then eight biases, of six bits: the first four of each in bytes, of the others the
// low four bits in four bytes more and the high two above those of the first.
static __m512 q4_k_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                          int64_t group) {
    (void)rows, (void)row, (void)group;
    uint32_t s, b, more, both;
    memcpy(&both, block, 4), memcpy(&s, block + 4, 4);
    memcpy(&b, block + 8, 4), memcpy(&more, block + 12, 4);
    uint32_t s_more = (more & 0x0f0f0f0f) | (s >> 6 & 0x03030303) << 4;
    uint32_t b_more = (more >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
    uint64_t low = (uint64_t)s_more << 32 | (s & 0x3f3f3f3f);
    uint64_t high = (uint64_t)b_more << 32 | (b & 0x3f3f3f3f);
    __m512i codes = _mm512_cvtepu8_epi32(_mm_set_epi64x((int64_t)high, (int64_t)low));
    const __m256i of = _mm256_set_epi16(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i halves = _mm256_permutexvar_epi16(of, _mm256_set1_epi32((int32_t)(both ^ 0x80000000)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(codes), _mm512_cvtph_ps(halves));
}

static __m512 q6_k_scales(const packed_rows *rows, int64_t row, const uint8_t *block,
                          int64_t group) {
    (void)rows, (void)row, (void)group;
    uint16_t half;
    memcpy(&half, block + 208, sizeof half);
    __m512i scales = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(block + 192)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(scales), _mm512_set1_ps(_cvtsh_ss(half)));
}

// Preparing ---------------------------------------------------------------------------------------

ALWAYS_INLINE void prepare_pair(const kind *k, const float *x, pair *to, float *steps,
                                int32_t *counts) {
    int8_t high[PAIR], low[PAIR];
    for (int64_t i = 0; i < PAIR; i += k->unit)
        counts[i / k->unit] = prepare_unit(x + i, k->unit, high + i, low + i, &steps[i / k->unit]);
    k->order(to->high, high);
    k->order(to->low, low);
    const __m512i zero = _mm512_set1_epi32(-k->zero), one = _mm512_set1_epi8(1);
    __m512i less[2];
    for (int i = 0; i < 2; i++) {
        __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), one, bytes_at(to->high + 64 * i));
        sum = _mm512_slli_epi32(sum, 8);
        less[i] = _mm512_dpbusd_epi32(sum, one, bytes_at(to->low + 64 * i));
    }
    if (k->lanes->same) less[0] = _mm512_add_epi32(less[0], less[1]);
    for (int i = 0; i < 2; i++) {
        _mm512_storeu_si512(to->less[i], _mm512_mullo_epi32(less[i], zero));
        for (int l = 0; l < LANES; l++) to->steps[i][l] = steps[k->lanes->of[i][l]];
    }
}

ALWAYS_INLINE void prepare(const kind *k, void *to, const float *x, int64_t terms, int64_t group) {
    pair *pairs = to;
    float *sums = sums_of(to, terms);
    int64_t span = span_of(k, group), few = k->bias_lanes;
    if (few > 0) memset(sums, 0, (size_t)(terms / group * 2 + LANES) * sizeof *sums);
    for (int64_t at = 0; at < terms; at += PAIR) {
        float padded[PAIR] = {0}, steps[PAIR / 16];
        int32_t counts[PAIR / 16];
        const float *from = x + at;
        if (terms - at < PAIR) from = memcpy(padded, from, (size_t)(terms - at) * sizeof *x);
        prepare_pair(k, from, &pairs[at / PAIR], steps, counts);
        for (int64_t i = 0; i < PAIR / k->unit && few > 0; i++) {
            int64_t g = (at + i * k->unit) % span / group;
            if (at + i * k->unit < terms)
                sums[at / span * LANES + LANES - few + g] += (float)counts[i] * steps[i];
        }
    }
}

// Products ----------------------------------------------------------------------------------------

// A register of codes of a few rows by those of a vector, `of` being the pair's register: the whole
// numbers are exact in 32 bits.
ALWAYS_INLINE __m512i whole(const kind *k, const __m512i *codes, const pair *x, int of) {
    const int end = k->lanes->same ? 2 : of + 1;
    __m512i high = _mm512_setzero_si512(), low = high;
    for (int i = of; i < end; i++)
        high = _mm512_dpbusd_epi32(high, codes[i], bytes_at(x->high + 64 * i));
    high = _mm512_slli_epi32(high, 8);
    low = k->zero > 0 ? bytes_at(x->less[of]) : high;
    for (int i = of; i < end; i++)
        low = _mm512_dpbusd_epi32(low, codes[i], bytes_at(x->low + 64 * i));
    return k->zero > 0 ? _mm512_add_epi32(high, low) : low;
}

// Where the rows' bits of a pair are: the last ones, where they are fewer, in a copy, as others
// would come from behind them.
ALWAYS_INLINE int64_t find_bits(const kind *k, const packed_rows *rows, int64_t row, int some,
                                int64_t at, const uint8_t **from,
                                uint8_t last[MOST_ROWS][LAST_BYTES]) {
    bool few = __builtin_expect(rows->terms - at < PAIR, 0);
    int64_t before = at * k->bytes / 256;
#pragma GCC unroll 4
    for (int r = 0; r < some; r++) {
        from[r] = rows->bits + (row + r) * rows->row_bytes;
        if (!few) continue;
        memset(last[r], 0, LAST_BYTES);
        from[r] = memcpy(last[r], from[r] + before, (size_t)(rows->row_bytes - before));
    }
    return few ? 0 : at;
}

// A few rows on their way through pairs, and what a few vectors have summed up.
typedef struct progress {
    const packed_rows *rows;
    const void *const *vectors;
    int64_t row;
    int some, count; // of both
    const uint8_t *from[MOST_ROWS];
    __m512 scale[MOST_ROWS], total[MOST_ROWS][PACKED_VECTORS];
} progress;

// Loads scales, and adds what biases are worth.
ALWAYS_INLINE void begin_span(const kind *k, progress *p, int64_t at, int64_t place) {
    const packed_rows *rows = p->rows;
    int64_t g = at / rows->group, sums = at / span_of(k, rows->group) * LANES;
#pragma GCC unroll 4
    for (int r = 0; r < p->some; r++) {
        const uint8_t *block = p->from[r] + place * k->bytes / 256;
        p->scale[r] = k->scales(rows, p->row + r, block, g);
        if (k->bias_lanes == 0) continue;
        __m512 bias = p->scale[r];
        if (k->biases != NULL) bias = k->biases(rows, p->row + r, block, g);
#pragma GCC unroll 4
        for (int v = 0; v < p->count; v++) {
            __m512 x = _mm512_loadu_ps(sums_of(p->vectors[v], rows->terms) + sums);
            p->total[r][v] = _mm512_fmadd_ps(bias, x, p->total[r][v]);
        }
    }
}

ALWAYS_INLINE void add_pair(const kind *k, progress *p, int64_t at, int64_t place,
                            const __m512i *units) {
    const bool spread = span_of(k, p->rows->group) != PAIR;
#pragma GCC unroll 4
    for (int r = 0; r < p->some; r++) {
        __m512i codes[2];
        k->load(p->from[r], place, codes);
        for (int i = 0; i < (k->lanes->same ? 1 : 2); i++) {
            __m512 by = spread ? _mm512_permutexvar_ps(units[i], p->scale[r]) : p->scale[r];
#pragma GCC unroll 4
            for (int v = 0; v < p->count; v++) {
                const pair *x = (const pair *)p->vectors[v] + at / PAIR;
                __m512 n = _mm512_cvtepi32_ps(whole(k, codes, x, i));
                __m512 s = _mm512_mul_ps(by, _mm512_loadu_ps(x->steps[i]));
                p->total[r][v] = _mm512_fmadd_ps(n, s, p->total[r][v]);
            }
        }
    }
}

// `some` rows by `count` vectors, both constants.
ALWAYS_INLINE void multiply(const kind *k, const packed_rows *rows, int64_t row, int some,
                            const void *const *vectors, int count, float *sums, int64_t step) {
    const int64_t span = span_of(k, rows->group), bytes = some * k->bytes / 2;
    const int shift = rows->group == 4 * k->unit ? 2 : rows->group == 2 * k->unit;
    const char *next = (const char *)rows->bits + (row + some - 1) * rows->row_bytes;
    progress p = {.rows = rows, .vectors = vectors, .row = row, .some = some, .count = count};
    for (int64_t at = 0; at < rows->terms; at += PAIR, next += bytes) {
        uint8_t last[MOST_ROWS][LAST_BYTES];
        int64_t place = find_bits(k, rows, row, some, at, p.from, last);
        for (int64_t i = 0; i < bytes; i += 64) {
            _mm_prefetch(next + AHEAD + i, _MM_HINT_T1);
            if (k->near) _mm_prefetch(next + NEAR + i, _MM_HINT_T0);
        }
        if (span == PAIR || at % span == 0) begin_span(k, &p, at, place);
        __m512i units[2], before = _mm512_set1_epi32((int32_t)(at % span / k->unit));
        for (int i = 0; i < 2; i++) {
            __m128i of = _mm_loadu_si128((const void *)k->lanes->of[i]);
            units[i] = _mm512_srli_epi32(_mm512_add_epi32(_mm512_cvtepu8_epi32(of), before), shift);
        }
        add_pair(k, &p, at, place, units);
    }
#pragma GCC unroll 4
    for (int r = 0; r < some; r++)
        for (int v = 0; v < count; v++)
            sums[v * step + row + r] = _mm512_reduce_add_ps(p.total[r][v]);
}

ALWAYS_INLINE void multiply_rows(const kind *k, const packed_rows *rows, int64_t count,
                                 const void *const *vectors, int vector_count, float *sums,
                                 int64_t step) {
    int64_t r = 0;
    for (; vector_count == 1 && r + 4 <= count; r += 4)
        multiply(k, rows, r, 4, vectors, 1, sums, step);
    for (; vector_count == 4 && r + 2 <= count; r += 2)
        multiply(k, rows, r, 2, vectors, 4, sums, step);
    for (; r < count; r++) {
        int v = 0;
        for (; v + 2 <= vector_count; v += 2)
            multiply(k, rows, r, 1, vectors + v, 2, sums + v * step, step);
        for (; v < vector_count; v++)
            multiply(k, rows, r, 1, vectors + v, 1, sums + v * step, step);
    }
}

#define AFFINE(bits, load, order, lanes)                                                           \
    KIND(affine_##bits, load, order, affine_scales, affine_biases, &lanes, 32, 32 * bits, 0, 0,    \
         16, false)
AFFINE(2, load_2, by_quarters, lanes_by_quarters)
AFFINE(3, load_3, in_order, lanes_in_order)
AFFINE(4, load_4, by_nibbles, lanes_apart)
AFFINE(6, load_6, in_order, lanes_in_order)
AFFINE(8, load_8, in_order, lanes_in_order)
KIND(mxfp4, load_e2m1, by_nibbles, power_scales, NULL, &lanes_apart, 32, 128, 0, 12, 0, false)
KIND(nvfp4, load_e2m1, by_nibbles, e4m3_scales, NULL, &lanes_apart_16, 16, 128, 0, 12, 0, false)
KIND(q4_0, load_q4_0, by_halves, q4_0_scales, NULL, &lanes_apart, 32, 144, PAIR, 8, 0, false)
KIND(q8_0, load_q8_0, by_halves, q8_0_scales, NULL, &lanes_apart, 32, 272, PAIR, 128, 0, true)
KIND(q4_k, load_q4_k, by_rows, q4_k_scales, NULL, &lanes_by_rows, 32, 144, 256, 0, 8, true)
KIND(q6_k, load_q6_k, in_order, q6_k_scales, NULL, &lanes_in_order_16, 16, 210, 256, 32, 0, true)

const packed_fns vnni_packed_table[PACKED_COUNT] = {KIND_ROWS(128)};
#endif
