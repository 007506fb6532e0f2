// SPDX-License-Identifier: Apache-2.0
// conv.c - convolutions: finding out which input elements each result needs, and choosing the way
// to compute them.
#include "engines/cpu/conv/conv.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/conv/places.h"

// Up to this many multiplications sums are made in double, which prints the digits that Nx's
// documentation shows, and BLAS does not pay.
#define SMALL_WORK 16384
// Groups of that many channels and filters make matrices too thin for BLAS.
#define THIN 4

const emlx_shape *conv_kernel_shape(const conv_work *w) { return &w->run->call->kernel->shapes[1]; }

void conv_unravel(const conv_work *w, int32_t axes, bool taps, int64_t number, int64_t *index) {
    for (int32_t d = axes - 1; d >= 0; d--) {
        int64_t length = taps ? w->axes[d].taps : w->axes[d].results;
        index[d] = number % length;
        number /= length;
    }
}

// Reach -----------------------------------------------------------------------------------------

static int64_t greatest_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Result o meets place o * stride - shift of the dilated input; an element lies at every multiple
// of the dilation.
static conv_reach find_reach(int64_t stride, int64_t shift, int64_t dilation, int64_t length,
                             int64_t results) {
    int64_t common = greatest_divisor(stride, dilation);
    conv_reach r = {.period = dilation / common, .step = stride / common};
    int64_t end = length > 0 ? (length - 1) * dilation + 1 : 0;
    r.first = shift > 0 ? (shift - 1) / stride + 1 : 0;
    for (int64_t i = 0; i < r.period; i++, r.first++) {
        int64_t place = r.first * stride - shift;
        if (r.first >= results || place >= end) break;
        if (place % dilation != 0) continue;
        int64_t last = (end - 1 + shift) / stride;
        if (last >= results) last = results - 1;
        r.start = place / dilation;
        r.count = (last - r.first) / r.period + 1;
        break;
    }
    return r;
}

static emlx_status find_reaches(conv_work *w, char *room, emlx_error *err) {
    const plan_kernel *k = w->run->call->kernel;
    const conv_params *p = w->params;
    const emlx_shape *x = &k->shapes[0], *kernel = &k->shapes[1];
    const emlx_shape *out = &output_value(w->run)->shape;
    int64_t count = 1;
    for (int32_t d = 2; d < x->rank; d++) count += kernel->dims[d];
    w->reach_size = (size_t)count * sizeof *w->reach;
    void *memory;
    TRY(room_take(room, w->reach_size, &memory, err));
    w->reach = memory;
    w->reach[0] = (conv_reach){.period = 1, .count = 1, .step = 1};
    conv_reach *next = w->reach + 1;
    for (int32_t d = 0; d + 2 < x->rank; d++) {
        int64_t results = out->dims[(p->channels_last ? 1 : 2) + d];
        for (int64_t tap = 0; tap < kernel->dims[2 + d]; tap++)
            *next++ = find_reach(p->strides[d], p->low[d] - tap * p->kernel_dilation[d],
                                 p->input_dilation[d], x->dims[2 + d], results);
    }
    return EMLX_OK;
}

// Axes with one result and one tap that meet an element only add to the offset.
static void find_axes(conv_work *w) {
    const emlx_shape *kernel = conv_kernel_shape(w), *out = &output_value(w->run)->shape;
    const conv_reach *reach = w->reach + 1;
    w->rank = 0;
    w->x_offset = 0;
    w->positions = w->taps = 1;
    for (int32_t d = 0; d + 2 < kernel->rank; reach += kernel->dims[2 + d], d++) {
        conv_axis axis = {.results = out->dims[(w->params->channels_last ? 1 : 2) + d],
                          .taps = kernel->dims[2 + d],
                          .length = w->run->call->kernel->shapes[0].dims[2 + d],
                          .x_stride = w->x.strides[2 + d],
                          .w_stride = w->w.strides[2 + d],
                          .reach = reach};
        w->positions *= axis.results;
        w->taps *= axis.taps;
        if (axis.results == 1 && axis.taps == 1 && reach->count == 1)
            w->x_offset += reach->start * axis.x_stride;
        else
            w->axes[w->rank++] = axis;
    }
    if (w->rank == 0)
        w->axes[w->rank++] = (conv_axis){.results = 1, .taps = 1, .length = 1, .reach = w->reach};
}

// Packing ---------------------------------------------------------------------------------------

typedef struct pack_work {
    const cpu_run *run;
    const conv_operand *from;
    emlx_type type;
    char *to;
    axis_list axes; // at least one
} pack_work;

static void pack_channels_task(void *context, int64_t index) {
    const pack_work *w = context;
    size_t size = type_size(w->from->type), to_size = type_size(w->type);
    stride_fn gather = w->run->kernels->gather[__builtin_ctzl(size)];
    tile_fn cast = w->run->kernels->cast[w->from->type][w->type];
    const axis_list *axes = &w->axes;
    int64_t inner = axes->dims[axes->rank - 1], stride = axes->strides[axes->rank - 1];
    int64_t at = index * TASK_ELEMENTS, end = at + TASK_ELEMENTS;
    char few[4096];
    if (end > axes->count) end = axes->count;
    while (at < end) {
        int64_t n = inner - at % inner, room = (int64_t)(sizeof few / size);
        if (n > end - at) n = end - at;
        if (w->from->type != w->type && n > room) n = room;
        const char *from = w->from->data + axes_offset(axes, at) * (int64_t)size;
        char *to = w->to + at * (int64_t)to_size;
        gather(w->from->type == w->type ? to : few, from, stride, (size_t)n);
        if (w->from->type != w->type) cast(to, few, NULL, NULL, (size_t)n);
        at += n;
    }
}

emlx_status conv_pack(conv_work *w, conv_operand *operand, const emlx_shape *shape,
                      const int32_t *order, emlx_error *err) {
    pack_work work = {.run = w->run, .from = operand, .type = w->type, .axes.count = 1};
    int64_t strides[EMLX_MAX_RANK] = {0}, step = 1;
    for (int32_t i = 0; i < shape->rank; i++)
        axes_add(&work.axes, shape->dims[order[i]], operand->strides[order[i]]);
    if (work.axes.rank == 0) work.axes.dims[work.axes.rank++] = 1;
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        strides[order[i]] = step;
        step *= shape->dims[order[i]];
    }
    void *memory;
    size_t size = (size_t)work.axes.count * w->size;
    TRY(data_alloc(size, &memory, err));
    work.to = memory;
    int64_t tasks = work.axes.count > 0 ? (work.axes.count - 1) / TASK_ELEMENTS + 1 : 0;
    emlx_status status = run_tasks(w->run, tasks, pack_channels_task, &work, err);
    if (operand->packed != NULL) data_free(operand->packed, operand->packed_size);
    memcpy(operand->strides, strides, sizeof strides);
    operand->type = w->type;
    operand->data = operand->packed = memory;
    operand->packed_size = size;
    find_axes(w);
    return status;
}

// Converts narrow floats, keeping the axes in the order they have in memory.
static emlx_status widen(conv_work *w, conv_operand *operand, const emlx_shape *shape,
                         emlx_error *err) {
    int32_t order[EMLX_MAX_RANK] = {0};
    if (operand->type == w->type) return EMLX_OK;
    for (int32_t i = 0; i < shape->rank; i++) {
        int32_t at = i;
        for (; at > 0 && operand->strides[order[at - 1]] < operand->strides[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    return conv_pack(w, operand, shape, order, err);
}

// Running ---------------------------------------------------------------------------------------

static void take_operand(const conv_work *w, uint32_t index, conv_operand *operand) {
    const plan_access *a = &w->run->call->kernel->accesses[index];
    operand->type = a->type;
    operand->data = operand_data(w->run, index);
    memcpy(operand->strides, a->strides, sizeof operand->strides);
}

static void take_groups(conv_work *w) {
    const plan_kernel *k = w->run->call->kernel;
    const conv_params *p = w->params;
    bool by_batch = p->batch_groups > 1;
    w->groups = by_batch ? p->batch_groups : p->feature_groups;
    w->batch = k->shapes[0].dims[0] / p->batch_groups;
    w->all_filters = k->shapes[1].dims[0];
    w->filters = w->all_filters / w->groups;
    w->channels = k->shapes[1].dims[1];
}

// The ways to compute floats, of which the one that costs least is taken.
static const struct way {
    bool needs_places;
    double (*cost)(const conv_work *w);
    emlx_status (*run)(conv_work *w, emlx_error *err);
} ways[] = {
    {false, conv_product_cost, conv_product},
    {true, conv_tiles_cost, conv_planes_in_tiles},
    {true, conv_long_cost, conv_long_sums},
};

static emlx_status compute_floats(conv_work *w, emlx_error *err) {
    bool fits = w->all_filters <= INT32_MAX && w->channels <= INT32_MAX / w->taps;
    bool places = conv_has_places(w), thin = w->channels <= THIN && w->filters <= THIN;
    const struct way *best = NULL;
    double least_cost = INFINITY;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (ways[i].needs_places ? !places : !fits || thin) continue;
        double cost = ways[i].cost(w);
        if (cost >= least_cost) continue;
        least_cost = cost;
        best = &ways[i];
    }
    return best != NULL ? best->run(w, err) : conv_direct(w, err);
}

static emlx_status compute_conv(conv_work *w, char *room, emlx_error *err) {
    const plan_kernel *k = w->run->call->kernel;
    TRY(find_reaches(w, room, err));
    find_axes(w);
    TRY(widen(w, &w->x, &k->shapes[0], err));
    TRY(widen(w, &w->w, &k->shapes[1], err));
    bool by_batch = w->params->batch_groups > 1;
    w->group_stride = by_batch ? w->batch * w->x.strides[0] : w->channels * w->x.strides[1];
    double results = (double)w->batch * (double)w->all_filters * (double)w->positions;
    double work = results * (double)w->channels * (double)w->taps;
    w->small = work <= SMALL_WORK;
    if (conv_is_depthwise(w)) return conv_depthwise(w, err);
    if (type_is_float(w->type) && !w->small) return compute_floats(w, err);
    bool thin = w->channels <= THIN && w->filters <= THIN;
    return thin && conv_has_planes(w) ? conv_planes(w, err) : conv_direct(w, err);
}

emlx_status run_conv(const cpu_run *run, emlx_error *err) {
    const plan_value *value = output_value(run);
    conv_work w = {.run = run, .params = run->call->kernel->params, .out_type = value->type};
    w.type = type_compute(value->type);
    w.size = type_size(w.type);
    w.out_size = type_size(w.out_type);
    w.out = output_data(run);
    take_operand(&w, 0, &w.x);
    take_operand(&w, 1, &w.w);
    take_groups(&w);
    if (emlx_shape_count(&value->shape) == 0) return EMLX_OK;
    if (w.channels == 0) {
        memset(w.out, 0, value->bytes);
        return EMLX_OK;
    }
    _Alignas(64) char room[ROOM_SIZE];
    emlx_status status = compute_conv(&w, room, err);
    if (w.reach != NULL) room_end(room, w.reach, w.reach_size);
    if (w.x.packed != NULL) data_free(w.x.packed, w.x.packed_size);
    if (w.w.packed != NULL) data_free(w.w.packed, w.w.packed_size);
    return status;
}
