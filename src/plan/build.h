// SPDX-License-Identifier: Apache-2.0
// build.h - from pending tensors to a plan, by way of the structural cache.
#ifndef EMLX_PLAN_BUILD_H
#define EMLX_PLAN_BUILD_H

#include "plan/plan.h"

// What to plan: `roots` are to be computed. `leaves` are the tensors at which the walk down stops,
// and become the plan's inputs in this order; every other tensor met is computed. A leaf may be a
// placeholder (PRIM_input without buffer) and need not be reachable.
typedef struct plan_request {
    emlx_device *device;
    emlx_tensor *const *roots;
    size_t root_count;
    emlx_tensor *const *leaves;
    size_t leaf_count;
} plan_request;

// The plan, and the numbers and functions that this use of it has: plans are equal when structures
// are, whatever the values of their scalar constants and the functions that they call.
typedef struct planned {
    emlx_plan *plan;
    scalar_value *constants;
    size_t constant_count;
    emlx_function **functions; // referenced
    size_t function_count;
} planned;

// Finds or builds the plan. The caller must hold off changes to the tensors above the leaves.
emlx_status plan_find(const plan_request *request, planned *out, emlx_error *err);
void planned_clear(planned *p);

#endif
