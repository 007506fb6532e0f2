// SPDX-License-Identifier: Apache-2.0
// fft_level.c - the inner loops of Fourier transforms, in f32 and in f64.
#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/shuffle.h"
#include "engines/cpu/kernels/tables/fft.h"
#include "engines/cpu/kernels/vectors.h"

#if VECTOR_BYTES == 64
#define WIDTH_F32 16
#define WIDTH_F64 8
#elif VECTOR_BYTES == 32
#define WIDTH_F32 8
#define WIDTH_F64 4
#else
#define WIDTH_F32 4
#define WIDTH_F64 2
#endif

// Lines beside each other, an element a row: as a side of a product is packed.
#define GROUP 1
#define UNIT T
#define NAME fft_f32
#define T float
#define MADD FMA_F32
#define LINES 16
#define WIDTH WIDTH_F32
#define SQUARE WIDTH
#include "engines/cpu/kernels/product/pack.inc"
// After what it takes from there.
#include "engines/cpu/kernels/fft/lines.inc"
#undef NAME
#undef T
#undef MADD
#undef LINES
#undef WIDTH

#define NAME fft_f64
#define T double
#define MADD FMA_F64
#define LINES 8
#define WIDTH WIDTH_F64
#include "engines/cpu/kernels/product/pack.inc"
// After what it takes from there.
#include "engines/cpu/kernels/fft/lines.inc"
#undef NAME
#undef T
#undef MADD
#undef LINES
#undef WIDTH

#define FFT_FNS(type, count)                                                                       \
    {                                                                                              \
        count, KERNEL(fft_##type, pass), KERNEL(fft_##type, pack), KERNEL(fft_##type, across),     \
            KERNEL(fft_##type, back_along), KERNEL(fft_##type, back),                              \
            KERNEL(fft_##type, turn_lines_by), KERNEL(fft_##type, tidy), KERNEL(fft_##type, mix),  \
            KERNEL(fft_##type, unfold)                                                             \
    }
const fft_fns KERNEL(fft, table)[2] = {FFT_FNS(f32, 16), FFT_FNS(f64, 8)};
