// SPDX-License-Identifier: Apache-2.0
// plan.c - references to plans, and what a plan is made of.
#include "plan/plan.h"

#include "engine.h"

emlx_plan *plan_retain(emlx_plan *plan) {
    atomic_fetch_add_explicit(&plan->references, 1, memory_order_relaxed);
    return plan;
}

size_t plan_kernel_count(const emlx_plan *plan) {
    size_t count = plan->kernel_count;
    if (plan->node_count > 0) count += plan->node_count - plan->input_count;
    for (uint32_t p = 0; p < plan->part_count; p++) count += plan_kernel_count(plan->parts[p].plan);
    return count;
}

void plan_release(emlx_plan *plan) {
    if (plan == NULL || atomic_fetch_sub(&plan->references, 1) != 1) return;
    void *form = atomic_load(&plan->prepared);
    if (form != NULL) plan->device->ops->discard(plan->device, form);
    for (uint32_t p = 0; p < plan->part_count && plan->parts != NULL; p++)
        plan_release(plan->parts[p].plan);
    arena_clear(&plan->memory);
    mem_free(plan, sizeof *plan);
}
