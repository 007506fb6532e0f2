// SPDX-License-Identifier: Apache-2.0
// attention.h - attention in one pass: scores are made for a block of keys at a time, and what was
// added up of values before is scaled when a larger score turns up, so that there is never a matrix
// of all scores. What it computes is in graph.h. Everything is summed in f32.
#ifndef EMLX_CPU_ATTENTION_H
#define EMLX_CPU_ATTENTION_H

#include "engines/cpu/kernels/tables/attention.h"
#include "engines/cpu/run.h"

// Keys whose scores are made at a time, a whole number of any panel's lines.
enum { KEY_BLOCK = 384 };

// An operand of four axes; those that it repeats along have the stride 0. The data may be missing.
typedef struct operand {
    const char *data;
    emlx_type type;
    int64_t strides[4];
} operand;

// A pair is a batch and a group of heads that share keys and values. Its rows are the queries of
// its heads, one head after the other.
typedef struct attention {
    const cpu_run *run;
    const attention_fns *fns;
    float scale;
    int64_t batch, heads, groups, queries, keys, size, width;
    int64_t rows, pairs;
    operand q, k, v, mask, key_mask; // key_mask has an axis of heads and one of queries as well
    int64_t *limits;                 // by batch: how many keys query 0 sees, less than 1 too
    const float *sinks;              // by head, or NULL
    char *out;
    emlx_type out_type;
    task_errors errors;
} attention;

// The softmax of a row so far: the largest score, and the sum of the powers.
typedef struct row_sum {
    float most;
    double sum;
} row_sum;

static inline const char *operand_at(const operand *o, int64_t b, int64_t h, int64_t t) {
    int64_t offset = b * o->strides[0] + h * o->strides[1] + t * o->strides[2];
    return o->data + offset * (int64_t)emlx_type_size(o->type);
}
static inline int64_t row_head(const attention *a, int64_t pair, int64_t row) {
    return pair % a->groups * (a->heads / a->groups) + row / a->queries;
}

// `n` elements of the last axis, from `first` on, as f32.
void load_row(const attention *a, const operand *o, int64_t b, int64_t h, int64_t t, int64_t first,
              int64_t n, float *to);
// How many keys the row sees, masks aside.
int64_t row_limit(const attention *a, int64_t pair, int64_t row);
// What there is before the first key.
row_sum row_begin(const attention *a, int64_t pair, int64_t row);
// Turns products of a row with `count` keys from `first` on, at most KEY_BLOCK, into scores; gives
// the largest of those that it sees.
float row_score(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t count,
                float *products);
// Turns these scores into what the values are to be multiplied by. Gives what was added up of
// values before is to be multiplied by.
float row_weigh(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t count,
                float most, float *scores, row_sum *so_far);
// Writes the result of a row, of which the weighed values are the sums.
void row_finish(const attention *a, int64_t pair, int64_t row, const row_sum *all, float *sums);

// For few rows, which read keys and values where they are; and for many, in packed blocks.
emlx_status attend_few(attention *a, emlx_error *err);
emlx_status attend_blocks(attention *a, emlx_error *err);

#endif
