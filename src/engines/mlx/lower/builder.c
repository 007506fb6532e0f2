// SPDX-License-Identifier: Apache-2.0
// builder.c - a list of instructions in the making.
#include "engines/mlx/lower/builder.h"

#include <string.h>

#include "memory/list.h"

// Arrays that grow -------------------------------------------------------------------------------

// Room for `more` elements behind the `count` that are there.
static bool room_for(builder *b, void *array, size_t *room, uint32_t count, size_t more,
                     size_t size) {
    b->failed = b->failed || count + more > UINT32_MAX ||
                !arena_reserve(b->memory, array, room, count, more, size);
    return !b->failed;
}

static uint32_t add_operands(builder *b, const value *operands, uint32_t count) {
    uint32_t first = b->operand_count;
    if (!room_for(b, &b->out->list.operands, &b->operand_room, first, count, sizeof *operands))
        return 0;
    if (count > 0)
        memcpy((value *)b->out->list.operands + first, operands, count * sizeof *operands);
    b->operand_count += count;
    return first;
}

static uint32_t add_ints(builder *b, const int64_t *ints, size_t count) {
    uint32_t first = b->int_count;
    if (!room_for(b, &b->out->list.ints, &b->int_room, first, count, sizeof *ints)) return 0;
    if (count > 0) memcpy((int64_t *)b->out->list.ints + first, ints, count * sizeof *ints);
    b->int_count += (uint32_t)count;
    return first;
}

// Instructions ----------------------------------------------------------------------------------

value mlx_emit(builder *b, mlx_code code, mlx_dtype dtype, const value *operands, uint32_t count,
               const int64_t *ints, size_t int_count) {
    mlx_list *list = &b->out->list;
    mlx_instruction made = {.code = (uint16_t)code,
                            .dtype = (uint16_t)dtype,
                            .operands = add_operands(b, operands, count),
                            .operand_count = count,
                            .ints = add_ints(b, ints, int_count),
                            .int_count = (uint32_t)int_count};
    if (!room_for(b, &list->code, &b->code_room, list->count, 1, sizeof made) ||
        !room_for(b, &b->dtypes, &b->dtype_room, b->value_count, 1, 1))
        return 0;
    ((mlx_instruction *)list->code)[list->count++] = made;
    b->dtypes[b->value_count] = (uint8_t)dtype;
    return b->value_count++;
}

value mlx_unary(builder *b, mlx_code code, value x) {
    return mlx_emit(b, code, mlx_dtype_of(b, x), &x, 1, NULL, 0);
}

value mlx_binary(builder *b, mlx_code code, value x, value y) {
    return mlx_emit(b, code, mlx_dtype_of(b, x), (value[]){x, y}, 2, NULL, 0);
}

value mlx_test(builder *b, mlx_code code, value x, value y) {
    return mlx_emit(b, code, MLX_DTYPE_bool, (value[]){x, y}, 2, NULL, 0);
}

value mlx_where(builder *b, value condition, value yes, value no) {
    return mlx_emit(b, MLX_where, mlx_dtype_of(b, yes), (value[]){condition, yes, no}, 3, NULL, 0);
}

value mlx_to_dtype(builder *b, value x, mlx_dtype dtype) {
    return mlx_dtype_of(b, x) == dtype ? x : mlx_emit(b, MLX_astype, dtype, &x, 1, NULL, 0);
}

value mlx_real(builder *b, double number, mlx_dtype dtype) {
    int64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return mlx_emit(b, MLX_literal, dtype, NULL, 0, &bits, 1);
}

value mlx_integer(builder *b, int64_t number, mlx_dtype dtype) {
    return mlx_emit(b, MLX_literal, dtype, NULL, 0, &number, 1);
}

value mlx_reshape(builder *b, value x, const emlx_shape *shape) {
    return mlx_emit(b, MLX_reshape, mlx_dtype_of(b, x), &x, 1, shape->dims, (size_t)shape->rank);
}

value mlx_zeros(builder *b, const emlx_shape *shape, mlx_dtype dtype) {
    return mlx_emit(b, MLX_zeros, dtype, NULL, 0, shape->dims, (size_t)shape->rank);
}

void mlx_slice_axis(int64_t *ints, int32_t rank, int32_t axis, int64_t start, int64_t count,
                    int64_t step) {
    ints[axis] = start;
    ints[rank + axis] = start + (count - 1) * step + (step > 0 ? 1 : -1);
    ints[2 * rank + axis] = step;
}

void mlx_note_size(builder *b, const emlx_shape *shape, size_t element) {
    size_t size = (size_t)emlx_shape_count(shape) * element;
    if (size > b->out->largest) b->out->largest = size;
}

// Checks ----------------------------------------------------------------------------------------

static uint32_t add_output(builder *b, value x) {
    mlx_list *list = &b->out->list;
    if (!room_for(b, &list->outputs, &b->output_room, list->output_count, 1, sizeof x)) return 0;
    ((value *)list->outputs)[list->output_count] = x;
    return list->output_count++;
}

void mlx_add_check(builder *b, mlx_check check, value flag, value detail) {
    mlx_lowered *out = b->out;
    if (!room_for(b, &out->checks, &b->check_room, out->check_count, 1, sizeof check)) return;
    check.node = b->node;
    check.flag = add_output(b, flag);
    check.detail = check.guard == GUARD_NONE ? add_output(b, detail) : 0;
    out->checks[out->check_count++] = check;
}
