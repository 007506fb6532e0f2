// SPDX-License-Identifier: Apache-2.0
// epilogue.c - products, each right in front of the map that alone reads its result, where the
// device would compute both at once. Knows nothing of what maps compute: the device does.
#include "base/error.h"
#include "base/shape.h"
#include "engine.h"
#include "plan/kernels/emit.h"

typedef struct finder {
    emlx_plan *plan;
    uint32_t *writer;  // of each value: the kernel that has written it last so far, or NO_INDEX
    uint32_t *readers; // of each value: how many kernels read it, and outputs of the plan it is
    uint32_t *product; // of each map: the product that goes in front of it, or NO_INDEX
    bool *moved;       // of each product
} finder;

// A kernel that reads a value at two places counts twice.
static void count_readers(finder *f) {
    const emlx_plan *plan = f->plan;
    for (uint32_t i = 0; i < plan->output_count; i++) f->readers[plan->outputs[i]]++;
    for (uint32_t n = 0; n < plan->kernel_count; n++) {
        const plan_kernel *k = &plan->kernels[n];
        for (uint32_t i = 0; i < k->access_count; i++) {
            const plan_access *a = &k->accesses[i];
            if (a->value != NO_INDEX) f->readers[a->value]++;
            for (uint32_t s = 0; s < a->start_count; s++) f->readers[a->starts[s].value]++;
        }
    }
}

// Whether the map makes one value, all of it.
static bool makes_one(const emlx_plan *plan, const plan_kernel *map) {
    if (map->kind != KERNEL_MAP || map->store_count != 1 || map->guard_count > 0) return false;
    const plan_access *store = &map->accesses[map->stores[0].access];
    int64_t count = 1;
    for (int32_t d = 0; d < map->rank; d++) count *= map->dims[d];
    return count > 0 && count == emlx_shape_count(&plan->values[store->value].shape);
}

// Whether what the access reads is a product that is wanted nowhere else, element by element.
static bool may_join(const finder *f, const plan_kernel *map, const plan_access *a) {
    const emlx_plan *plan = f->plan;
    const plan_access *store = &map->accesses[map->stores[0].access];
    if (a->value == NO_INDEX || f->writer[a->value] == NO_INDEX) return false;
    const plan_kernel *product = &plan->kernels[f->writer[a->value]];
    const plan_value *from = &plan->values[a->value], *to = &plan->values[store->value];
    return product->kind == KERNEL_DOT && f->readers[a->value] == 1 && from->type == to->type &&
           from->bytes == to->bytes && access_same_place(a, store) &&
           plan->device->ops->epilogue(plan->device, product, map);
}

static void find_product(finder *f, uint32_t number) {
    const plan_kernel *map = &f->plan->kernels[number];
    f->product[number] = NO_INDEX;
    for (uint32_t i = 0; makes_one(f->plan, map) && i < map->access_count; i++) {
        if (!may_join(f, map, &map->accesses[i])) continue;
        f->product[number] = f->writer[map->accesses[i].value];
        f->moved[f->product[number]] = true;
        break;
    }
}

static void note_writes(finder *f, uint32_t number) {
    const plan_kernel *k = &f->plan->kernels[number];
    for (uint32_t i = 0; i < k->store_count; i++)
        f->writer[k->accesses[k->stores[i].access].value] = number;
    if (k->output != NO_INDEX) f->writer[k->output] = number;
}

static bool begin_finding(finder *f, arena *scratch) {
    uint32_t kernels = f->plan->kernel_count, values = f->plan->value_count;
    f->writer = arena_array(scratch, values + 1, sizeof *f->writer);
    f->readers = arena_array(scratch, values + 1, sizeof *f->readers);
    f->product = arena_array(scratch, kernels, sizeof *f->product);
    f->moved = arena_array(scratch, kernels, 1);
    if (!f->writer || !f->readers || !f->product || !f->moved) return false;
    for (uint32_t v = 0; v < values; v++) f->writer[v] = NO_INDEX;
    count_readers(f);
    return true;
}

// What a product reads stays as it is until its map has been computed.
emlx_status join_epilogues(emlx_plan *plan, arena *scratch, emlx_error *err) {
    finder f = {.plan = plan};
    if (plan->device->ops->epilogue == NULL || plan->kernel_count < 2) return EMLX_OK;
    plan_kernel *kernels = arena_array(scratch, plan->kernel_count, sizeof *kernels);
    if (kernels == NULL || !begin_finding(&f, scratch)) return plan_no_memory(err);
    for (uint32_t i = 0; i < plan->kernel_count; i++) {
        find_product(&f, i);
        note_writes(&f, i);
    }
    for (uint32_t i = 0, count = 0; i < plan->kernel_count; i++) {
        if (f.moved[i]) continue;
        if (f.product[i] != NO_INDEX) {
            kernels[count] = plan->kernels[f.product[i]];
            kernels[count++].epilogue = true;
        }
        kernels[count++] = plan->kernels[i];
    }
    plan->kernels = kernels;
    return EMLX_OK;
}
