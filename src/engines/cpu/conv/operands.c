// SPDX-License-Identifier: Apache-2.0
// operands.c - which input elements each result of a convolution needs, and operands in the order
// and type in which they are read.
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/conv/conv.h"

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

emlx_status conv_find_reaches(conv_work *w, char *room, emlx_error *err) {
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
void conv_find_axes(conv_work *w) {
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
    conv_find_axes(w);
    return status;
}

// Converts narrow floats, keeping the axes in the order they have in memory.
emlx_status conv_widen(conv_work *w, conv_operand *operand, const emlx_shape *shape,
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
