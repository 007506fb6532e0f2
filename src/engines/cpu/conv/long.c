// SPDX-License-Identifier: Apache-2.0
// long.c - convolutions with few results of many terms each, as a kernel's gradient: its kernel is
// as large as the image. Filters lie side by side in registers, and an element of the input is
// multiplied with those of one tap; sums of some places stay in registers meanwhile.
//
// Rows of taps (those of an image, image after image) are cut into parts, which are added in order:
// where depends on the convolution alone.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engines/cpu/conv/places.h"

enum {
    LEAST_TERMS = 1024,      // of a part
    MOST_PARTS = 16,         // of the rows
    LEAST_TASKS = 16,        // where there is enough for them
    SUMS_BYTES = 128 * 1024, // of a task's sums
    ROWS_BYTES = 16 * 1024   // of a tile's rows of weights that are to stay in the cache
};

typedef struct long_work {
    conv_work *conv;
    const conv_long *tile;
    conv_places places;
    int64_t columns, column_tiles, filter_tiles; // pairs of batch and result; tiles of each side
    int64_t length, rows;                        // of a row of taps; of them
    int64_t channel;                             // elements of a channel's copy
    char *x, *w;                                 // [batch][channel][place], [tile][term][filter]
    int64_t *places_of, *x_rows;                 // of columns; of rows
    char *sums;                                  // [part][filter][column]
    int64_t part, parts, block, blocks;          // rows of a part; tiles of columns of a task
    task_errors errors;
} long_work;

static size_t lines(size_t bytes) { return (size_t)round_up((int64_t)bytes, 64); }

// Sums that are computed, with missing filters and columns of tiles.
static double sums_of(const conv_work *w, const conv_long *tile) {
    return (double)round_up(w->filters, tile->filters) *
           (double)round_up(w->batch * w->positions, tile->places);
}

static const conv_long *find_tile(const conv_work *w) {
    const conv_long *all = w->run->kernels->conv_tiles[w->type == EMLX_F64].sums, *best = all;
    for (int i = 1; i < CONV_LONG; i++)
        if (sums_of(w, &all[i]) < sums_of(w, best)) best = &all[i];
    return best;
}

// Copies -----------------------------------------------------------------------------------------

static void copy_input(void *context, int64_t index) {
    const long_work *w = context;
    const conv_work *c = w->conv;
    int64_t n = index / c->channels, channel = index % c->channels;
    int64_t at = c->x_offset + n * c->x.strides[0] + channel * c->x.strides[1];
    conv_copy_places(&w->places, c->x.data + at * (int64_t)c->size, 0, w->places.rows,
                     w->x + index * w->channel * (int64_t)c->size);
}

// A row of taps of all filters of a tile. Those that are missing are 0.
static void copy_row(const long_work *w, int64_t filter, const char *from, char *to) {
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size, all = w->tile->filters;
    const int64_t there = least(c->filters - filter, all), apart = c->w.strides[0];
    const int64_t step = c->axes[c->rank - 1].w_stride;
    unsigned log2_size = (unsigned)__builtin_ctzl(c->size);
    if (there < all) memset(to, 0, (size_t)(w->length * all * size));
    if (step == 1)
        for (int64_t f = 0; f < there; f++)
            c->run->kernels->scatter[log2_size](to + f * size, from + f * apart * size, all,
                                                (size_t)w->length);
    else
        for (int64_t i = 0; i < w->length; i++)
            c->run->kernels->gather[log2_size](to + i * all * size, from + i * step * size, apart,
                                               (size_t)there);
}

// A channel's weights of a tile of filters.
static void copy_weights(void *context, int64_t index) {
    const long_work *w = context;
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size, row = w->length * w->tile->filters;
    int64_t channel = index % c->channels, filter = index / c->channels * w->tile->filters;
    int64_t rows = w->rows / c->channels, tap[EMLX_MAX_RANK] = {0};
    char *to = w->w + index * rows * row * size;
    for (int64_t r = 0; r < rows; r++, to += row * size) {
        int64_t at = filter * c->w.strides[0] + channel * c->w.strides[1];
        for (int32_t d = 0; d + 1 < c->rank; d++) at += tap[d] * c->axes[d].w_stride;
        copy_row(w, filter, c->w.data + at * size, to);
        conv_next_tap(c, c->rank - 1, tap);
    }
}

// Where columns and rows begin. Columns that are missing are the first again.
static void find_columns(long_work *w) {
    const conv_work *c = w->conv;
    int64_t at[EMLX_MAX_RANK], all = w->column_tiles * w->tile->places;
    for (int64_t i = 0; i < all; i++) {
        int64_t column = i < w->columns ? i : 0;
        conv_unravel(c, c->rank, false, column % c->positions, at);
        w->places_of[i] =
            column / c->positions * c->channels * w->channel + conv_place_of(&w->places, false, at);
    }
    int64_t lines = w->rows / c->channels, tap[EMLX_MAX_RANK] = {0};
    for (int64_t r = 0; r < w->rows; r++, conv_next_tap(c, c->rank - 1, tap)) {
        int64_t place = 0;
        for (int32_t d = 0; d + 1 < c->rank; d++) place += tap[d] * w->places.axes[d].stride;
        w->x_rows[r] = r / lines * w->channel + place;
    }
}

// Sums -------------------------------------------------------------------------------------------

// Rows `row` to `end` for all filters and the task's columns.
static void add_rows(const long_work *w, int64_t row, int64_t end, int64_t first, int64_t last,
                     char *sums) {
    const conv_long *t = w->tile;
    const int64_t size = (int64_t)w->conv->size;
    for (int64_t f = 0; f < w->filter_tiles; f++)
        for (int64_t i = first; i < last; i++, sums += t->filters * t->places * size) {
            conv_rows rows = {.x = w->x, .count = end - row, .length = w->length};
            rows.w = w->w + (f * w->rows + row) * w->length * t->filters * size;
            rows.x_rows = w->x_rows + row;
            rows.places = w->places_of + i * t->places;
            t->sum(&rows, sums);
        }
}

// Puts a tile's sums among those of its part.
static void place_sums(const long_work *w, int64_t part, int64_t f, int64_t i, const char *sums) {
    const conv_work *c = w->conv;
    const conv_long *t = w->tile;
    const int64_t size = (int64_t)c->size, column = i * t->places;
    size_t columns = (size_t)least(w->columns - column, t->places);
    stride_fn gather = c->run->kernels->gather[__builtin_ctzl(c->size)];
    for (int64_t k = 0; k < t->filters && f * t->filters + k < c->filters; k++) {
        int64_t to = (part * c->filters + f * t->filters + k) * w->columns + column;
        gather(w->sums + to * size, sums + k * size, t->filters, columns);
    }
}

static void long_task(void *context, int64_t index) {
    long_work *w = context;
    const conv_long *t = w->tile;
    int64_t part = index / w->blocks, first = index % w->blocks * w->block;
    int64_t last = least(first + w->block, w->column_tiles);
    int64_t row = part * w->part, end = least(row + w->part, w->rows);
    size_t tile = (size_t)(t->filters * t->places) * w->conv->size;
    size_t size = (size_t)(w->filter_tiles * (last - first)) * tile;
    int64_t some = ROWS_BYTES / (t->filters * w->length * (int64_t)w->conv->size);
    void *memory;
    emlx_error err;
    if (data_alloc(size, &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    memset(memory, 0, size);
    if (some < 1) some = 1;
    for (; row < end; row += some) add_rows(w, row, least(row + some, end), first, last, memory);
    const char *sums = memory;
    for (int64_t f = 0; f < w->filter_tiles; f++)
        for (int64_t i = first; i < last; i++, sums += tile) place_sums(w, part, f, i, sums);
    data_free(memory, size);
}

// Adds the parts, and stores a filter's results.
static void store_filter(void *context, int64_t filter) {
    const long_work *w = context;
    const conv_work *c = w->conv;
    const int64_t size = (int64_t)c->size, step = c->filters * w->columns;
    tile_fn add = cpu_scalar(c->run->kernels, SCALAR_add, c->type);
    char *sums = w->sums + filter * w->columns * size;
    for (int64_t part = 1; part < w->parts; part++)
        add(sums, sums, sums + part * step * size, NULL, (size_t)w->columns);
    for (int64_t n = 0; n < c->batch; n++)
        conv_store_results(c, n, filter, 0, c->type, sums + n * c->positions * size, c->positions);
}

// Choosing ---------------------------------------------------------------------------------------

// Finding a place and storing its sum takes about as long as these multiplications.
#define PLACE_WORK 256

double conv_long_cost(const conv_work *w) {
    if (w->groups > 1) return INFINITY;
    return (double)(w->channels * w->taps + PLACE_WORK) * sums_of(w, find_tile(w));
}

static void cut_long(long_work *w) {
    const conv_long *t = w->tile;
    int64_t tile = t->filters * t->places * (int64_t)w->conv->size;
    w->parts = least(w->rows * w->length / LEAST_TERMS, least(w->rows, MOST_PARTS));
    if (w->parts < 1) w->parts = 1;
    w->part = (w->rows - 1) / w->parts + 1;
    w->parts = (w->rows - 1) / w->part + 1;
    w->block =
        least(SUMS_BYTES / (tile * w->filter_tiles), w->column_tiles * w->parts / LEAST_TASKS);
    if (w->block < 1) w->block = 1;
    w->blocks = (w->column_tiles - 1) / w->block + 1;
}

static emlx_status run_long(long_work *w, emlx_error *err) {
    const conv_work *c = w->conv;
    find_columns(w);
    TRY(run_tasks(c->run, c->batch * c->channels, copy_input, w, err));
    TRY(run_tasks(c->run, w->filter_tiles * c->channels, copy_weights, w, err));
    TRY(run_tasks(c->run, w->parts * w->blocks, long_task, w, err));
    TRY(task_result(&w->errors, err));
    return run_tasks(c->run, c->filters, store_filter, w, err);
}

emlx_status conv_long_sums(conv_work *c, emlx_error *err) {
    const conv_long *t = find_tile(c);
    long_work w = {.conv = c, .tile = t, .columns = c->batch * c->positions};
    conv_find_places(c, true, 1, INT64_MAX / 2, &w.places);
    w.length = c->axes[c->rank - 1].taps;
    w.rows = c->channels * (c->taps / w.length);
    w.channel = w.places.phases * w.places.plane;
    w.column_tiles = (w.columns - 1) / t->places + 1;
    w.filter_tiles = (c->filters - 1) / t->filters + 1;
    cut_long(&w);
    // Each begins with a cache line.
    size_t x = lines((size_t)(c->batch * c->channels * w.channel) * c->size);
    size_t weights = lines((size_t)(w.filter_tiles * t->filters * w.rows * w.length) * c->size);
    size_t sums = (size_t)(w.parts * c->filters * w.columns) * c->size;
    size_t words = lines((size_t)(w.column_tiles * t->places + w.rows) * sizeof(int64_t));
    void *memory;
    TRY(data_alloc(words + x + weights + sums, &memory, err));
    w.places_of = memory;
    w.x_rows = w.places_of + w.column_tiles * t->places;
    w.x = (char *)memory + words;
    w.w = w.x + x;
    w.sums = w.w + weights;
    emlx_status status = run_long(&w, err);
    data_free(memory, words + x + weights + sums);
    return status;
}
