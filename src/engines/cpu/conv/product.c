// SPDX-License-Identifier: Apache-2.0
// product.c - convolutions as matrix products: the input elements that some results need are
// copied side by side as columns of a matrix, a cache's worth at a time, and multiplied with the
// kernel by BLAS. Where the input has that form already, it is multiplied in place.
#include <string.h>

#include "base/error.h"
#include "base/sanitize.h"
#include "base/types.h"
#include "engines/cpu/conv/conv.h"
#include "engines/cpu/matrix/blas.h"

enum {
    COLUMN_POSITIONS = 256,    // results whose columns are made at a time,
    COLUMN_BYTES = 256 * 1024, // and how much of the columns
    FEW_POSITIONS = 128,       // of an image; with fewer, columns go on in the next image
    LEAST_FILTERS = 64,        // of a task, where filters are divided
    LEAST_TASKS = 16,
    VECTOR_CHANNELS = 8 // so many channels side by side are worth copying as one
};
// Multiplications of one parallel task, where the input is used in place.
#define TASK_WORK (1 << 22)

// Terms are (channel, tap) pairs, numbered either way. Columns are [term][position] or
// [position][term], weights two strides, results [filter][position] or [position][filter].
typedef struct product {
    conv_work *conv;
    bool taps_inner;     // in the numbers of terms
    bool position_major; // columns: terms of a position side by side
    bool in_place;       // columns are the input, with this distance between
    int64_t column_step; // terms, or positions
    int64_t terms;
    int64_t filter_step, term_step; // of the weights, in elements
    bool staged;                    // results are computed aside, then put in their places
    // Positions are numbered through an image, or (one unit) through the whole batch.
    int64_t units, positions;
    int64_t position_block, position_blocks, filter_block, filter_blocks;
    int64_t term_block;
    size_t column_bytes, stage_bytes;
} product;

// A task: some filters of a group for some positions of a unit.
typedef struct part {
    const product *of;
    int64_t group, unit, position, positions, filter, filters;
    char *columns, *stage;
} part;

// Terms of some channels and taps, numbered without a gap.
typedef struct terms {
    int64_t channel, channels, tap, taps;
    int64_t first, count;
} terms;

// Columns ---------------------------------------------------------------------------------------

// Neighbouring results of one row of an image.
typedef struct stretch {
    int64_t at;          // position in the block
    int64_t from, count; // results of the innermost axis
    int64_t batch;
    int64_t index[EMLX_MAX_RANK]; // in the outer axes
} stretch;

static void find_stretch(const part *part, int64_t at, stretch *s) {
    const conv_work *w = part->of->conv;
    int64_t length = w->axes[w->rank - 1].results, number = part->position + at;
    int64_t inner = number % w->positions;
    s->at = at;
    s->batch = part->unit + number / w->positions;
    s->from = inner % length;
    s->count = length - s->from;
    if (s->count > part->positions - at) s->count = part->positions - at;
    conv_unravel(w, w->rank - 1, false, inner / length, s->index);
}

// Copies `count` elements `step` apart into each of `rows` rows. Short rows are most frequent.
#define COPY_ROWS(name, type)                                                                      \
    static void name(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t step,   \
                     int64_t rows, int64_t count) {                                                \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            type *d = (type *)to + r * to_row;                                                     \
            const type *x = (const type *)from + r * from_row;                                     \
            if (step == 1 && count >= 16)                                                          \
                memcpy(d, x, (size_t)count * sizeof(type));                                        \
            else                                                                                   \
                for (int64_t i = 0; i < count; i++) d[i] = x[i * step];                            \
        }                                                                                          \
    }
COPY_ROWS(copy_rows_4, uint32_t)
COPY_ROWS(copy_rows_8, uint64_t)

// A rectangle of columns: for some positions, one tap of some channels.
typedef struct patch {
    char *to;
    int64_t channel_step, position_step; // of `to`, in elements
    int64_t channels;
} patch;

static void fill_zeros(const product *p, const patch *at, int64_t from, int64_t to) {
    const int64_t size = (int64_t)p->conv->size;
    int64_t rows = p->position_major ? to - from : at->channels;
    int64_t step = p->position_major ? at->position_step : at->channel_step;
    size_t length = (size_t)((p->position_major ? at->channels : to - from) * size);
    char *first = at->to + from * at->position_step * size;
    for (int64_t r = 0; r < rows && from < to; r++) memset(first + r * step * size, 0, length);
}

// Elements of `x`, `x_step` apart, to positions `period` apart.
static void fill_elements(const product *p, const patch *at, int64_t from, int64_t period,
                          int64_t count, const char *x, int64_t x_step) {
    const conv_work *w = p->conv;
    const int64_t size = (int64_t)w->size, channel = w->x.strides[1];
    char *to = at->to + from * at->position_step * size;
    void (*copy)(char *, int64_t, const char *, int64_t, int64_t, int64_t, int64_t) =
        size == 4 ? copy_rows_4 : copy_rows_8;
    if (p->position_major)
        copy(to, at->position_step * period, x, x_step, channel, count, at->channels);
    else if (period == 1)
        copy(to, at->channel_step, x, channel, x_step, at->channels, count);
    else
        for (int64_t i = 0; i < count; i++)
            copy(to + i * period * size, at->channel_step, x + i * x_step * size, channel, 1,
                 at->channels, 1);
}

// One tap in one stretch: zeros where it is in the padding or between elements of the input.
static void fill_patch(const part *part, const stretch *s, const int64_t *tap, const patch *at,
                       int64_t channel) {
    const conv_work *w = part->of->conv;
    int64_t offset = w->x_offset + s->batch * w->x.strides[0] + part->group * w->group_stride +
                     channel * w->x.strides[1];
    bool reached = true;
    for (int32_t d = 0; d + 1 < w->rank; d++)
        reached = conv_find(&w->axes[d], tap[d], s->index[d], &offset) && reached;
    const conv_axis *axis = &w->axes[w->rank - 1];
    const conv_reach *r = &axis->reach[tap[w->rank - 1]];
    // The first and one past the last element met, in the stretch.
    int64_t skipped = s->from > r->first ? (s->from - r->first - 1) / r->period + 1 : 0;
    int64_t from = r->first + skipped * r->period - s->from;
    int64_t room = s->count > from ? (s->count - from - 1) / r->period + 1 : 0;
    int64_t count = r->count - skipped < room ? r->count - skipped : room;
    if (!reached || count <= 0) {
        fill_zeros(part->of, at, 0, s->count);
        return;
    }
    offset += (r->start + skipped * r->step) * axis->x_stride;
    if (r->period == 1) {
        fill_zeros(part->of, at, 0, from);
        fill_zeros(part->of, at, from + count, s->count);
    } else {
        fill_zeros(part->of, at, 0, s->count);
    }
    fill_elements(part->of, at, from, r->period, count, w->x.data + offset * (int64_t)w->size,
                  r->step * axis->x_stride);
}

static void fill_columns(const part *part, const terms *t) {
    const product *p = part->of;
    const conv_work *w = p->conv;
    int64_t term_step = p->position_major ? 1 : part->positions;
    patch at = {.channels = t->channels, .position_step = p->position_major ? t->count : 1};
    at.channel_step = p->taps_inner ? term_step * t->taps : term_step;
    int64_t tap_step = p->taps_inner ? term_step : term_step * t->channels;
    int64_t tap[EMLX_MAX_RANK];
    conv_unravel(w, w->rank, true, t->tap, tap);
    for (int64_t i = 0; i < t->taps; i++, conv_next_tap(w, w->rank, tap)) {
        stretch s;
        for (int64_t done = 0; done < part->positions; done += s.count) {
            find_stretch(part, done, &s);
            int64_t to = i * tap_step + done * at.position_step;
            at.to = part->columns + to * (int64_t)w->size;
            fill_patch(part, &s, tap, &at, t->channel);
        }
    }
}

// Products --------------------------------------------------------------------------------------

typedef struct matrix {
    const void *data;
    bool transposed;
    int64_t step;
} matrix;

static void multiply_panels(emlx_type type, const matrix *a, const matrix *b, void *c,
                            int64_t c_step, int64_t m, int64_t n, int64_t k, bool add) {
    CBLAS_TRANSPOSE ta = a->transposed ? CblasTrans : CblasNoTrans;
    CBLAS_TRANSPOSE tb = b->transposed ? CblasTrans : CblasNoTrans;
    if (type == EMLX_F32)
        cblas_sgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1.0f, a->data, (int)a->step,
                    b->data, (int)b->step, add ? 1.0f : 0.0f, c, (int)c_step);
    else
        cblas_dgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1.0, a->data, (int)a->step,
                    b->data, (int)b->step, add ? 1.0 : 0.0, c, (int)c_step);
    size_t size = type_size(type);
    for (int64_t i = 0; i < m; i++)
        MEMORY_WRITTEN((char *)c + (size_t)(i * c_step) * size, (size_t)n * size);
}

// Columns of the input itself.
static const char *input_columns(const part *part) {
    const conv_work *w = part->of->conv;
    int64_t offset = w->x_offset + part->group * w->group_stride + part->unit * w->x.strides[0];
    for (int32_t d = 0; d < w->rank; d++) offset += w->axes[d].reach->start * w->axes[d].x_stride;
    offset += part->position * (part->of->position_major ? part->of->column_step : 1);
    return w->x.data + offset * (int64_t)w->size;
}

static void multiply_terms(const part *part, const terms *t) {
    const product *p = part->of;
    const conv_work *w = p->conv;
    const int64_t size = (int64_t)w->size;
    int64_t filter = part->group * w->filters + part->filter;
    int64_t offset = filter * p->filter_step + t->first * p->term_step;
    bool last = w->params->channels_last;
    matrix weights = {.data = w->w.data + offset * size};
    weights.transposed = (p->term_step == 1) == last;
    weights.step = p->term_step == 1 ? p->filter_step : p->term_step;
    matrix columns = {.data = part->columns, .transposed = p->position_major != last};
    columns.step = p->position_major ? t->count : part->positions;
    if (p->in_place) {
        columns.data = input_columns(part);
        columns.step = p->column_step;
    }
    int64_t step = last ? w->all_filters : w->positions, place;
    if (last)
        place = (part->unit * p->positions + part->position) * w->all_filters + filter;
    else
        place = (part->unit * w->all_filters + filter) * w->positions + part->position;
    char *to = w->out + place * size;
    if (p->staged) {
        to = part->stage;
        step = last ? part->filters : part->positions;
    }
    if (last)
        multiply_panels(w->type, &columns, &weights, to, step, part->positions, part->filters,
                        t->count, t->first > 0);
    else
        multiply_panels(w->type, &weights, &columns, to, step, part->filters, part->positions,
                        t->count, t->first > 0);
}

// Puts staged results into their places, in the result's type.
static void store(const part *part) {
    const product *p = part->of;
    const conv_work *w = p->conv;
    tile_fn cast = w->run->kernels->cast[w->type][w->out_type];
    const int64_t size = (int64_t)w->size, out_size = (int64_t)w->out_size;
    int64_t filter = part->group * w->filters + part->filter;
    if (w->params->channels_last) {
        int64_t first = part->unit * p->positions + part->position;
        for (int64_t i = 0; i < part->positions; i++)
            cast(w->out + ((first + i) * w->all_filters + filter) * out_size,
                 part->stage + i * part->filters * size, NULL, NULL, (size_t)part->filters);
        return;
    }
    for (int64_t f = 0; f < part->filters; f++) {
        for (int64_t done = 0, count; done < part->positions; done += count) {
            int64_t number = part->position + done, at = number % w->positions;
            int64_t batch = part->unit + number / w->positions;
            count = w->positions - at;
            if (count > part->positions - done) count = part->positions - done;
            int64_t place = (batch * w->all_filters + filter + f) * w->positions + at;
            cast(w->out + place * out_size, part->stage + (f * part->positions + done) * size, NULL,
                 NULL, (size_t)count);
        }
    }
}

// Tasks -----------------------------------------------------------------------------------------

// The pieces of the sum, each with columns of limited size. Whole runs of the inner of the two
// (channels or taps) are taken together where they fit.
static void compute_part(const part *part) {
    const product *p = part->of;
    const conv_work *w = p->conv;
    if (p->in_place) {
        terms all = {.count = p->terms, .channels = w->channels, .taps = w->taps};
        multiply_terms(part, &all);
        return;
    }
    int64_t inner = p->taps_inner ? w->taps : w->channels;
    int64_t outer = p->taps_inner ? w->channels : w->taps;
    int64_t inner_block = least(inner, p->term_block);
    int64_t outer_block = inner_block < inner ? 1 : p->term_block / inner;
    for (int64_t o = 0; o < outer; o += outer_block) {
        for (int64_t i = 0; i < inner; i += inner_block) {
            int64_t outers = least(outer - o, outer_block), inners = least(inner - i, inner_block);
            terms t = {.first = o * inner + i, .count = outers * inners};
            t.channel = p->taps_inner ? o : i;
            t.channels = p->taps_inner ? outers : inners;
            t.tap = p->taps_inner ? i : o;
            t.taps = p->taps_inner ? inners : outers;
            fill_columns(part, &t);
            multiply_terms(part, &t);
        }
    }
}

static void product_task(void *context, int64_t index) {
    const product *p = context;
    conv_work *w = p->conv;
    part part = {.of = p};
    part.filter = index % p->filter_blocks * p->filter_block;
    index /= p->filter_blocks;
    part.position = index % p->position_blocks * p->position_block;
    index /= p->position_blocks;
    part.unit = index % p->units;
    part.group = index / p->units;
    part.filters = least(w->filters - part.filter, p->filter_block);
    part.positions = least(p->positions - part.position, p->position_block);
    void *memory;
    size_t size = p->column_bytes + p->stage_bytes + 1; // may be none else
    emlx_error err;
    if (data_alloc(size, &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    part.columns = memory;
    part.stage = (char *)memory + p->column_bytes;
    compute_part(&part);
    if (p->staged) store(&part);
    data_free(memory, size);
}

// Choosing --------------------------------------------------------------------------------------

// Whether BLAS can read the weights where they are, with terms in the order that is chosen.
static bool find_weights(product *p) {
    const conv_work *w = p->conv;
    const emlx_shape *kernel = conv_kernel_shape(w);
    axis_list axes = {.count = 1};
    if (p->taps_inner) axes_add(&axes, w->channels, w->w.strides[1]);
    for (int32_t d = 2; d < kernel->rank; d++) axes_add(&axes, kernel->dims[d], w->w.strides[d]);
    if (!p->taps_inner) axes_add(&axes, w->channels, w->w.strides[1]);
    p->term_step = 1;
    p->filter_step = w->all_filters > 1 ? w->w.strides[0] : p->terms;
    if (!axes_step(&axes, &p->term_step)) return false;
    bool by_filter = p->term_step == 1 && p->filter_step >= p->terms;
    bool by_term = p->filter_step == 1 && p->term_step >= w->all_filters;
    return (by_filter && p->filter_step <= INT32_MAX) || (by_term && p->term_step <= INT32_MAX);
}

static emlx_status choose_weights(product *p, emlx_error *err) {
    conv_work *w = p->conv;
    const emlx_shape *kernel = conv_kernel_shape(w);
    int32_t order[EMLX_MAX_RANK] = {0, 1};
    if (find_weights(p)) return EMLX_OK;
    if (!p->position_major) {
        p->taps_inner = !p->taps_inner;
        if (find_weights(p)) return EMLX_OK;
        p->taps_inner = true;
    }
    for (int32_t i = 1; i < kernel->rank; i++)
        order[i] = p->taps_inner ? i : i + 1 < kernel->rank ? i + 1 : 1;
    TRY(conv_pack(w, &w->w, kernel, order, err));
    p->filter_step = p->terms;
    p->term_step = 1;
    return EMLX_OK;
}

// Whether positions are one step apart in the input, and which: kernels of one element, without
// padding. With `batch` through the whole batch, else through an image.
static bool positions_apart(const conv_work *w, bool batch, int64_t *step) {
    axis_list axes = {.count = 1};
    if (batch) axes_add(&axes, w->batch, w->x.strides[0]);
    for (int32_t d = 0; d < w->rank; d++) {
        const conv_reach *r = w->axes[d].reach;
        if (w->axes[d].taps > 1 || r->period > 1 || r->count < w->axes[d].results) return false;
        axes_add(&axes, w->axes[d].results, r->step * w->axes[d].x_stride);
    }
    *step = 1;
    return axes_step(&axes, step);
}

// Takes the input as it is, if BLAS can read it: channels beside each other and positions `step`
// apart, or the other way round within an image.
static bool use_input(product *p, int64_t channel, int64_t step, bool whole) {
    const conv_work *w = p->conv;
    int64_t apart = w->channels > 1 ? channel : w->positions;
    p->position_major = channel == 1 && step >= w->channels && step <= INT32_MAX;
    p->in_place =
        p->position_major || (!whole && step == 1 && apart >= w->positions && apart <= INT32_MAX);
    p->column_step = p->position_major ? step : apart;
    return p->in_place;
}

// The form of the columns, and whether the input is already in it.
static void choose_columns(product *p) {
    const conv_work *w = p->conv;
    bool last = w->params->channels_last, few = w->positions < FEW_POSITIONS && w->batch > 1;
    int64_t channel = w->channels > 1 ? w->x.strides[1] : 1, step;
    bool whole = last || few || w->positions > INT32_MAX;
    p->taps_inner = true;
    if (positions_apart(w, whole, &step) && use_input(p, channel, step, whole)) {
    } else if (!few && positions_apart(w, false, &step) && use_input(p, channel, step, false)) {
        whole = false;
    } else {
        p->position_major = w->channels >= VECTOR_CHANNELS && channel == 1;
        p->taps_inner = !p->position_major;
    }
    p->units = whole ? 1 : w->batch;
    p->positions = whole ? w->batch * w->positions : w->positions;
    p->staged = w->type != w->out_type || (whole && !last);
}

// Copying an element takes about as long as these multiplications.
#define COPY_WORK 32

double conv_product_cost(const conv_work *w) {
    double columns = (double)w->batch * (double)w->groups * (double)w->positions;
    double copying = w->taps > 1 ? COPY_WORK : 0;
    return columns * (double)w->channels * (double)w->taps * ((double)w->filters + copying);
}

// Blocks have sizes that depend on the convolution alone, never on the number of threads.
static void cut(product *p) {
    const conv_work *w = p->conv;
    double position_work = (double)p->terms * (double)w->filters;
    double wanted = p->in_place ? TASK_WORK / position_work : COLUMN_POSITIONS;
    p->position_block = wanted < 64 ? 64 : wanted > 4096 ? 4096 : (int64_t)wanted / 16 * 16;
    p->position_block = least(p->position_block, p->positions);
    p->position_blocks = (p->positions - 1) / p->position_block + 1;
    int64_t tasks = w->groups * p->units * p->position_blocks;
    int64_t pieces = least(LEAST_TASKS / tasks, w->filters / LEAST_FILTERS);
    p->filter_block = w->filters;
    if (pieces > 1) p->filter_block = ((w->filters - 1) / pieces / 16 + 1) * 16;
    p->filter_blocks = (w->filters - 1) / p->filter_block + 1;
    if (!p->in_place) {
        p->term_block = COLUMN_BYTES / (int64_t)w->size / p->position_block;
        p->term_block = least(p->term_block, p->terms);
        p->column_bytes = (size_t)(p->term_block * p->position_block) * w->size;
    }
    if (p->staged) p->stage_bytes = (size_t)(p->filter_block * p->position_block) * w->size;
}

emlx_status conv_product(conv_work *w, emlx_error *err) {
    product p = {.conv = w, .terms = w->channels * w->taps};
    choose_columns(&p);
    TRY(choose_weights(&p, err));
    cut(&p);
    int64_t tasks = w->groups * p.units * p.position_blocks * p.filter_blocks;
    double results = (double)w->batch * (double)w->all_filters * (double)w->positions;
    blas_ready(w->run, results * (double)p.terms);
    TRY(run_tasks(w->run, tasks, product_task, &p, err));
    return task_result(&w->errors, err);
}
