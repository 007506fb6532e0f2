// SPDX-License-Identifier: Apache-2.0
// indexed.c - gather: copying slices, or elements along an axis, at computed indices.
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/index/indexed.h"

void find_slices(const plan_kernel *k, const int64_t *window, emlx_type type, slices *s) {
    const emlx_shape *shape = &k->shapes[0];
    const indexing how = indexing_of((primitive)k->kind, k->params);
    int64_t strides[EMLX_MAX_RANK];
    int32_t next = 0;
    shape_strides(shape, strides);
    *s = (slices){.how = how,
                  .others.count = 1,
                  .length = 1,
                  .step = 1,
                  .rows = 1,
                  .size = type_size(type),
                  .shape = shape};
    for (int32_t d = 0; d < shape->rank; d++) {
        if (next < how.count && how.axes[next] == d) {
            s->limits[next] = shape->dims[d];
            s->strides[next++] = strides[d];
            continue;
        }
        axes_add(&s->others, window != NULL ? *window++ : shape->dims[d], strides[d]);
    }
    if (s->others.rank > 0) {
        s->length = s->others.dims[--s->others.rank];
        s->step = s->others.strides[s->others.rank];
    }
    for (int32_t d = 0; d < s->others.rank; d++) s->rows *= s->others.dims[d];
}

emlx_status slice_offset(const slices *s, const int64_t *indices, int64_t *offset,
                         emlx_error *err) {
    *offset = 0;
    for (int32_t i = 0; i < s->how.count; i++) {
        if ((uint64_t)indices[i] >= (uint64_t)s->limits[i])
            return index_error(&s->how, s->shape, indices, err);
        *offset += indices[i] * s->strides[i];
    }
    return EMLX_OK;
}

// Gather ----------------------------------------------------------------------------------------

typedef struct gather_work {
    const cpu_run *run;
    slices slices;
    const char *source;
    const int64_t *indices;
    char *out;
    int64_t vectors, group;
    task_errors errors;
} gather_work;

static void gather_task(void *context, int64_t index) {
    gather_work *w = context;
    const slices *s = &w->slices;
    stride_fn copy = w->run->kernels->gather[__builtin_ctzl(s->size)];
    int64_t end = (index + 1) * w->group < w->vectors ? (index + 1) * w->group : w->vectors;
    int64_t row_bytes = s->length * (int64_t)s->size;
    for (int64_t i = index * w->group; i < end; i++) {
        emlx_error err;
        int64_t offset;
        if (slice_offset(s, w->indices + i * s->how.count, &offset, &err) != EMLX_OK) {
            task_failed(&w->errors, &err);
            return;
        }
        char *out = w->out + i * s->rows * row_bytes;
        for (int64_t row = 0; row < s->rows; row++)
            copy(out + row * row_bytes,
                 w->source + (offset + row_offset(s, row)) * (int64_t)s->size, s->step,
                 (size_t)s->length);
    }
}

// Along an axis -----------------------------------------------------------------------------------

// Source and result are [outer, length of each, inner].
typedef struct along_work along_work;
struct along_work {
    const void *source;
    const int64_t *indices;
    void *out;
    int64_t length, from, inner; // length of the result's axis and of the source's
    int64_t rows, group;         // outer * length, and of a task
    int64_t (*take)(const along_work *w, int64_t first, int64_t end);
    atomic_llong bad; // position of the first index out of bounds, or -1
};

// Copies rows of the result. Returns the position of an index that is out of bounds, or -1.
#define TAKE_LOOP(type)                                                                            \
    static int64_t take_##type(const along_work *w, int64_t first, int64_t end) {                  \
        const type *source = (const type *)w->source + first / w->length * w->from * w->inner;     \
        type *out = w->out;                                                                        \
        int64_t left = w->length - first % w->length;                                              \
        for (int64_t row = first, at = first * w->inner; row < end; row++) {                       \
            for (int64_t i = 0; i < w->inner; i++, at++) {                                         \
                int64_t index = w->indices[at];                                                    \
                if ((uint64_t)index >= (uint64_t)w->from) return at;                               \
                out[at] = source[index * w->inner + i];                                            \
            }                                                                                      \
            if (--left > 0) continue;                                                              \
            source += w->from * w->inner;                                                          \
            left = w->length;                                                                      \
        }                                                                                          \
        return -1;                                                                                 \
    }
typedef struct {
    uint64_t half[2];
} uint128;
TAKE_LOOP(uint8_t)
TAKE_LOOP(uint16_t)
TAKE_LOOP(uint32_t)
TAKE_LOOP(uint64_t)
TAKE_LOOP(uint128)

static void along_task(void *context, int64_t index) {
    along_work *w = context;
    int64_t first = index * w->group, end = first + w->group;
    int64_t bad = w->take(w, first, end < w->rows ? end : w->rows);
    if (bad >= 0) note_lowest(&w->bad, bad);
}

static emlx_status run_along(const cpu_run *run, int32_t axis, emlx_error *err) {
    static int64_t (*const by_size[])(const along_work *, int64_t, int64_t) = {
        take_uint8_t, take_uint16_t, take_uint32_t, take_uint64_t, take_uint128};
    const plan_kernel *k = run->call->kernel;
    const plan_value *value = output_value(run);
    int64_t count = emlx_shape_count(&value->shape);
    if (count == 0) return EMLX_OK;
    along_work w = {.source = operand_data(run, 0),
                    .indices = (const int64_t *)operand_data(run, 1),
                    .out = output_data(run),
                    .length = value->shape.dims[axis],
                    .from = k->shapes[0].dims[axis],
                    .inner = 1,
                    .take = by_size[__builtin_ctzl(type_size(value->type))]};
    for (int32_t d = axis + 1; d < value->shape.rank; d++) w.inner *= value->shape.dims[d];
    w.rows = count / w.inner;
    w.group = w.inner >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / w.inner;
    atomic_init(&w.bad, -1);
    TRY(run_tasks(run, (w.rows - 1) / w.group + 1, along_task, &w, err));
    int64_t bad = atomic_load(&w.bad);
    if (bad < 0) return EMLX_OK;
    const indexing how = indexing_of(PRIM_gather, k->params);
    return index_error(&how, &k->shapes[0], &w.indices[bad], err);
}

emlx_status run_gather(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const gather_params *p = k->params;
    const plan_value *value = output_value(run);
    if (p->along) return run_along(run, p->axes[0], err);
    gather_work w = {.run = run};
    find_slices(k, NULL, value->type, &w.slices);
    w.source = operand_data(run, 0);
    w.indices = (const int64_t *)operand_data(run, 1);
    w.out = output_data(run);
    const emlx_shape *shape = &k->shapes[1];
    w.vectors = 1;
    for (int32_t d = 0; d + 1 < shape->rank; d++) w.vectors *= shape->dims[d];
    int64_t slice = w.slices.rows * w.slices.length;
    if (w.vectors == 0 || slice == 0) return EMLX_OK;
    w.group = slice >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / slice;
    TRY(run_tasks(run, (w.vectors - 1) / w.group + 1, gather_task, &w, err));
    return task_result(&w.errors, err);
}
