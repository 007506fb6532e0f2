// SPDX-License-Identifier: Apache-2.0
// indexed.c - elements at computed indices, and sorting.
#include <math.h>
#include <string.h>

#include "plain.h"

// Reads index vector `n` into the axes of `at`; fails where it is outside.
static emlx_status read_indices(const node_run *r, int64_t n, int64_t *at) {
    const indexing how = indexing_of((primitive)r->node->primitive, r->node->params);
    const emlx_shape *shape = r->in[0].shape;
    int64_t row[EMLX_MAX_RANK];
    bool outside = false;
    for (int32_t i = 0; i < how.count; i++) {
        row[i] = at[how.axes[i]] = array_get(&r->in[1], n * how.count + i).as.s;
        outside = outside || row[i] < 0 || row[i] >= shape->dims[how.axes[i]];
    }
    return outside ? index_error(&how, shape, row, r->err) : EMLX_OK;
}

static bool is_among(int32_t axis, const int32_t *axes, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == axis) return true;
    return false;
}

static emlx_status gather_along(node_run *r) {
    int64_t at[EMLX_MAX_RANK];
    const emlx_shape *shape = r->in[0].shape;
    for (int64_t i = 0; i < r->out.count; i++) {
        index_of(r->out.shape, i, at);
        TRY(read_indices(r, i, at));
        array_set(&r->out, i, array_get(&r->in[0], position_of(shape, at)));
    }
    return EMLX_OK;
}

// The result is a slice for each index vector: the source's other axes, in order.
emlx_status run_gather(node_run *r) {
    const gather_params *p = r->node->params;
    const emlx_shape *shape = r->in[0].shape;
    int64_t slice = 1, at[EMLX_MAX_RANK];
    if (p->along) return gather_along(r);
    for (int32_t d = 0; d < shape->rank; d++)
        if (!is_among(d, p->axes, p->count)) slice *= shape->dims[d];
    for (int64_t i = 0; i < r->out.count; i++) {
        int64_t rest = i % slice;
        TRY(read_indices(r, i / slice, at));
        for (int32_t d = shape->rank - 1; d >= 0; d--) {
            if (is_among(d, p->axes, p->count)) continue;
            at[d] = rest % shape->dims[d];
            rest /= shape->dims[d];
        }
        array_set(&r->out, i, array_get(&r->in[0], position_of(shape, at)));
    }
    return EMLX_OK;
}

// Scatter ----------------------------------------------------------------------------------------

// A target's sums, wider than its elements.
typedef struct wide_sum {
    long double re, im;
    uint64_t whole;
} wide_sum;

static wide_sum widened(emlx_number x) {
    if (x.kind < EMLX_NUMBER_REAL) return (wide_sum){.whole = x.as.u};
    return (wide_sum){.re = x.as.f[0], .im = x.kind == EMLX_NUMBER_COMPLEX ? x.as.f[1] : 0};
}

static emlx_number narrowed(emlx_type type, const wide_sum *s) {
    emlx_number x = {.kind = EMLX_NUMBER_UNSIGNED, .as.u = s->whole};
    if (type_is_integer(type)) return x;
    x.kind = type_is_complex(type) ? EMLX_NUMBER_COMPLEX : EMLX_NUMBER_REAL;
    x.as.f[0] = (double)s->re;
    x.as.f[1] = (double)s->im;
    return x;
}

// Where an element of the updates goes.
static emlx_status scatter_place(const node_run *r, int64_t update, int64_t *place) {
    const scatter_params *p = r->node->params;
    const emlx_shape *shape = r->in[0].shape, *updates = r->in[2].shape;
    int64_t index[EMLX_MAX_RANK], at[EMLX_MAX_RANK];
    int32_t next = 1;
    index_of(updates, update, index);
    TRY(read_indices(r, index[0], at));
    for (int32_t d = 0; d < shape->rank; d++)
        if (!is_among(d, p->axes, p->count)) at[d] = index[next++];
    *place = position_of(shape, at);
    return EMLX_OK;
}

emlx_status run_scatter(node_run *r) {
    const scatter_params *p = r->node->params;
    size_t size = ((size_t)r->out.count + 1) * sizeof(wide_sum);
    wide_sum *sums = mem_alloc(size);
    if (sums == NULL) return error_no_memory(r->err, "to scatter");
    emlx_status status = EMLX_OK;
    for (int64_t i = 0; i < r->out.count; i++) sums[i] = widened(array_get(&r->in[0], i));
    for (int64_t u = 0; u < r->in[2].count && status == EMLX_OK; u++) {
        int64_t place = 0;
        status = scatter_place(r, u, &place);
        if (status != EMLX_OK) break;
        wide_sum x = widened(array_get(&r->in[2], u)), *to = &sums[place];
        bool adds = p->kind == SCATTER_ADD;
        *to = adds ? (wide_sum){to->re + x.re, to->im + x.im, to->whole + x.whole} : x;
    }
    for (int64_t i = 0; i < r->out.count && status == EMLX_OK; i++)
        array_set(&r->out, i, narrowed(r->out.type, &sums[i]));
    mem_free(sums, size);
    return status;
}

// Sorting ----------------------------------------------------------------------------------------

// Whether x comes before y in ascending order. NaN is greater than everything; zeros are alike.
static bool comes_before(emlx_number x, emlx_number y) {
    if (number_is_nan(x)) return false;
    return number_is_nan(y) || number_less(x, y);
}

typedef struct line {
    const array *in;
    int64_t first, step, length;
    bool descending;
} line;

static emlx_number item(const line *l, int64_t n) {
    return array_get(l->in, l->first + n * l->step);
}

// By insertion, so that equals keep their order.
static void sort_line(const line *l, int64_t *order) {
    for (int64_t n = 0; n < l->length; n++) {
        int64_t at = n;
        emlx_number x = item(l, n);
        for (; at > 0; at--) {
            emlx_number other = item(l, order[at - 1]);
            if (!(l->descending ? comes_before(other, x) : comes_before(x, other))) break;
            order[at] = order[at - 1];
        }
        order[at] = n;
    }
}

emlx_status run_sort(node_run *r) {
    const sort_params *p = r->node->params;
    const emlx_shape *shape = r->in[0].shape;
    int64_t inner = 1, length = shape->dims[p->axis], kept = r->out.shape->dims[p->axis];
    for (int32_t d = p->axis + 1; d < shape->rank; d++) inner *= shape->dims[d];
    size_t size = ((size_t)length + 1) * sizeof(int64_t);
    int64_t *order = mem_alloc(size);
    if (order == NULL) return error_no_memory(r->err, "to sort");
    for (int64_t i = 0; kept > 0 && i < r->out.count / kept; i++) {
        line l = {&r->in[0], i / inner * inner * length + i % inner, inner, length, p->descending};
        sort_line(&l, order);
        for (int64_t n = 0; n < kept; n++) {
            int64_t to = i / inner * inner * kept + i % inner + n * inner;
            if (p->indices)
                array_set(&r->out, to, signed_number(order[n]));
            else // the bits stay as they are
                memcpy(r->out.data + to * (int64_t)type_size(r->out.type),
                       r->in[0].data +
                           (l.first + order[n] * inner) * (int64_t)type_size(r->in[0].type),
                       type_size(r->out.type));
        }
    }
    mem_free(order, size);
    return EMLX_OK;
}
