// SPDX-License-Identifier: Apache-2.0
// builder.h - a list of instructions in the making. Numbers of values go in and out; memory that
// runs out is remembered, and everything after it does nothing.
#ifndef EMLX_ENGINES_MLX_BUILDER_H
#define EMLX_ENGINES_MLX_BUILDER_H

#include "engines/mlx/lower/lower.h"

typedef uint32_t value;

typedef struct builder {
    const mlx_traits *traits;
    const plan_node *nodes;
    mlx_lowered *out;
    arena *memory;
    value *value_of; // of each node
    uint8_t *dtypes; // of each value
    uint32_t node;   // the one being lowered
    uint32_t value_count;
    uint32_t operand_count, int_count; // so far, in the list
    size_t dtype_room, code_room, operand_room, int_room, output_room, check_room;
    bool failed;
} builder;

// Any instruction. `dtype` is the result's.
value mlx_emit(builder *b, mlx_code code, mlx_dtype dtype, const value *operands, uint32_t count,
               const int64_t *ints, size_t int_count);
// The result has the first operand's type.
value mlx_unary(builder *b, mlx_code code, value x);
value mlx_binary(builder *b, mlx_code code, value x, value y);
// The result is a bool.
value mlx_test(builder *b, mlx_code code, value x, value y);
value mlx_where(builder *b, value condition, value yes, value no);
value mlx_to_dtype(builder *b, value x, mlx_dtype dtype);
// A number of a type: a real one, or an integer.
value mlx_real(builder *b, double number, mlx_dtype dtype);
value mlx_integer(builder *b, int64_t number, mlx_dtype dtype);
value mlx_reshape(builder *b, value x, const emlx_shape *shape);
value mlx_zeros(builder *b, const emlx_shape *shape, mlx_dtype dtype);
// An axis of a slice: `count` elements from `start` on, `step` apart.
void mlx_slice_axis(int64_t *ints, int32_t rank, int32_t axis, int64_t start, int64_t count,
                    int64_t step);
// Remembers the size of an array that is made: the largest counts.
void mlx_note_size(builder *b, const emlx_shape *shape, size_t element);
// A check, with what it needs to be told of: see mlx_check.
void mlx_add_check(builder *b, mlx_check check, value flag, value detail);

static inline mlx_dtype mlx_dtype_of(const builder *b, value x) { return (mlx_dtype)b->dtypes[x]; }
static inline const plan_node *mlx_operand_node(const builder *b, const plan_node *n, uint32_t i) {
    return &b->nodes[n->operands[i]];
}
static inline value mlx_operand_value(const builder *b, const plan_node *n, uint32_t i) {
    return b->value_of[n->operands[i]];
}

// The MLX type that holds elements of `type`; MLX_DTYPE_COUNT where there is none (c128). Types
// below a byte are held in bytes, floats of 8 bits as their bits.
mlx_dtype mlx_dtype_for(emlx_type type);
// A value of type `from`, as it is held, converted to how `to` is held: Nx's rules of casting.
value mlx_cast(builder *b, value x, emlx_type from, emlx_type to);
// Brings what was computed in `type` back to its width, where that is below a byte.
value mlx_wrap(builder *b, value x, emlx_type type);
// A float of 8 bits as the f32 it is; others as they are.
value mlx_widen(builder *b, value x, emlx_type type);

// The axis of the base that a run-time start moves a source along; -1 where it is none of them.
int32_t mlx_start_axis(const emlx_shape *base, const emlx_shape *source, const region_start *start);
// Padding of a convolution's spatial axis, in MLX's words; may be negative.
void mlx_conv_padding(const plan_node *n, const plan_node *nodes, int32_t axis, int64_t *low,
                      int64_t *high);

// One function a kind of primitive.
value mlx_lower_scalar(builder *b, scalar_op op, emlx_type type, const value *operands);
value mlx_lower_map(builder *b, const plan_node *n);
value mlx_lower_iota(builder *b, const plan_node *n);
value mlx_lower_view(builder *b, const plan_node *n);
value mlx_lower_write(builder *b, const plan_node *n);
// Whether it has this kind of fold.
bool mlx_folds(reduce_kind kind);
value mlx_lower_reduce(builder *b, const plan_node *n);
value mlx_lower_scan(builder *b, const plan_node *n);
value mlx_lower_sort(builder *b, const plan_node *n);
value mlx_lower_dot(builder *b, const plan_node *n);
value mlx_lower_conv(builder *b, const plan_node *n);
value mlx_lower_gather(builder *b, const plan_node *n);
value mlx_lower_scatter(builder *b, const plan_node *n);
value mlx_lower_either(builder *b, const plan_node *n);

#endif
