// SPDX-License-Identifier: Apache-2.0
// fold.c - reductions, running folds, sorting.
#include "base/shape.h"
#include "base/types.h"
#include "engines/mlx/lower/builder.h"

// The type that floats are added and multiplied in: as wide as the device has.
static value wide(builder *b, value x) {
    mlx_dtype d = mlx_dtype_of(b, x);
    bool real_number = d == MLX_DTYPE_f16 || d == MLX_DTYPE_bf16 || d == MLX_DTYPE_f32;
    if (!real_number) return x;
    return mlx_to_dtype(b, x, b->traits->f64 ? MLX_DTYPE_f64 : MLX_DTYPE_f32);
}

// What MLX has a function for: over axes, and running along one.
static const struct {
    bool there;
    mlx_code whole, running;
} folds[REDUCE_COUNT] = {
    [REDUCE_SUM] = {true, MLX_sum, MLX_cumsum},
    [REDUCE_PRODUCT] = {true, MLX_prod, MLX_cumprod},
    [REDUCE_MAX] = {true, MLX_max, MLX_cummax},
    [REDUCE_MIN] = {true, MLX_min, MLX_cummin},
};

bool mlx_folds(reduce_kind kind) {
    return folds[kind].there || reduce_table[kind].gives == GIVES_PLACED;
}

// Folded axes come last, as one.
static value fold_last(builder *b, value x, const emlx_shape *shape, uint32_t folded,
                       int64_t *length) {
    int64_t order[EMLX_MAX_RANK];
    emlx_shape kept = {0};
    int32_t count = 0;
    for (int32_t d = 0; d < shape->rank; d++) {
        if (folded >> d & 1) continue;
        order[count++] = d;
        kept.dims[kept.rank++] = shape->dims[d];
    }
    *length = 1;
    for (int32_t d = 0; d < shape->rank; d++) {
        if (!(folded >> d & 1)) continue;
        order[count++] = d;
        *length *= shape->dims[d];
    }
    kept.dims[kept.rank++] = *length;
    x = mlx_emit(b, MLX_transpose, mlx_dtype_of(b, x), &x, 1, order, (size_t)count);
    return mlx_reshape(b, x, &kept);
}

static value last_axis(builder *b, mlx_code code, value x, int32_t rank, bool keep) {
    const int64_t ints[] = {keep, rank - 1};
    return mlx_emit(b, code, mlx_dtype_of(b, x), &x, 1, ints, 2);
}

// The position of the winner: of those equal to it the first or the last, but the last NaN first.
static value lower_position(builder *b, const plan_node *n, value x, emlx_type type) {
    const reduce_params *p = n->params;
    const emlx_shape *shape = &mlx_operand_node(b, n, 0)->shape;
    bool least = reduce_is_least(p->kind), high = reduce_table[p->kind].late == p->kind;
    int64_t length;
    x = fold_last(b, mlx_widen(b, x, type), shape, p->axes, &length);
    int32_t rank = shape->rank - __builtin_popcount(p->axes) + 1;
    value best = last_axis(b, least ? MLX_min : MLX_max, x, rank, true);
    value at = mlx_emit(b, MLX_arange, MLX_DTYPE_s32, NULL, 0, &length, 1);
    value none = mlx_integer(b, high ? -1 : length, MLX_DTYPE_s32);
    value same = mlx_where(b, mlx_test(b, MLX_equal, x, best), at, none);
    value found = last_axis(b, high ? MLX_max : MLX_min, same, rank, false);
    if (!type_is_integer(type)) {
        value minus = mlx_integer(b, -1, MLX_DTYPE_s32);
        value nan = mlx_emit(b, MLX_isnan, MLX_DTYPE_bool, &x, 1, NULL, 0);
        value last = last_axis(b, MLX_max, mlx_where(b, nan, at, minus), rank, false);
        found = mlx_where(b, mlx_test(b, MLX_greater, last, minus), last, found);
    }
    return mlx_reshape(b, mlx_cast(b, found, EMLX_S32, n->type), &n->shape);
}

value mlx_lower_reduce(builder *b, const plan_node *n) {
    const reduce_params *p = n->params;
    const plan_node *operand = mlx_operand_node(b, n, 0);
    emlx_type type = (emlx_type)p->accumulate;
    value x = mlx_cast(b, mlx_operand_value(b, n, 0), operand->type, type);
    int64_t ints[EMLX_MAX_RANK + 1] = {0};
    size_t count = 1;
    if (reduce_table[p->kind].gives == GIVES_PLACED) return lower_position(b, n, x, type);
    if (reduce_table[p->kind].gives == GIVES_COMBINED) x = wide(b, x);
    for (int32_t d = 0; d < operand->shape.rank; d++)
        if (p->axes >> d & 1) ints[count++] = d;
    if (count > 1) x = mlx_emit(b, folds[p->kind].whole, mlx_dtype_of(b, x), &x, 1, ints, count);
    // Sums begin with 0, to which -0 adds nothing.
    if (p->kind == REDUCE_SUM && type_is_float(type))
        x = mlx_binary(b, MLX_add, x, mlx_real(b, 0, mlx_dtype_of(b, x)));
    // MLX adds up small integers in wider ones.
    if (type_is_integer(type))
        x = mlx_wrap(b, mlx_emit(b, MLX_astype, mlx_dtype_for(type), &x, 1, NULL, 0), type);
    x = mlx_reshape(b, x, &n->shape);
    bool rounds_once = type_is_float(type) && type_is_float(n->type);
    if (rounds_once) return mlx_to_dtype(b, x, mlx_dtype_for(n->type));
    return mlx_cast(b, mlx_to_dtype(b, x, mlx_dtype_for(type)), type, n->type);
}

value mlx_lower_scan(builder *b, const plan_node *n) {
    const scan_params *p = n->params;
    const int64_t ints[] = {p->axis, p->reverse};
    value x = mlx_operand_value(b, n, 0);
    // Its versions before 0.32.4 divide by the axis's length, and by its stride, which a view has
    // as 0 where the length is 1.
    if (emlx_shape_count(&n->shape) == 0) return mlx_zeros(b, &n->shape, mlx_dtype_for(n->type));
    if (n->shape.dims[p->axis] == 1) return x;
    if (reduce_table[p->kind].gives == GIVES_COMBINED) x = wide(b, x);
    x = mlx_emit(b, folds[p->kind].running, mlx_dtype_of(b, x), &x, 1, ints, 2);
    return mlx_to_dtype(b, x, mlx_dtype_for(n->type));
}

// Sorting ----------------------------------------------------------------------------------------

// As many elements from the first on as the shape has; along the axis `turned`, unless it is -1,
// from the last on.
static value take_some(builder *b, value x, const emlx_shape *shape, int32_t turned) {
    int64_t ints[3 * EMLX_MAX_RANK];
    int32_t rank = shape->rank;
    for (int32_t d = 0; d < rank; d++) {
        int64_t length = shape->dims[d];
        bool back = d == turned;
        mlx_slice_axis(ints, rank, d, back ? length - 1 : 0, length, back ? -1 : 1);
        if (back) ints[rank + d] -= length; // what is below zero counts from the end
    }
    return mlx_emit(b, MLX_slice, mlx_dtype_of(b, x), &x, 1, ints, 3 * (size_t)rank);
}

// MLX sorts upwards and keeps the order of equals: downwards is upwards on the reversed axis.
value mlx_lower_sort(builder *b, const plan_node *n) {
    const sort_params *p = n->params;
    const emlx_shape *shape = &mlx_operand_node(b, n, 0)->shape;
    const int64_t axis = p->axis, length = shape->dims[p->axis];
    value x = mlx_operand_value(b, n, 0);
    if (emlx_shape_count(shape) == 0) return mlx_zeros(b, &n->shape, mlx_dtype_for(n->type));
    if (p->descending) x = take_some(b, x, shape, p->axis);
    if (p->indices) {
        x = mlx_emit(b, MLX_argsort, MLX_DTYPE_u32, &x, 1, &axis, 1);
        x = mlx_to_dtype(b, x, MLX_DTYPE_s64);
    } else {
        x = mlx_emit(b, MLX_sort, mlx_dtype_of(b, x), &x, 1, &axis, 1);
    }
    if (p->descending) x = take_some(b, x, shape, p->axis);
    if (p->descending && p->indices)
        x = mlx_binary(b, MLX_subtract, mlx_integer(b, length - 1, MLX_DTYPE_s64), x);
    x = mlx_to_dtype(b, x, mlx_dtype_for(n->type));
    return p->keep < length ? take_some(b, x, &n->shape, -1) : x;
}
