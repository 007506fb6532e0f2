// SPDX-License-Identifier: Apache-2.0
// packed.h - products of weights of few bits and vectors.
#ifndef EMLX_CPU_TABLES_PACKED_H
#define EMLX_CPU_TABLES_PACKED_H

#include "engines/cpu/kernels/tables/elements.h"
#include "graph/packed.h"

// Rows of packed weights (graph/packed.def) and vectors. An element's value is code * scale + bias,
// with a scale and a bias for each group of a row; what the codes are, product/packed.h says.
typedef struct packed_row {
    const uint8_t *bits;
    const float *scale, *bias;
} packed_row;

enum { PACKED_CHUNK = 64, PACKED_VECTORS = 4 };

// `terms` and positions are multiples of PACKED_CHUNK.
typedef struct packed_fns {
    // A vector in the form that `dot` reads, and the bytes that it takes.
    size_t (*bytes)(int64_t terms, int64_t group);
    void (*prepare)(void *to, const float *x, int64_t terms, int64_t group);
    // Values `at` to at + PACKED_CHUNK - 1 of a row.
    void (*values)(float *to, const uint8_t *row, int64_t at, const float *scale, const float *bias,
                   int64_t group);
    // sums[v] = the row times vector v, for up to PACKED_VECTORS of them.
    void (*dot)(const packed_row *row, int64_t terms, int64_t group, const void *const *vectors,
                int count, float *sums);
} packed_fns;

// Of the levels that have dot instructions.
#define CPU_LEVEL(...)
#define CPU_DOTS(name, ...) extern const packed_fns name##_packed_table[PACKED_COUNT];
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
#undef CPU_DOTS

#ifdef LEVEL
extern const packed_fns KERNEL(packed, table)[PACKED_COUNT];
#endif

#endif
