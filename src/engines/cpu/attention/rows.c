// SPDX-License-Identifier: Apache-2.0
// rows.c - one row of attention: masks, the running softmax, and the result.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/types.h"
#include "engines/cpu/attention/attention.h"

// Elements `stride` apart, converted.
static void load_span(const char *from, emlx_type type, int64_t stride, tile_fn convert, void *to,
                      size_t to_size, int64_t n) {
    int64_t size = (int64_t)type_size(type);
    if (stride == 1) {
        convert(to, from, NULL, NULL, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        convert((char *)to + (size_t)i * to_size, from + i * stride * size, NULL, NULL, 1);
}

void load_row(const attention *a, const operand *o, int64_t b, int64_t h, int64_t t, int64_t first,
              int64_t n, float *to) {
    tile_fn cast = a->run->kernels->cast[o->type][EMLX_F32];
    const char *from = operand_at(o, b, h, t) + first * o->strides[3] * (int64_t)type_size(o->type);
    load_span(from, o->type, o->strides[3], cast, to, sizeof *to, n);
}

int64_t row_limit(const attention *a, int64_t pair, int64_t row) {
    int64_t limit = a->limits[pair / a->groups];
    if (limit >= a->keys) return a->keys;
    limit += row % a->queries;
    return limit < 0 ? 0 : least(limit, a->keys);
}

row_sum row_begin(const attention *a, int64_t pair, int64_t row) {
    if (a->sinks == NULL) return (row_sum){-INFINITY, 0};
    return (row_sum){a->sinks[row_head(a, pair, row)], 1};
}

// The mask's truth values, or numbers, for a row and some keys.
static void load_mask(const attention *a, const operand *o, int64_t pair, int64_t row,
                      int64_t first, int64_t n, bool truth, void *to) {
    const char *from = operand_at(o, pair / a->groups, row_head(a, pair, row), row % a->queries) +
                       first * o->strides[3] * (int64_t)type_size(o->type);
    const cpu_kernels *kernels = a->run->kernels;
    tile_fn convert = truth ? cpu_scalar(kernels, SCALAR_truth, type_compute(o->type))
                            : kernels->cast[o->type][EMLX_F32];
    load_span(from, o->type, o->strides[3], convert, to, truth ? 1 : sizeof(float), n);
}

// Which of some keys the masks let a row see; false where there is no such mask.
static bool load_seen(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t n,
                      uint8_t *seen) {
    const operand *masks[] = {&a->mask, &a->key_mask};
    uint8_t more[KEY_BLOCK];
    bool any = false;
    for (int m = 0; m < 2; m++) {
        if (masks[m]->data == NULL || !type_is_integer(masks[m]->type)) continue;
        load_mask(a, masks[m], pair, row, first, n, true, any ? more : seen);
        for (int64_t i = 0; i < n && any; i++) seen[i] &= more[i];
        any = true;
    }
    return any;
}

// Scores of products with some keys. What is not seen is -infinity; gives the largest.
static float score(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t n,
                   float *x) {
    float added[KEY_BLOCK];
    uint8_t seen[KEY_BLOCK];
    bool adds = a->mask.data != NULL && !type_is_integer(a->mask.type);
    if (adds) load_mask(a, &a->mask, pair, row, first, n, false, added);
    float most = a->fns->scale(x, a->scale, adds ? added : NULL, (size_t)n);
    if (!load_seen(a, pair, row, first, n, seen)) return most;
    return a->fns->hide(x, seen, (size_t)n);
}

// How many of `count` keys from `first` on the row sees.
static int64_t seen_keys(const attention *a, int64_t pair, int64_t row, int64_t first,
                         int64_t count) {
    int64_t n = row_limit(a, pair, row) - first;
    return n < 0 ? 0 : least(n, count);
}

float row_score(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t count,
                float *products) {
    int64_t n = seen_keys(a, pair, row, first, count);
    return n > 0 ? score(a, pair, row, first, n, products) : -INFINITY;
}

float row_weigh(const attention *a, int64_t pair, int64_t row, int64_t first, int64_t count,
                float most, float *scores, row_sum *so_far) {
    int64_t n = seen_keys(a, pair, row, first, count);
    if (most < so_far->most) most = so_far->most;
    if (most == -INFINITY) n = 0;
    memset(scores + n, 0, (size_t)(count - n) * sizeof *scores);
    if (n == 0) return 1;
    float before = so_far->most == most ? 1 : expf(so_far->most - most);
    so_far->sum = so_far->sum * (double)before + (double)a->fns->powers(scores, most, (size_t)n);
    so_far->most = most;
    return before;
}

// Rows that see nothing ---------------------------------------------------------------------------

// By the definition what is not seen has the lowest finite score, which matters where there is
// nothing higher.
enum { PIECE = 128 };

static float product_of(const attention *a, int64_t pair, int64_t row, int64_t key) {
    float x[PIECE], y[PIECE], sum = 0;
    int64_t b = pair / a->groups;
    for (int64_t i = 0; i < a->size; i += PIECE) {
        int64_t n = least(PIECE, a->size - i);
        load_row(a, &a->q, b, row_head(a, pair, row), row % a->queries, i, n, x);
        load_row(a, &a->k, b, pair % a->groups, key, i, n, y);
        for (int64_t e = 0; e < n; e++) sum += x[e] * y[e];
    }
    return sum;
}

static float score_of(const attention *a, int64_t pair, int64_t row, int64_t key) {
    uint8_t seen;
    float added = 0;
    bool adds = a->mask.data != NULL && !type_is_integer(a->mask.type);
    bool hidden = load_seen(a, pair, row, key, 1, &seen) && !seen;
    if (hidden) return -FLT_MAX;
    if (adds) load_mask(a, &a->mask, pair, row, key, 1, false, &added);
    if (key >= row_limit(a, pair, row)) return -FLT_MAX + added;
    return product_of(a, pair, row, key) * a->scale + added;
}

static void add_value(const attention *a, int64_t pair, int64_t key, float weight, float *sums) {
    float x[PIECE];
    for (int64_t i = 0; i < a->width; i += PIECE) {
        int64_t n = least(PIECE, a->width - i);
        load_row(a, &a->v, pair / a->groups, pair % a->groups, key, i, n, x);
        for (int64_t e = 0; e < n; e++) sums[i + e] += weight * x[e];
    }
}

// Whether no mask has a number, and none lets the row see a key.
static bool sees_nothing(const attention *a, int64_t pair, int64_t row) {
    uint8_t seen[KEY_BLOCK];
    int64_t limit = row_limit(a, pair, row);
    if (a->sinks != NULL || (a->mask.data != NULL && !type_is_integer(a->mask.type))) return false;
    for (int64_t first = 0; first < limit; first += KEY_BLOCK) {
        int64_t n = least(KEY_BLOCK, limit - first);
        if (!load_seen(a, pair, row, first, n, seen)) return false;
        for (int64_t i = 0; i < n; i++)
            if (seen[i]) return false;
    }
    return true;
}

static void attend_nothing(const attention *a, int64_t pair, int64_t row, float *sums) {
    bool equal = sees_nothing(a, pair, row);
    row_sum all = row_begin(a, pair, row);
    float most = equal ? 0 : all.most;
    double sum = 0;
    memset(sums, 0, (size_t)a->width * sizeof *sums);
    for (int64_t key = 0; key < a->keys && !equal; key++) {
        float x = score_of(a, pair, row, key);
        if (x > most || x != x) most = x;
    }
    for (int64_t key = 0; key < a->keys; key++) {
        float weight = equal ? 1 : expf(score_of(a, pair, row, key) - most);
        add_value(a, pair, key, weight, sums);
        sum += (double)weight;
    }
    if (a->sinks != NULL) sum += (double)expf(all.most - most);
    a->fns->multiply(sums, (float)(1 / sum), (size_t)a->width);
}

void row_finish(const attention *a, int64_t pair, int64_t row, const row_sum *all, float *sums) {
    int64_t h = row_head(a, pair, row), q = row % a->queries, b = pair / a->groups;
    int64_t at = ((b * a->heads + h) * a->queries + q) * a->width;
    if (all->most <= -FLT_MAX)
        attend_nothing(a, pair, row, sums);
    else
        a->fns->multiply(sums, (float)(1 / all->sum), (size_t)a->width);
    a->run->kernels->cast[EMLX_F32][a->out_type](a->out + at * (int64_t)type_size(a->out_type),
                                                 sums, NULL, NULL, (size_t)a->width);
}
