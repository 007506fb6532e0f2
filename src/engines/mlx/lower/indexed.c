// SPDX-License-Identifier: Apache-2.0
// indexed.c - gather and scatter. MLX looks at no index: they are brought into bounds before it
// sees them, and whether one was outside is an output that is looked at afterwards.
#include "engines/mlx/lower/builder.h"

#include "base/shape.h"

static value outside(builder *b, value index, int64_t limit) {
    value below = mlx_test(b, MLX_less, index, mlx_integer(b, 0, MLX_DTYPE_s64));
    value above = mlx_test(b, MLX_greater_equal, index, mlx_integer(b, limit, MLX_DTYPE_s64));
    return mlx_test(b, MLX_logical_or, below, above);
}

static value inside(builder *b, value index, value bad) {
    return mlx_where(b, bad, mlx_integer(b, 0, MLX_DTYPE_s64), index);
}

// Adds the check of vectors of indices, laid out as rows of `width`: `bad` says of each number
// whether it is outside. The detail is the first row that has one.
static void check_index_rows(builder *b, value indices, value bad, int64_t rows, int64_t width) {
    const emlx_shape matrix = {2, {rows, width}}, list = {1, {width}};
    const int64_t last[] = {0, 1}, first[] = {0, 0}, axis = 0;
    bad = mlx_emit(b, MLX_any, MLX_DTYPE_bool, (value[]){mlx_reshape(b, bad, &matrix)}, 1, last, 2);
    value flag = mlx_emit(b, MLX_any, MLX_DTYPE_bool, &bad, 1, first, 2);
    bad = mlx_to_dtype(b, bad, MLX_DTYPE_u8);
    value row = mlx_emit(b, MLX_argmax, MLX_DTYPE_u32, &bad, 1, NULL, 0);
    value operands[] = {mlx_reshape(b, indices, &matrix), row};
    value detail = mlx_emit(b, MLX_take, MLX_DTYPE_s64, operands, 2, &axis, 1);
    mlx_add_check(b, (mlx_check){.guard = GUARD_NONE}, flag, mlx_reshape(b, detail, &list));
}

// Splits vectors of indices into one array an axis, each within bounds. `count` of them, along the
// last axis of `shape`.
static void split(builder *b, value indices, const emlx_shape *shape, int32_t count,
                  const int32_t *axes, const emlx_shape *target, value *each) {
    value bad[EMLX_MAX_RANK];
    const int64_t last = shape->rank - 1, wide = 1;
    int64_t rows = emlx_shape_count(shape) / count;
    emlx_shape column = {2, {rows, wide}};
    for (int32_t i = 0; i < count; i++) {
        value at = mlx_integer(b, i, MLX_DTYPE_s32), operands[] = {indices, at};
        value one = mlx_emit(b, MLX_take, MLX_DTYPE_s64, operands, 2, &last, 1);
        value out = outside(b, one, target->dims[axes[i]]);
        each[i] = inside(b, one, out);
        bad[i] = mlx_reshape(b, out, &column);
    }
    value all = mlx_emit(b, MLX_concatenate, MLX_DTYPE_bool, bad, (uint32_t)count, &wide, 1);
    check_index_rows(b, indices, all, rows, count);
}

static value along_axis(builder *b, const plan_node *n, int32_t axis) {
    value indices = mlx_operand_value(b, n, 1);
    value bad = outside(b, indices, mlx_operand_node(b, n, 0)->shape.dims[axis]);
    int64_t at = axis, count = emlx_shape_count(&mlx_operand_node(b, n, 1)->shape);
    check_index_rows(b, indices, bad, count, 1);
    value operands[] = {mlx_operand_value(b, n, 0), inside(b, indices, bad)};
    return mlx_emit(b, MLX_take_along_axis, mlx_dtype_for(n->type), operands, 2, &at, 1);
}

value mlx_lower_gather(builder *b, const plan_node *n) {
    const gather_params *p = n->params;
    const emlx_shape *source = &mlx_operand_node(b, n, 0)->shape;
    const emlx_shape *shape = &mlx_operand_node(b, n, 1)->shape;
    int64_t ints[2 * EMLX_MAX_RANK];
    value operands[EMLX_MAX_RANK + 1] = {mlx_operand_value(b, n, 0)};
    if (emlx_shape_count(&n->shape) == 0) return mlx_zeros(b, &n->shape, mlx_dtype_for(n->type));
    if (p->along) return along_axis(b, n, p->axes[0]);
    split(b, mlx_operand_value(b, n, 1), shape, p->count, p->axes, source, operands + 1);
    for (int32_t i = 0; i < p->count; i++) ints[i] = p->axes[i];
    for (int32_t d = 0; d < source->rank; d++) ints[p->count + d] = source->dims[d];
    for (int32_t i = 0; i < p->count; i++) ints[p->count + p->axes[i]] = 1;
    value y = mlx_emit(b, MLX_gather, mlx_dtype_for(n->type), operands, (uint32_t)p->count + 1,
                       ints, (size_t)p->count + (size_t)source->rank);
    return mlx_reshape(b, y, &n->shape);
}

// Updates as MLX wants them: a length of 1 for every axis that is indexed.
static value spread(builder *b, const plan_node *n) {
    const scatter_params *p = n->params;
    const emlx_shape *updates = &mlx_operand_node(b, n, 2)->shape;
    emlx_shape shape = {1, {updates->dims[0]}};
    int32_t at = 1, next = 0;
    for (int32_t d = 0; d < n->shape.rank; d++) {
        bool indexed = next < p->count && p->axes[next] == d;
        shape.dims[shape.rank++] = indexed ? 1 : updates->dims[at++];
        next += indexed;
    }
    return mlx_reshape(b, mlx_operand_value(b, n, 2), &shape);
}

// Floats are added in f64 where the device has it, and rounded once.
value mlx_lower_scatter(builder *b, const plan_node *n) {
    const scatter_params *p = n->params;
    const emlx_shape *shape = &mlx_operand_node(b, n, 1)->shape;
    bool adds = p->kind == SCATTER_ADD;
    mlx_dtype dtype = mlx_dtype_for(n->type), in = dtype;
    bool narrow = dtype == MLX_DTYPE_f16 || dtype == MLX_DTYPE_bf16;
    if (adds && (narrow || dtype == MLX_DTYPE_f32))
        in = b->traits->f64 ? MLX_DTYPE_f64 : MLX_DTYPE_f32;
    int64_t axes[EMLX_MAX_RANK];
    value operands[EMLX_MAX_RANK + 2] = {mlx_to_dtype(b, mlx_operand_value(b, n, 0), in)};
    split(b, mlx_operand_value(b, n, 1), shape, p->count, p->axes, &n->shape, operands + 1);
    for (int32_t i = 0; i < p->count; i++) axes[i] = p->axes[i];
    operands[p->count + 1] = mlx_to_dtype(b, spread(b, n), in);
    value y = mlx_emit(b, adds ? MLX_scatter_add : MLX_scatter, in, operands,
                       (uint32_t)p->count + 2, axes, (size_t)p->count);
    return mlx_wrap(b, mlx_to_dtype(b, y, dtype), n->type);
}
