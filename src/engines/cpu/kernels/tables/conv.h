// SPDX-License-Identifier: Apache-2.0
// conv.h - convolutions: the inner loops of direct ones, and results of floats in registers.
#ifndef EMLX_CPU_TABLES_CONV_H
#define EMLX_CPU_TABLES_CONV_H

#include "engines/cpu/kernels/tables/elements.h"

// The inner loops of direct convolutions.
typedef struct conv_fns {
    emlx_type sum; // of the accumulators
    // acc[i] += sum over t of weights[t] * x[t][i * step]. Weights are doubles for floats, uint64_t
    // for integers.
    void (*rows)(void *acc, const void *const *x, const void *weights, size_t count, int64_t step,
                 size_t n);
    // acc[i] += sum over t of weights[t][i] * x[t][i]
    void (*products)(void *acc, const void *const *x, const void *const *weights, size_t count,
                     size_t n);
} conv_fns;

// Some filters at `width` neighbouring places: sums[f * step + i] becomes or, with `add`, grows by
// the sum over t of weights[t * filters + f] * x[terms[t] + i].
typedef struct conv_block {
    int64_t filters, width;
    void (*sum)(const void *weights, const void *x, const int64_t *terms, int64_t count, void *sums,
                int64_t step, bool add);
} conv_block;

// Rows of `length` terms: for each, `filters` weights, side by side in `w`, and an element of each
// place, at x + places[p] + x_rows[r].
typedef struct conv_rows {
    const void *w, *x;
    const int64_t *x_rows, *places;
    int64_t count, length;
} conv_rows;

// Some filters at `places` places: sums[p * filters + f] grows by the sum over all rows.
typedef struct conv_long {
    int64_t filters, places;
    void (*sum)(const conv_rows *rows, void *sums);
} conv_long;

enum { CONV_BLOCKS = 5, CONV_MOST_FILTERS = 8, CONV_MOST_WIDTH = 128, CONV_LONG = 3 };

typedef struct conv_tiles {
    conv_block blocks[CONV_BLOCKS]; // of most filters first; the last is of one
    conv_long sums[CONV_LONG];      // of most filters first
} conv_tiles;

#ifdef LEVEL
extern const conv_fns KERNEL(conv, table)[EMLX_TYPE_COUNT];
extern const conv_fns KERNEL(conv, quick);
extern const conv_tiles KERNEL(conv, tiles)[2];
#endif

#endif
