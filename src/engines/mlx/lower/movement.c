// SPDX-License-Identifier: Apache-2.0
// movement.c - iota, views and writes.
#include <stdlib.h>
#include <string.h>

#include "base/shape.h"
#include "engines/mlx/lower/builder.h"

value mlx_lower_iota(builder *b, const plan_node *n) {
    const iota_params *p = n->params;
    value sum = mlx_integer(b, p->offset, MLX_DTYPE_s64);
    for (int32_t d = 0; d < n->shape.rank; d++) {
        if (p->strides[d] == 0 || n->shape.dims[d] <= 1) continue;
        emlx_shape along = {.rank = n->shape.rank};
        for (int32_t e = 0; e < along.rank; e++) along.dims[e] = e == d ? n->shape.dims[d] : 1;
        value steps = mlx_emit(b, MLX_arange, MLX_DTYPE_s64, NULL, 0, &n->shape.dims[d], 1);
        value stride = mlx_integer(b, p->strides[d], MLX_DTYPE_s64);
        steps = mlx_binary(b, MLX_multiply, mlx_reshape(b, steps, &along), stride);
        sum = mlx_binary(b, MLX_add, sum, steps);
    }
    value y = mlx_cast(b, sum, EMLX_S64, n->type);
    return mlx_emit(b, MLX_broadcast_to, mlx_dtype_of(b, y), &y, 1, n->shape.dims,
                    (size_t)n->shape.rank);
}

// Run-time starts --------------------------------------------------------------------------------

static value at_most(builder *b, value s, int64_t limit) {
    value most = mlx_integer(b, limit, mlx_dtype_of(b, s));
    return mlx_where(b, mlx_test(b, MLX_greater, s, most), most, s);
}

// A scalar, brought between 0 and the limit. Of 64 bits without a sign it may be beyond s64.
static value clamped(builder *b, const plan_node *n, uint32_t operand, int64_t limit) {
    value s = mlx_operand_value(b, n, operand);
    if (mlx_dtype_of(b, s) == MLX_DTYPE_u64) s = at_most(b, s, limit);
    s = mlx_to_dtype(b, s, MLX_DTYPE_s64);
    value nought = mlx_integer(b, 0, MLX_DTYPE_s64);
    return at_most(b, mlx_where(b, mlx_test(b, MLX_less, s, nought), nought, s), limit);
}

// The list of one number that MLX takes starts as.
static value listed(builder *b, value number) {
    const emlx_shape one = {1, {1}};
    return mlx_to_dtype(b, mlx_reshape(b, number, &one), MLX_DTYPE_s32);
}

// Views ------------------------------------------------------------------------------------------

typedef struct stride_of {
    int64_t stride, dim;
} stride_of;

static int by_stride(const void *a, const void *b) {
    int64_t x = ((const stride_of *)a)->stride, y = ((const stride_of *)b)->stride;
    return (x > y) - (x < y);
}

// Whether two indices reach one element. MLX's folds are wrong over such views: they are copied.
static bool overlaps(const plan_node *n, const int64_t *strides) {
    stride_of axes[EMLX_MAX_RANK];
    size_t count = 0;
    int64_t span = 0;
    bool found = false;
    for (int32_t d = 0; d < n->shape.rank; d++)
        if (n->shape.dims[d] > 1 && strides[d] != 0)
            axes[count++] = (stride_of){llabs(strides[d]), n->shape.dims[d]};
    qsort(axes, count, sizeof *axes, by_stride);
    for (size_t i = 0; i < count; i++) {
        found = found || axes[i].stride <= span;
        span += axes[i].stride * (axes[i].dim - 1);
    }
    return found;
}

// The elements between the lowest and the highest that the view can reach, from where its run-time
// starts say; *low is how far below its first element the lowest lies.
static value reached(builder *b, const plan_node *n, value base, const int64_t *strides,
                     int64_t *low) {
    const region *r = &((const view_params *)n->params)->region;
    int64_t high = 0;
    *low = 0;
    for (int32_t d = 0; d < n->shape.rank; d++)
        *(strides[d] < 0 ? low : &high) += strides[d] * (n->shape.dims[d] - 1);
    value at = mlx_integer(b, r->offset + *low, MLX_DTYPE_s64);
    for (int32_t i = 0; i < r->start_count; i++) {
        value start = clamped(b, n, (uint32_t)i + 1, r->starts[i].limit);
        value stride = mlx_integer(b, r->starts[i].stride, MLX_DTYPE_s64);
        at = mlx_binary(b, MLX_add, at, mlx_binary(b, MLX_multiply, start, stride));
    }
    const int64_t ints[] = {1, 0, high - *low + 1};
    value operands[] = {base, listed(b, at)};
    return mlx_emit(b, MLX_slice_at, mlx_dtype_of(b, base), operands, 2, ints, 3);
}

value mlx_lower_view(builder *b, const plan_node *n) {
    const region *r = &((const view_params *)n->params)->region;
    mlx_dtype dtype = mlx_dtype_for(n->type);
    int32_t rank = n->shape.rank;
    int64_t ints[2 + 2 * EMLX_MAX_RANK], *strides = ints + 2 + rank, low = 0;
    if (emlx_shape_count(&n->shape) == 0) return mlx_zeros(b, &n->shape, dtype);
    ints[0] = r->offset;
    ints[1] = rank;
    for (int32_t d = 0; d < rank; d++) {
        ints[2 + d] = n->shape.dims[d];
        strides[d] = n->shape.dims[d] == 1 ? 0 : r->strides[d];
    }
    value base = mlx_operand_value(b, n, 0);
    base = mlx_emit(b, MLX_contiguous, dtype, &base, 1, NULL, 0);
    emlx_shape line = {1, {emlx_shape_count(&mlx_operand_node(b, n, 0)->shape)}};
    base = mlx_reshape(b, base, &line);
    if (r->start_count > 0) {
        base = reached(b, n, base, strides, &low);
        ints[0] = -low;
    }
    value y = mlx_emit(b, MLX_as_strided, dtype, &base, 1, ints, 2 + 2 * (size_t)rank);
    return overlaps(n, strides) ? mlx_emit(b, MLX_contiguous, dtype, &y, 1, NULL, 0) : y;
}

// Writes -----------------------------------------------------------------------------------------

// A region of a dense array as starts, stops and steps along its axes.
static void as_slice(const emlx_shape *base, const region *r, const emlx_shape *source,
                     int64_t *ints) {
    int64_t dense[EMLX_MAX_RANK], rest = r->offset;
    int32_t rank = base->rank;
    shape_strides(base, dense);
    for (int32_t d = 0; d < rank; d++) {
        int64_t at = dense[d] > 0 ? rest / dense[d] : 0;
        int64_t step = source->dims[d] > 1 ? r->strides[d] / dense[d] : 1;
        rest -= at * dense[d];
        mlx_slice_axis(ints, rank, d, at, source->dims[d], step);
    }
}

int32_t mlx_start_axis(const emlx_shape *base, const emlx_shape *source,
                       const region_start *start) {
    int64_t dense[EMLX_MAX_RANK];
    shape_strides(base, dense);
    for (int32_t d = 0; d < base->rank; d++)
        if (dense[d] == start->stride && base->dims[d] > 1 &&
            base->dims[d] - source->dims[d] == start->limit)
            return d;
    return -1;
}

static value write_at(builder *b, const plan_node *n, value base, uint32_t operand, uint32_t first,
                      const region *r) {
    const emlx_shape *source = &mlx_operand_node(b, n, operand)->shape;
    value places[EMLX_MAX_RANK];
    int64_t axes[EMLX_MAX_RANK], axis = 0;
    for (int32_t i = 0; i < r->start_count; i++) {
        places[i] = listed(b, clamped(b, n, first + (uint32_t)i, r->starts[i].limit));
        axes[i] = mlx_start_axis(&n->shape, source, &r->starts[i]);
    }
    value starts =
        mlx_emit(b, MLX_concatenate, MLX_DTYPE_s32, places, (uint32_t)r->start_count, &axis, 1);
    value operands[] = {base, mlx_operand_value(b, n, operand), starts};
    return mlx_emit(b, MLX_slice_update_at, mlx_dtype_of(b, base), operands, 3, axes,
                    (size_t)r->start_count);
}

static value write_region(builder *b, const plan_node *n, value base, uint32_t operand,
                          const region *r) {
    int64_t ints[3 * EMLX_MAX_RANK];
    value operands[] = {base, mlx_operand_value(b, n, operand)};
    as_slice(&n->shape, r, &mlx_operand_node(b, n, operand)->shape, ints);
    return mlx_emit(b, MLX_slice_update, mlx_dtype_of(b, base), operands, 2, ints,
                    3 * (size_t)n->shape.rank);
}

value mlx_lower_write(builder *b, const plan_node *n) {
    const write_params *p = n->params;
    value y =
        p->covers ? mlx_zeros(b, &n->shape, mlx_dtype_for(n->type)) : mlx_operand_value(b, n, 0);
    uint32_t first = 1 + (uint32_t)p->count;
    for (uint32_t i = 1; i <= (uint32_t)p->count; i++) {
        const region *r = &p->regions[i - 1];
        bool empty = emlx_shape_count(&mlx_operand_node(b, n, i)->shape) == 0;
        if (n->shape.rank == 0)
            y = mlx_operand_value(b, n, i);
        else if (!empty && r->start_count > 0)
            y = write_at(b, n, y, i, first, r);
        else if (!empty)
            y = write_region(b, n, y, i, r);
        first += (uint32_t)r->start_count;
    }
    return y;
}
