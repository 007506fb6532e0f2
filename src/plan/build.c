// SPDX-License-Identifier: Apache-2.0
// build.c - from pending tensors to a plan, by way of a cache of plans by structure.
#include "plan/build.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/event.h"
#include "engine.h"
#include "plan/cache.h"
#include "plan/kernels/check.h"
#include "plan/kernels/rows.h"
#include "plan/parts/divide.h"

static emlx_status make_kernels(subgraph *g, emlx_plan *plan, emlx_error *err) {
    fusion f;
    TRY(fuse(g, plan->device, &f, err));
    TRY(emit_kernels(&f, plan, &plan->memory, err));
    TRY(join_rows(plan, &g->memory, err));
    TRY(join_epilogues(plan, &g->memory, err));
    TRY(join_steps(plan, &g->memory, err));
    TRY(settle_kernels(plan, &plan->memory, err));
    TRY(assign_buffers(plan, &plan->memory, err));
    return plan_checking() ? plan_check(plan, err) : EMLX_OK;
}

// A plan of what its device can run.
static emlx_status make_form(subgraph *g, emlx_plan *plan, emlx_error *err) {
    return plan->device->ops->form == FORM_NODES ? keep_nodes(g, plan, err)
                                                 : make_kernels(g, plan, err);
}

static emlx_status new_plan(const subgraph *g, emlx_device *device, emlx_plan **out,
                            emlx_error *err) {
    emlx_plan *plan = mem_alloc(sizeof *plan);
    if (plan == NULL) return error_no_memory(err, "for a plan");
    atomic_init(&plan->references, 1);
    plan->device = device;
    plan->constant_count = g->constant_count;
    plan->function_count = g->function_count;
    plan->constant_types = arena_array(&plan->memory, g->constant_count + 1, 1);
    if (plan->constant_types == NULL) {
        plan_release(plan);
        return error_no_memory(err, "for a plan");
    }
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        if (g->nodes[n]->primitive == PRIM_constant)
            plan->constant_types[g->parameter[n]] = g->nodes[n]->type;
    *out = plan;
    return EMLX_OK;
}

static emlx_status build_part(subgraph *g, emlx_device *device, emlx_plan **out, emlx_error *err) {
    emlx_plan *plan = NULL;
    TRY(new_plan(g, device, &plan, err));
    emlx_status status = make_form(g, plan, err);
    if (status == EMLX_OK)
        *out = plan;
    else
        plan_release(plan);
    return status;
}

// Parts of different plans are often equal, and to plans that need no other device: what an engine
// has prepared for one is there for all.
static emlx_status find_part(subgraph *g, emlx_device *device, emlx_plan **out, emlx_error *err) {
    plan_key key = {.device = device};
    TRY(subgraph_key(g, &key.bytes, &key.size, err));
    *out = plan_cache_get(&key);
    if (*out != NULL) return EMLX_OK;
    TRY(build_part(g, device, out, err));
    plan_cache_put(&key, *out);
    return EMLX_OK;
}

static emlx_status build(subgraph *g, emlx_device *device, emlx_plan **out, emlx_error *err) {
    emlx_plan *plan = NULL;
    bool divided;
    if (device->ops->no_f64) TRY(narrow_rounding(g, err));
    TRY(new_plan(g, device, &plan, err));
    emlx_status status = divide(g, plan, find_part, &divided, err);
    if (status == EMLX_OK && !divided) status = make_form(g, plan, err);
    if (status == EMLX_OK)
        *out = plan;
    else
        plan_release(plan);
    return status;
}

// Hand-overs -----------------------------------------------------------------------------------

static atomic_bool refusing;

void emlx_refuse_handovers(bool refuse) { atomic_store(&refusing, refuse); }

bool handovers_refused(void) { return atomic_load_explicit(&refusing, memory_order_relaxed); }

static emlx_status check_handovers(const emlx_plan *plan, emlx_error *err) {
    if (!handovers_refused()) return EMLX_OK;
    for (uint32_t p = 0; p < plan->part_count; p++) {
        const plan_part *part = &plan->parts[p];
        if (!part->handed_over) continue;
        return error_set(err, EMLX_UNSUPPORTED, "%s: device %s cannot compute %s", part->ops[0],
                         plan->device->name, emlx_type_name(plan->values[part->outputs[0]].type));
    }
    return EMLX_OK;
}

// The values that this use has, of the types that the plan has them in.
static emlx_status collect_constants(const subgraph *g, planned *out, emlx_error *err) {
    if (g->constant_count == 0) return EMLX_OK;
    out->constants = mem_alloc(g->constant_count * sizeof *out->constants);
    if (out->constants == NULL) return error_no_memory(err, "for a plan's constants");
    out->constant_count = g->constant_count;
    for (uint32_t n = g->leaf_count; n < g->count; n++) {
        const emlx_tensor *t = g->nodes[n];
        scalar_value *value = &out->constants[g->parameter[n]];
        if (!node_is_constant(t, value)) continue;
        emlx_type type = (emlx_type)out->plan->constant_types[g->parameter[n]];
        if (type != (emlx_type)t->type) constant_convert(value, (emlx_type)t->type, type);
    }
    return EMLX_OK;
}

static emlx_status collect_functions(const subgraph *g, planned *out, emlx_error *err) {
    if (g->function_count == 0) return EMLX_OK;
    out->functions = mem_alloc(g->function_count * sizeof(emlx_function *));
    if (out->functions == NULL) return error_no_memory(err, "for a plan's functions");
    out->function_count = g->function_count;
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        if (g->nodes[n]->primitive == PRIM_function)
            out->functions[g->parameter[n]] = emlx_function_retain(node_function(g->nodes[n]));
    return EMLX_OK;
}

static emlx_status find_or_build(subgraph *g, emlx_device *device, planned *out, emlx_error *err) {
    plan_key key = {.device = device};
    TRY(subgraph_key(g, &key.bytes, &key.size, err));
    out->plan = plan_cache_get(&key);
    if (out->plan != NULL) return EMLX_OK;
    uint64_t begun = event_begin();
    TRY(build(g, device, &out->plan, err));
    event_send((emlx_event){.kind = EMLX_EVENT_COMPILED,
                            .device = device->name,
                            .count = plan_kernel_count(out->plan)},
               begun);
    plan_cache_put(&key, out->plan);
    return EMLX_OK;
}

emlx_status plan_find(const plan_request *request, planned *out, emlx_error *err) {
    subgraph g;
    planned found = {0};
    emlx_status status = subgraph_collect(request, &g, err);
    if (status == EMLX_OK) status = find_or_build(&g, request->device, &found, err);
    if (status == EMLX_OK) status = collect_constants(&g, &found, err);
    if (status == EMLX_OK) status = collect_functions(&g, &found, err);
    if (status == EMLX_OK && found.plan->part_count > 0) status = check_handovers(found.plan, err);
    subgraph_clear(&g);
    if (status == EMLX_OK)
        *out = found;
    else
        planned_clear(&found);
    return status;
}

void planned_clear(planned *p) {
    plan_release(p->plan);
    if (p->constants != NULL) mem_free(p->constants, p->constant_count * sizeof *p->constants);
    for (size_t i = 0; i < p->function_count; i++) emlx_function_release(p->functions[i]);
    if (p->functions != NULL) mem_free(p->functions, p->function_count * sizeof *p->functions);
    *p = (planned){0};
}
