// SPDX-License-Identifier: Apache-2.0
// indexed.c - instructions of the plain adapter whose elements arrays of indices choose.
#include <string.h>

#include "engines/mlx/plain.h"

static int64_t checked(plain_run *run, int64_t index, int64_t limit) {
    if (index < 0 || index >= limit)
        plain_refuse(run, "index %lld of %lld", (long long)index, (long long)limit);
    return index;
}

// The axis gives way to those of the indices.
plain_array plain_take(const plain_call *c) {
    const plain_array *x = c->in, *indices = &c->in[1];
    int64_t dims[2 * MLX_MAX_RANK], axis = c->ints[0], outer = 1, inner = 1;
    int32_t rank = 0;
    for (int32_t d = 0; d < axis; d++) outer *= dims[rank++] = x->dims[d];
    for (int32_t d = 0; d < indices->rank; d++) dims[rank++] = indices->dims[d];
    for (int32_t d = (int32_t)axis + 1; d < x->rank; d++) inner *= dims[rank++] = x->dims[d];
    plain_array y = plain_new(c->run, x->dtype, rank, dims);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < indices->count; i++) {
            int64_t from =
                o * x->dims[axis] + checked(c->run, plain_index(indices, i), x->dims[axis]);
            for (int64_t k = 0; k < inner; k++)
                plain_copy(&y, (o * indices->count + i) * inner + k, x, from * inner + k);
        }
    return y;
}

plain_array plain_take_along_axis(const plain_call *c) {
    const plain_array *x = c->in, *indices = &c->in[1];
    int64_t strides[MLX_MAX_RANK], index[MLX_MAX_RANK] = {0}, axis = c->ints[0], at = 0;
    plain_array y = plain_new(c->run, x->dtype, indices->rank, indices->dims);
    if (x->rank != indices->rank) plain_refuse(c->run, "indices of another rank");
    plain_strides(x, strides);
    if (y.count == 0) return y;
    do {
        int64_t chosen = checked(c->run, plain_index(indices, at), x->dims[axis]);
        int64_t from = plain_dot(index, strides, x->rank) + (chosen - index[axis]) * strides[axis];
        plain_copy(&y, at++, x, checked(c->run, from, x->count));
    } while (plain_next(index, y.rank, y.dims));
    return y;
}

// Where a slice begins that the arrays of indices choose at `at`; its lengths are `dims`.
static int64_t slice_start(const plain_call *c, const plain_array *of, const int64_t *dims,
                           const plain_array *indices, uint32_t count, int64_t at) {
    int64_t strides[MLX_MAX_RANK], start = 0;
    plain_strides(of, strides);
    for (uint32_t i = 0; i < count; i++) {
        int64_t axis = c->ints[i], limit = of->dims[axis] - dims[axis] + 1;
        start += checked(c->run, plain_index(&indices[i], at), limit) * strides[axis];
    }
    return start;
}

plain_array plain_gather(const plain_call *c) {
    const plain_array *x = c->in, *indices = &c->in[1];
    const int64_t *slice = c->ints + c->count - 1;
    int64_t dims[2 * MLX_MAX_RANK], strides[MLX_MAX_RANK], at = 0;
    memcpy(dims, indices->dims, sizeof indices->dims);
    memcpy(dims + indices->rank, slice, (size_t)x->rank * sizeof *slice);
    plain_array y = plain_new(c->run, x->dtype, indices->rank + x->rank, dims);
    plain_strides(x, strides);
    if (y.count == 0) return y;
    for (int64_t i = 0; i < indices->count; i++) {
        int64_t index[MLX_MAX_RANK] = {0};
        int64_t start = slice_start(c, x, slice, indices, c->count - 1, i);
        do plain_copy(&y, at++, x, start + plain_dot(index, strides, x->rank));
        while (plain_next(index, x->rank, slice));
    }
    return y;
}

// Updates have the indices' axes, then a length for each axis of the target.
plain_array plain_scatter(const plain_call *c) {
    const plain_array *indices = &c->in[1], *updates = &c->in[c->count - 1];
    const int64_t *slice = updates->dims + indices->rank;
    int64_t strides[MLX_MAX_RANK], at = 0;
    plain_array y = plain_new(c->run, c->in->dtype, c->in->rank, c->in->dims);
    if (updates->rank != indices->rank + y.rank || updates->dtype != y.dtype)
        plain_refuse(c->run, "updates of another rank or type");
    memcpy(y.data, c->in->data, (size_t)y.count * plain_size(y.dtype));
    plain_strides(&y, strides);
    for (int64_t i = 0; i < indices->count && updates->count > 0; i++) {
        int64_t index[MLX_MAX_RANK] = {0};
        int64_t start = slice_start(c, &y, slice, indices, c->count - 2, i);
        do {
            int64_t to = start + plain_dot(index, strides, y.rank);
            emlx_number update = plain_get(updates, at++);
            if (c->code == MLX_scatter_add)
                update =
                    plain_binary(c->run, MLX_add, plain_type(y.dtype), plain_get(&y, to), update);
            plain_set(&y, to, update);
        } while (plain_next(index, y.rank, slice));
    }
    return y;
}
