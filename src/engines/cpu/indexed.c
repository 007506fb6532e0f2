// SPDX-License-Identifier: Apache-2.0
// indexed.c - gather and scatter: copying or combining slices at computed indices.
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/math_complex.h"
#include "engines/cpu/run.h"

// A slice of a dense array: its axes other than the indexed ones. Slices are walked as rows along
// the last of those axes.
typedef struct slices {
    int32_t count;                  // indexed axes
    int64_t strides[EMLX_MAX_RANK]; // of the indexed axes, in elements
    int64_t limits[EMLX_MAX_RANK];
    int32_t rank; // other axes, without the last
    int64_t dims[EMLX_MAX_RANK], other_strides[EMLX_MAX_RANK];
    int64_t length, step; // of the last
    int64_t rows;
    size_t size; // bytes of an element
    const emlx_shape *shape;
    const int32_t *axes;
} slices;

// `window` has the lengths of the other axes, which may be less than the array's; NULL: the same.
static void find_slices(const emlx_shape *shape, const int32_t *axes, int32_t count,
                        const int64_t *window, emlx_type type, slices *s) {
    int64_t strides[EMLX_MAX_RANK];
    int32_t next = 0;
    shape_strides(shape, strides);
    *s = (slices){.count = count,
                  .length = 1,
                  .step = 1,
                  .rows = 1,
                  .size = type_size(type),
                  .shape = shape,
                  .axes = axes};
    for (int32_t d = 0; d < shape->rank; d++) {
        if (next < count && axes[next] == d) {
            s->limits[next] = shape->dims[d];
            s->strides[next++] = strides[d];
            continue;
        }
        int64_t dim = window != NULL ? *window++ : shape->dims[d];
        // A run that goes on without a gap is one longer run.
        if (s->rows == 1 && s->length == 1) {
            s->length = dim;
            s->step = strides[d];
        } else if (s->step == strides[d] * dim && dim == shape->dims[d]) {
            s->length *= dim;
            s->step = strides[d];
        } else {
            s->dims[s->rank] = s->length;
            s->other_strides[s->rank++] = s->step;
            s->rows *= s->length;
            s->length = dim;
            s->step = strides[d];
        }
    }
}

static int64_t row_offset(const slices *s, int64_t row) {
    return axis_offset(s->dims, s->other_strides, s->rank, row);
}

static emlx_status bad_index(const slices *s, int64_t index, int32_t which, emlx_error *err) {
    char text[SHAPE_TEXT];
    emlx_shape front = {.rank = 0};
    for (int32_t i = 0; i < s->count; i++) front.dims[front.rank++] = s->shape->dims[s->axes[i]];
    for (int32_t d = 0, next = 0; d < s->shape->rank; d++) {
        if (next < s->count && s->axes[next] == d)
            next++;
        else
            front.dims[front.rank++] = s->shape->dims[d];
    }
    return error_set(err, EMLX_OUT_OF_BOUNDS, "index %lld is out of bounds for axis %d in shape %s",
                     (long long)index, which, shape_print(&front, text));
}

static emlx_status slice_offset(const slices *s, const int64_t *indices, int64_t *offset,
                                emlx_error *err) {
    *offset = 0;
    for (int32_t i = 0; i < s->count; i++) {
        if ((uint64_t)indices[i] >= (uint64_t)s->limits[i]) return bad_index(s, indices[i], i, err);
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
        if (slice_offset(s, w->indices + i * s->count, &offset, &err) != EMLX_OK) {
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

emlx_status run_gather(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const gather_params *p = k->params;
    const plan_value *value = output_value(run);
    gather_work w = {.run = run};
    find_slices(&k->shapes[0], p->axes, p->count, NULL, value->type, &w.slices);
    w.source = operand_data(run, 0);
    w.indices = (const int64_t *)operand_data(run, 1);
    w.out = output_data(run);
    const emlx_shape *shape = &k->shapes[1];
    w.vectors = 1;
    for (int32_t d = 0; d + 1 < shape->rank; d++) w.vectors *= shape->dims[d];
    int64_t slice = w.slices.rows * w.slices.length;
    if (w.vectors == 0 || slice == 0) return EMLX_OK;
    w.group = slice >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / slice;
    pool_for(run->device->pool, (w.vectors - 1) / w.group + 1, gather_task, &w);
    return task_result(&w.errors, err);
}

// Scatter ---------------------------------------------------------------------------------------

#define ADD_LOOP(type, wide)                                                                       \
    static void add_##type(char *to, const char *from, int64_t step, int64_t n) {                  \
        wide *out = (wide *)to;                                                                    \
        const type *in = (const type *)from;                                                       \
        for (int64_t i = 0; i < n; i++) out[i * step] += in[i];                                    \
    }
ADD_LOOP(uint8_t, uint8_t)
ADD_LOOP(uint16_t, uint16_t)
ADD_LOOP(uint32_t, uint32_t)
ADD_LOOP(uint64_t, uint64_t)
ADD_LOOP(double, double)
ADD_LOOP(pair, pair)

typedef void (*add_fn)(char *to, const char *from, int64_t step, int64_t n);

// Integers add in place, by width; others in an f64 or c128 copy, so that a sum is rounded once.
static const add_fn add_by_size[4] = {add_uint8_t, add_uint16_t, add_uint32_t, add_uint64_t};

static emlx_status scatter_slices(const cpu_run *run, const slices *s, char *target, add_fn add,
                                  const char *updates, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const int64_t *indices = (const int64_t *)operand_data(run, 1);
    stride_fn put = run->kernels->scatter[__builtin_ctzl(s->size)];
    int64_t size = (int64_t)s->size, row_bytes = s->length * size;
    for (int64_t i = 0; i < k->shapes[1].dims[0]; i++) {
        int64_t offset;
        TRY(slice_offset(s, indices + i * s->count, &offset, err));
        for (int64_t row = 0; row < s->rows; row++) {
            char *to = target + (offset + row_offset(s, row)) * size;
            const char *from = updates + (i * s->rows + row) * row_bytes;
            if (add != NULL)
                add(to, from, s->step, s->length);
            else
                put(to, from, s->step, (size_t)s->length);
        }
    }
    return EMLX_OK;
}

// An array of the type converted to another, in new memory of `size` bytes.
static emlx_status widen(const cpu_run *run, const char *data, emlx_type type, emlx_type wide,
                         int64_t count, void **out, size_t *size, emlx_error *err) {
    *size = (size_t)count * type_size(wide);
    TRY(pool_alloc(*size, out, err));
    run->kernels->cast[type][wide](*out, data, NULL, NULL, (size_t)count);
    return EMLX_OK;
}

static emlx_status add_floats(const cpu_run *run, slices *s, emlx_type type, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    int64_t count = emlx_shape_count(&k->shapes[0]), added = emlx_shape_count(&k->shapes[2]);
    emlx_type wide = type_is_complex(type) ? EMLX_C128 : EMLX_F64;
    add_fn add = type_is_complex(type) ? add_pair : add_double;
    void *target = NULL, *updates = NULL;
    size_t target_size, updates_size;
    TRY(widen(run, output_data(run), type, wide, count, &target, &target_size, err));
    emlx_status status =
        widen(run, operand_data(run, 2), type, wide, added, &updates, &updates_size, err);
    s->size = type_size(wide);
    if (status == EMLX_OK) status = scatter_slices(run, s, target, add, updates, err);
    if (status == EMLX_OK)
        run->kernels->cast[wide][type](output_data(run), target, NULL, NULL, (size_t)count);
    if (updates != NULL) pool_free(updates, updates_size);
    pool_free(target, target_size);
    return status;
}

emlx_status run_scatter(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const scatter_params *p = k->params;
    emlx_type type = output_value(run)->type;
    slices s;
    find_slices(&k->shapes[0], p->axes, p->count, &k->shapes[2].dims[1], type, &s);
    if (s.rows * s.length == 0) return EMLX_OK;
    bool adds = p->kind == SCATTER_ADD;
    if (adds && !type_is_integer(type)) return add_floats(run, &s, type, err);
    add_fn add = adds ? add_by_size[__builtin_ctzl(s.size)] : NULL;
    return scatter_slices(run, &s, output_data(run), add, operand_data(run, 2), err);
}
