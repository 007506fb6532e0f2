// SPDX-License-Identifier: Apache-2.0
// vectors.h - the registers of a level: VECTOR_BYTES of one, and FMA_F32(s, x, y) and FMA_F64: s +
// x * y in a vector, in one rounding where the level has an instruction for that. HAS_LANES: there
// are instructions that multiply by one element of a register, LANE_F32(s, y, x, n): s + y * x[n],
// and so on. WIDE_F32(x): half a register of f32 as a register of f64. Where there is an
// instruction for it, LOOK_UP_F32(x, at): elements of x by the low bits of those of another;
// ANY_LANE(m): whether a comparison holds somewhere. For sources that are compiled once per level.
#ifndef EMLX_CPU_KERNELS_VECTORS_H
#define EMLX_CPU_KERNELS_VECTORS_H

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Longer vectors than registers would be cut by the compiler, badly.
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define FMA_F32(s, x, y) (__typeof__(s))_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(s))
#define FMA_F64(s, x, y) (__typeof__(s))_mm512_fmadd_pd((__m512d)(x), (__m512d)(y), (__m512d)(s))
#define WIDE_F32(x) _mm512_cvtps_pd((__m256)(x))
#define LOOK_UP_F32(x, at) (__typeof__(x))_mm512_permutexvar_ps((__m512i)(at), (__m512)(x))
#define ANY_LANE(m) (_mm512_test_epi32_mask((__m512i)(m), (__m512i)(m)) != 0)
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define FMA_F32(s, x, y) (__typeof__(s))_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(s))
#define FMA_F64(s, x, y) (__typeof__(s))_mm256_fmadd_pd((__m256d)(x), (__m256d)(y), (__m256d)(s))
#define WIDE_F32(x) _mm256_cvtps_pd((__m128)(x))
#define LOOK_UP_F32(x, at) (__typeof__(x))_mm256_permutevar8x32_ps((__m256)(x), (__m256i)(at))
#define ANY_LANE(m) (_mm256_movemask_ps((__m256)(m)) != 0)
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define FMA_F32(s, x, y)                                                                           \
    (__typeof__(s))vfmaq_f32((float32x4_t)(s), (float32x4_t)(x), (float32x4_t)(y))
#define FMA_F64(s, x, y)                                                                           \
    (__typeof__(s))vfmaq_f64((float64x2_t)(s), (float64x2_t)(x), (float64x2_t)(y))
#define HAS_LANES
#define LANE_F32(s, y, x, n)                                                                       \
    (__typeof__(s))vfmaq_laneq_f32((float32x4_t)(s), (float32x4_t)(y), (float32x4_t)(x), n)
#define LANE_F64(s, y, x, n)                                                                       \
    (__typeof__(s))vfmaq_laneq_f64((float64x2_t)(s), (float64x2_t)(y), (float64x2_t)(x), n)
#define LANE_U16(s, y, x, n)                                                                       \
    (__typeof__(s))vmlaq_laneq_u16((uint16x8_t)(s), (uint16x8_t)(y), (uint16x8_t)(x), n)
#define LANE_U32(s, y, x, n)                                                                       \
    (__typeof__(s))vmlaq_laneq_u32((uint32x4_t)(s), (uint32x4_t)(y), (uint32x4_t)(x), n)
#define WIDE_F32(x) vcvt_f64_f32((float32x2_t)(x))
#else
#define VECTOR_BYTES 16
#define FMA_F32(s, x, y) ((s) + (x) * (y))
#define FMA_F64(s, x, y) ((s) + (x) * (y))
#define WIDE_F32(x) __builtin_convertvector(x, vectors_f64)
typedef double vectors_f64 __attribute__((vector_size(VECTOR_BYTES)));
#endif
#define TIMES_PLUS(s, x, y) ((s) + (x) * (y))

#endif
