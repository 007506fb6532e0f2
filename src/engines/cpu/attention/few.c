// SPDX-License-Identifier: Apache-2.0
// few.c - attention of a few rows, as when one token is added to a cache: what takes time is
// reading keys and values, which are read once, where they are. Stretches of keys are tasks, and
// put together in their order.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/attention/attention.h"
#include "engines/cpu/kernels/tables/product.h"

// Keys at a time, at most KEY_BLOCK, and of a task.
enum { FEW_KEYS = 192, STRETCH = 5 * FEW_KEYS };

typedef struct few {
    attention *a;
    int64_t stretches, step; // step: floats of a row's part
    float *queries;          // [pair][row][size]
    float *parts;            // [pair][stretch][row]: largest score, sum of powers, sums of values
} few;

// The type's loops over a matrix whose rows are where they are, or NULL where there are none.
static const vector_fns *fns_of(const attention *a, const operand *o) {
    const vector_fns *fns = &a->run->kernels->vector[o->type];
    return fns->across != NULL && fns->sum == EMLX_F32 && o->strides[3] == 1 ? fns : NULL;
}

// A block of rows of keys or values as its loops want them: in place, or converted to `room`.
static const void *block_of(const attention *a, const operand *o, int64_t pair, int64_t first,
                            int64_t count, int64_t length, float *room, int64_t *step) {
    int64_t b = pair / a->groups, g = pair % a->groups;
    *step = o->strides[2];
    if (fns_of(a, o) != NULL) return operand_at(o, b, g, first);
    for (int64_t i = 0; i < count; i++)
        load_row(a, o, b, g, first + i, 0, length, room + i * length);
    *step = length;
    return room;
}

static const vector_fns *loops_of(const attention *a, const operand *o) {
    const vector_fns *fns = fns_of(a, o);
    return fns != NULL ? fns : &a->run->kernels->vector[EMLX_F32];
}

static void add_block(const few *f, int64_t pair, int64_t first, int64_t count, float *part,
                      float *room) {
    const attention *a = f->a;
    int64_t key_step, value_step;
    float scores[FEW_KEYS];
    const void *keys = block_of(a, &a->k, pair, first, count, a->size, room, &key_step);
    const void *values =
        block_of(a, &a->v, pair, first, count, a->width, room + FEW_KEYS * a->size, &value_step);
    for (int64_t row = 0; row < a->rows; row++) {
        float *own = part + row * f->step, *sums = own + 2;
        const float *query = f->queries + (pair * a->rows + row) * a->size;
        row_sum so_far = {own[0], (double)own[1]};
        memset(scores, 0, sizeof scores);
        loops_of(a, &a->k)->across(keys, key_step, (size_t)count, query, (size_t)a->size, scores);
        float most = row_score(a, pair, row, first, count, scores);
        float by = row_weigh(a, pair, row, first, count, most, scores, &so_far);
        if (by != 1) a->fns->multiply(sums, by, (size_t)a->width);
        loops_of(a, &a->v)->down(values, value_step, (size_t)count, scores, (size_t)a->width, sums);
        own[0] = so_far.most;
        own[1] = (float)so_far.sum;
    }
}

// The most keys that any row sees.
static int64_t most_keys(const attention *a, int64_t pair) {
    return row_limit(a, pair, a->queries - 1);
}

static void stretch_task(void *context, int64_t index) {
    few *f = context;
    const attention *a = f->a;
    int64_t pair = index / f->stretches, first = index % f->stretches * STRETCH;
    int64_t end = least(first + STRETCH, most_keys(a, pair));
    float *part = f->parts + index * a->rows * f->step, *room = NULL;
    bool converts = fns_of(a, &a->k) == NULL || fns_of(a, &a->v) == NULL;
    size_t bytes = (size_t)(FEW_KEYS * (a->size + a->width)) * sizeof(float);
    emlx_error err;
    void *memory = NULL;
    for (int64_t row = 0; row < a->rows; row++) part[row * f->step] = -INFINITY;
    if (first >= end) return;
    if (converts && data_alloc(bytes, &memory, &err) != EMLX_OK) {
        task_failed(&f->a->errors, &err);
        return;
    }
    room = memory;
    for (int64_t key = first; key < end; key += FEW_KEYS)
        add_block(f, pair, key, least(FEW_KEYS, end - key), part, room);
    if (converts) data_free(memory, bytes);
}

// Puts the parts of a row together, into the first of them.
static void row_task(void *context, int64_t index) {
    few *f = context;
    const attention *a = f->a;
    int64_t pair = index / a->rows, row = index % a->rows;
    row_sum all = row_begin(a, pair, row);
    float *first = f->parts + (pair * f->stretches * a->rows + row) * f->step;
    for (int64_t s = 0; s < f->stretches; s++) {
        float most = first[s * a->rows * f->step];
        if (most > all.most) all.most = most;
    }
    all.sum = a->sinks != NULL ? (double)expf(row_begin(a, pair, row).most - all.most) : 0;
    for (int64_t s = 0; s < f->stretches; s++) {
        float *part = first + s * a->rows * f->step;
        float by = part[0] == -INFINITY ? 0 : expf(part[0] - all.most);
        all.sum += (double)(by * part[1]);
        if (s == 0) a->fns->multiply(first + 2, by, (size_t)a->width);
        for (int64_t i = 0; i < a->width && s > 0 && by > 0; i++) first[2 + i] += by * part[2 + i];
    }
    row_finish(a, pair, row, &all, first + 2);
}

static void load_queries(const few *f) {
    const attention *a = f->a;
    for (int64_t i = 0; i < a->pairs * a->rows; i++) {
        int64_t pair = i / a->rows, row = i % a->rows;
        load_row(a, &a->q, pair / a->groups, row_head(a, pair, row), row % a->queries, 0, a->size,
                 f->queries + i * a->size);
    }
}

static emlx_status run_few(few *f, emlx_error *err) {
    attention *a = f->a;
    load_queries(f);
    TRY(run_tasks(a->run, a->pairs * f->stretches, stretch_task, f, err));
    TRY(task_result(&a->errors, err));
    return run_tasks(a->run, a->pairs * a->rows, row_task, f, err);
}

emlx_status attend_few(attention *a, emlx_error *err) {
    few f = {.a = a, .stretches = (a->keys - 1) / STRETCH + 1, .step = a->width + 2};
    size_t queries = (size_t)(a->pairs * a->rows * a->size);
    size_t parts = (size_t)(a->pairs * f.stretches * a->rows * f.step);
    void *memory;
    TRY(data_alloc((queries + parts) * sizeof(float), &memory, err));
    f.queries = memory;
    f.parts = f.queries + queries;
    memset(f.parts, 0, parts * sizeof(float));
    emlx_status status = run_few(&f, err);
    data_free(memory, (queries + parts) * sizeof(float));
    return status;
}
