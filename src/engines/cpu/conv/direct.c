// SPDX-License-Identifier: Apache-2.0
// direct.c - convolutions added up term by term: along rows of results, or across channels
// where each has a filter of its own.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/conv/conv.h"

enum {
    ROW = 512, // most results computed at a time
    TERMS = 64 // most products gathered before they are added
};
// Multiplications of one parallel task.
#define TASK_WORK (1 << 18)

// Sums in f32 are as good as those of BLAS, and much quicker than in double.
const conv_fns *conv_choose_fns(const conv_work *w) {
    const cpu_kernels *kernels = w->run->kernels;
    return w->type == EMLX_F32 && !w->small ? kernels->conv_quick : &kernels->conv[w->type];
}

int64_t conv_task_items(double work) {
    return work >= TASK_WORK ? 1 : (int64_t)(TASK_WORK / (work < 1 ? 1 : work));
}

// Rows ------------------------------------------------------------------------------------------

typedef struct rows_work {
    conv_work *conv;
    const conv_fns *fns;
    size_t sum_size;
    int64_t outer, pieces; // rows of an image and filter; pieces of a row
    int64_t items, group;  // pieces in all; of a task
} rows_work;

// A piece of a row of results with what is to be added to it.
typedef struct row {
    const rows_work *work;
    const char *x; // group and batch are found; channel is moved along
    const char *weights;
    int64_t at[EMLX_MAX_RANK];    // result in the outer axes
    int64_t from, to;             // results of the piece
    int64_t inner_from, inner_to; // those that every tap of the row reaches
    int64_t step;                 // between input elements of neighbouring results there
    int32_t count;
    const void *terms[TERMS];
    union {
        double real;
        uint64_t whole;
    } term_weights[TERMS];
    _Alignas(64) char sums[ROW * sizeof(double)];
} row;

static void flush(row *r) {
    const rows_work *w = r->work;
    if (r->count == 0) return;
    char *sums = r->sums + (r->inner_from - r->from) * (int64_t)w->sum_size;
    w->fns->rows(sums, r->terms, r->term_weights, (size_t)r->count, r->step,
                 (size_t)(r->inner_to - r->inner_from));
    r->count = 0;
}

// Sets the next weight; true when it is an infinity or NaN, which even zeros of the padding turn
// into NaN.
static bool take_weight(row *r, const char *at) {
    const conv_work *w = r->work->conv;
    double real = 0;
    uint64_t whole = 0;
    if (w->type == EMLX_F32) {
        real = (double)*(const float *)at;
    } else if (w->type == EMLX_F64) {
        real = *(const double *)at;
    } else {
        memcpy(&whole, at, w->size); // little endian, as on every supported machine
        r->term_weights[r->count].whole = whole;
        return false;
    }
    r->term_weights[r->count].real = real;
    return !isfinite(real);
}

static void poison(row *r, int64_t from, int64_t to) {
    bool wide = r->work->sum_size == sizeof(double);
    for (int64_t o = from - r->from; o < to - r->from; o++) {
        if (wide)
            ((double *)r->sums)[o] = NAN;
        else
            ((float *)r->sums)[o] = NAN;
    }
}

static void add_span(row *r, const char *x, int64_t from, int64_t to) {
    const conv_fns *fns = r->work->fns;
    if (from >= to) return;
    // Mostly the one or two results at the edge that a tap reaches.
    if (to - from <= 2 && fns->sum == EMLX_F32) {
        float *sums = (float *)r->sums + (from - r->from);
        float weight = (float)r->term_weights[r->count].real;
        for (int64_t i = 0; i < to - from; i++) sums[i] += weight * ((const float *)x)[i * r->step];
        return;
    }
    const void *term = x;
    fns->rows(r->sums + (from - r->from) * (int64_t)r->work->sum_size, &term,
              &r->term_weights[r->count], 1, r->step, (size_t)(to - from));
}

// A tap that reaches every result between two: what all taps have in common waits for the others.
static void add_dense(row *r, const conv_reach *reach, const char *x, int64_t x_stride,
                      bool poisons) {
    const int64_t size = (int64_t)r->work->conv->size;
    int64_t end = reach->first + reach->count;
    int64_t from = reach->first > r->from ? reach->first : r->from, to = end < r->to ? end : r->to;
    // Address of the element for a result.
#define ELEMENT(o) (x + ((reach->start * x_stride) + ((o)-reach->first) * r->step) * size)
    if (poisons) {
        poison(r, r->from, from < r->to ? from : r->to);
        poison(r, to > r->from ? to : r->from, r->to);
    }
    if (r->inner_from >= r->inner_to) {
        add_span(r, ELEMENT(from), from, to);
        return;
    }
    if (from < r->inner_from) add_span(r, ELEMENT(from), from, r->inner_from);
    if (to > r->inner_to) add_span(r, ELEMENT(r->inner_to), r->inner_to, to);
    r->terms[r->count++] = ELEMENT(r->inner_from);
#undef ELEMENT
    if (r->count == TERMS) flush(r);
}

// A tap that reaches results here and there, as with a dilated input.
static void add_sparse(row *r, int64_t tap, const char *x, bool poisons) {
    const conv_work *w = r->work->conv;
    const conv_axis *axis = &w->axes[w->rank - 1];
    for (int64_t o = r->from; o < r->to; o++) {
        int64_t offset = 0;
        if (conv_find(axis, tap, o, &offset))
            add_span(r, x + offset * (int64_t)w->size, o, o + 1);
        else if (poisons)
            poison(r, o, o + 1);
    }
}

// All inner taps of one outer tap and channel. `x` is NULL where the outer tap is in the padding.
static void add_taps(row *r, const char *x, const char *weights) {
    const conv_work *w = r->work->conv;
    const conv_axis *axis = &w->axes[w->rank - 1];
    for (int64_t tap = 0; tap < axis->taps; tap++) {
        bool poisons = take_weight(r, weights + tap * axis->w_stride * (int64_t)w->size);
        if (x == NULL || axis->reach[tap].count == 0) {
            if (poisons) poison(r, r->from, r->to);
        } else if (axis->reach[tap].period > 1) {
            add_sparse(r, tap, x, poisons);
        } else {
            add_dense(r, &axis->reach[tap], x, axis->x_stride, poisons);
        }
    }
}

static void find_inner(row *r) {
    const conv_work *w = r->work->conv;
    const conv_axis *axis = &w->axes[w->rank - 1];
    r->inner_from = r->from;
    r->inner_to = r->to;
    r->step = axis->reach[0].step * axis->x_stride;
    for (int64_t tap = 0; tap < axis->taps; tap++) {
        const conv_reach *reach = &axis->reach[tap];
        if (reach->count == 0) continue;
        if (reach->first > r->inner_from) r->inner_from = reach->first;
        if (reach->first + reach->count < r->inner_to) r->inner_to = reach->first + reach->count;
    }
}

static void add_row(row *r) {
    const conv_work *w = r->work->conv;
    const int64_t size = (int64_t)w->size;
    int32_t outer = w->rank - 1;
    int64_t outer_taps = w->taps / w->axes[outer].taps, tap[EMLX_MAX_RANK] = {0};
    memset(r->sums, 0, (size_t)(r->to - r->from) * r->work->sum_size);
    r->count = 0;
    find_inner(r);
    for (int64_t t = 0; t < outer_taps; t++, conv_next_tap(w, outer, tap)) {
        int64_t x_offset = 0, w_offset = 0;
        bool reached = true;
        for (int32_t d = 0; d < outer; d++) {
            w_offset += tap[d] * w->axes[d].w_stride;
            reached = conv_find(&w->axes[d], tap[d], r->at[d], &x_offset) && reached;
        }
        for (int64_t c = 0; c < w->channels; c++) {
            const char *x = r->x + (c * w->x.strides[1] + x_offset) * size;
            add_taps(r, reached ? x : NULL, r->weights + (c * w->w.strides[1] + w_offset) * size);
        }
    }
    flush(r);
}

static void store_row(const row *r, int64_t n, int64_t f, int64_t line) {
    const conv_work *w = r->work->conv;
    const cpu_kernels *kernels = w->run->kernels;
    tile_fn cast = kernels->cast[r->work->fns->sum][w->out_type];
    size_t count = (size_t)(r->to - r->from);
    int64_t position = line * w->axes[w->rank - 1].results + r->from;
    if (!w->params->channels_last) {
        int64_t at = (n * w->all_filters + f) * w->positions + position;
        cast(w->out + at * (int64_t)w->out_size, r->sums, NULL, NULL, count);
        return;
    }
    char few[ROW * sizeof(double)];
    int64_t at = (n * w->positions + position) * w->all_filters + f;
    cast(few, r->sums, NULL, NULL, count);
    kernels->scatter[__builtin_ctzl(w->out_size)](w->out + at * (int64_t)w->out_size, few,
                                                  w->all_filters, count);
}

static void rows_task(void *context, int64_t index) {
    const rows_work *work = context;
    const conv_work *w = work->conv;
    const int64_t length = w->axes[w->rank - 1].results;
    int64_t end = (index + 1) * work->group;
    row r;
    r.work = work;
    if (end > work->items) end = work->items;
    for (int64_t i = index * work->group; i < end; i++) {
        int64_t piece = i % work->pieces, line = i / work->pieces % work->outer;
        int64_t plane = i / work->pieces / work->outer;
        int64_t n = plane / w->all_filters, f = plane % w->all_filters;
        int64_t x = n * w->x.strides[0] + f / w->filters * w->group_stride + w->x_offset;
        r.x = w->x.data + x * (int64_t)w->size;
        r.weights = w->w.data + f * w->w.strides[0] * (int64_t)w->size;
        r.from = piece * ROW;
        r.to = r.from + ROW < length ? r.from + ROW : length;
        conv_unravel(w, w->rank - 1, false, line, r.at);
        add_row(&r);
        store_row(&r, n, f, line);
    }
}

emlx_status conv_direct(conv_work *w, emlx_error *err) {
    rows_work work = {.conv = w, .fns = conv_choose_fns(w)};
    int64_t length = w->axes[w->rank - 1].results;
    if (work.fns->rows == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no convolution of %s",
                         emlx_type_name(w->type));
    work.sum_size = type_size(work.fns->sum);
    work.outer = w->positions / length;
    work.pieces = (length - 1) / ROW + 1;
    work.items = w->batch * w->all_filters * work.outer * work.pieces;
    double results = (double)(length < ROW ? length : ROW);
    work.group = conv_task_items(results * (double)w->taps * (double)w->channels);
    return run_tasks(w->run, (work.items - 1) / work.group + 1, rows_task, &work, err);
}

// Depthwise -------------------------------------------------------------------------------------

typedef struct depth_work {
    conv_work *conv;
    const conv_fns *fns;
    int64_t positions, group;
} depth_work;

// Padding, for all channels of a piece.
static const char zeros[ROW * sizeof(double)];

bool conv_is_depthwise(const conv_work *w) {
    return w->channels == 1 && w->filters == 1 && w->groups > 1 && w->group_stride == 1 &&
           w->params->channels_last;
}

// Channels from `channel` on, of one position.
static void add_channels(const depth_work *work, int64_t n, const int64_t *at, int64_t channel,
                         size_t count, void *sums) {
    const conv_work *w = work->conv;
    const int64_t size = (int64_t)w->size;
    const void *x[TERMS], *weights[TERMS];
    size_t terms = 0;
    int64_t tap[EMLX_MAX_RANK] = {0};
    memset(sums, 0, count * type_size(work->fns->sum));
    for (int64_t t = 0; t < w->taps; t++, conv_next_tap(w, w->rank, tap)) {
        int64_t x_offset = n * w->x.strides[0] + w->x_offset + channel, w_offset = channel;
        bool reached = true;
        for (int32_t d = 0; d < w->rank; d++) {
            w_offset += tap[d] * w->axes[d].w_stride;
            reached = conv_find(&w->axes[d], tap[d], at[d], &x_offset) && reached;
        }
        x[terms] = reached ? w->x.data + x_offset * size : zeros;
        weights[terms++] = w->w.data + w_offset * size;
        if (terms < TERMS && t + 1 < w->taps) continue;
        work->fns->products(sums, x, weights, terms, count);
        terms = 0;
    }
}

static void depth_task(void *context, int64_t index) {
    const depth_work *work = context;
    const conv_work *w = work->conv;
    tile_fn cast = w->run->kernels->cast[work->fns->sum][w->out_type];
    int64_t end = (index + 1) * work->group, at[EMLX_MAX_RANK];
    _Alignas(64) char sums[ROW * sizeof(double)];
    if (end > work->positions) end = work->positions;
    for (int64_t i = index * work->group; i < end; i++) {
        conv_unravel(w, w->rank, false, i % w->positions, at);
        for (int64_t channel = 0; channel < w->all_filters; channel += ROW) {
            int64_t left = w->all_filters - channel;
            size_t count = (size_t)(left < ROW ? left : ROW);
            add_channels(work, i / w->positions, at, channel, count, sums);
            char *out = w->out + (i * w->all_filters + channel) * (int64_t)w->out_size;
            cast(out, sums, NULL, NULL, count);
        }
    }
}

emlx_status conv_depthwise(conv_work *w, emlx_error *err) {
    depth_work work = {.conv = w, .fns = conv_choose_fns(w)};
    int32_t order[EMLX_MAX_RANK];
    const emlx_shape *kernel = conv_kernel_shape(w);
    // Filters innermost.
    for (int32_t i = 0; i + 1 < kernel->rank; i++) order[i] = i + 1;
    order[kernel->rank - 1] = 0;
    if (w->w.strides[0] != 1) TRY(conv_pack(w, &w->w, kernel, order, err));
    work.positions = w->batch * w->positions;
    work.group = conv_task_items((double)w->taps * (double)w->all_filters);
    return run_tasks(w->run, (work.positions - 1) / work.group + 1, depth_task, &work, err);
}
