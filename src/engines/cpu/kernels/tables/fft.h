// SPDX-License-Identifier: Apache-2.0
// fft.h - Fourier transforms.
#ifndef EMLX_CPU_TABLES_FFT_H
#define EMLX_CPU_TABLES_FFT_H

#include "engines/cpu/kernels/tables/elements.h"

// Fourier transforms of `lines` lines side by side, in a panel: an element of all lines is a row of
// it, the real parts first, then the imaginary ones.
//
// One pass, forward: with the elements in front numbered [k][p][q], k < radix, p < rest, q <
// stride, element [p][j][q] behind is the sum over k of [k][p][q] times exp(-2 pi i (j k / radix +
// p j / (radix rest))).
typedef struct fft_pass {
    int64_t radix; // 2, 4, 8, or odd and at most FFT_LARGEST
    int64_t rest, stride;
    const void *turns; // [p][j - 1], j from 1: exp(-2 pi i p j / (radix rest)), real and imaginary
    const void *roots; // of odd radix: exp(-2 pi i j / radix)
} fft_pass;
enum { FFT_LARGEST = 31, FFT_MOST_LINES = 16 };

// Numbers are multiplied, then divided; those of a size up to `almost` become zero, and no zero is
// negative.
typedef struct fft_scale {
    double times, over, almost;
} fft_scale;

// Real lines of 2 half elements as complex ones of half as many, and back. With s = x[k] +
// conj(x[half - k]) and d their difference times the turn w[k], result k is s - i d, and result
// half - k the conjugate of s + i d, for k from `k` to `end`, at most half / 2, scaled.
// Unfolding (w[k] = exp(-pi i k / half), a half of it) makes the transform of a line from that of
// its even and odd elements; folding (w[k] = -exp(pi i k / half)) is the way back. Imaginary parts
// are multiplied by `sign`.
typedef struct fft_mixing {
    const void *from; // half elements; half + 1 where it `folds`
    void *to;         // the other number of elements
    void *mirror;     // or NULL; to[2 half - k] = conj(to[k]) is written here as well
    int64_t half, k, end;
    bool folds;
    const void *base; // w[k + i] = base[i] * start
    double start[2], sign;
    fft_scale scale;
} fft_mixing;

// Places are in numbers: elements of a line are `element` apart and lines `line`. `exchange` takes
// or writes the parts in each other's place.
typedef struct fft_fns {
    int64_t lines;
    void (*pass)(const fft_pass *pass, bool exchange, const void *from, void *to);
    // Into a panel: `terms` numbers of lines whose numbers are `term` apart; and lines whose
    // complex elements are anywhere. Lines that are missing become 0.
    void (*along)(void *panel, const void *from, int64_t line, int64_t term, size_t lines,
                  size_t terms);
    void (*across)(void *panel, const void *from, int64_t element, int64_t line, int64_t lines,
                   int64_t count);
    // Out of it: lines whose elements are side by side, or anywhere.
    void (*back_along)(void *to, const void *panel, bool exchange, int64_t line, int64_t lines,
                       int64_t count);
    void (*back_across)(void *to, const void *panel, bool exchange, int64_t element, int64_t line,
                        int64_t lines, int64_t count);
    // Row e *= starts[e] * base's row e.
    void (*turn)(void *panel, const void *base, const double *starts, int64_t count);
    void (*tidy)(void *numbers, int64_t count, const fft_scale *scale);
    void (*mix)(const fft_mixing *mixing);
    // Unfolds the lines of a panel into another one, of half + 1 elements, or, with `mirror`,
    // whatever it is, 2 half. `k`, `end` and `start` do not matter.
    void (*unfold)(const fft_mixing *mixing);
} fft_fns;

#ifdef LEVEL
extern const fft_fns KERNEL(fft, table)[2];
#endif

#endif
