// SPDX-License-Identifier: Apache-2.0
// attention.h - what attention does with its scores.
#ifndef EMLX_CPU_TABLES_ATTENTION_H
#define EMLX_CPU_TABLES_ATTENTION_H

#include "engines/cpu/kernels/tables/elements.h"

// Rows of scores of attention, in f32.
typedef struct attention_fns {
    // x[i] = x[i] * by + added[i], which may be NULL; gives the largest, NaNs aside.
    float (*scale)(float *x, float by, const float *added, size_t n);
    // x[i] = -infinity where seen[i] is 0; gives the largest, NaNs aside.
    float (*hide)(float *x, const uint8_t *seen, size_t n);
    // x[i] = exp(x[i] - most), where no x[i] is above `most`; gives the sum.
    float (*powers)(float *x, float most, size_t n);
    void (*multiply)(float *x, float by, size_t n);
    // Each x[i] >= 0 as a sum of two numbers of bf16, 16 digits in all.
    void (*split)(const float *x, uint16_t *high, uint16_t *low, size_t n);
} attention_fns;

#ifdef LEVEL
extern const attention_fns KERNEL(attention, table);
#endif

#endif
