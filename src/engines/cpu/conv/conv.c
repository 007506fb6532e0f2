// SPDX-License-Identifier: Apache-2.0
// conv.c - convolutions: choosing the way to compute them.
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
    TRY(conv_find_reaches(w, room, err));
    conv_find_axes(w);
    TRY(conv_widen(w, &w->x, &k->shapes[0], err));
    TRY(conv_widen(w, &w->w, &k->shapes[1], err));
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
