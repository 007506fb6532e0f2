// SPDX-License-Identifier: Apache-2.0
// subgraph.h - the part of the graph that a plan is made of, as arrays: leaves first, then every
// node above them after its operands. Structurally equal nodes are one.
#ifndef EMLX_PLAN_SUBGRAPH_H
#define EMLX_PLAN_SUBGRAPH_H

#include "memory/arena.h"
#include "plan/build.h"

typedef struct subgraph {
    arena memory;
    uint32_t count, leaf_count, root_count, operand_count, constant_count, function_count;
    emlx_tensor **nodes;
    uint32_t *first;    // of each node: where its operands start; count + 1 entries
    uint32_t *operands; // indices of nodes
    uint32_t *roots;
    // What plans are run with: of each `constant` its number among these, of each `function` that
    // of its function.
    uint32_t *parameter;
} subgraph;

// Which of a node's operands a plan for the device reads: of an `either` operand 0, or where the
// device takes it whole the others.
typedef struct operand_span {
    uint32_t first, end;
} operand_span;
operand_span subgraph_operands(const emlx_device *device, const emlx_tensor *t);

// Fills in *g, to be cleared with subgraph_clear, also on failure.
emlx_status subgraph_collect(const plan_request *request, subgraph *g, emlx_error *err);
void subgraph_clear(subgraph *g);

// The structure as bytes, in g's memory: equal for two subgraphs exactly when one plan fits both,
// with parameters of the same numbers.
emlx_status subgraph_key(subgraph *g, const void **key, size_t *size, emlx_error *err);

// A copy of a node's parameters, but for values that plans are run with: NULL where there are none.
// False where there is no memory.
bool copy_params(const subgraph *g, uint32_t n, arena *memory, const void **out, uint32_t *size);

// For want of memory, at whatever step of planning.
emlx_status plan_no_memory(emlx_error *err);

#endif
