// SPDX-License-Identifier: Apache-2.0
// shape.c - making, counting, comparing, broadcasting and printing shapes.
#include "base/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

// The largest element has 16 bytes, and a tensor's bytes must fit in 63 bits.
#define COUNT_LIMIT (INT64_MAX / 16)

// Whether counts, byte sizes and strides of these lengths fit. A length of 0 counts as 1, because
// the strides of the axes before it are made of the others.
static bool lengths_fit(const int64_t *dims, int32_t rank) {
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++) {
        int64_t length = dims[i] == 0 ? 1 : dims[i];
        if (__builtin_mul_overflow(count, length, &count) || count > COUNT_LIMIT) return false;
    }
    return true;
}

emlx_status emlx_shape_make(const int64_t *dims, size_t rank, emlx_shape *shape, emlx_error *err) {
    REQUIRE_ITEMS(dims, rank);
    REQUIRE(shape);
    if (rank > EMLX_MAX_RANK) {
        return error_set(err, EMLX_INVALID, "shape has %zu axes, at most %d are supported", rank,
                         EMLX_MAX_RANK);
    }
    emlx_shape made = {.rank = (int32_t)rank};
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            return error_set(err, EMLX_INVALID,
                             "axis %zu has length %" PRId64 ", expected 0 or more", i, dims[i]);
        }
        made.dims[i] = dims[i];
    }
    if (!lengths_fit(made.dims, made.rank)) {
        char text[SHAPE_TEXT];
        return error_set(err, EMLX_INVALID,
                         "shape %.300s has too many elements, at most %" PRId64 " are supported",
                         shape_print(&made, text), (int64_t)COUNT_LIMIT);
    }
    *shape = made;
    return EMLX_OK;
}

int64_t emlx_shape_count(const emlx_shape *shape) {
    if (shape == NULL) return 0;
    int64_t count = 1;
    for (int32_t i = 0; i < shape->rank; i++) count *= shape->dims[i];
    return count;
}

bool shape_equal(const emlx_shape *a, const emlx_shape *b) {
    if (a->rank != b->rank) return false;
    return memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

void shape_strides(const emlx_shape *shape, int64_t strides[EMLX_MAX_RANK]) {
    int64_t stride = 1;
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= shape->dims[i];
    }
}

const char *shape_print(const emlx_shape *shape, char text[SHAPE_TEXT]) {
    size_t used = 1;
    memcpy(text, "{", 2);
    for (int32_t i = 0; i < shape->rank; i++) {
        int wrote = snprintf(text + used, SHAPE_TEXT - used, "%s%" PRId64, i == 0 ? "" : ", ",
                             shape->dims[i]);
        if (wrote < 0 || (size_t)wrote >= SHAPE_TEXT - used - 1) break;
        used += (size_t)wrote;
    }
    memcpy(text + used, "}", 2);
    return text;
}

// The length at an axis counted from the last one; axes before the first have length 1.
static int64_t length_from_end(const emlx_shape *shape, int32_t axis) {
    return axis < shape->rank ? shape->dims[shape->rank - 1 - axis] : 1;
}

bool shape_is_dense(const emlx_shape *shape, const int64_t *strides) {
    int64_t dense = 1;
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        if (shape->dims[d] > 1 && strides[d] != dense) return false;
        dense *= shape->dims[d];
    }
    return true;
}

void axes_add(axis_list *axes, int64_t dim, int64_t stride) {
    axes->count *= dim;
    if (dim == 1) return;
    int32_t last = axes->rank - 1;
    if (last >= 0 && axes_are_one(axes->strides[last], stride, dim)) {
        axes->dims[last] *= dim;
        axes->strides[last] = stride;
        return;
    }
    axes->dims[axes->rank] = dim;
    axes->strides[axes->rank++] = stride;
}

bool axes_step(const axis_list *axes, int64_t *step) {
    if (axes->rank == 1) *step = axes->strides[0];
    return axes->rank <= 1;
}

bool shape_broadcast(const emlx_shape *a, const emlx_shape *b, emlx_shape *out) {
    emlx_shape made = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int32_t axis = 0; axis < made.rank; axis++) {
        int64_t length_a = length_from_end(a, axis), length_b = length_from_end(b, axis);
        if (length_a != length_b && length_a != 1 && length_b != 1) return false;
        made.dims[made.rank - 1 - axis] = length_a == 1 ? length_b : length_a;
    }
    if (!lengths_fit(made.dims, made.rank)) return false;
    *out = made;
    return true;
}

emlx_status shape_bad_index(const emlx_shape *shape, const int32_t *axes, int32_t count,
                            int32_t which, int64_t index, bool is_unsigned, emlx_error *err) {
    char text[SHAPE_TEXT];
    emlx_shape front = {.rank = shape->rank};
    for (int32_t d = 0, indexed = 0; d < shape->rank; d++) {
        bool is_indexed = indexed < count && axes[indexed] == d;
        front.dims[is_indexed ? indexed : count + d - indexed] = shape->dims[d];
        indexed += is_indexed;
    }
    char number[24];
    if (is_unsigned)
        snprintf(number, sizeof number, "%" PRIu64, (uint64_t)index);
    else
        snprintf(number, sizeof number, "%" PRId64, index);
    return error_fault(err, EMLX_OUT_OF_BOUNDS, EMLX_FAULT_INDEX,
                       "index %s is out of bounds for axis %d in shape %s", number, which,
                       shape_print(&front, text));
}
