// SPDX-License-Identifier: Apache-2.0
// movement.c - what is made, mapped, or read from and written to other places.
#include <string.h>

#include "plain.h"

emlx_status run_constant(node_run *r) {
    emlx_number value = type_load(r->out.type, r->constant->bytes);
    for (int64_t i = 0; i < r->out.count; i++) array_set(&r->out, i, value);
    return EMLX_OK;
}

emlx_status run_iota(node_run *r) {
    const iota_params *p = r->node->params;
    int64_t index[EMLX_MAX_RANK];
    for (int64_t i = 0; i < r->out.count; i++) {
        uint64_t sum = (uint64_t)p->offset;
        index_of(r->out.shape, i, index);
        for (int32_t d = 0; d < r->out.shape->rank; d++)
            sum += (uint64_t)index[d] * (uint64_t)p->strides[d];
        array_set(&r->out, i, signed_number((int64_t)sum));
    }
    return EMLX_OK;
}

// Shapes are aligned at their last axes; an axis of length 1 stretches.
static int64_t stretched(const emlx_shape *shape, const emlx_shape *to, const int64_t *index) {
    int64_t own[EMLX_MAX_RANK];
    int32_t missing = to->rank - shape->rank;
    for (int32_t d = 0; d < shape->rank; d++) own[d] = shape->dims[d] == 1 ? 0 : index[d + missing];
    return position_of(shape, own);
}

emlx_status run_map(node_run *r) {
    int64_t index[EMLX_MAX_RANK];
    emlx_type from[3] = {0};
    emlx_number args[3] = {0}, value;
    for (uint32_t a = 0; a < r->node->operand_count; a++) from[a] = r->in[a].type;
    for (int64_t i = 0; i < r->out.count; i++) {
        index_of(r->out.shape, i, index);
        for (uint32_t a = 0; a < r->node->operand_count; a++)
            args[a] = array_get(&r->in[a], stretched(r->in[a].shape, r->out.shape, index));
        TRY(map_of(r->node->params, from, r->out.type, args, &value, r->err));
        array_set(&r->out, i, value);
    }
    return EMLX_OK;
}

// Regions -----------------------------------------------------------------------------------------

// Where the region begins, its starts being the arrays at `starts`.
static int64_t origin(const region *r, const array *starts) {
    int64_t sum = r->offset;
    for (int64_t i = 0; i < r->start_count; i++)
        sum += start_within(array_get(&starts[i], 0), r->starts[i].limit) * r->starts[i].stride;
    return sum;
}

static int64_t place_in(const region *r, const emlx_shape *shape, int64_t position) {
    int64_t index[EMLX_MAX_RANK], sum = 0;
    index_of(shape, position, index);
    for (int32_t d = 0; d < shape->rank; d++) sum += index[d] * r->strides[d];
    return sum;
}

emlx_status run_view(node_run *r) {
    const region *region = &((const view_params *)r->node->params)->region;
    int64_t begin = r->out.count > 0 ? origin(region, r->in + 1) : 0;
    for (int64_t i = 0; i < r->out.count; i++)
        array_set(&r->out, i, array_get(&r->in[0], begin + place_in(region, r->out.shape, i)));
    return EMLX_OK;
}

emlx_status run_write(node_run *r) {
    const write_params *p = r->node->params;
    const array *starts = r->in + 1 + p->count;
    for (int64_t i = 0; i < r->out.count; i++) array_set(&r->out, i, array_get(&r->in[0], i));
    for (int32_t s = 0; s < p->count; s++) {
        const region *region = &p->regions[s];
        const array *source = &r->in[1 + s];
        int64_t begin = source->count > 0 ? origin(region, starts) : 0;
        starts += region->start_count;
        for (int64_t i = 0; i < source->count; i++)
            array_set(&r->out, begin + place_in(region, source->shape, i), array_get(source, i));
    }
    return EMLX_OK;
}
