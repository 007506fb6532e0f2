// SPDX-License-Identifier: Apache-2.0
// shape.h - axis lengths: counting, strides, broadcasting, printing.
#ifndef EMLX_BASE_SHAPE_H
#define EMLX_BASE_SHAPE_H

#include "emlx.h"

// Room for any shape printed by shape_print.
#define SHAPE_TEXT 352

bool shape_equal(const emlx_shape *a, const emlx_shape *b);
// Row-major strides, in elements.
void shape_strides(const emlx_shape *shape, int64_t strides[EMLX_MAX_RANK]);
// "{2, 3}"; returns `text`.
const char *shape_print(const emlx_shape *shape, char text[SHAPE_TEXT]);
// Combines two shapes aligned at their last axes, length 1 stretching; false when they do not fit.
bool shape_broadcast(const emlx_shape *a, const emlx_shape *b, emlx_shape *out);

// Whether an axis of `dim` elements, `inner` apart, goes on where the next element of the axis
// around it, `outer` apart, begins: both are stepped through as one.
static inline bool axes_are_one(int64_t outer, int64_t inner, int64_t dim) {
    return outer == inner * dim;
}

// The axes that an array is walked along, the outermost first: those of length 1 are left out, and
// neighbours that are stepped through as one are one. Begins as {.count = 1}.
typedef struct axis_list {
    int64_t count; // of elements
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK], strides[EMLX_MAX_RANK];
} axis_list;

// Adds an axis inside of those so far.
void axes_add(axis_list *axes, int64_t dim, int64_t stride);
// Whether one step leads through all of them; *step stays as it is where there are none.
bool axes_step(const axis_list *axes, int64_t *step);

// Whether these strides are those of an array whose elements lie one after another.
bool shape_is_dense(const emlx_shape *shape, const int64_t *strides);

// The failure of an index that is outside of axis axes[which], as Nx words it: the axes are counted
// with the indexed ones, of which there are `count` in ascending order, in front of the others. An
// unsigned index is the number that its bits are without a sign.
emlx_status shape_bad_index(const emlx_shape *shape, const int32_t *axes, int32_t count,
                            int32_t which, int64_t index, bool is_unsigned, emlx_error *err);

// Sets *out to a * b; false when it does not fit. For lengths and sizes of any origin.
static inline bool size_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
// The next multiple.
static inline int64_t round_up(int64_t count, int64_t of) { return (count + of - 1) / of * of; }

#endif
