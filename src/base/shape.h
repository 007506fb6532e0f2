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

// The failure of an index that is outside of axis axes[which], as Nx words it: the axes are counted
// with the indexed ones, of which there are `count` in ascending order, in front of the others. An
// unsigned index is the number that its bits are without a sign.
emlx_status shape_bad_index(const emlx_shape *shape, const int32_t *axes, int32_t count,
                            int32_t which, int64_t index, bool is_unsigned, emlx_error *err);

// Sets *out to a * b; false when it does not fit. For lengths and sizes of any origin.
static inline bool size_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

#endif
