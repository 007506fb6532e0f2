// SPDX-License-Identifier: Apache-2.0
// divide.c - a plan that a device and the host run between them, where the device's engine cannot
// run some of the nodes.
//
// Every node is the device's or the host's. The level of a node is how often that changes on the
// way up to it, at most: nodes of one level and one side do not need each other by way of the other
// side, and are one part. Constants and counts are free: each part has its own.
#include "plan/parts/divide.h"

#include <string.h>

#include "base/error.h"
#include "engine.h"
#include "plan/kernels/fuse.h"

typedef struct divider {
    const subgraph *g;
    emlx_plan *plan;
    build_fn build;
    arena scratch;
    bool *on_host;
    uint32_t *level, *part; // of each node; the part is NO_INDEX for inputs and what is free
    uint32_t *value;        // of each node that has one: its number in the whole plan
    uint32_t *map, *stamp;  // its number in the part being made, if the stamp is that part's
    uint32_t *order;        // nodes by part
    uint32_t *begin;        // of each part: where its nodes begin in `order`; one more
} divider;

// What the device cannot count the host makes for it, as any other node.
static bool is_free(const divider *d, uint32_t n) {
    bool made = is_primitive(d->g, n, PRIM_constant) || is_primitive(d->g, n, PRIM_iota);
    return made && !d->on_host[n];
}

// Sides ------------------------------------------------------------------------------------------

static bool is_cast(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_map)) return false;
    const map_params *p = g->nodes[n]->params;
    return p->guard == GUARD_NONE && p->op == SCALAR_identity;
}

// Views and casts that only the host reads go along, so that less crosses over.
static void go_along(divider *d, bool *device_reads) {
    const subgraph *g = d->g;
    for (uint32_t i = 0; i < g->root_count; i++) device_reads[g->roots[i]] = true;
    for (uint32_t n = g->count; n-- > g->leaf_count;) {
        bool moves = is_primitive(g, n, PRIM_view) || is_cast(g, n);
        if (moves && !device_reads[n]) d->on_host[n] = true;
        for (uint32_t i = g->first[n]; i < g->first[n + 1] && !d->on_host[n]; i++)
            device_reads[g->operands[i]] = true;
    }
}

// False where the device can run all of it.
static bool choose_sides(divider *d, const plan_node *nodes, bool *device_reads) {
    const emlx_device *device = d->plan->device;
    bool any = false;
    for (uint32_t n = d->g->leaf_count; n < d->g->count; n++) {
        d->on_host[n] = !is_primitive(d->g, n, PRIM_either) && !device->ops->can(device, nodes, n);
        any = any || d->on_host[n];
    }
    if (any) go_along(d, device_reads);
    return any;
}

// Parts ------------------------------------------------------------------------------------------

static uint32_t find_levels(divider *d) {
    const subgraph *g = d->g;
    uint32_t highest = 0;
    for (uint32_t n = g->leaf_count; n < g->count; n++) {
        for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++) {
            uint32_t o = g->operands[i];
            if (is_leaf(g, o) || is_free(d, o)) continue;
            uint32_t level = d->level[o] + (d->on_host[o] != d->on_host[n]);
            if (level > d->level[n]) d->level[n] = level;
        }
        if (d->level[n] > highest) highest = d->level[n];
    }
    return highest;
}

static void mark_roots(const subgraph *g, bool *is_root) {
    for (uint32_t i = 0; i < g->root_count; i++) is_root[g->roots[i]] = true;
}

// Of one level the device begins, as the host then computes at the same time.
static bool sort_parts(divider *d, uint32_t levels, const bool *is_root) {
    const subgraph *g = d->g;
    uint32_t slots = 2 * levels, count = 0;
    uint32_t *sizes = arena_array(&d->scratch, slots + 1, sizeof *sizes);
    d->begin = arena_array(&d->scratch, slots + 1, sizeof *d->begin);
    if (sizes == NULL || d->begin == NULL) return false;
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        if (!is_free(d, n) || is_root[n]) sizes[2 * d->level[n] + d->on_host[n]]++;
    uint32_t *part_of = sizes;
    for (uint32_t s = 0, at = 0; s < slots; s++) {
        if (sizes[s] == 0) continue;
        d->begin[count + 1] = at += sizes[s];
        part_of[s] = count++;
    }
    for (uint32_t n = 0; n < g->count; n++) {
        bool belongs = n >= g->leaf_count && (!is_free(d, n) || is_root[n]);
        d->part[n] = belongs ? part_of[2 * d->level[n] + d->on_host[n]] : NO_INDEX;
    }
    uint32_t *next = arena_array(&d->scratch, count + 1, sizeof *next);
    if (next == NULL) return false;
    memcpy(next, d->begin, count * sizeof *next);
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        if (d->part[n] != NO_INDEX) d->order[next[d->part[n]]++] = n;
    d->plan->part_count = count;
    return true;
}

// Values of the whole: inputs, results, and what one part makes for another.
static bool number_values(divider *d, bool *crosses) {
    const subgraph *g = d->g;
    emlx_plan *plan = d->plan;
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++) {
            uint32_t o = g->operands[i];
            if (d->part[o] != d->part[n] && !is_free(d, o)) crosses[o] = true;
        }
    plan->values = arena_array(&plan->memory, g->count + 1, sizeof *plan->values);
    plan->last_part = arena_array(&plan->memory, g->count + 1, sizeof *plan->last_part);
    if (plan->values == NULL || plan->last_part == NULL) return false;
    for (uint32_t n = 0; n < g->count; n++) {
        d->value[n] = NO_INDEX;
        if (!is_leaf(g, n) && !crosses[n]) continue;
        const emlx_tensor *t = g->nodes[n];
        plan->values[plan->value_count] =
            (plan_value){(emlx_type)t->type, t->shape, emlx_tensor_bytes(t)};
        d->value[n] = plan->value_count++;
    }
    return true;
}

// The graph of a part -----------------------------------------------------------------------------

typedef struct part_graph {
    subgraph g;
    uint32_t *inputs, *outputs; // nodes of the whole
} part_graph;

static bool start_part(const divider *d, uint32_t p, part_graph *out) {
    const subgraph *g = d->g;
    uint32_t own = d->begin[p + 1] - d->begin[p], operands = 0;
    for (uint32_t i = d->begin[p]; i < d->begin[p + 1]; i++)
        operands += g->first[d->order[i] + 1] - g->first[d->order[i]];
    uint32_t most = own + operands;
    arena *memory = &out->g.memory;
    out->g.nodes = arena_array(memory, most + 1, sizeof *out->g.nodes);
    out->g.first = arena_array(memory, most + 2, sizeof *out->g.first);
    out->g.parameter = arena_array(memory, most + 1, sizeof *out->g.parameter);
    out->g.operands = arena_array(memory, operands + 1, sizeof *out->g.operands);
    out->g.roots = arena_array(memory, own + 1, sizeof *out->g.roots);
    out->inputs = arena_array(memory, operands + 1, sizeof *out->inputs);
    out->outputs = arena_array(memory, own + 1, sizeof *out->outputs);
    out->g.constant_count = g->constant_count;
    out->g.function_count = g->function_count;
    return out->g.nodes && out->g.first && out->g.parameter && out->g.operands && out->g.roots &&
           out->inputs && out->outputs;
}

static void add_node(divider *d, uint32_t p, part_graph *out, uint32_t n) {
    d->stamp[n] = p + 1;
    d->map[n] = out->g.count;
    out->g.nodes[out->g.count] = d->g->nodes[n];
    out->g.parameter[out->g.count] = d->g->parameter[n];
    out->g.first[++out->g.count] = out->g.operand_count;
}

// What the part's nodes read that is not its own: what others make first, then what is free.
static void add_operands(divider *d, uint32_t p, part_graph *out, bool free_ones) {
    const subgraph *g = d->g;
    for (uint32_t i = d->begin[p]; i < d->begin[p + 1]; i++) {
        uint32_t n = d->order[i];
        for (uint32_t a = g->first[n]; a < g->first[n + 1]; a++) {
            uint32_t o = g->operands[a];
            if (d->part[o] == p || d->stamp[o] == p + 1 || is_free(d, o) != free_ones) continue;
            if (!free_ones) out->inputs[out->g.leaf_count++] = o;
            add_node(d, p, out, o);
        }
    }
}

static void add_own(divider *d, uint32_t p, part_graph *out) {
    const subgraph *g = d->g;
    for (uint32_t i = d->begin[p]; i < d->begin[p + 1]; i++) {
        uint32_t n = d->order[i];
        for (uint32_t a = g->first[n]; a < g->first[n + 1]; a++)
            out->g.operands[out->g.operand_count++] = d->map[g->operands[a]];
        add_node(d, p, out, n);
        if (d->value[n] == NO_INDEX) continue;
        out->outputs[out->g.root_count] = n;
        out->g.roots[out->g.root_count++] = d->map[n];
    }
}

static bool list_values(const divider *d, const uint32_t *nodes, uint32_t count, uint32_t **out) {
    *out = arena_array(&d->plan->memory, count + 1, sizeof **out);
    for (uint32_t i = 0; i < count && *out != NULL; i++) (*out)[i] = d->value[nodes[i]];
    return *out != NULL;
}

// The names of what is handed over, to be counted when it is.
static bool list_ops(const divider *d, uint32_t p, plan_part *part) {
    part->handed_over = d->on_host[d->order[d->begin[p]]];
    if (!part->handed_over) return true;
    part->op_count = d->begin[p + 1] - d->begin[p];
    part->ops = arena_array(&d->plan->memory, part->op_count, sizeof *part->ops);
    for (uint32_t i = 0; i < part->op_count && part->ops != NULL; i++)
        part->ops[i] = d->g->nodes[d->order[d->begin[p] + i]]->op;
    return part->ops != NULL;
}

static emlx_status make_part(divider *d, uint32_t p, emlx_error *err) {
    part_graph made = {0};
    plan_part *part = &d->plan->parts[p];
    emlx_device *device = d->plan->device;
    bool complete = start_part(d, p, &made) && list_ops(d, p, part);
    if (complete) {
        add_operands(d, p, &made, false);
        add_operands(d, p, &made, true);
        add_own(d, p, &made);
        complete = list_values(d, made.inputs, made.g.leaf_count, &part->inputs) &&
                   list_values(d, made.outputs, made.g.root_count, &part->outputs);
    }
    emlx_status status = plan_no_memory(err);
    if (complete)
        status = d->build(&made.g, part->handed_over ? device->host : device, &part->plan, err);
    for (uint32_t i = 0; i < made.g.leaf_count && status == EMLX_OK; i++)
        d->plan->last_part[part->inputs[i]] = p;
    subgraph_clear(&made.g);
    return status;
}

// The whole ---------------------------------------------------------------------------------------

static emlx_status make_parts(divider *d, emlx_error *err) {
    const subgraph *g = d->g;
    emlx_plan *plan = d->plan;
    bool *is_root = arena_array(&d->scratch, g->count + 1, 1);
    plan->outputs = arena_array(&plan->memory, g->root_count + 1, sizeof *plan->outputs);
    if (is_root == NULL || plan->outputs == NULL) return plan_no_memory(err);
    mark_roots(g, is_root);
    if (!sort_parts(d, find_levels(d) + 1, is_root) || !number_values(d, is_root))
        return plan_no_memory(err);
    uint32_t parts = plan->part_count;
    plan->parts = arena_array(&plan->memory, parts + 1, sizeof *plan->parts);
    if (plan->parts == NULL) return plan_no_memory(err);
    for (uint32_t p = 0; p < parts; p++) TRY(make_part(d, p, err));
    for (uint32_t i = 0; i < g->root_count; i++) {
        plan->outputs[i] = d->value[g->roots[i]];
        plan->last_part[plan->outputs[i]] = NO_INDEX;
    }
    plan->input_count = g->leaf_count;
    plan->output_count = g->root_count;
    return EMLX_OK;
}

static bool begin_dividing(divider *d) {
    uint32_t count = d->g->count + 1;
    d->on_host = arena_array(&d->scratch, count, sizeof *d->on_host);
    d->level = arena_array(&d->scratch, count, sizeof *d->level);
    d->part = arena_array(&d->scratch, count, sizeof *d->part);
    d->value = arena_array(&d->scratch, count, sizeof *d->value);
    d->map = arena_array(&d->scratch, count, sizeof *d->map);
    d->stamp = arena_array(&d->scratch, count, sizeof *d->stamp);
    d->order = arena_array(&d->scratch, count, sizeof *d->order);
    return d->on_host && d->level && d->part && d->value && d->map && d->stamp && d->order;
}

emlx_status divide(const subgraph *g, emlx_plan *plan, build_fn build, bool *divided,
                   emlx_error *err) {
    *divided = false;
    if (plan->device->ops->can == NULL) return EMLX_OK;
    divider d = {.g = g, .plan = plan, .build = build};
    plan_node *nodes;
    bool *device_reads = arena_array(&d.scratch, g->count + 1, 1);
    emlx_status status = EMLX_OK;
    if (!begin_dividing(&d) || device_reads == NULL) status = plan_no_memory(err);
    if (status == EMLX_OK) status = list_nodes(g, &nodes, &d.scratch, err);
    if (status == EMLX_OK && choose_sides(&d, nodes, device_reads)) {
        *divided = true;
        status = make_parts(&d, err);
    }
    arena_clear(&d.scratch);
    return status;
}
