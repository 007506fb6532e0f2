// SPDX-License-Identifier: Apache-2.0
// planes.c - convolutions of groups of few channels, channels first.
//
// A task copies what it needs of a group's channels, with the padding, as places.h has it. For
// every tap, the elements of all results then lie side by side in one phase, and all taps are added
// up in one pass over whole planes of results. Rows of results are as far apart as rows of a phase;
// what is computed between them is not stored.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/conv/places.h"

enum {
    SUMS = 2048,         // results computed at a time
    TERMS = 64,          // most products added in one pass
    SCRATCH = 128 * 1024 // bytes that a task likes to copy at most
};

typedef struct planes_work {
    conv_work *conv;
    const conv_fns *fns;
    size_t sum_size;
    conv_places places;
    int64_t items, group; // tasks' parts in all; of a task
    int64_t *taps;        // where each tap's elements begin in a channel's copy
    task_errors errors;
} planes_work;

bool conv_has_planes(const conv_work *w) {
    return !w->params->channels_last && w->taps > 1 && conv_has_places(w);
}

static void find_taps(planes_work *w) {
    const conv_work *c = w->conv;
    int64_t tap[EMLX_MAX_RANK] = {0};
    for (int64_t t = 0; t < c->taps; t++, conv_next_tap(c, c->rank, tap))
        w->taps[t] = conv_place_of(&w->places, true, tap);
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
            int64_t at =
                channel * w->places.phases * w->places.plane + w->taps[term % c->taps] + first;
            terms[i] = copy + at * (int64_t)c->size;
        }
        w->fns->rows(sums, terms, weights + done, (size_t)count, 1, (size_t)n);
    }
}

static void compute_block(const planes_work *w, int64_t item, char *copy, weight *weights) {
    const conv_work *c = w->conv;
    _Alignas(64) char sums[SUMS * sizeof(double)];
    conv_piece piece;
    conv_find_piece(&w->places, item, &piece);
    conv_copy_channels(&w->places, &piece, copy);
    for (int64_t f = piece.g * c->filters; f < (piece.g + 1) * c->filters; f++) {
        load_weights(c, c->w.data + f * c->w.strides[0] * (int64_t)c->size, weights);
        for (int64_t first = 0; first < piece.end; first += SUMS) {
            int64_t some = least(piece.end - first, SUMS);
            add_terms(w, copy, weights, first, some, sums);
            conv_store_places(&w->places, &piece, f, w->fns->sum, sums, first, some);
        }
    }
}

static void planes_task(void *context, int64_t index) {
    planes_work *w = context;
    const conv_work *c = w->conv;
    size_t weights = (size_t)(c->channels * c->taps) * sizeof(weight);
    size_t size = weights + (size_t)c->channels * conv_places_bytes(&w->places);
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
    conv_find_places(c, false, c->channels, SCRATCH, &w.places);
    _Alignas(64) char room[ROOM_SIZE];
    TRY(room_take(room, taps, &memory, err));
    w.taps = memory;
    find_taps(&w);
    w.items = c->batch * c->groups * w.places.blocks;
    w.group =
        conv_task_items((double)(c->filters * c->channels * c->taps) * (double)w.places.plane);
    emlx_status status = run_tasks(c->run, (w.items - 1) / w.group + 1, planes_task, &w, err);
    room_end(room, memory, taps);
    return status == EMLX_OK ? task_result(&w.errors, err) : status;
}
