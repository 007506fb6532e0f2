// SPDX-License-Identifier: Apache-2.0
// beside.c - kernels that an engine runs as one step: the first of them is where it was, the
// others, which read nothing that was made since, come behind it.
#include "base/error.h"
#include "engine.h"
#include "plan/kernels/emit.h"

typedef struct steps {
    const emlx_plan *plan;
    uint32_t *writer; // of each value: the kernel that has written it last so far, or NO_INDEX
    uint32_t *first;  // of each value: the last step whose kernels have it as operand 0
    uint32_t *next;   // of each kernel: the one behind it in its step, or NO_INDEX
    uint32_t *last;   // of a first kernel: the last of its step
    bool *follows;
} steps;

static bool made_before(const steps *s, uint32_t value, uint32_t kernel) {
    return s->writer[value] == NO_INDEX || s->writer[value] < kernel;
}

static bool reads_before(const steps *s, const plan_kernel *k, uint32_t kernel) {
    for (uint32_t i = 0; i < k->access_count; i++) {
        const plan_access *a = &k->accesses[i];
        if (!made_before(s, a->value, kernel)) return false;
        for (uint32_t j = 0; j < a->start_count; j++)
            if (!made_before(s, a->starts[j].value, kernel)) return false;
    }
    return true;
}

static void note_writes(steps *s, const plan_kernel *k, uint32_t number) {
    for (uint32_t i = 0; i < k->store_count; i++)
        s->writer[k->accesses[k->stores[i].access].value] = number;
    if (k->output != NO_INDEX) s->writer[k->output] = number;
}

// Kernels whose results only they write, so that nothing in between writes them.
static bool may_follow(const steps *s, const plan_kernel *first, const plan_kernel *k) {
    const emlx_device *device = s->plan->device;
    return first->beside < MOST_BESIDE && s->writer[k->output] == NO_INDEX &&
           device->ops->beside(device, first, k);
}

static void place_kernel(steps *s, uint32_t number) {
    plan_kernel *kernels = s->plan->kernels, *k = &kernels[number];
    s->next[number] = NO_INDEX;
    s->last[number] = number;
    if (kernel_is_whole(k) && k->access_count > 0 && !k->epilogue) {
        uint32_t *first = &s->first[k->accesses[0].value];
        if (*first != NO_INDEX && may_follow(s, &kernels[*first], k) &&
            reads_before(s, k, *first)) {
            kernels[*first].beside++;
            s->next[s->last[*first]] = number;
            s->last[*first] = number;
            s->follows[number] = true;
        } else {
            *first = number;
        }
    }
    note_writes(s, k, number);
}

static bool begin_steps(steps *s, arena *scratch) {
    uint32_t kernels = s->plan->kernel_count, values = s->plan->value_count;
    s->writer = arena_array(scratch, values + 1, sizeof *s->writer);
    s->first = arena_array(scratch, values + 1, sizeof *s->first);
    s->next = arena_array(scratch, kernels, sizeof *s->next);
    s->last = arena_array(scratch, kernels, sizeof *s->last);
    s->follows = arena_array(scratch, kernels, 1);
    if (!s->writer || !s->first || !s->next || !s->last || !s->follows) return false;
    for (uint32_t v = 0; v < values; v++) s->writer[v] = s->first[v] = NO_INDEX;
    return true;
}

emlx_status join_steps(emlx_plan *plan, arena *scratch, emlx_error *err) {
    steps s = {.plan = plan};
    if (plan->device->ops->beside == NULL || plan->kernel_count < 2) return EMLX_OK;
    plan_kernel *kernels = arena_array(scratch, plan->kernel_count, sizeof *kernels);
    if (kernels == NULL || !begin_steps(&s, scratch)) return plan_no_memory(err);
    for (uint32_t i = 0; i < plan->kernel_count; i++) place_kernel(&s, i);
    for (uint32_t i = 0, count = 0; i < plan->kernel_count; i++)
        for (uint32_t k = s.follows[i] ? NO_INDEX : i; k != NO_INDEX; k = s.next[k])
            kernels[count++] = plan->kernels[k];
    plan->kernels = kernels;
    return EMLX_OK;
}
