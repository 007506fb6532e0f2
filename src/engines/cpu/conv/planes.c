// SPDX-License-Identifier: Apache-2.0
// planes.c - convolutions of groups of few channels, channels first.
//
// A task copies what it needs of a group's channels, with the padding, and sorts the places along
// an axis by their remainder modulo the stride: a phase each. For every tap, the elements of all
// results then lie side by side in one phase, and all taps are added up in one pass over whole
// planes of results. Rows of results are as far apart as rows of a phase; what is computed between
// them is not stored.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/conv/conv.h"

enum {
    SUMS = 2048,         // results computed at a time
    TERMS = 64,          // most products added in one pass
    SCRATCH = 128 * 1024 // bytes that a task likes to copy at most
};

// Along an axis, result o and tap t meet at place (o * step + position of the tap).
typedef struct plane_axis {
    int64_t step;
    int64_t low;    // the element at place 0; negative in the padding
    int64_t lead;   // places of a phase beyond those of the results
    int64_t places; // of a phase, in a whole block
    int64_t stride; // between places in a phase
} plane_axis;

typedef struct planes_work {
    conv_work *conv;
    const conv_fns *fns;
    size_t sum_size;
    plane_axis axes[EMLX_MAX_RANK];
    int64_t phases, plane; // phases, and elements of each
    int64_t rows, blocks;  // results along the first axis of a task; tasks of a group
    int64_t items, group;  // tasks' parts in all; of a task
    int64_t *taps;         // where each tap's elements begin in a channel's copy
    task_errors errors;
} planes_work;

bool conv_has_planes(const conv_work *w) {
    if (w->params->channels_last || w->taps == 1) return false;
    for (int32_t d = 0; d < w->rank; d++)
        for (int64_t tap = 0; tap < w->axes[d].taps; tap++) {
            const conv_reach *r = &w->axes[d].reach[tap];
            if (r->period != 1 || r->count == 0) return false;
        }
    return true;
}

// Planning --------------------------------------------------------------------------------------

// The element that a tap meets for result 0, were it inside.
static int64_t tap_position(const conv_axis *axis, int64_t tap) {
    const conv_reach *r = &axis->reach[tap];
    return r->start - r->first * r->step;
}

static void find_places(planes_work *w) {
    const conv_work *c = w->conv;
    w->phases = 1;
    for (int32_t d = 0; d < c->rank; d++) {
        const conv_axis *axis = &c->axes[d];
        int64_t low = tap_position(axis, 0), high = low;
        for (int64_t tap = 1; tap < axis->taps; tap++) {
            int64_t position = tap_position(axis, tap);
            if (position < low) low = position;
            if (position > high) high = position;
        }
        plane_axis *p = &w->axes[d];
        *p = (plane_axis){.step = axis->reach->step, .low = low};
        p->lead = (high - low) / p->step;
        p->places = axis->results + p->lead;
        w->phases *= p->step;
    }
}

// Blocks of rows whose copy stays in the cache.
static void cut_blocks(planes_work *w) {
    const conv_work *c = w->conv;
    int64_t line = 1;
    for (int32_t d = c->rank - 1; d > 0; d--) {
        w->axes[d].stride = line;
        line *= w->axes[d].places;
    }
    w->axes[0].stride = line;
    int64_t fits = SCRATCH / (c->channels * w->phases * line * (int64_t)c->size);
    w->rows = fits - w->axes[0].lead;
    if (w->rows < w->axes[0].lead) w->rows = w->axes[0].lead; // at most every row copied twice
    if (w->rows < 1) w->rows = 1;
    if (w->rows > c->axes[0].results) w->rows = c->axes[0].results;
    w->axes[0].places = w->rows + w->axes[0].lead;
    w->plane = w->axes[0].places * line;
    w->blocks = (c->axes[0].results - 1) / w->rows + 1;
}

static void find_taps(planes_work *w) {
    const conv_work *c = w->conv;
    int64_t tap[EMLX_MAX_RANK] = {0};
    for (int64_t t = 0; t < c->taps; t++, conv_next_tap(c, c->rank, tap)) {
        int64_t phase = 0, offset = 0;
        for (int32_t d = 0; d < c->rank; d++) {
            const plane_axis *p = &w->axes[d];
            int64_t place = tap_position(&c->axes[d], tap[d]) - p->low;
            phase = phase * p->step + place % p->step;
            offset += place / p->step * p->stride;
        }
        w->taps[t] = phase * w->plane + offset;
    }
}

// Copying ---------------------------------------------------------------------------------------

// Places `from` to `to` of a phase of the innermost axis; `x` is where its element 0 is.
static void copy_row(const planes_work *w, const char *x, int64_t phase, int64_t from, int64_t to,
                     char *out) {
    const conv_work *c = w->conv;
    const plane_axis *p = &w->axes[c->rank - 1];
    const conv_axis *axis = &c->axes[c->rank - 1];
    const int64_t size = (int64_t)c->size;
    int64_t first = p->low + phase; // element at place 0 of the phase
    int64_t inside = first < 0 ? (-first + p->step - 1) / p->step : 0;
    int64_t end = axis->length > first ? (axis->length - 1 - first) / p->step + 1 : 0;
    if (inside < from) inside = from;
    if (end > to) end = to;
    if (end < inside) end = inside = from;
    if (inside > from || end < to) memset(out, 0, (size_t)((to - from) * size));
    if (end == inside) return;
    stride_fn gather = c->run->kernels->gather[__builtin_ctzl(c->size)];
    gather(out + (inside - from) * size, x + (first + inside * p->step) * axis->x_stride * size,
           p->step * axis->x_stride, (size_t)(end - inside));
}

// One phase of a channel, for results from `row` on; `phases` has its remainder along each axis.
static void copy_phase(const planes_work *w, const char *x, const int64_t *phases, int64_t row,
                       int64_t rows, char *out) {
    const conv_work *c = w->conv;
    int32_t inner = c->rank - 1;
    int64_t lines = 1, from = inner == 0 ? row : 0;
    int64_t length = inner == 0 ? rows + w->axes[0].lead : w->axes[inner].places;
    for (int32_t d = 0; d < inner; d++)
        lines *= d == 0 ? rows + w->axes[0].lead : w->axes[d].places;
    for (int64_t line = 0; line < lines; line++) {
        int64_t rest = line, offset = 0;
        bool inside = true;
        for (int32_t d = inner - 1; d >= 0; d--) {
            const plane_axis *p = &w->axes[d];
            int64_t place = d == 0 ? rest + row : rest % p->places;
            int64_t element = place * p->step + phases[d] + p->low;
            if (d > 0) rest /= p->places;
            inside = inside && element >= 0 && element < c->axes[d].length;
            offset += element * c->axes[d].x_stride;
        }
        char *to = out + line * length * (int64_t)c->size;
        if (inside)
            copy_row(w, x + offset * (int64_t)c->size, phases[inner], from, from + length, to);
        else
            memset(to, 0, (size_t)length * c->size);
    }
}

static void copy_group(const planes_work *w, const char *x, int64_t row, int64_t rows, char *out) {
    const conv_work *c = w->conv;
    for (int64_t channel = 0; channel < c->channels; channel++)
        for (int64_t phase = 0; phase < w->phases; phase++) {
            int64_t rest = phase, phases[EMLX_MAX_RANK] = {0};
            for (int32_t d = c->rank - 1; d >= 0; d--) {
                phases[d] = rest % w->axes[d].step;
                rest /= w->axes[d].step;
            }
            copy_phase(w, x + channel * c->x.strides[1] * (int64_t)c->size, phases, row, rows,
                       out + (channel * w->phases + phase) * w->plane * (int64_t)c->size);
        }
}

// Adding up -------------------------------------------------------------------------------------

typedef union weight {
    double real;
    uint64_t whole;
} weight;

static weight load_weight(const conv_work *c, const char *at) {
    weight value = {.whole = 0};
    if (c->type == EMLX_F32)
        value.real = (double)*(const float *)at;
    else if (c->type == EMLX_F64)
        value.real = *(const double *)at;
    else
        memcpy(&value.whole, at, c->size); // little endian, as on every supported machine
    return value;
}

// The weights of one filter, by channel and tap.
static void load_weights(const conv_work *c, const char *filter, weight *weights) {
    for (int64_t channel = 0; channel < c->channels; channel++) {
        int64_t tap[EMLX_MAX_RANK] = {0};
        for (int64_t t = 0; t < c->taps; t++, conv_next_tap(c, c->rank, tap)) {
            int64_t offset = channel * c->w.strides[1];
            for (int32_t d = 0; d < c->rank; d++) offset += tap[d] * c->axes[d].w_stride;
            *weights++ = load_weight(c, filter + offset * (int64_t)c->size);
        }
    }
}

static void add_terms(const planes_work *w, const char *copy, const weight *weights, int64_t first,
                      int64_t n, char *sums) {
    const conv_work *c = w->conv;
    const void *terms[TERMS];
    int64_t all = c->channels * c->taps;
    memset(sums, 0, (size_t)n * w->sum_size);
    for (int64_t done = 0; done < all; done += TERMS) {
        int64_t count = all - done < TERMS ? all - done : TERMS;
        for (int64_t i = 0; i < count; i++) {
            int64_t term = done + i, channel = term / c->taps;
            int64_t at = channel * w->phases * w->plane + w->taps[term % c->taps] + first;
            terms[i] = copy + at * (int64_t)c->size;
        }
        w->fns->rows(sums, terms, weights + done, (size_t)count, 1, (size_t)n);
    }
}

// Stores those sums of places `first` to `first` + n that are results; `out` is where the results
// of the block begin.
static void store_sums(const planes_work *w, const char *sums, int64_t first, int64_t n,
                       char *out) {
    const conv_work *c = w->conv;
    tile_fn cast = c->run->kernels->cast[w->fns->sum][c->out_type];
    int32_t inner = c->rank - 1;
    int64_t places = inner == 0 ? n + first : w->axes[inner].places;
    int64_t results = inner == 0 ? places : c->axes[inner].results;
    for (int64_t line = first / places; line * places < first + n; line++) {
        int64_t rest = line, number = 0, step = results;
        bool stored = true;
        for (int32_t d = inner - 1; d >= 0; d--) {
            int64_t at = d == 0 ? rest : rest % w->axes[d].places;
            if (d > 0) rest /= w->axes[d].places;
            stored = stored && (d == 0 || at < c->axes[d].results);
            number += at * step;
            step *= c->axes[d].results;
        }
        int64_t from = line * places, to = from + results;
        if (from < first) from = first;
        if (to > first + n) to = first + n;
        if (!stored || from >= to) continue;
        number += from - line * places;
        cast(out + number * (int64_t)c->out_size, sums + (from - first) * (int64_t)w->sum_size,
             NULL, NULL, (size_t)(to - from));
    }
}

static void compute_block(const planes_work *w, int64_t item, char *copy, weight *weights) {
    const conv_work *c = w->conv;
    _Alignas(64) char sums[SUMS * sizeof(double)];
    int64_t row = item % w->blocks * w->rows, plane = item / w->blocks;
    int64_t n = plane / c->groups, g = plane % c->groups;
    int64_t rows = c->axes[0].results - row < w->rows ? c->axes[0].results - row : w->rows;
    int64_t x = n * c->x.strides[0] + g * c->group_stride + c->x_offset;
    int64_t end = (rows - 1) * w->axes[0].stride + 1, before = row;
    for (int32_t d = 1; d < c->rank; d++) {
        end += (c->axes[d].results - 1) * w->axes[d].stride;
        before *= c->axes[d].results;
    }
    copy_group(w, c->x.data + x * (int64_t)c->size, row, rows, copy);
    for (int64_t f = g * c->filters; f < (g + 1) * c->filters; f++) {
        char *out =
            c->out + ((n * c->all_filters + f) * c->positions + before) * (int64_t)c->out_size;
        load_weights(c, c->w.data + f * c->w.strides[0] * (int64_t)c->size, weights);
        for (int64_t first = 0; first < end; first += SUMS) {
            int64_t some = end - first < SUMS ? end - first : SUMS;
            add_terms(w, copy, weights, first, some, sums);
            store_sums(w, sums, first, some, out);
        }
    }
}

static void planes_task(void *context, int64_t index) {
    planes_work *w = context;
    const conv_work *c = w->conv;
    size_t weights = (size_t)(c->channels * c->taps) * sizeof(weight);
    size_t size = weights + (size_t)(c->channels * w->phases * w->plane) * c->size;
    int64_t end = (index + 1) * w->group < w->items ? (index + 1) * w->group : w->items;
    emlx_error err;
    _Alignas(64) char room[ROOM_SIZE];
    void *memory;
    if (room_take(room, size, &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    for (int64_t item = index * w->group; item < end; item++)
        compute_block(w, item, (char *)memory + weights, memory);
    room_end(room, memory, size);
}

emlx_status conv_planes(conv_work *c, emlx_error *err) {
    planes_work w = {.conv = c, .fns = conv_choose_fns(c)};
    size_t taps = (size_t)c->taps * sizeof *w.taps;
    void *memory;
    if (w.fns->rows == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no convolution of %s",
                         emlx_type_name(c->type));
    w.sum_size = type_size(w.fns->sum);
    find_places(&w);
    cut_blocks(&w);
    _Alignas(64) char room[ROOM_SIZE];
    TRY(room_take(room, taps, &memory, err));
    w.taps = memory;
    find_taps(&w);
    w.items = c->batch * c->groups * w.blocks;
    w.group = conv_task_items((double)(c->filters * c->channels * c->taps) * (double)w.plane);
    emlx_status status = run_tasks(c->run, (w.items - 1) / w.group + 1, planes_task, &w, err);
    room_end(room, memory, taps);
    return status == EMLX_OK ? task_result(&w.errors, err) : status;
}
