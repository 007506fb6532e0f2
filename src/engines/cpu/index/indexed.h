// SPDX-License-Identifier: Apache-2.0
// indexed.h - slices of an array at computed indices, which gather copies and scatter combines.
#ifndef EMLX_CPU_INDEXED_H
#define EMLX_CPU_INDEXED_H

#include "engines/cpu/run.h"

// A slice of a dense array: its axes other than the indexed ones. Slices are walked as rows along
// the last of those axes.
typedef struct slices {
    int64_t strides[EMLX_MAX_RANK]; // of the indexed axes, in elements
    int64_t limits[EMLX_MAX_RANK];
    axis_list others;     // the other axes, without the last
    int64_t length, step; // of the last
    int64_t rows;
    size_t size; // bytes of an element
    const emlx_shape *shape;
    indexing how; // the indices
} slices;

// Of operand 0 of a kernel. `window` has the lengths of the other axes, which may be less than the
// operand's; NULL: the same.
void find_slices(const plan_kernel *k, const int64_t *window, emlx_type type, slices *s);
// Where the slice at some indices begins.
emlx_status slice_offset(const slices *s, const int64_t *indices, int64_t *offset, emlx_error *err);
// Several tasks find bad indices; the first in order is reported. Less than 0 is none yet.
static inline void note_lowest(atomic_llong *lowest, int64_t position) {
    long long seen = atomic_load(lowest);
    while (seen < 0 || position < seen)
        if (atomic_compare_exchange_weak(lowest, &seen, position)) return;
}

static inline int64_t row_offset(const slices *s, int64_t row) {
    return axes_offset(&s->others, row);
}

#endif
