// SPDX-License-Identifier: Apache-2.0
// tiles.c - convolutions of floats along whole planes of results, several filters at a time: as
// planes.c has it, but the sums of a tile of filters and places stay in registers while all terms
// are added. Channels without padding are read where they are.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engines/cpu/conv/places.h"

enum {
    CHUNK = 768,          // places of which sums are held, whole tiles of any width
    TERMS = 1024,         // most terms whose weights are to stay in the cache
    SCRATCH = 256 * 1024, // bytes that a task likes to copy at most
    MOST = 1024 * 1024    // and at all
};

typedef struct tiles_work {
    conv_work *conv;
    const conv_tiles *tiles;
    emlx_type type;
    conv_places places;
    bool in_place;         // but where a tile reaches past the end
    int64_t extent;        // of the input, in elements
    int64_t terms;         // pairs of channel and tap
    int64_t *there, *here; // where each has its elements, in the input and in a copy
    char *weights;         // by group and block of filters
    int64_t group_weights;
    int64_t items, group; // tasks' parts in all; of a task
    task_errors errors;
} tiles_work;

static const conv_tiles *find_tiles(const conv_work *w) {
    return &w->run->kernels->conv_tiles[w->type == EMLX_F64];
}

// The tile for so many filters: none is wasted, or they are the last.
static const conv_block *find_block(const conv_tiles *tiles, int64_t filters) {
    int64_t i = CONV_BLOCKS - 1;
    while (i > 0 && tiles->blocks[i].filters < filters) i--;
    return &tiles->blocks[i];
}

// Places -----------------------------------------------------------------------------------------

// Whether the input itself has the places, with rows as far apart as they are there.
static bool use_input(conv_places *p) {
    const conv_work *c = p->conv;
    int32_t inner = c->rank - 1;
    if (p->phases > 1 || c->axes[inner].x_stride != 1) return false;
    for (int32_t d = 0; d <= inner; d++) {
        const place_axis *axis = &p->axes[d];
        int64_t needed = axis->count + axis->lead;
        if (axis->low < 0 || axis->low + needed > c->axes[d].length) return false;
        if (d == 0) continue;
        int64_t stride = c->axes[d].x_stride, outer = c->axes[d - 1].x_stride;
        if (stride < 1 || outer < stride * needed || outer % stride != 0) return false;
    }
    for (int32_t d = 0; d <= inner; d++) {
        p->axes[d].stride = c->axes[d].x_stride;
        if (d > 0) p->axes[d].places = c->axes[d - 1].x_stride / c->axes[d].x_stride;
    }
    p->plane = p->axes[0].places * p->axes[0].stride;
    return true;
}

// Elements up to the last of the input; 0 where some are before the first.
static int64_t find_extent(const conv_work *c) {
    const emlx_shape *shape = &c->run->call->kernel->shapes[0];
    int64_t extent = 1;
    for (int32_t d = 0; d < shape->rank; d++) {
        if (c->x.strides[d] < 0) return 0;
        extent += (shape->dims[d] - 1) * c->x.strides[d];
    }
    return extent;
}

static void find_terms(tiles_work *w) {
    const conv_work *c = w->conv;
    int64_t copied = w->places.phases * w->places.plane, t = 0, low = 0;
    for (int32_t d = 0; d < c->rank; d++) low += w->places.axes[d].low * c->axes[d].x_stride;
    for (int64_t channel = 0; channel < c->channels; channel++) {
        int64_t tap[EMLX_MAX_RANK] = {0};
        for (int64_t i = 0; i < c->taps; i++, t++, conv_next_tap(c, c->rank, tap)) {
            int64_t place = conv_place_of(&w->places, true, tap);
            w->here[t] = channel * copied + place;
            w->there[t] = channel * c->x.strides[1] + low + place;
        }
    }
}

// Weights ----------------------------------------------------------------------------------------

// One group's, as tiles read them; filters that are missing are 0.
static void pack_weights(void *context, int64_t g) {
    const tiles_work *w = context;
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size;
    char *to = w->weights + g * w->group_weights * size;
    memset(to, 0, (size_t)(w->group_weights * size));
    for (int64_t f = 0, filters; f < c->filters; f += filters) {
        filters = find_block(w->tiles, c->filters - f)->filters;
        for (int64_t i = 0; i < filters && f + i < c->filters; i++) {
            int64_t t = 0, filter = (g * c->filters + f + i) * c->w.strides[0];
            for (int64_t channel = 0; channel < c->channels; channel++) {
                int64_t tap[EMLX_MAX_RANK] = {0};
                for (int64_t n = 0; n < c->taps; n++, t++, conv_next_tap(c, c->rank, tap)) {
                    int64_t at = filter + channel * c->w.strides[1];
                    for (int32_t d = 0; d < c->rank; d++) at += tap[d] * c->axes[d].w_stride;
                    memcpy(to + (t * filters + i) * size, c->w.data + at * size, c->size);
                }
            }
        }
        to += filters * w->terms * size;
    }
}

// Adding up --------------------------------------------------------------------------------------

static void compute_filters(const tiles_work *w, const conv_piece *piece, const conv_block *block,
                            int64_t filter, const char *weights, const char *x,
                            const int64_t *terms, char *sums) {
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size;
    int64_t there = least(block->filters, c->filters - filter);
    for (int64_t first = 0, some; first < piece->end; first += some) {
        some = least(piece->end - first, CHUNK);
        for (int64_t t = 0; t < w->terms; t += TERMS)
            for (int64_t i = 0; i < some; i += block->width)
                block->sum(weights + t * block->filters * size, x + (first + i) * size, terms + t,
                           least(w->terms - t, TERMS), sums + i * size, CHUNK, t > 0);
        for (int64_t f = 0; f < there; f++)
            conv_store_places(&w->places, piece, piece->g * c->filters + filter + f, w->type,
                              sums + f * CHUNK * size, first, some);
    }
}

static void compute_piece(const tiles_work *w, int64_t item, char *sums, char *copy) {
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size;
    conv_piece piece;
    conv_find_piece(&w->places, item, &piece);
    const int64_t *terms = w->there;
    int64_t begin = piece.x + piece.row * w->places.axes[0].stride;
    const char *x = c->x.data + begin * size;
    int64_t reached = begin + terms[w->terms - 1] + piece.end + CONV_MOST_WIDTH;
    if (!w->in_place || reached > w->extent) {
        conv_copy_channels(&w->places, &piece, copy);
        terms = w->here;
        x = copy;
    }
    const char *weights = w->weights + piece.g * w->group_weights * size;
    for (int64_t f = 0; f < c->filters;) {
        const conv_block *block = find_block(w->tiles, c->filters - f);
        compute_filters(w, &piece, block, f, weights, x, terms, sums);
        weights += block->filters * w->terms * size;
        f += block->filters;
    }
}

static void tiles_task(void *context, int64_t index) {
    tiles_work *w = context;
    const conv_work *c = w->conv;
    size_t sums = CONV_MOST_FILTERS * CHUNK * c->size;
    size_t channels = (size_t)c->channels * conv_places_bytes(&w->places);
    size_t behind = CONV_MOST_WIDTH * c->size, size = sums + channels + behind; // past the end
    int64_t end = least((index + 1) * w->group, w->items);
    void *memory;
    emlx_error err;
    if (data_alloc(size, &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    memset((char *)memory + sums + channels, 0, behind);
    for (int64_t item = index * w->group; item < end; item++)
        compute_piece(w, item, memory, (char *)memory + sums);
    data_free(memory, size);
}

// Choosing ---------------------------------------------------------------------------------------

// With the places between rows and at the end of tiles.
double conv_tiles_cost(const conv_work *w) {
    const conv_tiles *tiles = find_tiles(w);
    conv_places p;
    conv_piece piece;
    conv_find_places(w, false, w->channels, SCRATCH, &p);
    if ((double)w->channels * (double)conv_places_bytes(&p) > MOST) return INFINITY;
    use_input(&p);
    conv_find_piece(&p, 0, &piece);
    int64_t places = 0;
    for (int64_t f = 0; f < w->filters;) {
        const conv_block *block = find_block(tiles, w->filters - f);
        places += block->filters * round_up(piece.end, block->width);
        f += block->filters;
    }
    double pieces = (double)(w->batch * w->groups * w->axes[0].results) / (double)piece.rows;
    return pieces * (double)places * (double)(w->channels * w->taps);
}

static emlx_status run_tiles(tiles_work *w, emlx_error *err) {
    const conv_work *c = w->conv;
    w->in_place = use_input(&w->places);
    w->extent = find_extent(c);
    find_terms(w);
    TRY(run_tasks(c->run, c->groups, pack_weights, w, err));
    w->items = c->batch * c->groups * w->places.blocks;
    w->group = conv_task_items((double)(c->filters * w->terms) * (double)w->places.plane);
    TRY(run_tasks(c->run, (w->items - 1) / w->group + 1, tiles_task, w, err));
    return task_result(&w->errors, err);
}

emlx_status conv_planes_in_tiles(conv_work *c, emlx_error *err) {
    tiles_work w = {.conv = c, .tiles = find_tiles(c), .type = c->type};
    w.terms = c->channels * c->taps;
    w.group_weights = (c->filters + CONV_MOST_FILTERS) * w.terms;
    conv_find_places(c, false, c->channels, SCRATCH, &w.places);
    size_t terms = (size_t)w.terms * sizeof *w.here;
    size_t size = 2 * terms + (size_t)(c->groups * w.group_weights) * c->size;
    void *memory;
    TRY(data_alloc(size, &memory, err));
    w.here = memory;
    w.there = w.here + w.terms;
    w.weights = (char *)memory + 2 * terms;
    emlx_status status = run_tiles(&w, err);
    data_free(memory, size);
    return status;
}
