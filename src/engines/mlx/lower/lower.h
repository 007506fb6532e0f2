// SPDX-License-Identifier: Apache-2.0
// lower.h - a plan's nodes as a list of instructions for the adapter. Every decision about MLX is
// made here, in C: what it can do, what it gets wrong, what its functions need around them.
// Nothing in here calls MLX.
#ifndef EMLX_ENGINES_MLX_LOWER_H
#define EMLX_ENGINES_MLX_LOWER_H

#include "engines/mlx/edge/edge.h"
#include "plan/plan.h"

// What differs between MLX's devices and versions.
typedef struct mlx_traits {
    uint32_t version; // major * 1,000,000 + minor * 1,000 + patch
    bool f64;         // has the type, as its CPU does
    bool cpu;         // is its CPU
    bool exact;       // functions of which MLX gives fewer digits than we promise are refused
    int32_t rank;     // most axes of an array
} mlx_traits;

// Something that must be false when the list has run. Its outputs come after those of the plan:
// a bool, and for an index out of bounds the s64 vector of indices that holds it.
typedef struct mlx_check {
    uint32_t node;
    uint8_t guard;         // guard_kind; GUARD_NONE: an index out of bounds
    uint32_t flag, detail; // outputs
} mlx_check;

typedef struct mlx_lowered {
    mlx_list list;
    mlx_check *checks;
    uint32_t check_count;
    size_t largest; // bytes that one array on the way may take
} mlx_lowered;

// Whether MLX is to compute the node; its operands are in `nodes`.
bool mlx_can(const mlx_traits *traits, const plan_node *node, const plan_node *nodes);

// Whether it is to compute the function of an `either` whole.
bool mlx_takes(const mlx_traits *traits, const emlx_tensor *either);

// The inputs of the list are the plan's inputs, then its constants; its outputs the plan's, then
// those of the checks. All of it lives in `memory`. Fails with EMLX_OUT_OF_MEMORY only: every node
// of the plan is one that mlx_can takes.
emlx_status mlx_lower(const emlx_plan *plan, const mlx_traits *traits, arena *memory,
                      mlx_lowered *out, emlx_error *err);

#endif
