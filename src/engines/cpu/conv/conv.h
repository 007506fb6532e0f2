// SPDX-License-Identifier: Apache-2.0
// conv.h - a convolution as the CPU engine sees it: where input elements meet kernel elements, and
// the ways to add up their products.
#ifndef EMLX_CPU_CONV_H
#define EMLX_CPU_CONV_H

#include "engines/cpu/kernels/tables/conv.h"
#include "engines/cpu/run.h"

// The results along a spatial axis for which one kernel position, a tap, meets an element of the
// input and not padding or a gap: result first + i * period meets element start + i * step, for
// i < count.
typedef struct conv_reach {
    int64_t first, period, count;
    int64_t start, step;
} conv_reach;

typedef struct conv_axis {
    int64_t results, taps, length; // length: of the input
    int64_t x_stride, w_stride;    // in elements
    const conv_reach *reach;       // of each tap
} conv_axis;

// An operand in memory, as it came or packed.
typedef struct conv_operand {
    emlx_type type;
    const char *data;
    int64_t strides[EMLX_MAX_RANK]; // in elements: batch or filter, channel, spatial axes
    void *packed;
    size_t packed_size;
} conv_operand;

// A group sees some of the input's channels (or some of its batch) and has filters of its own.
typedef struct conv_work {
    const cpu_run *run;
    const conv_params *params;
    emlx_type type, out_type; // in which it is computed; of the result
    bool small;               // so little work that sums in double cost nothing
    size_t size, out_size;
    char *out;
    int64_t batch, groups, filters, channels; // of the result; groups; of one group
    int64_t all_filters, group_stride;        // group_stride: of the input between groups
    conv_operand x, w;
    // Spatial axes, less those of length 1 that do not matter; at least one. Innermost last.
    int32_t rank;
    conv_axis axes[EMLX_MAX_RANK];
    int64_t x_offset;        // of the axes left out
    int64_t positions, taps; // products of the axes' results and taps
    conv_reach *reach;
    size_t reach_size;
    task_errors errors;
} conv_work;

// What results reach along each axis; the room has ROOM_SIZE bytes.
emlx_status conv_find_reaches(conv_work *w, char *room, emlx_error *err);
// The axes, once reaches and operands are known.
void conv_find_axes(conv_work *w);
// Puts an operand into new memory, dense and in the computed type, its axes in the order given.
emlx_status conv_pack(conv_work *w, conv_operand *operand, const emlx_shape *shape,
                      const int32_t *order, emlx_error *err);
// Brings an operand of narrow floats to the computed type, its axes in the order that they have.
emlx_status conv_widen(conv_work *w, conv_operand *operand, const emlx_shape *shape,
                       emlx_error *err);
const emlx_shape *conv_kernel_shape(const conv_work *w);

// The index in the first `axes` spatial axes of result, or tap, `number`.
void conv_unravel(const conv_work *w, int32_t axes, bool taps, int64_t number, int64_t *index);

// The next tap in the first `axes` spatial axes.
static inline void conv_next_tap(const conv_work *w, int32_t axes, int64_t *tap) {
    for (int32_t d = axes - 1; d >= 0 && ++tap[d] == w->axes[d].taps; d--) tap[d] = 0;
}

// Adds to *offset where a tap finds its element for a result; false where there is none.
static inline bool conv_find(const conv_axis *axis, int64_t tap, int64_t result, int64_t *offset) {
    const conv_reach *r = &axis->reach[tap];
    int64_t i = result - r->first;
    if (r->period > 1) {
        if (i < 0 || i % r->period != 0) return false;
        i /= r->period;
    }
    if (i < 0 || i >= r->count) return false;
    *offset += (r->start + i * r->step) * axis->x_stride;
    return true;
}

// What adds up in direct convolutions: in f32 where that is good enough.
const conv_fns *conv_choose_fns(const conv_work *w);
// Tasks of equally many items, by the multiplications that an item is.
int64_t conv_task_items(double work);

// Row by row in order: exact for integers, in double where there is little work, and also for
// groups of few channels and filters.
emlx_status conv_direct(conv_work *w, emlx_error *err);
// The same, a vector of channels at a time, where that is possible: one channel and one filter a
// group, channels innermost.
bool conv_is_depthwise(const conv_work *w);
emlx_status conv_depthwise(conv_work *w, emlx_error *err);
// The same, whole planes of results at a time: channels first, no dilated input.
bool conv_has_planes(const conv_work *w);
emlx_status conv_planes(conv_work *w, emlx_error *err);
// As products of matrices by BLAS, for f32 and f64.
emlx_status conv_product(conv_work *w, emlx_error *err);
double conv_product_cost(const conv_work *w);
// Floats, with sums in registers: along planes of results, or of filters. Both for
// convolutions that have places (places.h). Costs are multiplications, or what takes as long.
emlx_status conv_planes_in_tiles(conv_work *w, emlx_error *err);
double conv_tiles_cost(const conv_work *w);
emlx_status conv_long_sums(conv_work *w, emlx_error *err);
double conv_long_cost(const conv_work *w);

#endif
