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

// Sets *out to a * b; false when it does not fit. For lengths and sizes of any origin.
static inline bool size_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

#endif
