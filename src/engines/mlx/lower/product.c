// SPDX-License-Identifier: Apache-2.0
// product.c - contractions as batched products of matrices, convolutions with channels last.
#include "engines/mlx/lower/builder.h"

#include "base/shape.h"

// Products of narrow floats are added up in f32 and rounded once; MLX's CPU adds in their own type.
static value in_f32(builder *b, value x) {
    mlx_dtype d = mlx_dtype_of(b, x);
    if (!b->traits->cpu) return x;
    return d == MLX_DTYPE_f16 || d == MLX_DTYPE_bf16 ? mlx_to_dtype(b, x, MLX_DTYPE_f32) : x;
}

// One side as [batch, free, contracted] or, on the right, [batch, contracted, free].
static value side_matrix(builder *b, const plan_node *n, uint32_t side, int64_t *contracted) {
    const dot_params *p = n->params;
    const emlx_shape *shape = &mlx_operand_node(b, n, side)->shape;
    const int32_t *axes = side == 0 ? p->left : p->right;
    int64_t order[EMLX_MAX_RANK], batch = 1, rest = 1;
    size_t count = 0;
    uint32_t used = 0;
    *contracted = 1;
    for (int32_t d = 0; d < p->batch; d++) {
        batch *= shape->dims[d];
        order[count++] = d;
        used |= 1u << d;
    }
    for (int32_t c = 0; c < p->contracted; c++) {
        *contracted *= shape->dims[axes[c]];
        used |= 1u << axes[c];
        if (side == 1) order[count++] = axes[c];
    }
    for (int32_t d = 0; d < shape->rank; d++) {
        if (used >> d & 1) continue;
        order[count++] = d;
        rest *= shape->dims[d];
    }
    for (int32_t c = 0; side == 0 && c < p->contracted; c++) order[count++] = axes[c];
    value x = mlx_operand_value(b, n, side);
    x = mlx_emit(b, MLX_transpose, mlx_dtype_of(b, x), &x, 1, order, count);
    emlx_shape matrix = {3,
                         {batch, side == 0 ? rest : *contracted, side == 0 ? *contracted : rest}};
    return mlx_reshape(b, in_f32(b, x), &matrix);
}

value mlx_lower_dot(builder *b, const plan_node *n) {
    int64_t contracted;
    value x = side_matrix(b, n, 0, &contracted), y = side_matrix(b, n, 1, &contracted);
    if (contracted == 0) return mlx_zeros(b, &n->shape, mlx_dtype_for(n->type));
    value product = mlx_reshape(b, mlx_binary(b, MLX_matmul, x, y), &n->shape);
    return mlx_to_dtype(b, product, mlx_dtype_for(n->type));
}

// Convolutions -----------------------------------------------------------------------------------

static value channels_last(builder *b, value x, int32_t rank) {
    int64_t order[EMLX_MAX_RANK] = {0};
    for (int32_t d = 1; d < rank; d++) order[d] = d + 1 < rank ? d + 1 : 1;
    x = mlx_emit(b, MLX_transpose, mlx_dtype_of(b, x), &x, 1, order, (size_t)rank);
    return in_f32(b, x);
}

static value channels_second(builder *b, value x, int32_t rank) {
    int64_t order[EMLX_MAX_RANK] = {0, rank - 1};
    for (int32_t d = 2; d < rank; d++) order[d] = d - 1;
    return mlx_emit(b, MLX_transpose, mlx_dtype_of(b, x), &x, 1, order, (size_t)rank);
}

void mlx_conv_padding(const plan_node *n, const plan_node *nodes, int32_t axis, int64_t *low,
                      int64_t *high) {
    const conv_params *p = n->params;
    int64_t in = nodes[n->operands[0]].shape.dims[2 + axis];
    int64_t kernel = nodes[n->operands[1]].shape.dims[2 + axis];
    int64_t out = n->shape.dims[(p->channels_last ? 1 : 2) + axis];
    int64_t span = (out - 1) * p->strides[axis] + (kernel - 1) * p->kernel_dilation[axis] + 1;
    *low = p->low[axis];
    *high = span - ((in - 1) * p->input_dilation[axis] + 1) - *low;
}

// How the elements of an axis of the input lie in the padded one.
typedef struct conv_axis {
    int64_t length, first, kept; // elements of the input
    int64_t at, step, all;       // where they go, and the padded length
} conv_axis;

static conv_axis axis_of(const builder *b, const plan_node *n, int32_t axis) {
    const emlx_shape *shape = &mlx_operand_node(b, n, 0)->shape;
    int32_t last = shape->rank - 1, own = axis == 0 ? 0 : axis == last ? 1 : axis + 1;
    conv_axis a = {.length = shape->dims[own], .step = 1};
    int64_t low = 0, high = 0;
    if (axis > 0 && axis < last) {
        mlx_conv_padding(n, b->nodes, axis - 1, &low, &high);
        a.step = ((const conv_params *)n->params)->input_dilation[axis - 1];
    }
    a.all = (a.length - 1) * a.step + 1 + low + high;
    a.first = low < 0 ? (-low + a.step - 1) / a.step : 0;
    a.kept = a.length - a.first - (high < 0 ? (-high + a.step - 1) / a.step : 0);
    a.at = low + a.first * a.step;
    return a;
}

// Zeros around the input and between its elements are written out, and what padding by less than
// nothing removes is left out: MLX skips zeros that are not there, but an infinite weight makes NaN
// of them.
static value padded(builder *b, const plan_node *n, value x) {
    int32_t rank = n->shape.rank;
    emlx_shape all = {.rank = rank};
    int64_t from[3 * EMLX_MAX_RANK], to[3 * EMLX_MAX_RANK];
    bool needed = false, nothing = false;
    for (int32_t d = 0; d < rank; d++) {
        conv_axis a = axis_of(b, n, d);
        all.dims[d] = a.all;
        needed = needed || a.all != a.length || a.kept != a.length || a.at != 0;
        nothing = nothing || a.kept <= 0;
        mlx_slice_axis(from, rank, d, a.first, a.kept, 1);
        mlx_slice_axis(to, rank, d, a.at, a.kept, a.step);
    }
    if (!needed) return x;
    mlx_note_size(b, &all, sizeof(float));
    value zeros = mlx_zeros(b, &all, mlx_dtype_of(b, x));
    if (nothing) return zeros;
    x = mlx_emit(b, MLX_slice, mlx_dtype_of(b, x), &x, 1, from, 3 * (size_t)rank);
    return mlx_emit(b, MLX_slice_update, mlx_dtype_of(b, x), (value[]){zeros, x}, 2, to,
                    3 * (size_t)rank);
}

value mlx_lower_conv(builder *b, const plan_node *n) {
    const conv_params *p = n->params;
    int32_t rank = n->shape.rank, spatial = rank - 2;
    int64_t ints[2 + 2 * EMLX_MAX_RANK] = {spatial, p->feature_groups};
    value x = channels_last(b, mlx_operand_value(b, n, 0), rank);
    value operands[] = {padded(b, n, x), channels_last(b, mlx_operand_value(b, n, 1), rank)};
    for (int32_t d = 0; d < spatial; d++) {
        ints[2 + 2 * d] = p->strides[d];
        ints[3 + 2 * d] = p->kernel_dilation[d];
    }
    value y = mlx_emit(b, MLX_conv, mlx_dtype_of(b, x), operands, 2, ints, 2 + 2 * (size_t)spatial);
    if (!p->channels_last) y = channels_second(b, y, rank);
    return mlx_to_dtype(b, mlx_reshape(b, y, &n->shape), mlx_dtype_for(n->type));
}
