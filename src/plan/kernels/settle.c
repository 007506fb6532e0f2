// SPDX-License-Identifier: Apache-2.0
// settle.c - kernels as they stay. What they were made in has room to grow, and has also what
// became part of others; a plan is kept for long.
#include <string.h>

#include "base/error.h"
#include "plan/kernels/emit.h"

// Makes `*list`, which may be of any type, point to a copy of its `count` items.
static bool settle(arena *memory, void *list, size_t count, size_t size) {
    void *from, *to = NULL;
    memcpy(&from, list, sizeof from);
    if (count > 0) {
        to = arena_array(memory, count, size);
        if (to == NULL) return false;
        memcpy(to, from, count * size);
    }
    memcpy(list, &to, sizeof to);
    return true;
}

static bool settle_lists(plan_kernel *k, arena *memory) {
    return settle(memory, &k->steps, k->step_count, sizeof *k->steps) &&
           settle(memory, &k->stores, k->store_count, sizeof *k->stores) &&
           settle(memory, &k->guards, k->guard_count, sizeof *k->guards);
}

// Accesses of stages lie one after the other among those of the kernel; behind them are others.
static bool settle_accesses(plan_kernel *k, arena *memory) {
    size_t count = k->access_count;
    if (!settle(memory, &k->accesses, count, sizeof *k->accesses)) return false;
    plan_access *next = k->accesses;
    for (uint32_t i = 0; i < k->stage_count; i++) {
        k->stages[i].accesses = next;
        next += k->stages[i].access_count;
    }
    return true;
}

static bool settle_kernel(plan_kernel *k, arena *memory) {
    bool settled = settle(memory, &k->stages, k->stage_count, sizeof *k->stages) &&
                   settle_lists(k, memory) && settle_accesses(k, memory);
    for (uint32_t i = 0; i < k->stage_count && settled; i++)
        settled = settle_lists(&k->stages[i], memory);
    return settled;
}

emlx_status settle_kernels(emlx_plan *plan, arena *memory, emlx_error *err) {
    uint32_t count = plan->kernel_count;
    bool settled = settle(memory, &plan->kernels, count, sizeof *plan->kernels);
    for (uint32_t i = 0; i < count && settled; i++)
        settled = settle_kernel(&plan->kernels[i], memory);
    return settled ? EMLX_OK : plan_no_memory(err);
}
