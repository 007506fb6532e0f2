// SPDX-License-Identifier: Apache-2.0
// whole.c - instructions of the plain adapter that are functions of whole rows.
#include <math.h>
#include <string.h>

#include "engines/mlx/plain.h"

// For each row that is folded over `axes` two sums over its elements.
typedef struct row_sums {
    int64_t strides[MLX_MAX_RANK]; // of an element's row
    double *first, *second;
} row_sums;

static row_sums rows_of(const plain_call *c, uint32_t axes) {
    row_sums r = {.first = plain_memory(c->run, (size_t)(c->in->count + 1) * sizeof *r.first),
                  .second = plain_memory(c->run, (size_t)(c->in->count + 1) * sizeof *r.second)};
    int64_t step = 1;
    for (int32_t d = c->in->rank; d-- > 0;) {
        r.strides[d] = axes >> d & 1 ? 0 : step;
        if (!(axes >> d & 1)) step *= c->in->dims[d];
    }
    return r;
}

typedef void (*row_fn)(row_sums *r, int64_t row, double x);

static void each_of(const plain_call *c, row_sums *r, row_fn fn) {
    int64_t index[MLX_MAX_RANK] = {0}, at = 0;
    if (c->in->count == 0) return;
    do fn(r, plain_dot(index, r->strides, c->in->rank), plain_get(c->in, at++).as.f[0]);
    while (plain_next(index, c->in->rank, c->in->dims));
}

static void take_largest(row_sums *r, int64_t row, double x) {
    if (!(x <= r->first[row])) r->first[row] = x;
}
static void add_exp(row_sums *r, int64_t row, double x) {
    r->second[row] += exp(x - r->first[row]);
}

static row_sums largest_and_sum(const plain_call *c, uint32_t axes) {
    row_sums r = rows_of(c, axes);
    for (int64_t i = 0; i < c->in->count; i++) r.first[i] = -INFINITY;
    each_of(c, &r, take_largest);
    each_of(c, &r, add_exp);
    return r;
}

plain_array plain_softmax(const plain_call *c) {
    uint32_t axes = 0;
    for (size_t i = 0; i < c->int_count; i++) axes |= 1u << c->ints[i];
    row_sums r = largest_and_sum(c, axes);
    plain_array y = plain_new(c->run, c->in->dtype, c->in->rank, c->in->dims);
    int64_t index[MLX_MAX_RANK] = {0}, at = 0;
    if (y.count == 0) return y;
    do {
        int64_t row = plain_dot(index, r.strides, y.rank);
        double x = plain_get(c->in, at).as.f[0];
        plain_set(&y, at++, plain_real(exp(x - r.first[row]) / r.second[row]));
    } while (plain_next(index, y.rank, y.dims));
    return y;
}

plain_array plain_logsumexp(const plain_call *c) {
    uint32_t axes = 0;
    int64_t dims[MLX_MAX_RANK];
    int32_t rank = 0;
    for (size_t i = 1; i < c->int_count; i++) axes |= 1u << c->ints[i];
    for (int32_t d = 0; d < c->in->rank; d++) {
        bool gone = axes >> d & 1;
        if (!gone || c->ints[0]) dims[rank++] = gone ? 1 : c->in->dims[d];
    }
    row_sums r = largest_and_sum(c, axes);
    plain_array y = plain_new(c->run, c->in->dtype, rank, dims);
    for (int64_t i = 0; i < y.count; i++) {
        bool infinite = isinf(r.first[i]);
        plain_set(&y, i, plain_real(infinite ? r.first[i] : r.first[i] + log(r.second[i])));
    }
    return y;
}

static void add_square(row_sums *r, int64_t row, double x) { r->second[row] += x * x; }
static void add_one(row_sums *r, int64_t row, double x) { r->first[row] += x; }

// Over the last axis; of layer_norm less the mean.
plain_array plain_norm(const plain_call *c) {
    double eps;
    memcpy(&eps, c->ints, sizeof eps);
    int32_t rank = c->in->rank;
    int64_t length = c->in->dims[rank - 1];
    row_sums r = rows_of(c, 1u << (rank - 1));
    plain_array y = plain_new(c->run, c->dtype, rank, c->in->dims);
    if (c->code == MLX_layer_norm) each_of(c, &r, add_one);
    for (int64_t i = 0; i < y.count; i++) {
        double x = plain_get(c->in, i).as.f[0] - r.first[i / length] / (double)length;
        add_square(&r, i / length, x);
    }
    for (int64_t i = 0; i < y.count; i++) {
        double x = plain_get(c->in, i).as.f[0] - r.first[i / length] / (double)length;
        x /= sqrt(r.second[i / length] / (double)length + eps);
        if (c->count > 1) x *= plain_get(&c->in[1], i % length).as.f[0];
        if (c->count > 2) x += plain_get(&c->in[2], i % length).as.f[0];
        plain_set(&y, i, plain_real(x));
    }
    return y;
}
