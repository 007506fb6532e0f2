// SPDX-License-Identifier: Apache-2.0
// cost.c - how long work takes at most, roughly: one model, for nodes that are not planned yet and
// for plans, in kernels or in nodes.
#include "plan/cost.h"

#include <math.h>

#include "engine.h"

// What the model looks at: how many elements the first two operands, all operands together, and the
// result have.
typedef struct sizes {
    int64_t left, right, operands, result;
} sizes;

// The elements of a shape, as far as they matter here: sums of these cannot overflow.
static int64_t size_of(const emlx_shape *shape) {
    int64_t count = emlx_shape_count(shape);
    return count > COST_SMALL ? COST_SMALL + 1 : count;
}

static void add_operand(sizes *s, uint32_t number, const emlx_shape *shape) {
    int64_t size = size_of(shape);
    if (number == 0) s->left = size;
    if (number == 1) s->right = size;
    s->operands += size;
}

// Of a matrix product only the elements of both sides and of the result are looked at: with m, n
// and k the lengths of its axes, (m k) (k n) (m n) is the square of its multiplications.
static int64_t product_cost(const sizes *s) {
    if (s->left > COST_SMALL || s->right > COST_SMALL || s->result > COST_SMALL) return COST_NO_END;
    double multiplications = sqrt((double)s->left * (double)s->right * (double)s->result);
    return COST_KERNEL + s->left + s->right + s->result + (int64_t)(multiplications / 8);
}

// Sorts and so on: as much as the longest that these can take.
static int64_t whole_cost(int64_t elements) {
    return elements > COST_SMALL ? COST_NO_END : COST_KERNEL + elements * elements / 16;
}

static int64_t cost_of(primitive p, const sizes *s) {
    switch (primitive_table[p].cost) {
    case COST_UNKNOWN: return COST_NO_END;
    case COST_PRODUCT: return product_cost(s);
    case COST_OPERANDS: return whole_cost(s->operands + s->result);
    case COST_ELEMENTS: break;
    }
    return s->operands + s->result;
}

// On a device that does several operations in the time in which the CPU engine does one.
static int64_t on_device(const emlx_device *device, int64_t cost) {
    return cost < COST_NO_END && device->ops->speed > 1 ? cost / device->ops->speed : cost;
}

// Operand 0 of an `either` is a node of its own.
int64_t cost_of_node(const emlx_tensor *t) {
    if (t->primitive == PRIM_either) return 0;
    sizes s = {.result = size_of(&t->shape)};
    for (uint32_t i = 0; i < t->input_count; i++) add_operand(&s, i, &t->inputs[i]->shape);
    return on_device(t->device, cost_of((primitive)t->primitive, &s));
}

static int64_t cost_of_kernels(const emlx_plan *plan, const plan_kernel *kernels, uint32_t count);

static int64_t cost_of_kernel(const emlx_plan *plan, const plan_kernel *k) {
    sizes s = {0};
    if (k->kind == KERNEL_ROWS) return cost_of_kernels(plan, k->stages, k->stage_count);
    if (kernel_is_whole(k)) {
        for (uint32_t a = 0; a < k->access_count; a++) add_operand(&s, a, &k->shapes[a]);
        // Its own result counts in products only: others read their operands several times.
        if (primitive_table[k->kind].cost == COST_PRODUCT)
            s.result = size_of(&plan->values[k->output].shape);
        return cost_of((primitive)k->kind, &s);
    }
    if (primitive_table[k->kind].cost == COST_UNKNOWN) return COST_NO_END;
    s.result = 1 + k->step_count;
    for (int32_t d = 0; d < k->rank; d++) {
        if (s.result > COST_SMALL || k->dims[d] > COST_SMALL) return COST_NO_END;
        s.result *= k->dims[d];
    }
    return COST_KERNEL + s.result;
}

static int64_t cost_of_kernels(const emlx_plan *plan, const plan_kernel *kernels, uint32_t count) {
    int64_t cost = 0;
    for (uint32_t k = 0; k < count && cost < COST_SMALL; k++)
        cost += cost_of_kernel(plan, &kernels[k]);
    return cost;
}

static int64_t cost_of_planned_node(const emlx_plan *plan, const plan_node *n) {
    sizes s = {.result = size_of(&n->shape)};
    if (n->primitive == PRIM_input) return 0;
    for (uint32_t i = 0; i < n->operand_count; i++)
        add_operand(&s, i, &plan->nodes[n->operands[i]].shape);
    return COST_KERNEL + cost_of((primitive)n->primitive, &s);
}

// What is divided waits for one device after the other.
int64_t cost_of_plan(const emlx_plan *plan) {
    if (plan->part_count > 0) return COST_NO_END;
    int64_t cost = cost_of_kernels(plan, plan->kernels, plan->kernel_count);
    for (uint32_t n = 0; n < plan->node_count && cost < COST_SMALL; n++)
        cost += cost_of_planned_node(plan, &plan->nodes[n]);
    return on_device(plan->device, cost);
}
