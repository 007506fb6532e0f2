// SPDX-License-Identifier: Apache-2.0
// fold.h - folds of rows and columns, and running ones.
#ifndef EMLX_CPU_TABLES_FOLD_H
#define EMLX_CPU_TABLES_FOLD_H

#include "engines/cpu/kernels/tables/elements.h"
#include "graph/scalar.h"

// A fold. Accumulators are wider than the elements where that keeps digits: f64 for f32, a pair of
// f64 (compensated) for the sum of f64; integers wrap in their own type. Arg-reductions hold the
// best value and its index. The result of a fold does not depend on how often and where `merge`
// is called, as long as that is the same each time.
typedef struct reduce_fns {
    size_t accumulator; // bytes of one
    // acc[i] = nothing folded yet.
    void (*init)(void *acc, size_t n);
    // Folds row r, of `length` contiguous elements, into acc[r]. `index` is that of the first
    // element of every row in its fold (for arg-reductions).
    void (*rows)(void *acc, const void *x, size_t rows, size_t length, int64_t index);
    // Folds element c of row r into acc[c], for all r in order; rows begin `step` elements apart,
    // and `index` is that of row 0.
    void (*columns)(void *acc, const void *x, size_t rows, size_t columns, int64_t step,
                    int64_t index);
    // Folds other[i], which comes later in order, into acc[i].
    void (*merge)(void *acc, const void *other, size_t n);
    // Writes the results in the element type of the table entry (rounded once), or as s64
    // indices for arg-reductions.
    void (*finish)(void *dst, const void *acc, size_t n);
} reduce_fns;

// Windows along a row: dst[i] = the fold, in order, of x[places[k] + i * step] for k < count, as
// `finish` gives it. Of the places, `run` at a time are neighbours.
typedef void (*window_fn)(void *dst, const void *x, const int64_t *places, size_t count, size_t n,
                          int64_t step, size_t run);

// Running folds of up to SCAN_COLUMNS columns side by side: element c of row r becomes the fold of
// column c over rows 0 to r. Rows are `stride` elements apart, which may be negative. `state`, of
// SCAN_STATE bytes, is what was folded so far where the fold does not begin here.
typedef void (*scan_fn)(void *dst, const void *src, int64_t rows, int64_t stride, size_t columns,
                        void *state, bool begin);
enum { SCAN_COLUMNS = 512, SCAN_STATE = SCAN_COLUMNS * 16 };

// By kind of fold, sum to min, and element type; NULL where there is none. One for all CPU levels,
// since a running fold waits for the step before it.
extern const scan_fn cpu_scans[REDUCE_COUNT][EMLX_TYPE_COUNT];

#ifdef LEVEL
extern const reduce_fns KERNEL(reduce, table)[REDUCE_COUNT][EMLX_TYPE_COUNT];
extern const window_fn KERNEL(window, table)[REDUCE_COUNT][EMLX_TYPE_COUNT];
#endif

#endif
