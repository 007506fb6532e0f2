// SPDX-License-Identifier: Apache-2.0
// conv.h - direct convolutions.
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

#ifdef LEVEL
extern const conv_fns KERNEL(conv, table)[EMLX_TYPE_COUNT];
extern const conv_fns KERNEL(conv, quick);
#endif

#endif
