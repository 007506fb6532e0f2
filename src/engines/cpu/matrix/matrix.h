// SPDX-License-Identifier: Apache-2.0
// matrix.h - contractions as batches of products of matrices, and the ways to compute them.
#ifndef EMLX_CPU_MATRIX_H
#define EMLX_CPU_MATRIX_H

#include "engines/cpu/kernels/tables/packed.h"
#include "engines/cpu/run.h"

// One side as matrices: element (b, r, c) of batch b, row r, column c. Columns are contracted.
typedef struct side {
    const char *data;
    emlx_type type;
    axis_list batch, row, column;
    int64_t rows, columns;
    int64_t row_step, column_step; // when the matrix is two strides; see side_steps
    void *packed;
    size_t packed_size;
    const struct packed_side *weights; // of few bits: rows are read through it
} side;

typedef struct dot_work {
    const cpu_run *run;
    emlx_type type;     // in which it is computed
    emlx_type out_type; // of the result
    side left, right;
    int64_t batches, m, n, k;
    char *out;
    int64_t row_block, row_blocks, column_block, column_blocks;
} dot_work;

// Reads the axes of an operand; those at `contracted` become columns.
void side_find(const cpu_run *run, uint32_t operand, const int32_t *contracted, side *s);
// Whether the matrix is two strides: fills in row_step and column_step.
bool side_steps(side *s);
// Copies a side into dense [batch, row, column] of a type. What it was copied to goes with
// side_clear.
emlx_status side_pack(const dot_work *w, side *s, emlx_type type, emlx_error *err);
void side_clear(side *s);
// First element of a batch's matrix.
static inline const char *side_batch(const side *s, int64_t batch) {
    int64_t offset = axes_offset(&s->batch, batch);
    return s->data + offset * (int64_t)emlx_type_size(s->type);
}

// Rows of weights of few bits. See values.c.
typedef struct packed_side {
    const packed_info *info;
    const packed_fns *fns;
    const char *bits;
    int64_t row_bytes, groups, group; // groups of a row
    float *scale, *bias;              // [row][group], with PACKED_ROOM numbers more
} packed_side;

// `count` values of a row from `at` on, in f32; at is a multiple of PACKED_CHUNK, and so is count
// but at the row's end.
void packed_values_of(const packed_side *s, int64_t row, int64_t at, int64_t count, float *to);

// Computes the whole product, the result's rounding included.
bool product_can(const dot_work *w);
emlx_status product_multiply(dot_work *w, emlx_error *err);

// Products that have begun. What is left of one is tasks, none where all is done; they are to be
// run in order, and then the product is ended, with the status that they had.
typedef struct product_tasks {
    int64_t count;
    pool_body body;
    void *work;
} product_tasks;

// A matrix and a few vectors. See vector.c.
typedef struct vector_work {
    const dot_work *w;
    const struct vector_fns *fns;
    const side *matrix;
    side *vectors;
    bool across; // the terms of a line lie side by side
    int64_t few, lines, line_block, line_blocks, part, parts;
    size_t size; // of a sum
    char *sums;  // [part][batch][vector][line]
} vector_work;

bool vector_can(const dot_work *w);
emlx_status vector_begin(dot_work *w, vector_work *v, product_tasks *tasks, emlx_error *err);
emlx_status vector_end(vector_work *v, emlx_status status);

// Dense operands. See dot.c.
typedef struct dense_product {
    dot_work dot;
    vector_work vector;
} dense_product;

emlx_status dense_begin(const cpu_run *run, dense_product *p, product_tasks *tasks,
                        emlx_error *err);
emlx_status dense_end(dense_product *p, emlx_status status);

// Packed weights. See packed.c.
typedef struct packed_product {
    dot_work dot;
    packed_side side;
    packed_kind kind;
    const packed_info *info;
    const char *x;           // dense
    const char *given[3];    // packed weights, dense
    const char *operands[3]; // the same, with scales that are read
    emlx_type types[3];
    void *memory; // of what follows
    size_t bytes;
    char *vectors; // as packed_fns want them
    float *sums;   // [vector][row]
    size_t vector_bytes;
    int64_t rows_a_task;
    task_errors errors;
} packed_product;

emlx_status packed_begin(const cpu_run *run, packed_product *p, product_tasks *tasks,
                         emlx_error *err);
emlx_status packed_end(packed_product *p, emlx_status status, emlx_error *err);

#endif
