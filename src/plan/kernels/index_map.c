// SPDX-License-Identifier: Apache-2.0
// index_map.c - composing affine index maps.
#include <string.h>

#include "base/shape.h"
#include "plan/kernels/fuse.h"

void map_dense(const emlx_shape *space, index_map *out) {
    memset(out, 0, sizeof *out);
    shape_strides(space, out->strides);
    for (int32_t d = 0; d < space->rank; d++)
        if (space->dims[d] == 1) out->strides[d] = 0;
}

bool map_equal(const index_map *a, const index_map *b) { return memcmp(a, b, sizeof *a) == 0; }

// The axes of an array that an indexing tells apart, and how far apart their elements are in it.
typedef struct merged_axes {
    axis_list axes;
    int64_t dense[EMLX_MAX_RANK];
} merged_axes;

static void merge_axes(const emlx_shape *shape, const int64_t *strides, merged_axes *m) {
    int64_t dense = 1;
    m->axes.count = 1;
    m->axes.rank = 0;
    for (int32_t d = 0; d < shape->rank; d++) axes_add(&m->axes, shape->dims[d], strides[d]);
    for (int32_t d = m->axes.rank - 1; d >= 0; d--) {
        m->dense[d] = dense;
        dense *= m->axes.dims[d];
    }
}

// Writes a linear distance as steps along the merged axes, which are so far apart, of one sign;
// false when that is not possible.
static bool split_distance(const merged_axes *m, const int64_t *apart, int64_t distance,
                           int64_t *steps) {
    for (int32_t d = 0; d < m->axes.rank; d++) {
        steps[d] = distance / apart[d];
        distance -= steps[d] * apart[d];
    }
    return distance == 0;
}

// The map that reaches, by steps of `length` along the axes, what `map` reaches by steps that are
// `apart`; false when that is not affine.
static bool map_steps(const emlx_shape *space, const index_map *map, const merged_axes *m,
                      const int64_t *apart, const int64_t *length, index_map *out) {
    int64_t steps[EMLX_MAX_RANK], low[EMLX_MAX_RANK], high[EMLX_MAX_RANK];
    if (!split_distance(m, apart, map->offset, low)) return false;
    for (int32_t d = 0; d < m->axes.rank; d++) {
        out->offset += low[d] * length[d];
        high[d] = low[d];
    }
    for (int32_t k = 0; k < space->rank; k++) {
        if (map->strides[k] == 0 || space->dims[k] <= 1) continue;
        if (!split_distance(m, apart, map->strides[k], steps)) return false;
        for (int32_t d = 0; d < m->axes.rank; d++) {
            out->strides[k] += steps[d] * length[d];
            int64_t reach = steps[d] * (space->dims[k] - 1);
            if (reach < 0)
                low[d] += reach;
            else
                high[d] += reach;
        }
    }
    // Within every axis at both ends, no step ever carries into the next axis.
    for (int32_t d = 0; d < m->axes.rank; d++)
        if (low[d] < 0 || high[d] >= m->axes.dims[d]) return false;
    return true;
}

bool map_compose(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                 int64_t offset, const int64_t *strides, index_map *out) {
    merged_axes m;
    memset(out, 0, sizeof *out);
    if (emlx_shape_count(shape) == 0) return true; // nothing is ever read
    merge_axes(shape, strides, &m);
    out->offset = offset;
    return map_steps(space, map, &m, m.dense, m.axes.strides, out);
}

// Whether no two elements are in one place, and places ascend with the elements' order.
static bool ascends(const merged_axes *m) {
    for (int32_t d = 0; d < m->axes.rank; d++) {
        int64_t least = d + 1 < m->axes.rank ? m->axes.strides[d + 1] * m->axes.dims[d + 1] : 1;
        if (m->axes.strides[d] < least) return false;
    }
    return true;
}

bool map_within(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                int64_t offset, const int64_t *strides, index_map *out) {
    merged_axes m;
    index_map from = *map;
    memset(out, 0, sizeof *out);
    if (emlx_shape_count(space) == 0 || emlx_shape_count(shape) == 0) return false;
    merge_axes(shape, strides, &m);
    from.offset -= offset;
    return ascends(&m) && map_steps(space, &from, &m, m.axes.strides, m.dense, out);
}

bool map_operand(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                 const emlx_shape *operand, index_map *out) {
    if (shape_equal(shape, operand)) {
        *out = *map;
        return true;
    }
    int64_t dense[EMLX_MAX_RANK], strides[EMLX_MAX_RANK] = {0};
    shape_strides(operand, dense);
    int32_t shift = shape->rank - operand->rank;
    for (int32_t d = 0; d < operand->rank; d++)
        if (operand->dims[d] > 1) strides[d + shift] = dense[d];
    return map_compose(space, map, shape, 0, strides, out);
}
