// SPDX-License-Identifier: Apache-2.0
// movement.c - instructions of the plain adapter that move elements.
#include <string.h>

#include "engines/mlx/plain.h"

// Elements of an array by an index of another shape.
typedef struct reach {
    int32_t rank;
    int64_t dims[MLX_MAX_RANK], strides[MLX_MAX_RANK], offset;
} reach;

static int64_t place(plain_run *run, const plain_array *a, const reach *r, const int64_t *index) {
    int64_t at = r->offset + plain_dot(index, r->strides, r->rank);
    if (at < 0 || at >= a->count) plain_refuse(run, "an element beyond its array");
    return at;
}

static plain_array reading(const plain_call *c, const reach *r) {
    int64_t index[MLX_MAX_RANK] = {0}, at = 0;
    plain_array y = plain_new(c->run, c->in->dtype, r->rank, r->dims);
    if (y.count == 0) return y;
    do plain_copy(&y, at++, c->in, place(c->run, c->in, r, index));
    while (plain_next(index, r->rank, r->dims));
    return y;
}

static plain_array copied(const plain_call *c) {
    plain_array y = plain_new(c->run, c->in->dtype, c->in->rank, c->in->dims);
    memcpy(y.data, c->in->data, (size_t)y.count * plain_size(y.dtype));
    return y;
}

static void writing(const plain_call *c, plain_array *y, const plain_array *source,
                    const reach *r) {
    int64_t index[MLX_MAX_RANK] = {0}, at = 0;
    if (source->dtype != y->dtype || source->rank != r->rank ||
        memcmp(source->dims, r->dims, (size_t)r->rank * sizeof *r->dims) != 0)
        plain_refuse(c->run, "a source that does not fit its place");
    if (source->count == 0) return;
    do plain_copy(y, place(c->run, y, r, index), source, at++);
    while (plain_next(index, r->rank, r->dims));
}

// Shapes ----------------------------------------------------------------------------------------

plain_array plain_contiguous(const plain_call *c) { return *c->in; }

plain_array plain_reshape(const plain_call *c) {
    plain_array y = plain_new(c->run, c->in->dtype, (int32_t)c->int_count, c->ints);
    if (y.count != c->in->count) plain_refuse(c->run, "a shape of another count");
    y.data = c->in->data;
    return y;
}

plain_array plain_broadcast_to(const plain_call *c) {
    reach r = {.rank = (int32_t)c->int_count};
    int64_t strides[MLX_MAX_RANK];
    int32_t skip = r.rank - c->in->rank;
    if (skip < 0) plain_refuse(c->run, "broadcast to fewer axes");
    plain_strides(c->in, strides);
    for (int32_t d = 0; d < r.rank; d++) {
        int64_t own = d < skip ? 1 : c->in->dims[d - skip];
        r.dims[d] = c->ints[d];
        if (own != 1 && own != r.dims[d]) plain_refuse(c->run, "broadcast to another length");
        r.strides[d] = own == 1 ? 0 : strides[d - skip];
    }
    return reading(c, &r);
}

plain_array plain_transpose(const plain_call *c) {
    reach r = {.rank = c->in->rank};
    int64_t strides[MLX_MAX_RANK];
    uint32_t seen = 0;
    plain_strides(c->in, strides);
    for (int32_t d = 0; d < r.rank && (size_t)r.rank == c->int_count; d++) {
        int64_t from = c->ints[d];
        if (from < 0 || from >= r.rank) plain_refuse(c->run, "an axis that there is not");
        seen |= 1u << from;
        r.dims[d] = c->in->dims[from];
        r.strides[d] = strides[from];
    }
    if (seen != (1u << r.rank) - 1) plain_refuse(c->run, "an order that leaves axes out");
    return reading(c, &r);
}

plain_array plain_as_strided(const plain_call *c) {
    reach r = {.rank = (int32_t)c->ints[1], .offset = c->ints[0]};
    for (int32_t d = 0; d < r.rank; d++) {
        r.dims[d] = c->ints[2 + d];
        r.strides[d] = c->ints[2 + r.rank + d];
    }
    return reading(c, &r);
}

// Slices ----------------------------------------------------------------------------------------

// From starts, stops and steps; what is below zero counts from the end.
static reach sliced(const plain_call *c, const plain_array *of) {
    reach r = {.rank = of->rank};
    int64_t strides[MLX_MAX_RANK];
    if (c->int_count != 3 * (size_t)of->rank) plain_refuse(c->run, "a slice of other axes");
    plain_strides(of, strides);
    for (int32_t d = 0; d < of->rank; d++) {
        int64_t start = c->ints[d], stop = c->ints[r.rank + d], step = c->ints[2 * r.rank + d];
        if (step == 0) plain_refuse(c->run, "a step of 0");
        if (start < 0) start += of->dims[d];
        if (stop < 0) stop += of->dims[d];
        int64_t way = step > 0 ? stop - start + step - 1 : stop - start + step + 1;
        r.dims[d] = way / step > 0 ? way / step : 0;
        r.strides[d] = strides[d] * step;
        r.offset += start * strides[d];
    }
    return r;
}

// The starts that an array holds, for some axes of `of`; the lengths are in r->dims.
static void start_at(const plain_call *c, reach *r, const plain_array *of,
                     const plain_array *starts, const int64_t *axes, int64_t count) {
    r->rank = of->rank;
    plain_strides(of, r->strides);
    if (starts->dtype != MLX_DTYPE_s32 || starts->rank != 1 || starts->count != count)
        plain_refuse(c->run, "starts that are no list of s32");
    for (int64_t i = 0; i < count; i++) {
        int64_t start = plain_index(starts, i), axis = axes[i];
        if (start < 0 || start + r->dims[axis] > of->dims[axis])
            plain_refuse(c->run, "a start out of bounds");
        r->offset += start * r->strides[axis];
    }
}

plain_array plain_slice(const plain_call *c) {
    reach r = sliced(c, c->in);
    return reading(c, &r);
}

plain_array plain_slice_at(const plain_call *c) {
    reach r = {0};
    int64_t count = c->ints[0];
    memcpy(r.dims, c->ints + 1 + count, (size_t)c->in->rank * sizeof *r.dims);
    start_at(c, &r, c->in, &c->in[1], c->ints + 1, count);
    return reading(c, &r);
}

plain_array plain_slice_update(const plain_call *c) {
    plain_array y = copied(c);
    reach r = sliced(c, &y);
    writing(c, &y, &c->in[1], &r);
    return y;
}

plain_array plain_slice_update_at(const plain_call *c) {
    plain_array y = copied(c);
    reach r = {0};
    memcpy(r.dims, c->in[1].dims, sizeof r.dims);
    start_at(c, &r, &y, &c->in[2], c->ints, (int64_t)c->int_count);
    writing(c, &y, &c->in[1], &r);
    return y;
}

plain_array plain_concatenate(const plain_call *c) {
    int64_t dims[MLX_MAX_RANK], axis = c->ints[0];
    memcpy(dims, c->in->dims, sizeof dims);
    dims[axis] = 0;
    for (uint32_t o = 0; o < c->count; o++) dims[axis] += c->in[o].dims[axis];
    plain_array y = plain_new(c->run, c->in->dtype, c->in->rank, dims);
    reach r = {.rank = y.rank};
    plain_strides(&y, r.strides);
    for (uint32_t o = 0; o < c->count; o++) {
        memcpy(r.dims, dims, sizeof dims);
        r.dims[axis] = c->in[o].dims[axis];
        writing(c, &y, &c->in[o], &r);
        r.offset += r.dims[axis] * r.strides[axis];
    }
    return y;
}
