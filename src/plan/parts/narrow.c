// SPDX-License-Identifier: Apache-2.0
// narrow.c - f64 that only serves rounding, on devices that have no f64.
//
// A lowering says "as if computed in double and rounded once", or "accumulated wider", by computing
// in f64 what is cast to a narrower float at the end. An engine with f64 does just that; one that
// has `no_f64` computes these nodes in f32, as wide as it can. What is f64 for the user stays so:
// data, results of ops, and whatever is computed from them or is not rounded to a float at its end.
// So do functions that make much of little, of integers that f32 may not hold. Those are the
// host's.
#include <string.h>

#include "base/types.h"
#include "plan/kernels/fuse.h"
#include "plan/parts/divide.h"

static bool is_f64(const subgraph *g, uint32_t n) { return g->nodes[n]->type == EMLX_F64; }

static bool is_rounded(emlx_type type) {
    return type_is_float(type) && !type_is_complex(type) && type_size(type) <= sizeof(float);
}

// Where a node says what it is computed in: there it is f64, or it has no such place.
static bool computes_f64(const emlx_tensor *t) {
    if (t->primitive == PRIM_map) {
        const map_params *p = t->params;
        return p->guard == GUARD_NONE && p->op != SCALAR_bitcast && p->compute == EMLX_F64;
    }
    if (t->primitive == PRIM_reduce)
        return ((const reduce_params *)t->params)->accumulate == EMLX_F64;
    return t->primitive == PRIM_constant || t->primitive == PRIM_iota ||
           t->primitive == PRIM_view || t->primitive == PRIM_write || t->primitive == PRIM_scan;
}

// A function or a reduction that gives a narrower float has its own f64 inside.
static bool is_wider_inside(const subgraph *g, uint32_t n) {
    return (is_primitive(g, n, PRIM_map) || is_primitive(g, n, PRIM_reduce)) &&
           is_rounded((emlx_type)g->nodes[n]->type) && computes_f64(g->nodes[n]);
}

// Functions whose result is as near as their operands are. Others, as `tan`, may make anything of
// what a large integer loses in f32.
static bool keeps_digits(scalar_op op) {
    static const uint8_t list[] = {SCALAR_identity, SCALAR_add,    SCALAR_subtract, SCALAR_multiply,
                                   SCALAR_divide,   SCALAR_negate, SCALAR_abs,      SCALAR_max,
                                   SCALAR_min,      SCALAR_sqrt,   SCALAR_rsqrt,    SCALAR_cbrt,
                                   SCALAR_select};
    for (size_t i = 0; i < sizeof list; i++)
        if (list[i] == op) return true;
    return false;
}

// Integers that f32 may not hold exactly, perhaps cast already.
static bool is_large_integer(const subgraph *g, uint32_t n) {
    while (is_primitive(g, n, PRIM_view) ||
           (is_primitive(g, n, PRIM_map) && is_f64(g, n) &&
            ((const map_params *)g->nodes[n]->params)->op == SCALAR_identity))
        n = operand_of(g, n, 0);
    emlx_type type = (emlx_type)g->nodes[n]->type;
    return type_is_integer(type) && emlx_type_bits(type) > 16 && !is_primitive(g, n, PRIM_constant);
}

static bool is_near(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_map)) return true;
    const map_params *p = g->nodes[n]->params;
    bool near = true;
    for (uint32_t i = g->first[n]; i < g->first[n + 1] && !keeps_digits((scalar_op)p->op); i++)
        near = near && !is_large_integer(g, g->operands[i]);
    return near;
}

// On its way a product may leave f32's range and come back.
static bool is_product(const emlx_tensor *t) {
    if (t->primitive == PRIM_scan) return ((const scan_params *)t->params)->kind == REDUCE_PRODUCT;
    return t->primitive == PRIM_reduce &&
           ((const reduce_params *)t->params)->kind == REDUCE_PRODUCT;
}

static bool may_serve(const subgraph *g, uint32_t n) {
    const emlx_tensor *t = g->nodes[n];
    if (is_leaf(g, n) || !is_near(g, n) || is_product(t)) return false;
    if (is_wider_inside(g, n)) return true;
    return is_f64(g, n) && computes_f64(t) &&
           !atomic_load_explicit(&t->chosen, memory_order_relaxed);
}

// A cast to a narrower float.
static bool rounds(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_map) || !is_rounded((emlx_type)g->nodes[n]->type)) return false;
    const map_params *p = g->nodes[n]->params;
    return p->guard == GUARD_NONE && p->op == SCALAR_identity;
}

// Operands serve where all who read them do, or round them.
static bool drop_operands(const subgraph *g, bool *serves) {
    bool changed = false;
    for (uint32_t n = g->count; n-- > g->leaf_count;) {
        if (serves[n] || rounds(g, n)) continue;
        for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++) {
            uint32_t o = g->operands[i];
            changed = changed || (serves[o] && is_f64(g, o));
            if (is_f64(g, o)) serves[o] = false;
        }
    }
    return changed;
}

// And readers where all f64 that they read serves.
static bool drop_readers(const subgraph *g, bool *serves) {
    bool changed = false;
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        for (uint32_t i = g->first[n]; i < g->first[n + 1] && serves[n]; i++) {
            uint32_t o = g->operands[i];
            if (!is_f64(g, o) || serves[o]) continue;
            serves[n] = false;
            changed = true;
        }
    return changed;
}

// In place of a node for this plan only: it is borrowed from the graph.
static bool make_f32(subgraph *g, uint32_t n) {
    emlx_tensor *t = arena_alloc(&g->memory, sizeof *t);
    void *params = arena_alloc(&g->memory, g->nodes[n]->params_size);
    if (t == NULL || params == NULL) return false;
    memcpy(t, g->nodes[n], sizeof *t);
    if (t->params_size > 0) memcpy(params, t->params, t->params_size);
    t->params = params;
    if (t->type == EMLX_F64) t->type = EMLX_F32;
    if (t->primitive == PRIM_map) ((map_params *)params)->compute = EMLX_F32;
    if (t->primitive == PRIM_reduce) ((reduce_params *)params)->accumulate = EMLX_F32;
    if (t->primitive == PRIM_constant) constant_convert(params, EMLX_F64, EMLX_F32);
    g->nodes[n] = t;
    return true;
}

void constant_convert(scalar_value *value, emlx_type from, emlx_type to) {
    emlx_number number = type_load(from, value->bytes);
    memset(value, 0, sizeof *value);
    type_store(to, &number, value->bytes);
}

emlx_status narrow_rounding(subgraph *g, emlx_error *err) {
    bool *serves = arena_alloc(&g->memory, g->count + 1);
    if (serves == NULL) return plan_no_memory(err);
    for (uint32_t n = 0; n < g->count; n++) serves[n] = may_serve(g, n);
    for (uint32_t i = 0; i < g->root_count; i++)
        if (is_f64(g, g->roots[i])) serves[g->roots[i]] = false;
    for (bool changed = true; changed;) {
        changed = drop_operands(g, serves);
        changed = drop_readers(g, serves) || changed;
    }
    for (uint32_t n = g->leaf_count; n < g->count; n++)
        if (serves[n] && !make_f32(g, n)) return plan_no_memory(err);
    return EMLX_OK;
}
