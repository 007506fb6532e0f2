// SPDX-License-Identifier: Apache-2.0
// folds.c - instructions of the plain adapter that fold, sort and multiply arrays.
#include <string.h>

#include "engines/mlx/plain.h"

// Folds -----------------------------------------------------------------------------------------

// A NaN wins; of equals the first.
static emlx_number better(emlx_number x, emlx_number y, bool least) {
    if (plain_is_nan(x)) return x;
    if (plain_is_nan(y)) return y;
    return (least ? plain_less(y, x) : plain_less(x, y)) ? y : x;
}

// A product on its way has the range of f32 at most, but for f64.
static emlx_number in_range(emlx_number x, emlx_type type) {
    if (x.kind == EMLX_NUMBER_REAL && type != EMLX_F64) x.as.f[0] = (float)x.as.f[0];
    return x;
}

static emlx_number folded(const plain_call *c, emlx_number x, emlx_number y) {
    emlx_type type = plain_type(c->in->dtype);
    switch (c->code) {
    case MLX_sum:
    case MLX_cumsum: return plain_binary(c->run, MLX_add, type, x, y);
    case MLX_prod:
    case MLX_cumprod: return in_range(plain_binary(c->run, MLX_multiply, type, x, y), type);
    case MLX_any: return plain_integer(x.as.u != 0 || y.as.u != 0);
    default: return better(x, y, c->code == MLX_min || c->code == MLX_cummin);
    }
}

// MLX adds up small integers in 32 bits.
static mlx_dtype type_of_fold(const plain_call *c) {
    mlx_dtype d = c->in->dtype;
    if (c->code == MLX_any) return MLX_DTYPE_bool;
    if (c->code != MLX_sum && c->code != MLX_prod) return d;
    if (d == MLX_DTYPE_u8 || d == MLX_DTYPE_u16) return MLX_DTYPE_u32;
    return d == MLX_DTYPE_s8 || d == MLX_DTYPE_s16 || d == MLX_DTYPE_bool ? MLX_DTYPE_s32 : d;
}

static plain_array without(const plain_array *x, uint32_t axes, bool keep) {
    plain_array y = {0};
    for (int32_t d = 0; d < x->rank; d++) {
        bool gone = axes >> d & 1;
        if (!gone || keep) y.dims[y.rank++] = gone ? 1 : x->dims[d];
    }
    return y;
}

// For each axis of the operand how far a step along it goes in the result.
static void fold_strides(const plain_array *x, uint32_t axes, int64_t *strides) {
    int64_t step = 1;
    for (int32_t d = x->rank; d-- > 0;) {
        bool gone = axes >> d & 1;
        strides[d] = gone ? 0 : step;
        if (!gone) step *= x->dims[d];
    }
}

static emlx_number nothing_folded(const plain_call *c, mlx_dtype dtype) {
    if (c->code == MLX_max || c->code == MLX_min) plain_refuse(c->run, "the largest of nothing");
    double start = c->code == MLX_prod;
    return type_is_integer(plain_type(dtype)) ? plain_integer((int64_t)start) : plain_real(start);
}

plain_array plain_fold(const plain_call *c) {
    const plain_array *x = c->in;
    int64_t strides[MLX_MAX_RANK], index[MLX_MAX_RANK] = {0}, at = 0;
    uint32_t axes = 0;
    for (size_t i = 1; i < c->int_count; i++) axes |= 1u << c->ints[i];
    plain_array y = without(x, axes, c->ints[0] != 0);
    y = plain_new(c->run, type_of_fold(c), y.rank, y.dims);
    emlx_number *sums = plain_memory(c->run, (size_t)y.count * sizeof *sums);
    bool *begun = plain_memory(c->run, (size_t)y.count);
    fold_strides(x, axes, strides);
    if (x->count > 0) {
        do {
            int64_t to = plain_dot(index, strides, x->rank);
            emlx_number one = plain_get(x, at++);
            sums[to] = begun[to] ? folded(c, sums[to], one) : one;
            begun[to] = true;
        } while (plain_next(index, x->rank, x->dims));
    }
    for (int64_t i = 0; i < y.count; i++)
        plain_set(&y, i, begun[i] ? sums[i] : nothing_folded(c, y.dtype));
    return y;
}

plain_array plain_argmax(const plain_call *c) {
    plain_array y = plain_new(c->run, MLX_DTYPE_u32, 0, NULL);
    int64_t best = 0;
    if (c->in->count == 0) plain_refuse(c->run, "the largest of nothing");
    for (int64_t i = 1; i < c->in->count; i++)
        if (plain_less(plain_get(c->in, best), plain_get(c->in, i))) best = i;
    plain_set(&y, 0, plain_integer(best));
    return y;
}

// Lines along an axis ---------------------------------------------------------------------------

typedef struct lines {
    int64_t outer, length, inner;
} lines;

static lines lines_along(const plain_array *x, int64_t axis) {
    lines l = {1, x->dims[axis], 1};
    for (int32_t d = 0; d < x->rank; d++)
        *(d < axis ? &l.outer : &l.inner) *= d == axis ? 1 : x->dims[d];
    return l;
}

static int64_t in_line(const lines *l, int64_t o, int64_t i, int64_t at) {
    return (o * l->length + at) * l->inner + i;
}

plain_array plain_cumulate(const plain_call *c) {
    plain_array y = plain_new(c->run, c->in->dtype, c->in->rank, c->in->dims);
    lines l = lines_along(c->in, c->ints[0]);
    if (y.count == 0 || l.length == 1) plain_refuse(c->run, "running folds of nothing, or of one");
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t i = 0; i < l.inner; i++) {
            emlx_number sum = {0};
            for (int64_t k = 0; k < l.length; k++) {
                int64_t at = in_line(&l, o, i, c->ints[1] ? l.length - 1 - k : k);
                emlx_number one = plain_get(c->in, at);
                sum = k == 0 ? one : folded(c, sum, one);
                plain_set(&y, at, sum);
            }
        }
    return y;
}

static bool sorts_before(emlx_number x, emlx_number y) {
    if (plain_is_nan(x)) return false;
    return plain_is_nan(y) || plain_less(x, y);
}

// Stable: each goes in front of those that it is really before.
static void sort_line(const plain_call *c, const lines *l, int64_t o, int64_t i, int64_t *order) {
    for (int64_t k = 0; k < l->length; k++) {
        emlx_number one = plain_get(c->in, in_line(l, o, i, k));
        int64_t to = k;
        for (; to > 0; to--) {
            if (!sorts_before(one, plain_get(c->in, in_line(l, o, i, order[to - 1])))) break;
            order[to] = order[to - 1];
        }
        order[to] = k;
    }
}

plain_array plain_sort(const plain_call *c) {
    bool places = c->code == MLX_argsort;
    mlx_dtype dtype = places ? MLX_DTYPE_u32 : c->in->dtype;
    plain_array y = plain_new(c->run, dtype, c->in->rank, c->in->dims);
    lines l = lines_along(c->in, c->ints[0]);
    int64_t *order = plain_memory(c->run, (size_t)l.length * sizeof *order);
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t i = 0; i < l.inner; i++) {
            sort_line(c, &l, o, i, order);
            for (int64_t k = 0; k < l.length; k++) {
                emlx_number from = plain_get(c->in, in_line(&l, o, i, order[k]));
                plain_set(&y, in_line(&l, o, i, k), places ? plain_integer(order[k]) : from);
            }
        }
    return y;
}

// Products --------------------------------------------------------------------------------------

static emlx_number multiply_add(const plain_call *c, emlx_number sum, emlx_number x,
                                emlx_number y) {
    emlx_type type = plain_type(c->in->dtype);
    emlx_number product = plain_binary(c->run, MLX_multiply, type, x, y);
    return plain_binary(c->run, MLX_add, type, sum, product);
}

static emlx_number nought(const plain_array *x) {
    emlx_number n = {.kind = x->dtype == MLX_DTYPE_c64 ? EMLX_NUMBER_COMPLEX : EMLX_NUMBER_REAL};
    return n;
}

plain_array plain_matmul(const plain_call *c) {
    const plain_array *a = c->in, *b = &c->in[1];
    bool fits = a->rank == 3 && b->rank == 3 && a->dims[0] == b->dims[0] &&
                a->dims[2] == b->dims[1] && a->dtype == b->dtype;
    if (!fits || type_is_integer(plain_type(a->dtype))) plain_refuse(c->run, "not two matrices");
    int64_t rows = a->dims[1], terms = a->dims[2], columns = b->dims[2];
    plain_array y = plain_new(c->run, a->dtype, 3, (int64_t[]){a->dims[0], rows, columns});
    for (int64_t at = 0; at < y.count; at++) {
        int64_t row = at / columns, batch = row / rows, column = at % columns;
        emlx_number sum = nought(a);
        for (int64_t k = 0; k < terms; k++)
            sum = multiply_add(c, sum, plain_get(a, row * terms + k),
                               plain_get(b, (batch * terms + k) * columns + column));
        plain_set(&y, at, sum);
    }
    return y;
}

// A convolution's axis.
typedef struct conv_axis {
    int64_t stride, dilation;
} conv_axis;

// index: batch, spatial axes and channel of the result.
static emlx_number conv_element(const plain_call *c, const conv_axis *axes, const int64_t *index) {
    const plain_array *x = c->in, *w = &c->in[1];
    int32_t spatial = x->rank - 2;
    int64_t xs[MLX_MAX_RANK], ws[MLX_MAX_RANK], k[MLX_MAX_RANK] = {0};
    int64_t channels = w->dims[w->rank - 1], out = index[spatial + 1];
    int64_t first = out / (w->dims[0] / c->ints[1]) * channels;
    emlx_number sum = nought(x);
    plain_strides(x, xs);
    plain_strides(w, ws);
    do {
        int64_t at = index[0] * xs[0] + first;
        for (int32_t d = 0; d < spatial; d++)
            at += (index[d + 1] * axes[d].stride + k[d] * axes[d].dilation) * xs[d + 1];
        int64_t of = out * ws[0] + plain_dot(k, ws + 1, spatial);
        for (int64_t i = 0; i < channels; i++)
            sum = multiply_add(c, sum, plain_get(x, at + i), plain_get(w, of + i));
    } while (plain_next(k, spatial, w->dims + 1));
    return sum;
}

plain_array plain_conv(const plain_call *c) {
    const plain_array *x = c->in, *w = &c->in[1];
    conv_axis axes[MLX_MAX_RANK];
    int64_t dims[MLX_MAX_RANK] = {x->dims[0]}, index[MLX_MAX_RANK] = {0}, at = 0;
    int32_t spatial = x->rank - 2;
    if (c->ints[0] != spatial || x->dtype != w->dtype ||
        w->dims[w->rank - 1] * c->ints[1] != x->dims[x->rank - 1] || w->dims[0] % c->ints[1] != 0)
        plain_refuse(c->run, "a kernel that does not fit");
    memcpy(axes, c->ints + 2, (size_t)spatial * sizeof *axes);
    for (int32_t d = 0; d < spatial; d++) {
        int64_t reach = (w->dims[d + 1] - 1) * axes[d].dilation + 1;
        dims[d + 1] = (x->dims[d + 1] - reach) / axes[d].stride + 1;
    }
    dims[spatial + 1] = w->dims[0];
    plain_array y = plain_new(c->run, x->dtype, x->rank, dims);
    if (y.count == 0) return y;
    do plain_set(&y, at++, conv_element(c, axes, index));
    while (plain_next(index, y.rank, y.dims));
    return y;
}
