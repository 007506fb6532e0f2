// SPDX-License-Identifier: Apache-2.0
// packed.h - products of weights of few bits and vectors.
#ifndef EMLX_CPU_TABLES_PACKED_H
#define EMLX_CPU_TABLES_PACKED_H

#include "engines/cpu/kernels/tables/elements.h"
#include "graph/packed.h"

// Rows of packed weights (graph/packed.def). An element's value is code * scale + bias, with a
// scale and a bias for each group of a row; what the codes are, product/packed.h says.
typedef struct packed_rows {
    const uint8_t *bits;                     // of the first row
    int64_t row_bytes, terms, group, groups; // the last: of a row
    const float *scale, *bias;               // [row][group], with PACKED_ROOM numbers more
    const void *scales, *biases; // the same where they lie apart, as they are: f32, f16, bf16 or u8
    emlx_type type;              // of these
} packed_rows;

enum { PACKED_CHUNK = 64, PACKED_VECTORS = 4, PACKED_ROOM = 16 };

typedef struct packed_fns {
    // A vector in the form that `dot` reads, and the bytes that it takes.
    size_t (*bytes)(int64_t terms, int64_t group);
    void (*prepare)(void *to, const float *x, int64_t terms, int64_t group);
    // Of a row's groups, where they lie among the elements; else NULL.
    void (*scales)(const uint8_t *row, int64_t groups, float *scale, float *bias);
    // Values `at` to at + PACKED_CHUNK - 1 of a row, `at` being a multiple of that.
    void (*values)(float *to, const uint8_t *row, int64_t at, const float *scale, const float *bias,
                   int64_t group);
    // sums[v * step + r] = row r times vector v, for `count` rows and up to PACKED_VECTORS vectors.
    void (*dot)(const packed_rows *rows, int64_t count, const void *const *vectors,
                int vector_count, float *sums, int64_t step);
    // Up to this many vectors `dot` is quicker than to unpack all rows first.
    int64_t most;
    bool reads_scales; // `dot` wants no `scale` and `bias`, but reads them where they are
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
