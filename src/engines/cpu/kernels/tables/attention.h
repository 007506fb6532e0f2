// SPDX-License-Identifier: Apache-2.0
// attention.h - what attention does with its scores.
#ifndef EMLX_CPU_TABLES_ATTENTION_H
#define EMLX_CPU_TABLES_ATTENTION_H

#include "engines/cpu/kernels/tables/product.h"

// Rows of scores of attention, in f32.
typedef struct attention_fns {
    // x[i] = x[i] * by + added[i], which may be NULL; gives the largest, NaNs aside.
    float (*scale)(float *x, float by, const float *added, size_t n);
    // x[i] = -infinity where seen[i] is 0; gives the largest, NaNs aside.
    float (*hide)(float *x, const uint8_t *seen, size_t n);
    // x[i] = exp(x[i] - most), where no x[i] is above `most`; gives the sum.
    float (*powers)(float *x, float most, size_t n);
    void (*multiply)(float *x, float by, size_t n);
    // Lines of numbers >= 0, `step` apart, each as a sum of two numbers of bf16 of 16 digits in
    // all: two panels of that form, in which what the lines have not got is 0.
    void (*split)(const float *x, int64_t step, size_t lines, size_t terms, const panel_form *form,
                  uint16_t *high, uint16_t *low);
    // Whether all are numbers of bf16 that dot instructions take as they are, and what twice one of
    // them is as well, a part and a rest of a weight. Numbers below the normal ones are 0 to them.
    bool (*plain)(const uint16_t *x, size_t n);
} attention_fns;

#ifdef LEVEL
extern const attention_fns KERNEL(attention, table);
#endif

#endif
