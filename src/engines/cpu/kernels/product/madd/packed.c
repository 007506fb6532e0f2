// SPDX-License-Identifier: Apache-2.0
// packed.c - rows of packed weights against vectors by the instruction that multiplies whole
// numbers of 16 bits and adds neighbours. A vector's numbers become such ones, with a step for each
// unit of 32 or 16: they err by at most a 65,534th of the largest of their unit, less than bf16
// does, and products are exact from there on. Scales are read where they are, as elements are.
#include "engines/cpu/kernels/product/packed.h"
#include "engines/cpu/kernels/product/kinds.h"
#include "engines/cpu/kernels/tables/product.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL madd

// Elements go through registers a chunk at a time; scales are loaded for a span of them. Rows come
// a few at a time, so that a vector is loaded once for them.
enum { SPAN = 256, LANES = 8, MOST_ROWS = 4, MOST_UNITS = 16 };
// Room for the codes of a span, scales among them included.
enum { LAST_BYTES = 288 };
// How far behind the rows that are read memory is asked for, in bytes.
enum { AHEAD = 4096 };

// Kinds -------------------------------------------------------------------------------------------

// The codes of a chunk from `at` on, in four registers of 16 bits each.
typedef void (*load_fn)(const uint8_t *row, int64_t at, __m256i *to);
// Lays the elements of a chunk in the order in which codes come.
typedef void (*order_fn)(int16_t *to, const int16_t *from);
// Those of the units of a span of a row, which begins at `at` and, among the elements, at `block`.
typedef void (*scales_fn)(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                          __m256 *to);

// What a kind of weights is read by. Sums of the first two registers of a chunk and of the others
// belong, in their lower and upper halves, to these of its units. Codes are `zero` too large.
typedef struct kind {
    load_fn load;
    order_fn order;
    scales_fn scales, biases;
    int low[2], high[2];
    int64_t unit, bytes; // of a span
    int zero;
} kind;

ALWAYS_INLINE int64_t units_of(const kind *k) { return SPAN / k->unit; }

// Vectors -----------------------------------------------------------------------------------------

// What is missing from a whole span is 0. `sums` are what the numbers of a unit come to, times what
// codes have too much.
typedef struct span {
    int16_t x[SPAN];
    float steps[MOST_UNITS], sums[MOST_UNITS];
} span;

ALWAYS_INLINE int64_t spans_of(int64_t terms) { return (terms + SPAN - 1) / SPAN; }

static size_t vector_bytes(int64_t terms, int64_t group) {
    (void)group;
    return (size_t)spans_of(terms) * sizeof(span);
}

ALWAYS_INLINE void in_order(int16_t *to, const int16_t *from) {
    memcpy(to, from, CHUNK * sizeof *to);
}

ALWAYS_INLINE void by_twos(int16_t *to, const int16_t *from) {
    for (int i = 0; i < CHUNK; i++) to[i] = from[i / 32 * 32 + i % 16 * 2 + i % 32 / 16];
}

ALWAYS_INLINE void by_fours(int16_t *to, const int16_t *from) {
    for (int i = 0; i < CHUNK; i++) to[i] = from[i % 16 * 4 + i / 16];
}

// NaN where a number is not finite.
ALWAYS_INLINE float largest(const float *x, int64_t count) {
    __m256 most = _mm256_setzero_ps(), none = most;
    const __m256 size = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    float mosts[LANES], nones[LANES];
    for (int64_t i = 0; i < count; i += LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        most = _mm256_max_ps(_mm256_and_ps(v, size), most);
        none = _mm256_add_ps(none, _mm256_mul_ps(v, _mm256_setzero_ps()));
    }
    _mm256_storeu_ps(mosts, most);
    _mm256_storeu_ps(nones, none);
    for (int i = 1; i < LANES; i++) {
        if (mosts[i] > mosts[0]) mosts[0] = mosts[i];
        nones[0] += nones[i];
    }
    return mosts[0] + nones[0];
}

// The whole numbers of a unit, and its step. Gives the sum of the numbers. What is not finite makes
// a step, and with it the sums, NaN.
ALWAYS_INLINE int32_t prepare_unit(const float *x, int64_t unit, int16_t *to, float *step) {
    *step = largest(x, unit) / 32767;
    __m256 by = _mm256_set1_ps(*step > 0 ? *step : 1);
    int32_t sum = 0;
    for (int64_t i = 0; i < unit; i += LANES) {
        int32_t n[LANES];
        __m256i whole = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x + i), by));
        if (!(*step > 0)) whole = _mm256_setzero_si256();
        _mm256_storeu_si256((void *)n, whole);
        for (int l = 0; l < LANES; l++) {
            to[i + l] = (int16_t)n[l];
            sum += n[l];
        }
    }
    return sum;
}

ALWAYS_INLINE void prepare(const kind *k, void *vector, const float *x, int64_t terms,
                           int64_t group) {
    (void)group;
    span *to = vector;
    for (int64_t at = 0; at < terms; at += SPAN, to++) {
        float padded[SPAN] = {0};
        int16_t numbers[SPAN];
        const float *from = x + at;
        if (terms - at < SPAN) from = memcpy(padded, from, (size_t)(terms - at) * sizeof *x);
        for (int64_t u = 0; u < units_of(k); u++) {
            int64_t first = u * k->unit;
            int32_t sum = prepare_unit(from + first, k->unit, numbers + first, &to->steps[u]);
            to->sums[u] = (float)sum * to->steps[u] * (k->zero > 0 ? (float)-k->zero : 1);
        }
        for (int i = 0; i < SPAN; i += CHUNK) k->order(to->x + i, numbers + i);
    }
}

// Codes -------------------------------------------------------------------------------------------

ALWAYS_INLINE __m256i whole_bytes(const uint8_t *at) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)at));
}

ALWAYS_INLINE __m256i signed_bytes(const void *at) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
}

// The low nibbles of 16 bytes and the high ones.
ALWAYS_INLINE void nibbles(const uint8_t *from, __m256i *low, __m256i *high) {
    __m256i both = whole_bytes(from);
    *low = _mm256_and_si256(both, _mm256_set1_epi16(15));
    *high = _mm256_srli_epi16(both, 4);
}

ALWAYS_INLINE void load_4(const uint8_t *row, int64_t at, __m256i *to) {
    for (int i = 0; i < 2; i++) nibbles(row + at / 2 + 16 * i, &to[2 * i], &to[2 * i + 1]);
}

static const int8_t e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Twice what the codes stand for.
ALWAYS_INLINE void load_e2m1(const uint8_t *row, int64_t at, __m256i *to) {
    const __m128i table = _mm_loadu_si128((const void *)e2m1_values), mask = _mm_set1_epi8(15);
    for (int i = 0; i < 2; i++) {
        __m128i both = _mm_loadu_si128((const void *)(row + at / 2 + 16 * i));
        __m128i low = _mm_and_si128(both, mask);
        __m128i high = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
        to[2 * i] = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(table, low));
        to[2 * i + 1] = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(table, high));
    }
}

ALWAYS_INLINE void load_2(const uint8_t *row, int64_t at, __m256i *to) {
    __m256i fours = whole_bytes(row + at / 4);
    for (int i = 0; i < 4; i++)
        to[i] = _mm256_and_si256(_mm256_srli_epi16(fours, 2 * i), _mm256_set1_epi16(3));
}

// Eight elements of a few bits are a deposit of those bits.
#define STREAM(bits, mask)                                                                         \
    ALWAYS_INLINE void load_##bits(const uint8_t *row, int64_t at, __m256i *to) {                  \
        row += at / 8 * bits;                                                                      \
        for (int i = 0; i < 4; i++) {                                                              \
            uint64_t first = 0, second = 0;                                                        \
            memcpy(&first, row + 2 * i * bits, bits);                                              \
            memcpy(&second, row + (2 * i + 1) * bits, bits);                                       \
            first = _pdep_u64(first, mask);                                                        \
            second = _pdep_u64(second, mask);                                                      \
            to[i] = _mm256_cvtepu8_epi16(_mm_set_epi64x((int64_t)second, (int64_t)first));         \
        }                                                                                          \
    }
STREAM(3, 0x0707070707070707u)
STREAM(6, 0x3f3f3f3f3f3f3f3fu)
#undef STREAM

ALWAYS_INLINE void load_8(const uint8_t *row, int64_t at, __m256i *to) {
    for (int i = 0; i < 4; i++) to[i] = whole_bytes(row + at + 16 * i);
}

ALWAYS_INLINE void load_q4_0(const uint8_t *row, int64_t at, __m256i *to) {
    row += at / 32 * 18 + 2;
    for (int i = 0; i < 2; i++) nibbles(row + 18 * i, &to[2 * i], &to[2 * i + 1]);
}

ALWAYS_INLINE void load_q8_0(const uint8_t *row, int64_t at, __m256i *to) {
    row += at / 32 * 34 + 2;
    for (int i = 0; i < 4; i++) to[i] = signed_bytes(row + i / 2 * 34 + i % 2 * 16);
}

ALWAYS_INLINE void load_q4_k(const uint8_t *row, int64_t at, __m256i *to) {
    row += at / 256 * 144 + 16 + at % 256 / 2;
    for (int i = 0; i < 2; i++) nibbles(row + 16 * i, &to[i], &to[i + 2]);
}

ALWAYS_INLINE void load_q6_k(const uint8_t *row, int64_t at, __m256i *to) {
    const __m256i mask = _mm256_set1_epi8(15), two = _mm256_set1_epi8(48);
    int64_t half = at % 256 / 128;
    row += at / 256 * 210;
    __m256i above = _mm256_loadu_si256((const void *)(row + 128 + half * 32));
    if (at % 128 > 0) above = _mm256_srli_epi16(above, 4);
    for (int i = 0; i < 2; i++) {
        __m256i low = _mm256_loadu_si256((const void *)(row + half * 64 + 32 * i));
        if (at % 128 > 0) low = _mm256_srli_epi16(low, 4);
        __m256i high = _mm256_slli_epi16(above, 4 - 2 * i);
        __m256i code = _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_and_si256(high, two));
        to[2 * i] = _mm256_and_si256(code, _mm256_set1_epi16(255));
        to[2 * i + 1] = _mm256_srli_epi16(code, 8);
    }
}

// Scales ------------------------------------------------------------------------------------------

// `count` numbers, up to eight.
ALWAYS_INLINE __m256 floats_at(const void *from, emlx_type type, int64_t at, int64_t count) {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    const uint16_t *halves = (const uint16_t *)from + at;
    uint16_t few[LANES] = {0};
    if (type == EMLX_F32) {
        __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)count), lane);
        return _mm256_maskload_ps((const float *)from + at, some);
    }
    if (count == LANES)
        memcpy(few, halves, sizeof few);
    else if (count == LANES / 2)
        memcpy(few, halves, sizeof few / 2);
    else
        for (int64_t i = 0; i < count; i++) few[i] = halves[i];
    __m128i v = _mm_loadu_si128((const void *)few);
    if (type == EMLX_F16) return _mm256_cvtph_ps(v);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

// How many of the groups of a span a row has.
ALWAYS_INLINE int64_t groups_here(const packed_rows *rows, int64_t group, int64_t most) {
    return rows->groups - group < most ? rows->groups - group : most;
}

// A group's number is that of each of its units.
ALWAYS_INLINE void group_numbers(const packed_rows *rows, const void *from, int64_t row, int64_t at,
                                 __m256 *to) {
    const int shift = __builtin_ctzll((unsigned long long)rows->group);
    int64_t group = at >> shift, count = groups_here(rows, group, SPAN >> shift);
    __m256 few = floats_at(from, rows->type, row * rows->groups + group, count);
    __m256i of = _mm256_srli_epi32(_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), shift - 5);
    *to = _mm256_permutevar8x32_ps(few, of);
}

static void group_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                         __m256 *to) {
    (void)block;
    group_numbers(rows, rows->scales, row, at, to);
}

static void group_biases(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                         __m256 *to) {
    (void)block;
    group_numbers(rows, rows->biases, row, at, to);
}

// The bytes of up to 16 groups, eight a register.
ALWAYS_INLINE void bytes_apart(const packed_rows *rows, int64_t row, int64_t group, int64_t most,
                               __m256i *to) {
    const uint8_t *from = (const uint8_t *)rows->scales + row * rows->groups + group;
    uint8_t few[MOST_UNITS] = {0};
    int64_t count = groups_here(rows, group, most);
    if (count == most)
        memcpy(few, from, (size_t)most);
    else
        for (int64_t i = 0; i < count; i++) few[i] = from[i];
    for (int i = 0; i < most / LANES; i++)
        to[i] = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(few + LANES * i)));
}

// Codes of E2M1 are read as twice what they stand for.
static void mxfp4_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                         __m256 *to) {
    (void)block;
    __m256i bits;
    bytes_apart(rows, row, at / 32, LANES, &bits);
    __m256i least = _mm256_cmpeq_epi32(bits, _mm256_setzero_si256());
    bits = _mm256_slli_epi32(bits, 23);
    bits = _mm256_blendv_epi8(bits, _mm256_set1_epi32(0x400000), least);
    *to = _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5f));
}

static void nvfp4_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                         __m256 *to) {
    (void)block;
    const __m256i sizes = _mm256_set1_epi32(0x7f);
    __m256i bits[2];
    bytes_apart(rows, row, at / 16, MOST_UNITS, bits);
    for (int i = 0; i < 2; i++) {
        __m256i size = _mm256_and_si256(bits[i], sizes);
        __m256i none = _mm256_cmpeq_epi32(size, sizes);
        __m256i sign = _mm256_slli_epi32(_mm256_andnot_si256(sizes, bits[i]), 24);
        __m256 wide = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(size, 20)),
                                    _mm256_set1_ps(0x1p119f));
        wide = _mm256_or_ps(wide, _mm256_castsi256_ps(sign));
        to[i] = _mm256_or_ps(wide, _mm256_castsi256_ps(none));
    }
}

// The first numbers of eight blocks.
ALWAYS_INLINE __m256 halves_of(const uint8_t *block, int step) {
    uint16_t h[LANES];
    for (int i = 0; i < LANES; i++) memcpy(&h[i], block + i * step, sizeof *h);
    return _mm256_cvtph_ps(_mm_set_epi16((int16_t)h[7], (int16_t)h[6], (int16_t)h[5], (int16_t)h[4],
                                         (int16_t)h[3], (int16_t)h[2], (int16_t)h[1],
                                         (int16_t)h[0]));
}

static void q4_0_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                        __m256 *to) {
    (void)rows, (void)row, (void)at;
    *to = halves_of(block, 18);
}

static void q8_0_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                        __m256 *to) {
    (void)rows, (void)row, (void)at;
    *to = halves_of(block, 34);
}

// Eight scales and eight biases of six bits: the first four of each in bytes, of the others the low
// four bits in four bytes more and the high two above those of the first.
ALWAYS_INLINE __m256 six_bits(const uint8_t *block, int which) {
    uint32_t first, more;
    uint16_t half;
    memcpy(&first, block + 4 + 4 * which, 4), memcpy(&more, block + 12, 4);
    memcpy(&half, block + 2 * which, sizeof half);
    more = (more >> 4 * which & 0x0f0f0f0f) | (first >> 6 & 0x03030303) << 4;
    uint64_t all = (uint64_t)more << 32 | (first & 0x3f3f3f3f);
    __m256i codes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)all));
    float by = _cvtsh_ss(half);
    return _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(which == 0 ? by : -by));
}

static void q4_k_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                        __m256 *to) {
    (void)rows, (void)row, (void)at;
    *to = six_bits(block, 0);
}

static void q4_k_biases(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                        __m256 *to) {
    (void)rows, (void)row, (void)at;
    *to = six_bits(block, 1);
}

static void q6_k_scales(const packed_rows *rows, int64_t row, const uint8_t *block, int64_t at,
                        __m256 *to) {
    (void)rows, (void)row, (void)at;
    uint16_t half;
    memcpy(&half, block + 208, sizeof half);
    for (int i = 0; i < 2; i++) {
        __m128i bytes = _mm_loadl_epi64((const void *)(block + 192 + LANES * i));
        to[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                              _mm256_set1_ps(_cvtsh_ss(half)));
    }
}

// Products ----------------------------------------------------------------------------------------

// A few rows on their way through spans, `some` by `count` vectors. Both are constants, handed on
// beside it, and so are the sums, which then stay in registers.
typedef struct progress {
    const packed_rows *rows;
    const void *const *vectors;
    int64_t row;
    const uint8_t *from[MOST_ROWS];
    float by[MOST_ROWS][PACKED_VECTORS][MOST_UNITS]; // scale * step
} progress;

typedef __m256 totals[MOST_ROWS][PACKED_VECTORS];

// Where the rows' bits of a span are: the last ones, where they are fewer, in a copy, as others
// would come from behind them.
ALWAYS_INLINE void find_bits(const kind *k, progress *p, int some, int64_t at,
                             uint8_t last[MOST_ROWS][LAST_BYTES]) {
    const packed_rows *rows = p->rows;
    int64_t before = at / SPAN * k->bytes;
#pragma GCC unroll 4
    for (int r = 0; r < some; r++) {
        p->from[r] = rows->bits + (p->row + r) * rows->row_bytes + before;
        if (__builtin_expect(rows->terms - at >= SPAN, 1)) continue;
        memset(last[r], 0, LAST_BYTES);
        p->from[r] = memcpy(last[r], p->from[r], (size_t)(rows->row_bytes - before));
    }
}

// Loads scales, and adds what biases are worth, or what codes have too much.
ALWAYS_INLINE void begin_span(const kind *k, progress *p, int some, int count, int64_t at,
                              totals total) {
#pragma GCC unroll 4
    for (int r = 0; r < some; r++) {
        __m256 scale[2], bias[2];
        k->scales(p->rows, p->row + r, p->from[r], at, scale);
        if (k->biases != NULL) k->biases(p->rows, p->row + r, p->from[r], at, bias);
#pragma GCC unroll 4
        for (int v = 0; v < count; v++) {
            const span *x = (const span *)p->vectors[v] + at / SPAN;
#pragma GCC unroll 2
            for (int i = 0; i < units_of(k) / LANES; i++) {
                __m256 step = _mm256_loadu_ps(x->steps + LANES * i);
                _mm256_storeu_ps(p->by[r][v] + LANES * i, _mm256_mul_ps(scale[i], step));
                if (k->biases == NULL && k->zero == 0) continue;
                total[r][v] = _mm256_fmadd_ps(k->biases == NULL ? scale[i] : bias[i],
                                              _mm256_loadu_ps(x->sums + LANES * i), total[r][v]);
            }
        }
    }
}

// Two registers of codes by those of a vector: exact in 32 bits.
ALWAYS_INLINE __m256 whole(const __m256i *codes, const int16_t *x) {
    __m256i first = _mm256_madd_epi16(codes[0], _mm256_loadu_si256((const void *)x));
    __m256i second = _mm256_madd_epi16(codes[1], _mm256_loadu_si256((const void *)(x + 16)));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(first, second));
}

ALWAYS_INLINE void add_chunk(const kind *k, const progress *p, int some, int count, int64_t at,
                             int64_t place, totals total) {
    const int64_t unit = place / k->unit;
#pragma GCC unroll 4
    for (int r = 0; r < some; r++) {
        __m256i codes[4];
        k->load(p->from[r], place, codes);
#pragma GCC unroll 4
        for (int v = 0; v < count; v++) {
            const span *x = (const span *)p->vectors[v] + at / SPAN;
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                const float *by = p->by[r][v] + unit;
                __m256 s = _mm256_broadcast_ss(by + k->low[i]);
                if (k->high[i] != k->low[i])
                    s = _mm256_blend_ps(s, _mm256_broadcast_ss(by + k->high[i]), 0xf0);
                __m256 n = whole(codes + 2 * i, x->x + place + 32 * i);
                total[r][v] = _mm256_fmadd_ps(n, s, total[r][v]);
            }
        }
    }
}

ALWAYS_INLINE float sum_of(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

ALWAYS_INLINE void multiply(const kind *k, const packed_rows *rows, int64_t row, int some,
                            const void *const *vectors, int count, float *sums, int64_t step) {
    const char *next = (const char *)rows->bits + (row + some - 1) * rows->row_bytes;
    totals total = {{{0}}};
    progress p; // what is not set here is written before it is read
    p.rows = rows, p.vectors = vectors, p.row = row;
    for (int64_t at = 0; at < rows->terms; at += SPAN, next += some * k->bytes) {
        uint8_t last[MOST_ROWS][LAST_BYTES];
        find_bits(k, &p, some, at, last);
        for (int64_t i = 0; i < some * k->bytes; i += 64)
            _mm_prefetch(next + AHEAD + i, _MM_HINT_T1);
        begin_span(k, &p, some, count, at, total);
        add_chunk(k, &p, some, count, at, 0, total);
        add_chunk(k, &p, some, count, at, 64, total);
        add_chunk(k, &p, some, count, at, 128, total);
        add_chunk(k, &p, some, count, at, 192, total);
    }
#pragma GCC unroll 4
    for (int r = 0; r < some; r++)
#pragma GCC unroll 4
        for (int v = 0; v < count; v++) sums[v * step + row + r] = sum_of(total[r][v]);
}

ALWAYS_INLINE void multiply_rows(const kind *k, const packed_rows *rows, int64_t count,
                                 const void *const *vectors, int vector_count, float *sums,
                                 int64_t step) {
    int64_t r = 0;
    for (; vector_count == 1 && r + 4 <= count; r += 4)
        multiply(k, rows, r, 4, vectors, 1, sums, step);
    for (; r < count; r++) {
        int v = 0;
        for (; v + 4 <= vector_count; v += 4)
            multiply(k, rows, r, 1, vectors + v, 4, sums + v * step, step);
        for (; v + 2 <= vector_count; v += 2)
            multiply(k, rows, r, 1, vectors + v, 2, sums + v * step, step);
        for (; v < vector_count; v++)
            multiply(k, rows, r, 1, vectors + v, 1, sums + v * step, step);
    }
}

#define APART {0, 1}, {0, 1}, 32
#define APART_16 {0, 2}, {1, 3}, 16
#define AFFINE(bits, order, ...)                                                                   \
    KIND(affine_##bits, load_##bits, order, group_scales, group_biases, __VA_ARGS__, 32 * bits, 0)
AFFINE(2, by_fours, {0, 0}, {1, 1}, 32)
AFFINE(3, in_order, APART)
AFFINE(4, by_twos, APART)
AFFINE(6, in_order, APART)
AFFINE(8, in_order, APART)
KIND(mxfp4, load_e2m1, by_twos, mxfp4_scales, NULL, APART, 128, 0)
KIND(nvfp4, load_e2m1, by_twos, nvfp4_scales, NULL, APART_16, 128, 0)
KIND(q4_0, load_q4_0, in_order, q4_0_scales, NULL, APART, 144, 8)
KIND(q8_0, load_q8_0, in_order, q8_0_scales, NULL, APART, 272, 0)
KIND(q4_k, load_q4_k, in_order, q4_k_scales, q4_k_biases, APART, 144, 0)
KIND(q6_k, load_q6_k, by_twos, q6_k_scales, NULL, APART_16, 210, 32)

const packed_fns madd_packed_table[PACKED_COUNT] = {KIND_ROWS(16)};

// Products of dense elements are those of the level before.
const product_fns madd_product_table[PRODUCT_COUNT] = {{.tile = NULL}};
#endif
