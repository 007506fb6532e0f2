// SPDX-License-Identifier: Apache-2.0
// view.c - regions of tensors. A view of a view is one view of what lies below, so that chains of
// shape ops cost a single indexing, done by whoever reads.
#include "ops/make.h"

#include <string.h>

#include "graph/lock.h"

// What a tensor shows of a dense one: the base, the run-time starts (all referenced), the region.
typedef struct seen {
    int count;
    emlx_tensor *operands[1 + EMLX_MAX_RANK];
    region region;
} seen;

static void see_whole(emlx_tensor *t, seen *s) {
    memset(&s->region, 0, sizeof s->region);
    shape_strides(&t->shape, s->region.strides);
    s->operands[0] = emlx_tensor_retain(t);
    s->count = 1;
}

// The operand list of a view goes away when somebody else computes it, hence the lock. Callers do
// not wait for that: a view of the view then is as good, but for the look through it when it is
// planned.
static void see(emlx_tensor *t, seen *s) {
    s->count = 0;
    if (t->primitive == PRIM_view && graph_try_lock()) {
        for (uint32_t i = 0; i < t->input_count; i++)
            s->operands[s->count++] = emlx_tensor_retain(t->inputs[i]);
        graph_unlock();
    }
    if (s->count > 0)
        s->region = ((const view_params *)t->params)->region;
    else
        see_whole(t, s);
}

static void forget(seen *s) {
    for (int i = 0; i < s->count; i++) emlx_tensor_release(s->operands[i]);
}

// The whole of a tensor in order needs no view.
static bool is_all(const seen *s, const emlx_shape *shape) {
    int64_t strides[EMLX_MAX_RANK];
    const emlx_tensor *base = s->operands[0];
    if (s->count > 1 || s->region.offset != 0 || !shape_equal(&base->shape, shape)) return false;
    shape_strides(shape, strides);
    for (int32_t d = 0; d < shape->rank; d++)
        if (shape->dims[d] > 1 && strides[d] != s->region.strides[d]) return false;
    return true;
}

// Ends the use of `s`.
static emlx_tensor *view_node(maker *m, seen *s, const emlx_shape *shape) {
    emlx_tensor *t = NULL;
    if (m->status != EMLX_OK) {
    } else if (is_all(s, shape)) {
        t = make_keep(m, EMLX_OK, emlx_tensor_retain(s->operands[0]));
    } else {
        view_params params = {.region = s->region};
        for (int32_t d = shape->rank; d < EMLX_MAX_RANK; d++) params.region.strides[d] = 0;
        node_spec spec = {.primitive = PRIM_view, .shape = *shape};
        spec.type = emlx_tensor_type(s->operands[0]);
        spec.params = &params;
        spec.params_size = sizeof params;
        spec.inputs = s->operands;
        spec.input_count = (size_t)s->count;
        t = make_node(m, &spec);
    }
    forget(s);
    return t;
}

// Any arrangement of one number is that number again.
static emlx_tensor *splat(maker *m, emlx_tensor *t, const emlx_shape *shape) {
    node_spec spec = {.primitive = PRIM_constant, .shape = *shape, .params = t->params};
    spec.type = emlx_tensor_type(t);
    spec.params_size = sizeof(scalar_value);
    return make_node(m, &spec);
}

#define VIEW_START(t, shape)                                                                       \
    if (m->status != EMLX_OK || (t) == NULL) return NULL;                                          \
    if ((t)->primitive == PRIM_constant) return splat(m, (t), (shape))

emlx_tensor *view_transpose(maker *m, emlx_tensor *t, const int64_t *axes) {
    if (t == NULL) return NULL;
    emlx_shape shape = {.rank = t->shape.rank};
    for (int32_t d = 0; d < shape.rank; d++) shape.dims[d] = t->shape.dims[axes[d]];
    VIEW_START(t, &shape);
    seen s;
    see(t, &s);
    region from = s.region;
    for (int32_t d = 0; d < shape.rank; d++) s.region.strides[d] = from.strides[axes[d]];
    return view_node(m, &s, &shape);
}

emlx_tensor *view_broadcast(maker *m, emlx_tensor *t, const emlx_shape *shape,
                            const int64_t *axes) {
    VIEW_START(t, shape);
    seen s;
    see(t, &s);
    region from = s.region;
    memset(s.region.strides, 0, sizeof s.region.strides);
    for (int32_t d = 0; d < t->shape.rank; d++)
        if (t->shape.dims[d] > 1) s.region.strides[axes[d]] = from.strides[d];
    return view_node(m, &s, shape);
}

// The stride of an axis that takes steps of `step`. One of a single element takes none, however
// long they would be.
static int64_t step_stride(int64_t stride, int64_t step, int64_t length) {
    return length > 1 ? stride * step : stride;
}

emlx_tensor *view_slice(maker *m, emlx_tensor *t, const int64_t *starts, const int64_t *steps,
                        const emlx_shape *shape) {
    VIEW_START(t, shape);
    seen s;
    see(t, &s);
    for (int32_t d = 0; d < shape->rank; d++) {
        s.region.offset += starts[d] * s.region.strides[d];
        s.region.strides[d] = step_stride(s.region.strides[d], steps[d], shape->dims[d]);
    }
    return view_node(m, &s, shape);
}

emlx_tensor *view_walk(maker *m, emlx_tensor *t, const int32_t *axes, const int64_t *steps,
                       const emlx_shape *shape) {
    VIEW_START(t, shape);
    seen s;
    see(t, &s);
    region from = s.region;
    for (int32_t d = 0; d < shape->rank; d++)
        s.region.strides[d] = step_stride(from.strides[axes[d]], steps[d], shape->dims[d]);
    return view_node(m, &s, shape);
}

emlx_tensor *view_slice_at(maker *m, emlx_tensor *t, emlx_tensor *const *starts,
                           const int64_t *steps, const int64_t *lengths, const emlx_shape *shape) {
    VIEW_START(t, shape);
    seen s;
    see(t, &s);
    if (s.region.start_count + shape->rank > EMLX_MAX_RANK) {
        forget(&s);
        see_whole(t, &s);
    }
    for (int32_t d = 0; d < shape->rank; d++) {
        region_start *start = &s.region.starts[s.region.start_count];
        start->stride = s.region.strides[d];
        start->limit = t->shape.dims[d] - lengths[d];
        s.region.strides[d] = step_stride(s.region.strides[d], steps[d], shape->dims[d]);
        if (start->limit == 0) continue;
        s.operands[s.count++] = emlx_tensor_retain(starts[d]);
        s.region.start_count++;
    }
    for (int32_t d = s.region.start_count; d < EMLX_MAX_RANK; d++)
        s.region.starts[d] = (region_start){0, 0};
    return view_node(m, &s, shape);
}

// Splits or merges axes where the strides allow it: walks both shapes from the front, matching
// groups of axes with the same number of elements. An old group must be one run of equal steps.
static bool reshape_strides(const emlx_shape *from, const int64_t *strides, const emlx_shape *to,
                            int64_t *result) {
    int32_t i = 0, j = 0;
    while (i < from->rank || j < to->rank) {
        int32_t i0 = i, j0 = j;
        int64_t a = i < from->rank ? from->dims[i++] : 1;
        int64_t b = j < to->rank ? to->dims[j++] : 1;
        while (a != b) {
            if (a < b)
                a *= from->dims[i++];
            else
                b *= to->dims[j++];
        }
        axis_list group = {.count = 1};
        int64_t step = 0;
        for (int32_t d = i0; d < i; d++) axes_add(&group, from->dims[d], strides[d]);
        if (!axes_step(&group, &step)) return false;
        for (int32_t d = j - 1; d >= j0; d--) {
            result[d] = step;
            step *= to->dims[d];
        }
    }
    return true;
}

emlx_tensor *view_reshape(maker *m, emlx_tensor *t, const emlx_shape *shape) {
    VIEW_START(t, shape);
    seen s;
    see(t, &s);
    int64_t strides[EMLX_MAX_RANK] = {0};
    bool empty = emlx_shape_count(shape) == 0;
    if (empty || !reshape_strides(&t->shape, s.region.strides, shape, strides)) {
        forget(&s);
        see_whole(t, &s);
        shape_strides(shape, strides);
    }
    memcpy(s.region.strides, strides, sizeof strides);
    return view_node(m, &s, shape);
}

// Writing ---------------------------------------------------------------------------------------

static void place_source(const emlx_shape *base, const int64_t *strides, const write_source *w,
                         region *r, emlx_tensor **starts, size_t *start_count) {
    memset(r, 0, sizeof *r);
    for (int32_t d = 0; d < base->rank; d++) {
        int64_t step = w->run_starts != NULL ? 1 : w->steps[d];
        r->strides[d] = step_stride(strides[d], step, w->tensor->shape.dims[d]);
        if (w->run_starts == NULL) {
            r->offset += w->starts[d] * strides[d];
            continue;
        }
        int64_t limit = base->dims[d] - w->tensor->shape.dims[d];
        if (limit == 0) continue;
        r->starts[r->start_count++] = (region_start){strides[d], limit};
        starts[(*start_count)++] = w->run_starts[d];
    }
}

emlx_tensor *make_write(maker *m, emlx_tensor *base, const write_source *sources, size_t count,
                        bool covers) {
    if (m->status != EMLX_OK) return NULL;
    int64_t strides[EMLX_MAX_RANK];
    shape_strides(&base->shape, strides);
    size_t params_size = sizeof(write_params) + count * sizeof(region);
    size_t inputs_size = (1 + count * (1 + EMLX_MAX_RANK)) * sizeof(emlx_tensor *);
    write_params *params = mem_alloc(params_size);
    emlx_tensor **inputs = mem_alloc(inputs_size);
    emlx_tensor *t = NULL;
    if (params == NULL || inputs == NULL) {
        m->status = error_set(m->err, EMLX_OUT_OF_MEMORY, "no memory for %zu sources", count);
    } else {
        params->count = (int32_t)count;
        params->covers = covers;
        inputs[0] = base;
        size_t input_count = 1 + count;
        for (size_t i = 0; i < count; i++) {
            inputs[1 + i] = sources[i].tensor;
            size_t starts = 0;
            place_source(&base->shape, strides, &sources[i], &params->regions[i],
                         inputs + input_count, &starts);
            input_count += starts;
        }
        node_spec spec = {.primitive = PRIM_write,
                          .type = emlx_tensor_type(base),
                          .shape = base->shape,
                          .params = params,
                          .params_size = params_size,
                          .inputs = inputs,
                          .input_count = input_count};
        t = make_node(m, &spec);
    }
    if (params != NULL) mem_free(params, params_size);
    if (inputs != NULL) mem_free(inputs, inputs_size);
    return t;
}
