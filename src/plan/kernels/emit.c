// SPDX-License-Identifier: Apache-2.0
// emit.c - writing out kernels: scalar expressions in SSA form, accesses, values.
#include "plan/kernels/emit.h"

#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "memory/list.h"

// Where a node's result stands in the kernel that is being written.
typedef struct placement {
    struct placement *next;
    index_map map;
    uint32_t step;
} placement;

typedef struct emitter {
    const fusion *f;
    const subgraph *g;
    emlx_plan *plan;
    arena *memory;          // the plan's
    arena *scratch;         // of what still grows
    uint32_t *value_of;     // of each node that has one
    placement **placements; // of each node, in kernel number stamp[node]
    uint32_t *stamp;
    // The kernel being written.
    plan_kernel *kernel;
    const emlx_shape *space;
    uint32_t number;
    size_t step_room, access_room, store_room, guard_room;
    bool failed;
} emitter;

static bool reserve(emitter *e, void *array, size_t *room, uint32_t count, size_t size) {
    bool made = arena_reserve(e->scratch, array, room, count, 1, size);
    e->failed = e->failed || !made;
    return made;
}

// Values ---------------------------------------------------------------------------------------

static uint32_t value_of(const emitter *e, uint32_t n) { return e->value_of[value_node(e->g, n)]; }

static emlx_status make_values(emitter *e, emlx_error *err) {
    const subgraph *g = e->g;
    uint32_t count = g->leaf_count;
    for (uint32_t n = g->leaf_count; n < g->count; n++) count += e->f->kept[n];
    e->plan->values = arena_array(e->memory, count + 1, sizeof *e->plan->values);
    if (e->plan->values == NULL) return plan_no_memory(err);
    for (uint32_t n = 0; n < g->count; n++) {
        if (!is_leaf(g, n) && !e->f->kept[n]) continue;
        const emlx_tensor *t = g->nodes[n];
        plan_value *v = &e->plan->values[e->plan->value_count];
        *v = (plan_value){(emlx_type)t->type, t->shape, emlx_tensor_bytes(t)};
        e->value_of[n] = e->plan->value_count++;
    }
    return EMLX_OK;
}

// Steps and accesses ---------------------------------------------------------------------------

static uint32_t add_step(emitter *e, expr_step step) {
    plan_kernel *k = e->kernel;
    if (!reserve(e, &k->steps, &e->step_room, k->step_count, sizeof *k->steps)) return 0;
    k->steps[k->step_count] = step;
    return k->step_count++;
}

static uint32_t add_access(emitter *e, uint32_t value, emlx_type type, const index_map *map) {
    plan_kernel *k = e->kernel;
    if (!reserve(e, &k->accesses, &e->access_room, k->access_count, sizeof *k->accesses)) return 0;
    plan_access *a = &k->accesses[k->access_count];
    *a = (plan_access){.value = value, .type = type, .offset = map->offset};
    memcpy(a->strides, map->strides, sizeof a->strides);
    return k->access_count++;
}

static void add_store(emitter *e, uint32_t step, uint32_t access) {
    plan_kernel *k = e->kernel;
    if (!reserve(e, &k->stores, &e->store_room, k->store_count, sizeof *k->stores)) return;
    k->stores[k->store_count++] = (expr_store){step, access};
}

// Where the op's name stands among those of guards.
static uint32_t add_guard(emitter *e, const char *op) {
    plan_kernel *k = e->kernel;
    if (!reserve(e, &k->guards, &e->guard_room, k->guard_count, sizeof *k->guards)) return 0;
    k->guards[k->guard_count] = op;
    return k->guard_count++;
}

static uint32_t cast_step(emitter *e, uint32_t step, emlx_type type) {
    emlx_type from = (emlx_type)e->kernel->steps[step].type;
    if (from == type || e->failed) return step;
    for (uint32_t i = step + 1; i < e->kernel->step_count; i++) {
        const expr_step *s = &e->kernel->steps[i];
        if (s->kind == EXPR_CAST && s->args[0] == step && s->type == type) return i;
    }
    return add_step(e, (expr_step){.kind = EXPR_CAST,
                                   .type = (uint8_t)type,
                                   .compute = (uint8_t)from,
                                   .args = {(uint16_t)step}});
}

static uint32_t find_placement(const emitter *e, uint32_t n, const index_map *map) {
    if (e->stamp[n] != e->number) return NO_INDEX;
    for (const placement *p = e->placements[n]; p != NULL; p = p->next)
        if (map_equal(&p->map, map)) return p->step;
    return NO_INDEX;
}

static void add_placement(emitter *e, uint32_t n, const index_map *map, uint32_t step) {
    placement *p = arena_alloc(e->scratch, sizeof *p);
    if (p == NULL) {
        e->failed = true;
        return;
    }
    if (e->stamp[n] != e->number) e->placements[n] = NULL;
    e->stamp[n] = e->number;
    *p = (placement){e->placements[n], *map, step};
    e->placements[n] = p;
}

// Reading a node -------------------------------------------------------------------------------

static void add_starts(emitter *e, uint32_t access, uint32_t node, uint32_t first,
                       const region *r) {
    plan_start *starts = arena_array(e->memory, (size_t)r->start_count, sizeof *starts);
    if (starts == NULL) {
        e->failed = true;
        return;
    }
    for (int32_t i = 0; i < r->start_count; i++) {
        uint32_t start = operand_of(e->g, node, first + (uint32_t)i);
        starts[i] = (plan_start){value_of(e, start), r->starts[i].stride, r->starts[i].limit};
    }
    e->kernel->accesses[access].starts = starts;
    e->kernel->accesses[access].start_count = (uint32_t)r->start_count;
}

static uint32_t load_step(emitter *e, uint32_t value, const index_map *map) {
    emlx_type type = e->plan->values[value].type;
    uint32_t access = add_access(e, value, type, map);
    return add_step(e, (expr_step){.kind = EXPR_LOAD, .type = (uint8_t)type, .index = access});
}

static uint32_t free_step(emitter *e, uint32_t n, const index_map *map) {
    const emlx_tensor *t = e->g->nodes[n];
    expr_step step = {.kind = EXPR_CONST, .type = t->type, .index = e->g->parameter[n]};
    if (t->primitive == PRIM_iota) {
        const iota_params *p = t->params;
        index_map out;
        if (!map_compose(e->space, map, &t->shape, p->offset, p->strides, &out))
            return load_step(e, e->value_of[n], map);
        step.kind = EXPR_IOTA;
        step.index = add_access(e, NO_INDEX, (emlx_type)t->type, &out);
    }
    return add_step(e, step);
}

static uint32_t read_view(emitter *e, uint32_t n, const index_map *map);
static uint32_t read_source(emitter *e, uint32_t n, const index_map *map);

static uint32_t read_node(emitter *e, uint32_t n, const index_map *map) {
    uint32_t step = find_placement(e, n, map);
    if (step != NO_INDEX || e->failed) return step;
    if (is_primitive(e->g, n, PRIM_view)) return read_view(e, n, map);
    if (is_primitive(e->g, n, PRIM_write) && !e->f->kept[n]) return read_source(e, n, map);
    bool is_free = is_primitive(e->g, n, PRIM_constant) || is_primitive(e->g, n, PRIM_iota);
    step = is_free ? free_step(e, n, map) : load_step(e, e->value_of[n], map);
    add_placement(e, n, map, step);
    return step;
}

// Views end at something that is no view, since views of views are made as one; where one could not
// be, the view below is in memory.
static uint32_t read_view(emitter *e, uint32_t n, const index_map *map) {
    const emlx_tensor *t = e->g->nodes[n];
    const region *r = &((const view_params *)t->params)->region;
    uint32_t base = operand_of(e->g, n, 0), step;
    index_map through;
    if (!map_compose(e->space, map, &t->shape, r->offset, r->strides, &through)) {
        step = load_step(e, e->value_of[n], map);
    } else if (r->start_count == 0) {
        return read_node(e, base, &through);
    } else {
        step = load_step(e, value_of(e, base), &through);
        if (!e->failed) add_starts(e, e->kernel->steps[step].index, n, 1, r);
    }
    add_placement(e, n, map, step);
    return step;
}

// Of what is not in memory one source is read.
static uint32_t read_source(emitter *e, uint32_t n, const index_map *map) {
    index_map within;
    uint32_t i = source_within(e->g, n, e->space, map, &within);
    return read_node(e, operand_of(e->g, n, i), &within);
}

// Writing a node -------------------------------------------------------------------------------

// A scalar function of steps, converted to `type`. `op` is what it belongs to.
static uint32_t function_step(emitter *e, const map_params *p, const char *op, emlx_type type,
                              uint32_t args[3], uint32_t count) {
    for (uint32_t i = 0; i < count && !e->failed; i++) {
        bool truth = i == 0 && p->op == SCALAR_select;
        bool as_is = p->guard != GUARD_NONE || truth || p->op == SCALAR_bitcast;
        if (!as_is) args[i] = cast_step(e, args[i], (emlx_type)p->compute);
    }
    if (e->failed) return 0;
    expr_step step = {.kind = EXPR_SCALAR, .op = p->op, .type = p->compute, .compute = p->compute};
    for (uint32_t i = 0; i < 3; i++) step.args[i] = (uint16_t)args[i];
    if (p->guard != GUARD_NONE) {
        step.kind = EXPR_GUARD;
        step.op = p->guard;
        step.type = e->kernel->steps[args[0]].type;
        step.index = add_guard(e, op);
    } else if (p->op == SCALAR_identity) {
        return args[0];
    } else if (p->op == SCALAR_bitcast) {
        step.type = (uint8_t)type;
    } else {
        step.type = (uint8_t)scalar_result_type((scalar_op)p->op, (emlx_type)p->compute);
    }
    return cast_step(e, add_step(e, step), type);
}

static uint32_t map_step(emitter *e, uint32_t n, const index_map *map) {
    const emlx_tensor *t = e->g->nodes[n];
    uint32_t args[3] = {0}, count = e->g->first[n + 1] - e->g->first[n];
    for (uint32_t i = 0; i < count && !e->failed; i++) {
        uint32_t operand = operand_of(e->g, n, i);
        index_map through;
        map_operand(e->space, map, &t->shape, &e->g->nodes[operand]->shape, &through);
        args[i] = read_node(e, operand, &through);
    }
    return function_step(e, t->params, t->op, (emlx_type)t->type, args, count);
}

static void emit_inlined(emitter *e, const fuse_root *r) {
    for (const inlined *in = r->list; in != NULL && !e->failed; in = in->next) {
        uint32_t step = map_step(e, in->node, &in->map);
        if (e->failed) return;
        add_placement(e, in->node, &in->map, step);
        if (!in->stored) continue;
        emlx_type type = (emlx_type)e->g->nodes[in->node]->type;
        add_store(e, step, add_access(e, e->value_of[in->node], type, &in->map));
    }
}

static void store_region(emitter *e, uint32_t n, uint32_t step, const index_map *map) {
    emlx_type type = (emlx_type)e->g->nodes[n]->type;
    add_store(e, step, add_access(e, e->value_of[n], type, map));
}

static void emit_copy(emitter *e, uint32_t n, uint32_t source) {
    index_map map;
    map_dense(e->space, &map);
    uint32_t step = read_node(e, source, &map);
    if (!e->failed) store_region(e, n, step, &map);
    const plan_kernel *k = e->kernel;
    e->kernel->copies = k->step_count == 1 && k->steps[0].kind == EXPR_LOAD;
}

static void emit_source(emitter *e, const fuse_root *root, uint32_t part) {
    uint32_t n = root->node;
    const write_params *p = e->g->nodes[n]->params;
    const region *r = &p->regions[part - 1];
    index_map dense, place = {.offset = r->offset};
    map_dense(e->space, &dense);
    memcpy(place.strides, r->strides, sizeof place.strides);
    uint32_t step = read_node(e, operand_of(e->g, n, part), &dense);
    if (e->failed) return;
    store_region(e, n, step, &place);
    if (r->start_count > 0 && !e->failed)
        add_starts(e, e->kernel->stores[e->kernel->store_count - 1].access, n, root->starts, r);
}

static void emit_view_copy(emitter *e, uint32_t n) {
    const region *r = &((const view_params *)e->g->nodes[n]->params)->region;
    index_map dense;
    map_dense(e->space, &dense);
    uint32_t base = operand_of(e->g, n, 0), step;
    index_map map = {.offset = r->offset};
    memcpy(map.strides, r->strides, sizeof map.strides);
    for (int32_t d = 0; d < e->space->rank; d++)
        if (e->space->dims[d] == 1) map.strides[d] = 0;
    if (r->start_count == 0) {
        step = read_node(e, base, &map);
    } else {
        step = load_step(e, value_of(e, base), &map);
        if (!e->failed) add_starts(e, e->kernel->steps[step].index, n, 1, r);
    }
    if (!e->failed) store_region(e, n, step, &dense);
}

static void emit_reduce(emitter *e, uint32_t n) {
    const reduce_params *p = e->g->nodes[n]->params;
    index_map dense;
    map_dense(e->space, &dense);
    uint32_t step = read_node(e, operand_of(e->g, n, 0), &dense);
    if (e->failed) return;
    e->kernel->kind = KERNEL_REDUCE;
    e->kernel->reduced = cast_step(e, step, (emlx_type)p->accumulate);
    e->kernel->axes = p->axes;
    e->kernel->reduce = (reduce_kind)p->kind;
    e->kernel->output = e->value_of[n];
}

static uint32_t count_args(const map_params *p) {
    return p->guard != GUARD_NONE ? 2 : scalar_table[p->op].operands;
}

static void emit_custom(emitter *e, uint32_t n) {
    const emlx_tensor *t = e->g->nodes[n];
    const custom_params *p = t->params;
    const index_map scalar = {0};
    uint32_t operands = e->g->first[n + 1] - e->g->first[n];
    uint32_t *values = arena_array(e->scratch, operands + p->count, sizeof *values);
    index_map dense;
    map_dense(e->space, &dense);
    e->failed = e->failed || values == NULL;
    if (e->failed) return;
    values[0] = read_node(e, operand_of(e->g, n, 0), &dense);
    e->kernel->start = read_node(e, operand_of(e->g, n, 1), &scalar);
    values[1] = add_step(e, (expr_step){.kind = EXPR_CARRY, .type = t->type});
    for (uint32_t i = 2; i < operands && !e->failed; i++)
        values[i] = read_node(e, operand_of(e->g, n, i), &scalar);
    for (uint32_t i = 0; i < p->count && !e->failed; i++) {
        const custom_step *s = &p->steps[i];
        uint32_t args[3] = {values[s->args[0]], values[s->args[1]], values[s->args[2]]};
        values[operands + i] =
            function_step(e, &s->map, t->op, (emlx_type)s->type, args, count_args(&s->map));
    }
    if (e->failed) return;
    e->kernel->kind = KERNEL_CUSTOM;
    e->kernel->carry = values[1];
    e->kernel->reduced = values[p->result];
    e->kernel->axes = p->axes;
    e->kernel->output = e->value_of[n];
}

// How the kernel of node n reads an operand.
static void operand_access(emitter *e, uint32_t n, uint32_t operand) {
    bool strided = reads_strided((primitive)e->g->nodes[n]->primitive);
    uint32_t o = read_by(e->f, n, operand), from = o;
    index_map map;
    map_dense(&e->g->nodes[o]->shape, &map);
    if (strided && is_primitive(e->g, o, PRIM_view)) {
        const region *r = &((const view_params *)e->g->nodes[o]->params)->region;
        if (r->start_count == 0) {
            map.offset = r->offset;
            memcpy(map.strides, r->strides, sizeof map.strides);
            from = read_by(e->f, n, operand_of(e->g, o, 0));
        }
    }
    add_access(e, value_of(e, from), (emlx_type)e->g->nodes[from]->type, &map);
}

static void emit_whole(emitter *e, uint32_t n, kernel_kind kind) {
    plan_kernel *k = e->kernel;
    uint32_t count = e->g->first[n + 1] - e->g->first[n], size;
    k->kind = kind;
    k->output = e->value_of[n];
    k->shapes = arena_array(e->memory, count, sizeof *k->shapes);
    k->function = kind == KERNEL_FUNCTION ? e->g->parameter[n] : 0;
    if (k->shapes == NULL || !copy_params(e->g, n, e->memory, &k->params, &size)) {
        e->failed = true;
        return;
    }
    for (uint32_t i = 0; i < count && !e->failed; i++) {
        uint32_t operand = operand_of(e->g, n, i);
        k->shapes[i] = e->g->nodes[operand]->shape;
        operand_access(e, n, operand);
    }
    // Scatter works on the copy of its target that the kernel before it made.
    if (kind == KERNEL_SCATTER && !e->failed) k->accesses[0].value = k->output;
}

static void emit_kernel(emitter *e, const fuse_root *r) {
    uint32_t n = r->node;
    primitive p = (primitive)e->g->nodes[n]->primitive;
    *e->kernel = (plan_kernel){.kind = KERNEL_MAP, .op = e->g->nodes[n]->op};
    e->kernel->output = NO_INDEX;
    e->kernel->rank = r->space.rank;
    memcpy(e->kernel->dims, r->space.dims, sizeof e->kernel->dims);
    e->space = &r->space;
    e->number++;
    e->step_room = e->access_room = e->store_room = e->guard_room = 0;
    emit_inlined(e, r);
    if (e->failed || p == PRIM_map) return;
    if (p == PRIM_reduce)
        emit_reduce(e, n);
    else if (p == PRIM_custom)
        emit_custom(e, n);
    else if (p == PRIM_view)
        emit_view_copy(e, n);
    else if (p == PRIM_write && r->part > 0)
        for (uint32_t i = 0; i < r->parts && !e->failed; i++) emit_source(e, r, r->part + i);
    else if (p == PRIM_write || (p == PRIM_scatter && r->part == 0))
        emit_copy(e, n, operand_of(e->g, n, 0));
    else if (primitive_table[p].form == FORM_WHOLE)
        emit_whole(e, n, (kernel_kind)p);
    else
        emit_copy(e, n, n);
}

emlx_status emit_kernels(const fusion *f, emlx_plan *plan, arena *memory, emlx_error *err) {
    const subgraph *g = f->g;
    arena *scratch = &f->g->memory;
    emitter e = {.f = f, .g = g, .plan = plan, .memory = memory, .scratch = scratch};
    e.value_of = arena_array(scratch, g->count, sizeof *e.value_of);
    e.placements = arena_array(scratch, g->count, sizeof(placement *));
    e.stamp = arena_array(scratch, g->count, sizeof *e.stamp);
    plan->kernels = arena_array(scratch, f->root_count, sizeof *plan->kernels);
    plan->outputs = arena_array(memory, g->root_count, sizeof *plan->outputs);
    e.failed = !e.value_of || !e.placements || !e.stamp || !plan->kernels || !plan->outputs;
    if (!e.failed) TRY(make_values(&e, err));
    for (uint32_t i = f->root_count; i-- > 0 && !e.failed;) {
        e.kernel = &plan->kernels[plan->kernel_count++];
        emit_kernel(&e, &f->roots[i]);
        merge_kernel_axes(e.kernel);
    }
    if (e.failed) return plan_no_memory(err);
    for (uint32_t i = 0; i < g->root_count; i++) plan->outputs[i] = value_of(&e, g->roots[i]);
    plan->input_count = g->leaf_count;
    plan->output_count = g->root_count;
    return EMLX_OK;
}
