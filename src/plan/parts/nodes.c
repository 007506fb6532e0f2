// SPDX-License-Identifier: Apache-2.0
// nodes.c - plans in nodes: the graph as it was collected, for engines that fuse by themselves.
#include <string.h>

#include "base/error.h"
#include "plan/kernels/fuse.h"
#include "plan/parts/divide.h"

static bool fill_node(const subgraph *g, uint32_t n, const uint32_t *operands, plan_node *node,
                      arena *memory) {
    const emlx_tensor *t = g->nodes[n];
    bool leaf = is_leaf(g, n);
    bool given = is_primitive(g, n, PRIM_constant) || is_primitive(g, n, PRIM_function);
    *node = (plan_node){.primitive = leaf ? PRIM_input : t->primitive,
                        .type = t->type,
                        .operand_count = leaf ? 0 : g->first[n + 1] - g->first[n],
                        .operands = operands + g->first[n],
                        .parameter = given ? g->parameter[n] : 0,
                        .op = leaf ? NULL : t->op,
                        .shape = t->shape};
    return copy_params(g, n, memory, &node->params, &node->params_size);
}

emlx_status list_nodes(const subgraph *g, plan_node **out, arena *memory, emlx_error *err) {
    plan_node *nodes = arena_array(memory, g->count + 1, sizeof *nodes);
    uint32_t *operands = arena_array(memory, g->operand_count + 1, sizeof *operands);
    if (nodes == NULL || operands == NULL) return plan_no_memory(err);
    if (g->operand_count > 0) memcpy(operands, g->operands, g->operand_count * sizeof *operands);
    for (uint32_t n = 0; n < g->count; n++)
        if (!fill_node(g, n, operands, &nodes[n], memory)) return plan_no_memory(err);
    *out = nodes;
    return EMLX_OK;
}

emlx_status keep_nodes(const subgraph *g, emlx_plan *plan, emlx_error *err) {
    arena *memory = &plan->memory;
    TRY(list_nodes(g, &plan->nodes, memory, err));
    plan->values = arena_array(memory, g->count + 1, sizeof *plan->values);
    plan->outputs = arena_array(memory, g->root_count + 1, sizeof *plan->outputs);
    if (!plan->values || !plan->outputs) return plan_no_memory(err);
    for (uint32_t n = 0; n < g->count; n++) {
        const emlx_tensor *t = g->nodes[n];
        plan->values[n] = (plan_value){(emlx_type)t->type, t->shape, emlx_tensor_bytes(t)};
    }
    for (uint32_t i = 0; i < g->root_count; i++) plan->outputs[i] = g->roots[i];
    plan->input_count = g->leaf_count;
    plan->node_count = plan->value_count = g->count;
    plan->output_count = g->root_count;
    return EMLX_OK;
}
