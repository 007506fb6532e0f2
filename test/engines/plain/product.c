// SPDX-License-Identifier: Apache-2.0
// product.c - contractions and convolutions: sums of products, term by term.
#include "plain.h"

// A sum of products. Integers are summed in 64 bits, of which the low ones are right.
typedef struct terms {
    uint64_t whole;
    long double re, im;
} terms;

static void add_product(terms *sum, emlx_number x, emlx_number y) {
    long double a = x.as.f[0], b = x.as.f[1], c = y.as.f[0], d = y.as.f[1];
    switch (x.kind) {
    case EMLX_NUMBER_SIGNED:
    case EMLX_NUMBER_UNSIGNED: sum->whole += x.as.u * y.as.u; break;
    case EMLX_NUMBER_REAL: sum->re += a * c; break;
    case EMLX_NUMBER_COMPLEX:
        sum->re += a * c - b * d;
        sum->im += a * d + b * c;
        break;
    }
}

static emlx_number sum_of(emlx_type type, const terms *sum) {
    emlx_number out = {.kind = EMLX_NUMBER_UNSIGNED, .as.u = sum->whole};
    if (type_is_integer(type)) return out;
    out.kind = type_is_complex(type) ? EMLX_NUMBER_COMPLEX : EMLX_NUMBER_REAL;
    out.as.f[0] = (double)sum->re;
    out.as.f[1] = (double)sum->im;
    return out;
}

// Contractions -----------------------------------------------------------------------------------

static bool is_among(int32_t axis, const int32_t *axes, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == axis) return true;
    return false;
}

// The index of one side: batch axes and free axes come from the result's index, of which `free` is
// the first that is this side's; contracted axes from `inner`.
static int32_t side_index(const emlx_shape *shape, const dot_params *p, const int32_t *axes,
                          const int64_t *result, int32_t free, const int64_t *inner,
                          int64_t *index) {
    for (int32_t d = 0; d < shape->rank; d++) {
        if (d < p->batch)
            index[d] = result[d];
        else if (!is_among(d, axes, p->contracted))
            index[d] = result[free++];
    }
    for (int32_t i = 0; i < p->contracted; i++) index[axes[i]] = inner[i];
    return free;
}

emlx_status run_dot(node_run *r) {
    const dot_params *p = r->node->params;
    const array *x = &r->in[0], *y = &r->in[1];
    emlx_shape contracted = {.rank = p->contracted};
    for (int32_t i = 0; i < p->contracted; i++) contracted.dims[i] = x->shape->dims[p->left[i]];
    int64_t length = emlx_shape_count(&contracted);
    int64_t result[EMLX_MAX_RANK], inner[EMLX_MAX_RANK], left[EMLX_MAX_RANK], right[EMLX_MAX_RANK];
    for (int64_t i = 0; i < r->out.count; i++) {
        terms sum = {0};
        index_of(r->out.shape, i, result);
        for (int64_t n = 0; n < length; n++) {
            index_of(&contracted, n, inner);
            int32_t free = side_index(x->shape, p, p->left, result, p->batch, inner, left);
            side_index(y->shape, p, p->right, result, free, inner, right);
            add_product(&sum, rounded_to(r->out.type, array_get(x, position_of(x->shape, left))),
                        rounded_to(r->out.type, array_get(y, position_of(y->shape, right))));
        }
        array_set(&r->out, i, sum_of(r->out.type, &sum));
    }
    return EMLX_OK;
}

// Convolutions -----------------------------------------------------------------------------------

// One result: where it is, without regard to the order of its axes.
typedef struct conv_result {
    const node_run *r;
    const conv_params *p;
    int64_t image, filter, place[EMLX_MAX_RANK];
} conv_result;

static conv_result result_at(const node_run *r, int64_t position) {
    conv_result c = {.r = r, .p = r->node->params};
    int64_t index[EMLX_MAX_RANK];
    int32_t spatial = r->out.shape->rank - 2, channels = c.p->channels_last ? spatial + 1 : 1;
    index_of(r->out.shape, position, index);
    c.image = index[0];
    c.filter = index[channels];
    for (int32_t d = 0; d < spatial; d++) c.place[d] = index[d + (c.p->channels_last ? 1 : 2)];
    return c;
}

// The axis of the input that kernel position `j` of axis `d` reads, or -1: padding, or between
// elements that are spread out.
static int64_t input_place(const conv_result *c, int32_t d, int64_t j) {
    const conv_params *p = c->p;
    int64_t at = c->place[d] * p->strides[d] + j * p->kernel_dilation[d] - p->low[d];
    if (at < 0 || at % p->input_dilation[d] != 0) return -1;
    at /= p->input_dilation[d];
    return at < c->r->in[0].shape->dims[d + 2] ? at : -1;
}

// Adds the terms of one channel.
static void add_channel(const conv_result *c, int64_t image, int64_t channel, int64_t own,
                        terms *sum) {
    const array *x = &c->r->in[0], *kernel = &c->r->in[1];
    emlx_shape window = *kernel->shape;
    window.dims[0] = window.dims[1] = 1;
    int64_t there[EMLX_MAX_RANK], at[EMLX_MAX_RANK] = {image, channel};
    for (int64_t n = 0; n < emlx_shape_count(&window); n++) {
        bool inside = true;
        index_of(&window, n, there);
        for (int32_t d = 2; d < window.rank && inside; d++) {
            at[d] = input_place(c, d - 2, there[d]);
            inside = at[d] >= 0;
        }
        there[0] = c->filter;
        there[1] = own;
        if (inside)
            add_product(
                sum, rounded_to(c->r->out.type, array_get(x, position_of(x->shape, at))),
                rounded_to(c->r->out.type, array_get(kernel, position_of(kernel->shape, there))));
    }
}

emlx_status run_conv(node_run *r) {
    const conv_params *p = r->node->params;
    int64_t filters = r->in[1].shape->dims[0], channels = r->in[1].shape->dims[1];
    int64_t images = r->in[0].shape->dims[0] / p->batch_groups;
    for (int64_t i = 0; i < r->out.count; i++) {
        conv_result c = result_at(r, i);
        int64_t features = c.filter / (filters / p->feature_groups);
        int64_t batch = c.filter / (filters / p->batch_groups);
        terms sum = {0};
        for (int64_t own = 0; own < channels; own++)
            add_channel(&c, c.image + batch * images, features * channels + own, own, &sum);
        array_set(&r->out, i, sum_of(r->out.type, &sum));
    }
    return EMLX_OK;
}
