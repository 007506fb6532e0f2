// SPDX-License-Identifier: Apache-2.0
// fft_level.c - passes of Fourier transforms: the inner loops run over what has the same turn.
#include "engines/cpu/kernels/rows.h"

// What a loop reads and writes: inputs `step` apart, outputs `n` apart.
typedef struct fft_loop {
    const double *restrict from_re, *restrict from_im;
    double *restrict to_re, *restrict to_im;
    const double *turns; // of outputs 1, 2, ...
    const double *roots;
    int64_t step, n;
} fft_loop;

// Writes output j, turned unless that would change nothing.
ALWAYS_INLINE void put(const fft_loop *l, int64_t q, int j, bool turn, double re, double im) {
    if (turn && j > 0) {
        double c = l->turns[2 * j - 2], s = l->turns[2 * j - 1];
        l->to_re[j * l->n + q] = re * c - im * s;
        l->to_im[j * l->n + q] = re * s + im * c;
    } else {
        l->to_re[j * l->n + q] = re;
        l->to_im[j * l->n + q] = im;
    }
}

ALWAYS_INLINE void radix2(fft_loop l, bool turn) {
    INDEPENDENT
    for (int64_t q = 0; q < l.n; q++) {
        double ar = l.from_re[q], ai = l.from_im[q];
        double br = l.from_re[q + l.step], bi = l.from_im[q + l.step];
        put(&l, q, 0, turn, ar + br, ai + bi);
        put(&l, q, 1, turn, ar - br, ai - bi);
    }
}

ALWAYS_INLINE void radix4(fft_loop l, bool turn) {
    INDEPENDENT
    for (int64_t q = 0; q < l.n; q++) {
        double ar = l.from_re[q], ai = l.from_im[q];
        double br = l.from_re[q + l.step], bi = l.from_im[q + l.step];
        double cr = l.from_re[q + 2 * l.step], ci = l.from_im[q + 2 * l.step];
        double dr = l.from_re[q + 3 * l.step], di = l.from_im[q + 3 * l.step];
        double sr = ar + cr, si = ai + ci, tr = ar - cr, ti = ai - ci;
        double ur = br + dr, ui = bi + di, vr = br - dr, vi = bi - di;
        put(&l, q, 0, turn, sr + ur, si + ui);
        put(&l, q, 1, turn, tr + vi, ti - vr);
        put(&l, q, 2, turn, sr - ur, si - ui);
        put(&l, q, 3, turn, tr - vi, ti + vr);
    }
}

// Inputs k and radix - k give outputs j and radix - j: their sums count with cosines, their
// differences with sines.
ALWAYS_INLINE void radix_odd(fft_loop l, int radix, bool turn) {
    INDEPENDENT
    for (int64_t q = 0; q < l.n; q++) {
        enum { HALF = FFT_LARGEST / 2 + 1 };
        double ar[HALF], ai[HALF], br[HALF], bi[HALF];
        double sum_re = ar[0] = l.from_re[q], sum_im = ai[0] = l.from_im[q];
        for (int k = 1; k <= radix / 2; k++) {
            int64_t low = q + k * l.step, high = q + (radix - k) * l.step;
            ar[k] = l.from_re[low] + l.from_re[high];
            ai[k] = l.from_im[low] + l.from_im[high];
            br[k] = l.from_re[low] - l.from_re[high];
            bi[k] = l.from_im[low] - l.from_im[high];
            sum_re += ar[k];
            sum_im += ai[k];
        }
        put(&l, q, 0, turn, sum_re, sum_im);
        for (int j = 1; j <= radix / 2; j++) {
            double cr = ar[0], ci = ai[0], sr = 0, si = 0;
            for (int k = 1; k <= radix / 2; k++) {
                const double *root = l.roots + 2 * (j * k % radix);
                cr += ar[k] * root[0];
                ci += ai[k] * root[0];
                sr += br[k] * root[1];
                si += bi[k] * root[1];
            }
            put(&l, q, j, turn, cr - si, ci + sr);
            put(&l, q, radix - j, turn, cr + si, ci - sr);
        }
    }
}

ALWAYS_INLINE void radix_any(fft_loop l, int64_t radix, bool turn) {
    switch (radix) {
    case 2: radix2(l, turn); break;
    case 3: radix_odd(l, 3, turn); break;
    case 4: radix4(l, turn); break;
    case 5: radix_odd(l, 5, turn); break;
    case 7: radix_odd(l, 7, turn); break;
    default: radix_odd(l, (int)radix, turn);
    }
}

void KERNEL(fft, pass)(const fft_pass *pass, int64_t lines, const double *from_re,
                       const double *from_im, double *to_re, double *to_im) {
    int64_t n = pass->stride * lines;
    fft_loop l = {from_re, from_im, to_re, to_im, NULL, pass->roots, pass->rest * n, n};
    radix_any(l, pass->radix, false);
    for (int64_t p = 1; p < pass->rest; p++) {
        l.turns = pass->turns + 2 * p * (pass->radix - 1);
        l.from_re += n;
        l.from_im += n;
        l.to_re += n * pass->radix;
        l.to_im += n * pass->radix;
        radix_any(l, pass->radix, true);
    }
}

// Element k and its mirror image give the transforms of the even and of the odd elements.
static void unfold_one(const double *turn, int64_t lines, const double *restrict low_re,
                       const double *restrict low_im, const double *restrict high_re,
                       const double *restrict high_im, double *restrict to_re,
                       double *restrict to_im) {
    INDEPENDENT
    for (int64_t i = 0; i < lines; i++) {
        double even_re = (low_re[i] + high_re[i]) / 2, even_im = (low_im[i] - high_im[i]) / 2;
        double odd_re = (low_im[i] + high_im[i]) / 2, odd_im = (high_re[i] - low_re[i]) / 2;
        to_re[i] = even_re + odd_re * turn[0] - odd_im * turn[1];
        to_im[i] = even_im + odd_re * turn[1] + odd_im * turn[0];
    }
}

void KERNEL(fft, unfold)(int64_t half, const double *turns, int64_t lines, const double *from_re,
                         const double *from_im, double *to_re, double *to_im) {
    for (int64_t k = 0; k <= half; k++) {
        int64_t low = k % half * lines, high = (half - k) % half * lines;
        unfold_one(turns + 2 * k, lines, from_re + low, from_im + low, from_re + high,
                   from_im + high, to_re + k * lines, to_im + k * lines);
    }
}
