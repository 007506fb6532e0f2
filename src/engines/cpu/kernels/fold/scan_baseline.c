// SPDX-License-Identifier: Apache-2.0
// scan_baseline.c - running folds, and their table. All levels use this one build.
#define LEVEL baseline
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/kernels/tables/fold.h"

#define KERNELS_JOIN_2_(a, b) a##_##b
#define KERNELS_JOIN_2(a, b) KERNELS_JOIN_2_(a, b)

// Sums and products --------------------------------------------------------------------------

// Integers wrap, and so have the same bits for both signs. They are computed in 32 bits or more, as
// the product of two u16 does not fit an int.
#define T uint8_t
#define A uint32_t
#define NAME u8_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u8_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint16_t
#define A uint32_t
#define NAME u16_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u16_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint32_t
#define A uint32_t
#define NAME u32_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u32_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint64_t
#define A uint64_t
#define NAME u64_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u64_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

// Floats fold in f64, and every element is rounded once.
#define T float
#define A double
#define NAME f32_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME f32_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T double
#define A double
#define NAME f64_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME f64_product
#define START 1
#define STEP(acc, x) ((acc) * (x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T float _Complex
#define A wide_complex
#define NAME c64_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME c64_product
#define START 1
#define STEP(acc, x) wide_times(acc, (wide_complex)(x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T double _Complex
#define A wide_complex
#define NAME c128_sum
#define START 0
#define STEP(acc, x) ((acc) + (x))
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME c128_product
#define START 1
#define STEP(acc, x) wide_times(acc, (wide_complex)(x))
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

// Highest and lowest --------------------------------------------------------------------------

// Of equal zeros the first stays, and so does a NaN.
#define BEST(better, acc, x) ((x)better(acc) || (x) != (x) ? (x) : (acc))

#define T uint8_t
#define A uint8_t
#define NAME u8_max
#define START 0
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u8_min
#define START UINT8_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint16_t
#define A uint16_t
#define NAME u16_max
#define START 0
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u16_min
#define START UINT16_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint32_t
#define A uint32_t
#define NAME u32_max
#define START 0
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u32_min
#define START UINT32_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T uint64_t
#define A uint64_t
#define NAME u64_max
#define START 0
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME u64_min
#define START UINT64_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T int8_t
#define A int8_t
#define NAME s8_max
#define START INT8_MIN
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME s8_min
#define START INT8_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T int16_t
#define A int16_t
#define NAME s16_max
#define START INT16_MIN
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME s16_min
#define START INT16_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T int32_t
#define A int32_t
#define NAME s32_max
#define START INT32_MIN
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME s32_min
#define START INT32_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T int64_t
#define A int64_t
#define NAME s64_max
#define START INT64_MIN
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME s64_min
#define START INT64_MAX
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T float
#define A float
#define NAME f32_max
#define START -__builtin_inff()
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME f32_min
#define START __builtin_inff()
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

#define T double
#define A double
#define NAME f64_max
#define START -__builtin_inf()
#define STEP(acc, x) BEST(>, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#define NAME f64_min
#define START __builtin_inf()
#define STEP(acc, x) BEST(<, acc, x)
#include "engines/cpu/kernels/fold/scan.inc"
#undef T
#undef A

// Table ---------------------------------------------------------------------------------------

#define SUMS(kind)                                                                                 \
    {                                                                                              \
        [EMLX_U8] = u8_##kind##_scan, [EMLX_U16] = u16_##kind##_scan,                              \
        [EMLX_U32] = u32_##kind##_scan, [EMLX_U64] = u64_##kind##_scan,                            \
        [EMLX_S8] = u8_##kind##_scan, [EMLX_S16] = u16_##kind##_scan,                              \
        [EMLX_S32] = u32_##kind##_scan, [EMLX_S64] = u64_##kind##_scan,                            \
        [EMLX_F32] = f32_##kind##_scan, [EMLX_F64] = f64_##kind##_scan,                            \
        [EMLX_C64] = c64_##kind##_scan, [EMLX_C128] = c128_##kind##_scan,                          \
    }
#define EXTREMES(kind)                                                                             \
    {                                                                                              \
        [EMLX_U8] = u8_##kind##_scan, [EMLX_U16] = u16_##kind##_scan,                              \
        [EMLX_U32] = u32_##kind##_scan, [EMLX_U64] = u64_##kind##_scan,                            \
        [EMLX_S8] = s8_##kind##_scan, [EMLX_S16] = s16_##kind##_scan,                              \
        [EMLX_S32] = s32_##kind##_scan, [EMLX_S64] = s64_##kind##_scan,                            \
        [EMLX_F32] = f32_##kind##_scan, [EMLX_F64] = f64_##kind##_scan,                            \
    }

const scan_fn cpu_scans[REDUCE_COUNT][EMLX_TYPE_COUNT] = {
    [REDUCE_SUM] = SUMS(sum),
    [REDUCE_PRODUCT] = SUMS(product),
    [REDUCE_MAX] = EXTREMES(max),
    [REDUCE_MIN] = EXTREMES(min),
};
