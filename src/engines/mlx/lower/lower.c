// SPDX-License-Identifier: Apache-2.0
// lower.c - a plan's nodes, one after the other, as instructions.
#include "engines/mlx/lower/lower.h"

#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/mlx/lower/builder.h"

// No instruction reads what MLX has no type for, a constant of c128 that the host uses: it is given
// as no elements of another.
static void set_input(builder *b, uint32_t at, emlx_type type, const emlx_shape *shape) {
    mlx_input *in = &((mlx_input *)b->out->list.inputs)[at];
    b->dtypes[at] = (uint8_t)mlx_dtype_for(type);
    if (b->dtypes[at] == MLX_DTYPE_COUNT) {
        in->dtype = MLX_DTYPE_u8;
        in->rank = 1;
        return;
    }
    in->dtype = b->dtypes[at];
    in->rank = shape->rank;
    memcpy(in->dims, shape->dims, sizeof in->dims);
}

// A plan's constants have other numbers in every use of it, so they are inputs too.
static void take_inputs(builder *b, const emlx_plan *plan) {
    const emlx_shape scalar = {0};
    uint32_t count = plan->input_count + plan->constant_count;
    mlx_list *list = &b->out->list;
    list->inputs = arena_array(b->memory, count + 1, sizeof *list->inputs);
    list->outputs = arena_array(b->memory, plan->output_count + 1, sizeof *list->outputs);
    b->value_of = arena_array(b->memory, plan->node_count + 1, sizeof *b->value_of);
    b->dtypes = arena_array(b->memory, count + 1, 1);
    b->failed = !list->inputs || !list->outputs || !b->value_of || !b->dtypes;
    if (b->failed) return;
    for (uint32_t i = 0; i < plan->input_count; i++) {
        set_input(b, i, (emlx_type)plan->nodes[i].type, &plan->nodes[i].shape);
        b->value_of[i] = i;
    }
    for (uint32_t i = 0; i < plan->constant_count; i++)
        set_input(b, plan->input_count + i, (emlx_type)plan->constant_types[i], &scalar);
    list->input_count = b->value_count = b->dtype_room = count;
    list->output_count = b->output_room = plan->output_count;
}

static value (*const lowerings[PRIM_COUNT])(builder *, const plan_node *) = {
    [PRIM_iota] = mlx_lower_iota,       [PRIM_map] = mlx_lower_map,
    [PRIM_view] = mlx_lower_view,       [PRIM_write] = mlx_lower_write,
    [PRIM_reduce] = mlx_lower_reduce,   [PRIM_dot] = mlx_lower_dot,
    [PRIM_conv] = mlx_lower_conv,       [PRIM_gather] = mlx_lower_gather,
    [PRIM_scatter] = mlx_lower_scatter, [PRIM_sort] = mlx_lower_sort,
    [PRIM_scan] = mlx_lower_scan,       [PRIM_either] = mlx_lower_either,
};

static value lower_constant(builder *b, const plan_node *n, uint32_t input) {
    return mlx_emit(b, MLX_broadcast_to, mlx_dtype_for(n->type), &input, 1, n->shape.dims,
                    (size_t)n->shape.rank);
}

// Folds and counts are made in 64 bits, functions in their own type; what moves elements has
// theirs.
static size_t element_size(const plan_node *n) {
    switch (n->primitive) {
    case PRIM_constant:
    case PRIM_view:
    case PRIM_write:
    case PRIM_gather: return type_size((emlx_type)n->type);
    case PRIM_map: {
        size_t own = type_size((emlx_type)n->type);
        size_t computed = type_size((emlx_type)((const map_params *)n->params)->compute);
        return own > computed ? own : computed;
    }
    default: return sizeof(int64_t);
    }
}

static void note_sizes(builder *b, const plan_node *n) {
    mlx_note_size(b, &n->shape, element_size(n));
    for (uint32_t i = 0; i < n->operand_count; i++)
        mlx_note_size(b, &mlx_operand_node(b, n, i)->shape, element_size(n));
}

emlx_status mlx_lower(const emlx_plan *plan, const mlx_traits *traits, arena *memory,
                      mlx_lowered *out, emlx_error *err) {
    *out = (mlx_lowered){0};
    builder b = {.traits = traits, .nodes = plan->nodes, .out = out, .memory = memory};
    take_inputs(&b, plan);
    for (b.node = plan->input_count; b.node < plan->node_count && !b.failed; b.node++) {
        const plan_node *n = &plan->nodes[b.node];
        note_sizes(&b, n);
        b.value_of[b.node] = n->primitive == PRIM_constant
                                 ? lower_constant(&b, n, plan->input_count + n->parameter)
                                 : lowerings[n->primitive](&b, n);
    }
    if (b.failed) return error_no_memory(err, "to plan for MLX");
    for (uint32_t i = 0; i < plan->output_count; i++)
        ((value *)out->list.outputs)[i] = b.value_of[plan->outputs[i]];
    return EMLX_OK;
}
