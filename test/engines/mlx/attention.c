// SPDX-License-Identifier: Apache-2.0
// attention.c - instructions of the plain adapter for rotary positions and attention.
#include <math.h>
#include <string.h>

#include "engines/mlx/plain.h"

static double real_of(int64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static double at(const plain_array *a, int64_t i) { return plain_get(a, i).as.f[0]; }

// Of a row of the last axis: the other element of a pair, and whether it is the second of them.
static int64_t partner(int64_t e, int64_t dims, bool traditional, bool *second, int64_t *pair) {
    int64_t half = dims / 2;
    *second = traditional ? e % 2 == 1 : e >= half;
    *pair = traditional ? e / 2 : e % half;
    if (traditional) return *second ? e - 1 : e + 1;
    return *second ? e - half : e + half;
}

plain_array plain_rope(const plain_call *c) {
    const plain_array *x = c->in;
    int64_t size = x->dims[x->rank - 1], length = x->dims[x->rank - 2], dims = c->ints[0];
    double base = real_of(c->ints[2]), scale = real_of(c->ints[3]);
    if (x->rank < 3 || c->in[1].rank != 0) plain_refuse(c->run, "rope of %d axes", x->rank);
    double offset = (double)plain_index(&c->in[1], 0);
    plain_array y = plain_new(c->run, x->dtype, x->rank, x->dims);
    for (int64_t i = 0; i < y.count; i++) {
        int64_t e = i % size, position = i / size % length, pair;
        bool second;
        if (e >= dims) {
            plain_set(&y, i, plain_get(x, i));
            continue;
        }
        double other = at(x, i - e + partner(e, dims, c->ints[1] != 0, &second, &pair));
        double period =
            c->count > 2 ? at(&c->in[2], pair) : pow(base, 2 * (double)pair / (double)dims);
        double angle = (offset + (double)position) * scale / period;
        double turned = at(x, i) * cos(angle) + (second ? other : -other) * sin(angle);
        plain_set(&y, i, plain_real(turned));
    }
    return y;
}

// One query's scores into `scores`, as their softmax.
static void weigh(const plain_call *c, int64_t b, int64_t h, int64_t q, double *scores) {
    const plain_array *in = c->in;
    int64_t size = in->dims[3], keys = in[1].dims[2], groups = in[1].dims[1];
    int64_t g = h / (in->dims[1] / groups), last = keys - in->dims[2] + q;
    double most = c->ints[2] ? at(&in[3], h) : -INFINITY, sum = 0;
    for (int64_t k = 0; k < keys; k++) {
        scores[k] = 0;
        for (int64_t e = 0; e < size; e++)
            scores[k] += at(in, ((b * in->dims[1] + h) * in->dims[2] + q) * size + e) *
                         at(&in[1], ((b * groups + g) * keys + k) * size + e);
        scores[k] = c->ints[1] && k > last ? -INFINITY : scores[k] * real_of(c->ints[0]);
        most = fmax(most, scores[k]);
    }
    for (int64_t k = 0; k < keys; k++) sum += scores[k] = exp(scores[k] - most);
    if (c->ints[2]) sum += exp(at(&in[3], h) - most);
    for (int64_t k = 0; k < keys; k++) scores[k] /= sum;
}

plain_array plain_attention(const plain_call *c) {
    const plain_array *in = c->in, *v = &c->in[2];
    int64_t keys = v->dims[2], width = v->dims[3], heads = in->dims[1], queries = in->dims[2];
    const int64_t dims[] = {in->dims[0], heads, queries, width};
    double *weights = plain_memory(c->run, (size_t)keys * sizeof *weights);
    plain_array y = plain_new(c->run, in->dtype, 4, dims);
    for (int64_t row = 0; row < dims[0] * heads * queries; row++) {
        int64_t b = row / queries / heads, h = row / queries % heads;
        int64_t g = h / (heads / v->dims[1]);
        weigh(c, b, h, row % queries, weights);
        for (int64_t w = 0; w < width; w++) {
            double sum = 0;
            for (int64_t k = 0; k < keys; k++)
                sum += weights[k] * at(v, ((b * v->dims[1] + g) * keys + k) * width + w);
            plain_set(&y, row * width + w, plain_real(sum));
        }
    }
    return y;
}
