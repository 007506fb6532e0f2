// SPDX-License-Identifier: Apache-2.0
// chirp.c - transforms of a length with a large prime, in f64: a convolution with a chirp (after
// Bluestein), by transforms of a longer length that has small primes only.
#include <string.h>

#include "base/error.h"
#include "engines/cpu/fft/fft.h"

enum { CHUNK = 4096 }; // elements that are multiplied in one call

// What is multiplied: both have lines of the longer length.
typedef struct chirp_work {
    const fft_lines *of;
    int64_t n, longer, lines;
    double *a, *b;
    const double *filter;
} chirp_work;

static void times(double x[2], const double by[2]) {
    double re = x[0] * by[0] - x[1] * by[1];
    x[1] = x[0] * by[1] + x[1] * by[0];
    x[0] = re;
}

__extension__ typedef unsigned __int128 whole;

// exp(-pi i k k / n): k k is counted around the circle of 2n.
static void chirp_at(const chirp_work *w, int64_t k, double to[2]) {
    const fft_roots *r = &w->of->form->roots;
    fft_root(r, (int64_t)((whole)k * (whole)k % (whole)r->n), to);
}

// A chunk of one of the lines.
typedef struct piece {
    int64_t line, from, to;
} piece;

static piece find_piece(const chirp_work *w, int64_t index) {
    int64_t chunks = (w->longer - 1) / CHUNK + 1;
    piece p = {index / chunks, index % chunks * CHUNK, 0};
    p.to = least(w->longer, p.from + CHUNK);
    return p;
}

static void begin_body(void *context, int64_t index) {
    const chirp_work *w = context;
    const fft_lines *t = w->of;
    piece p = find_piece(w, index);
    double *to = w->a + p.line * w->longer * 2, chirp[2];
    const double *x = (const double *)t->from.data + p.line * t->from.line;
    for (int64_t k = p.from; k < p.to; k++) {
        double e[2] = {0, 0};
        if (k < w->n) {
            memcpy(e, x + k * t->from.element, sizeof e);
            if (t->exchange) e[0] = x[k * t->from.element + 1], e[1] = x[k * t->from.element];
            chirp_at(w, k, chirp);
            times(e, chirp);
        }
        memcpy(to + 2 * k, e, sizeof e);
    }
}

static void filter_body(void *context, int64_t index) {
    const chirp_work *w = context;
    piece p = find_piece(w, index);
    double *x = w->b + p.line * w->longer * 2;
    for (int64_t k = p.from; k < p.to; k++) times(x + 2 * k, w->filter + 2 * k);
}

static double tidied(const fft_lines *t, double x) {
    const fft_scale *scale = t->scale;
    if (scale == NULL) return x;
    x = x * scale->times / scale->over;
    return x <= scale->almost && x >= -scale->almost ? 0 : x;
}

static void end_body(void *context, int64_t index) {
    const chirp_work *w = context;
    const fft_lines *t = w->of;
    piece p = find_piece(w, index);
    const double *x = w->a + p.line * w->longer * 2;
    double *to = (double *)t->to.data + p.line * t->to.line, chirp[2];
    int re = t->exchange ? 1 : 0;
    for (int64_t k = p.from; k < least(p.to, w->n); k++) {
        double e[2] = {x[2 * k] / (double)w->longer, x[2 * k + 1] / (double)w->longer};
        chirp_at(w, k, chirp);
        times(e, chirp);
        to[k * t->to.element + re] = tidied(t, e[0]);
        to[k * t->to.element + 1 - re] = tidied(t, e[1]);
    }
}

static void chirp_body(void *context, int64_t index) {
    const chirp_work *w = context;
    piece p = find_piece(w, index);
    double e[2];
    for (int64_t k = p.from; k < p.to; k++) {
        int64_t from_end = w->longer - k, place = k < w->n ? k : from_end < w->n ? from_end : -1;
        w->a[2 * k] = w->a[2 * k + 1] = 0;
        if (place < 0) continue;
        chirp_at(w, place, e);
        w->a[2 * k] = e[0];
        w->a[2 * k + 1] = -e[1];
    }
}

static emlx_status each_chunk(const chirp_work *w, pool_body body, emlx_error *err) {
    int64_t chunks = (w->longer - 1) / CHUNK + 1;
    return fft_each(w->of->job, w->lines * chunks, body, (void *)w, err);
}

static emlx_status transform(const chirp_work *w, double *from, double *to, bool exchange,
                             char *memory, emlx_error *err) {
    int64_t line = 2 * w->longer;
    fft_lines t = {.job = w->of->job,
                   .form = w->of->form->longer,
                   .from = {(char *)from, line, 2},
                   .to = {(char *)to, line, 2},
                   .lines = w->lines,
                   .exchange = exchange,
                   .memory = memory};
    return fft_transform(&t, err);
}

emlx_status fft_filter(fft_job *job, const fft_form *form, double *filter, char *memory,
                       emlx_error *err) {
    fft_lines lines = {.job = job, .form = form};
    chirp_work w = {&lines, form->length, form->longer->length, 1, (double *)memory, NULL, NULL};
    size_t both = (size_t)w.longer * 4 * sizeof(double);
    TRY(each_chunk(&w, chirp_body, err));
    return transform(&w, w.a, filter, false, memory + both, err);
}

static emlx_status convolve(chirp_work *w, emlx_error *err) {
    char *rest = (char *)(w->b + w->lines * w->longer * 2);
    TRY(each_chunk(w, begin_body, err));
    TRY(transform(w, w->a, w->b, false, rest, err));
    TRY(each_chunk(w, filter_body, err));
    TRY(transform(w, w->b, w->a, true, rest, err));
    return each_chunk(w, end_body, err);
}

emlx_status fft_convolve(const fft_lines *t, emlx_error *err) {
    int64_t longer = t->form->longer->length;
    double *a = (double *)t->memory;
    chirp_work w = {t, t->form->length, longer, t->lines, a, a + t->lines * longer * 2, NULL};
    w.filter = t->form->filter;
    if (w.filter != NULL) return convolve(&w, err);
    void *filter;
    size_t size = (size_t)longer * 2 * sizeof(double);
    TRY(data_alloc(size, &filter, err));
    w.filter = filter;
    emlx_status status = fft_filter(t->job, t->form, filter, t->memory, err);
    if (status == EMLX_OK) status = convolve(&w, err);
    data_free(filter, size);
    return status;
}
