// SPDX-License-Identifier: Apache-2.0
// packed_level.c - rows of packed weights against vectors, in f32: elements become numbers in
// registers, sums of a group are multiplied by its scale once.
#include "engines/cpu/kernels/product/packed.h"
#include "engines/cpu/kernels/vectors.h"

// Compilers cut longer vectors than registers badly where these are made of two halves.
#if defined(__AVX2__)
#define WIDTH (VECTOR_BYTES / 4)
#else
#define WIDTH 16
#endif
typedef float lanes __attribute__((vector_size(WIDTH * 4)));
typedef uint8_t few_codes __attribute__((vector_size(WIDTH)));
typedef int8_t few_signed __attribute__((vector_size(WIDTH)));
typedef int32_t whole_lanes __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t wide_codes __attribute__((vector_size(WIDTH * 4)));

// Vectors are handed on by address, as calls that pass them by value differ between levels.
ALWAYS_INLINE float sum_of(const lanes *v) {
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += (*v)[i];
    return sum;
}

ALWAYS_INLINE int64_t whole_chunks(int64_t terms) { return (terms + CHUNK - 1) / CHUNK * CHUNK; }

// Vectors are their numbers, with zeros up to a whole chunk, then the sum of each group.
static size_t f32_bytes(int64_t terms, int64_t group) {
    return (size_t)(whole_chunks(terms) + terms / group) * sizeof(float);
}

static void f32_prepare(void *to, const float *x, int64_t terms, int64_t group) {
    float *sums = (float *)to + whole_chunks(terms);
    memset((float *)to + terms, 0, (size_t)(whole_chunks(terms) - terms) * sizeof(float));
    memcpy(to, x, (size_t)terms * sizeof(float));
    for (int64_t g = 0; g < terms / group; g++) {
        double sum = 0;
        for (int64_t i = 0; i < group; i++) sum += x[g * group + i];
        sums[g] = (float)sum;
    }
}

// Compilers convert bytes to floats one by one.
ALWAYS_INLINE void numbers(lanes *to, const uint8_t *codes) {
#if defined(__AVX512F__)
    __m128i few = _mm_loadu_si128((const void *)codes);
    *to = (lanes)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(few));
#elif defined(__AVX2__)
    __m128i few = _mm_loadl_epi64((const void *)codes);
    *to = (lanes)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(few));
#elif defined(__aarch64__)
    uint8x16_t few = vld1q_u8(codes);
    uint16x8_t low = vmovl_u8(vget_low_u8(few)), high = vmovl_high_u8(few);
    float32x4_t parts[4] = {
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))};
    memcpy(to, parts, sizeof *to);
#else
    few_codes few;
    memcpy(&few, codes, sizeof few);
    *to = __builtin_convertvector(__builtin_convertvector(few, whole_lanes), lanes);
#endif
}

ALWAYS_INLINE void signed_numbers(lanes *to, const uint8_t *codes) {
#if defined(__AVX512F__)
    __m128i few = _mm_loadu_si128((const void *)codes);
    *to = (lanes)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(few));
#elif defined(__AVX2__)
    __m128i few = _mm_loadl_epi64((const void *)codes);
    *to = (lanes)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(few));
#elif defined(__aarch64__)
    int8x16_t few = vld1q_s8((const int8_t *)codes);
    int16x8_t low = vmovl_s8(vget_low_s8(few)), high = vmovl_high_s8(few);
    float32x4_t parts[4] = {
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))};
    memcpy(to, parts, sizeof *to);
#else
    few_signed few;
    memcpy(&few, codes, sizeof few);
    *to = __builtin_convertvector(__builtin_convertvector(few, whole_lanes), lanes);
#endif
}

// E4M3 is the upper part of an f32 whose exponent counts from 120 less; all ones are no number.
// What is below the normal numbers is what is left of one with the least exponent; multiplying
// numbers that f32 has below the normal ones would be slow.
ALWAYS_INLINE void e4m3_numbers(lanes *to, const uint8_t *codes) {
    wide_codes wide;
#if defined(__AVX512F__)
    wide = (wide_codes)_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)codes));
#elif defined(__AVX2__)
    wide = (wide_codes)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)codes));
#else
    few_codes few;
    memcpy(&few, codes, sizeof few);
    wide = __builtin_convertvector(few, wide_codes);
#endif
    wide_codes size = wide & 0x7f, none = (wide_codes)(size == 0x7f) & 0x7fc00000;
    wide_codes small = (wide_codes)(size < 8);
    size = (size << 20) + ((120u << 23) + (small & 1u << 23));
    lanes value = (lanes)size - (lanes)(small & 121u << 23);
    *to = (lanes)((wide_codes)value | (wide & 0x80) << 24 | none);
}

// Scales ------------------------------------------------------------------------------------------

ALWAYS_INLINE float half_at(const uint8_t *at) {
    uint16_t half;
    memcpy(&half, at, sizeof half);
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float size;
    memcpy(&size, &bits, sizeof size);
    size *= 0x1p112f;
    memcpy(&bits, &size, sizeof size);
    if ((half & 0x7c00) == 0x7c00) bits |= 0x7f800000;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&size, &bits, sizeof size);
    return size;
#endif
}

// The first numbers of blocks, as many as two registers hold the ends of.
#if defined(__AVX512BW__)
#define SOME_HALVES 1
ALWAYS_INLINE void some_halves(float *to, const uint8_t *block, int step, int count) {
    uint16_t places[32] = {0};
    for (int i = 0; i < count; i++) places[i] = (uint16_t)(i * step / 2);
    __m512i both = _mm512_permutex2var_epi16(_mm512_loadu_si512(block), _mm512_loadu_si512(places),
                                             _mm512_loadu_si512(block + 64));
    __m256 wide = _mm256_cvtph_ps(_mm512_castsi512_si128(both));
    if (count == 8)
        _mm256_storeu_ps(to, wide);
    else
        _mm_storeu_ps(to, _mm256_castps256_ps128(wide));
}
#else
#define SOME_HALVES 0
ALWAYS_INLINE void some_halves(float *to, const uint8_t *block, int step, int count) {
    (void)to, (void)block, (void)step, (void)count;
}
#endif

ALWAYS_INLINE void block_scales(const uint8_t *row, int64_t groups, int step, int some, float zero,
                                float *restrict scale, float *restrict bias) {
    int64_t g = 0;
    for (; SOME_HALVES && g + some <= groups; g += some)
        some_halves(scale + g, row + g * step, step, some);
    for (; g < groups; g++) scale[g] = half_at(row + g * step);
    for (g = 0; g < groups; g++) bias[g] = zero * scale[g];
}

static void KERNEL(q4_0, scales)(const uint8_t *row, int64_t groups, float *scale, float *bias) {
    block_scales(row, groups, 18, 8, -8, scale, bias);
}

static void KERNEL(q8_0, scales)(const uint8_t *row, int64_t groups, float *scale, float *bias) {
    block_scales(row, groups, 34, 4, -128, scale, bias);
}

// Eight scales and eight biases of six bits: the first four of each in bytes, of the others the low
// four bits in four bytes more and the high two above those of the first.
static void KERNEL(q4_k, scales)(const uint8_t *row, int64_t groups, float *scale, float *bias) {
    for (int64_t g = 0; g < groups; g += 8, row += 144) {
        uint32_t s, b, more, words[4];
        float d = half_at(row), least = -half_at(row + 2);
        memcpy(&s, row + 4, 4), memcpy(&b, row + 8, 4), memcpy(&more, row + 12, 4);
        words[0] = s & 0x3f3f3f3f;
        words[1] = (more & 0x0f0f0f0f) | (s >> 6 & 0x03030303) << 4;
        words[2] = b & 0x3f3f3f3f;
        words[3] = (more >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
        for (int i = 0; i < 8; i++) {
            scale[g + i] = d * (float)(words[i / 4] >> i % 4 * 8 & 0xff);
            bias[g + i] = least * (float)(words[2 + i / 4] >> i % 4 * 8 & 0xff);
        }
    }
}

static void KERNEL(q6_k, scales)(const uint8_t *row, int64_t groups, float *scale, float *bias) {
    for (int64_t g = 0; g < groups; g += 16, row += 210) {
        float d = half_at(row + 208);
        for (int i = 0; i < 16; i += WIDTH) {
            lanes values;
            signed_numbers(&values, row + 192 + i);
            values *= d;
            memcpy(scale + g + i, &values, sizeof values);
            values *= -32;
            memcpy(bias + g + i, &values, sizeof values);
        }
    }
}

// Products ----------------------------------------------------------------------------------------

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

// The codes of a chunk, of the last one from a copy, as others would come from behind the row.
// `bytes` are those of 32 elements, scales among them included.
#define LAST_BYTES 80
ALWAYS_INLINE const uint8_t *chunk_from(const packed_rows *rows, const uint8_t *bits, int64_t *at,
                                        int64_t bytes, uint8_t *last) {
    if (rows->terms - *at >= CHUNK) return bits;
    int64_t first = *at / 32 * bytes;
    memset(last, 0, LAST_BYTES);
    *at = 0;
    return memcpy(last, bits + first, (size_t)(rows->row_bytes - first));
}

// Of each vector the sum over groups of scale * sum of products, and of bias * sum of the vector.
#define KIND(name, code, number, of_32)                                                            \
    static void KERNELS_JOIN(LEVEL, name, values)(float *to, const uint8_t *row, int64_t at,       \
                                                  const float *scale, const float *bias,           \
                                                  int64_t group) {                                 \
        uint8_t codes[CHUNK];                                                                      \
        int shift = __builtin_ctzll((unsigned long long)group);                                    \
        code(codes, row, at);                                                                      \
        for (int i = 0; i < CHUNK; i += WIDTH) {                                                   \
            int64_t g = (at + i) >> shift;                                                         \
            lanes v;                                                                               \
            number(&v, codes + i);                                                                 \
            v = v * scale[g] + bias[g];                                                            \
            memcpy(to + i, &v, sizeof v);                                                          \
        }                                                                                          \
    }                                                                                              \
    ALWAYS_INLINE void KERNELS_JOIN(LEVEL, name, row)(const packed_rows *rows, int64_t r,          \
                                                      const void *const *vectors, int count,       \
                                                      float *sums, int64_t step) {                 \
        const int64_t terms = rows->terms;                                                         \
        const int shift = __builtin_ctzll((unsigned long long)rows->group);                        \
        const uint8_t *bits = rows->bits + r * rows->row_bytes;                                    \
        const float *scale = rows->scale + r * rows->groups;                                       \
        lanes total[PACKED_VECTORS] = {{0}};                                                       \
        uint8_t codes[CHUNK], last[LAST_BYTES];                                                    \
        for (int64_t at = 0; at < terms; at += CHUNK) {                                            \
            int64_t place = at;                                                                    \
            const uint8_t *from = chunk_from(rows, bits, &place, of_32, last);                     \
            code(codes, from, place);                                                              \
            for (int i = 0; i < CHUNK && at + i < terms; i += WIDTH) {                             \
                lanes w;                                                                           \
                number(&w, codes + i);                                                             \
                w *= scale[(at + i) >> shift];                                                     \
                for (int v = 0; v < count; v++) {                                                  \
                    lanes x;                                                                       \
                    memcpy(&x, (const float *)vectors[v] + at + i, sizeof x);                      \
                    total[v] += w * x;                                                             \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (int v = 0; v < count; v++)                                                            \
            sums[v * step + r] =                                                                   \
                sum_of(&total[v]) + of_biases(rows->bias + r * rows->groups,                       \
                                              (const float *)vectors[v] + whole_chunks(terms),     \
                                              terms >> shift);                                     \
    }                                                                                              \
    static void KERNELS_JOIN(LEVEL, name, dot)(const packed_rows *rows, int64_t count,             \
                                               const void *const *vectors, int vector_count,       \
                                               float *sums, int64_t step) {                        \
        for (int64_t r = 0; r < count; r++)                                                        \
            if (vector_count == 1)                                                                 \
                KERNELS_JOIN(LEVEL, name, row)(rows, r, vectors, 1, sums, step);                   \
            else                                                                                   \
                KERNELS_JOIN(LEVEL, name, row)(rows, r, vectors, vector_count, sums, step);        \
    }

KIND(affine_2, codes_2, numbers, 8)
KIND(affine_3, codes_3, numbers, 12)
KIND(affine_4, codes_4, numbers, 16)
KIND(affine_6, codes_6, numbers, 24)
KIND(affine_8, codes_8, numbers, 32)
KIND(mxfp4, codes_e2m1, numbers, 16)
KIND(mxfp8, codes_8, e4m3_numbers, 32)
KIND(q4_0, codes_q4_0, numbers, 18)
KIND(q8_0, codes_q8_0, numbers, 34)
KIND(q4_k, codes_q4_k, numbers, 18)
KIND(q6_k, codes_q6_k, numbers, 26)

const packed_fns KERNEL(packed, table)[PACKED_COUNT] = {
#define ROW(kind, name, scales)                                                                    \
    [PACKED_##kind] = {f32_bytes,                                                                  \
                       f32_prepare,                                                                \
                       scales,                                                                     \
                       KERNELS_JOIN(LEVEL, name, values),                                          \
                       KERNELS_JOIN(LEVEL, name, dot),                                             \
                       8,                                                                          \
                       false}
    ROW(affine_2, affine_2, NULL),
    ROW(affine_3, affine_3, NULL),
    ROW(affine_4, affine_4, NULL),
    ROW(affine_6, affine_6, NULL),
    ROW(affine_8, affine_8, NULL),
    ROW(mxfp4, mxfp4, NULL),
    ROW(mxfp8, mxfp8, NULL),
    ROW(nvfp4, mxfp4, NULL),
    ROW(q4_0, q4_0, KERNEL(q4_0, scales)),
    ROW(q8_0, q8_0, KERNEL(q8_0, scales)),
    ROW(q4_k, q4_k, KERNEL(q4_k, scales)),
    ROW(q6_k, q6_k, KERNEL(q6_k, scales)),
#undef ROW
};
