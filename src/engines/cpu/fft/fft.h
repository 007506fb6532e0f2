// SPDX-License-Identifier: Apache-2.0
// fft.h - Fourier transforms of lines: what a length needs, made once a plan, and transforms of
// complex lines wherever their elements are.
#ifndef EMLX_CPU_FFT_H
#define EMLX_CPU_FFT_H

#include "engines/cpu/kernels/tables/fft.h"
#include "engines/cpu/run.h"

// exp(-2 pi i k / n) for any k below n, as the product of two entries of tables of about sqrt(n).
typedef struct fft_roots {
    int64_t n;
    int32_t shift;
    const double *fine, *coarse; // k's low bits; its high ones
} fft_roots;

static inline void fft_root(const fft_roots *r, int64_t k, double to[2]) {
    const double *a = r->coarse + 2 * (k >> r->shift);
    const double *b = r->fine + 2 * (k & (((int64_t)1 << r->shift) - 1));
    to[0] = a[0] * b[0] - a[1] * b[1];
    to[1] = a[0] * b[1] + a[1] * b[0];
}

// Elements of a mixing whose turns lie in a table.
enum { FFT_MIXED = 1024 };

// A transform of complex lines. It has one of three ways: passes over a panel of lines; columns and
// rows of a matrix, for what is too long for a panel in the first-level cache; a convolution of a
// longer length, where a prime is too large.
struct fft_lines;
typedef struct fft_form {
    int64_t length;
    const fft_fns *fns;
    size_t size; // of a number
    // NULL for lengths that are too long for a panel.
    int32_t pass_count;
    const fft_pass *passes;
    // Element [i][j] of the matrix is number i * rows->length + j of the line.
    const struct fft_form *columns, *rows;
    const void *base; // a panel's row for each row of the matrix: what turns the first columns
    fft_roots roots;  // of the length; of twice the length where there is a longer one
    // exp(-pi i k k / length), conjugated, around a circle of the longer length, transformed. NULL:
    // too long to be kept.
    const struct fft_form *longer;
    const double *filter;
    emlx_status (*convolve)(const struct fft_lines *t, emlx_error *err); // by the longer one
    // Of real lines of even length: the transform of half of it, and the first FFT_MIXED turns of
    // a mixing; those that fold come second. `roots` then are of the length.
    const struct fft_form *half;
    const void *turns[2];
} fft_form;

// Where lines are, in numbers: the next line, and the next element of a line.
typedef struct fft_view {
    char *data;
    int64_t line, element;
} fft_view;

// How a transform is carried out.
typedef struct fft_job {
    const cpu_run *run; // NULL: nobody may cancel it
    bool spread;        // one line is the work of all threads, else that of this one
    task_errors errors;
} fft_job;

// Calls body(context, i) for all i below count, by tasks of the pool where the job is spread.
emlx_status fft_each(const fft_job *job, int64_t count, pool_body body, void *context,
                     emlx_error *err);

// Transforms lines. The inverse of a transform exchanges the parts of what comes and goes.
typedef struct fft_lines {
    fft_job *job;
    const fft_form *form;
    fft_view from, to; // not the same memory
    int64_t lines;
    bool exchange;
    const fft_scale *scale; // of results; NULL: they are left as they are
    char *memory;           // fft_room bytes
    // Lines are unfolded on their way out of a panel; NULL: they are not. Where fft_in_panel, with
    // fft_unfold_room bytes more.
    const fft_mixing *unfold;
} fft_lines;

emlx_status fft_transform(const fft_lines *t, emlx_error *err);
// Bytes of that for so many lines, and how many are best transformed together. `beside`: those that
// come lie side by side, element by element.
size_t fft_room(const fft_form *form, int64_t lines, bool beside);
bool fft_in_panel(const fft_form *form);
size_t fft_unfold_room(const fft_form *form);
int64_t fft_bunch(const fft_form *form, bool beside);
// Of a length with a large prime; see chirp.c.
emlx_status fft_convolve(const fft_lines *t, emlx_error *err);
emlx_status fft_filter(fft_job *job, const fft_form *form, double *filter, char *memory,
                       emlx_error *err);
// Whether a line takes long enough to be cut.
bool fft_is_long(const fft_form *form);

#endif
