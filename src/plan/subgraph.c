// SPDX-License-Identifier: Apache-2.0
// subgraph.c - collecting the part of the graph that a plan is made of.
#include "plan/subgraph.h"

#include <string.h>

#include "base/error.h"
#include "engine.h"
#include "memory/list.h"

// Operands of a node that count: all of them, but of an `either` operand 0, or the others where the
// device takes it whole.

// One step of the walk: a node, its operands, and how many of them have been visited.
typedef struct visit {
    emlx_tensor *node;
    operand_span span;
    uint32_t done;
} visit;

// A node that was met, and its index, or that of an equal one, plus one.
typedef struct met_node {
    const emlx_tensor *node;
    uint32_t number;
} met_node;

typedef struct walk {
    const emlx_device *device;
    subgraph *g;
    emlx_error *err;
    hash_table by_address;   // of those met, their place plus one
    hash_table by_structure; // of the subgraph's nodes, their index plus one
    met_node *met;
    visit *stack;
    uint32_t depth;
    size_t met_count, met_room, stack_room, node_room, first_room, operand_room;
} walk;

static bool is_met(const void *met, uintptr_t item, const void *node) {
    return ((const met_node *)met)[item - 1].node == node;
}

static hash_slot *find_met(const walk *w, const emlx_tensor *t) {
    return hash_find(&w->by_address, hash_address(t), is_met, w->met, t);
}

// Its number; 0 where it was not met.
static uint32_t met_number(const walk *w, const emlx_tensor *t) {
    uintptr_t place = find_met(w, t)->item;
    return place == 0 ? 0 : w->met[place - 1].number;
}

static void note_met(walk *w, const emlx_tensor *t, uint32_t number) {
    w->met[w->met_count++] = (met_node){t, number};
    hash_take(&w->by_address, find_met(w, t), hash_address(t), w->met_count);
}

static uint64_t structure_hash(const subgraph *g, uint32_t n) {
    const emlx_tensor *t = g->nodes[n];
    uint64_t hash = hash_bytes(t->primitive * 64u + t->type, t->shape.dims,
                               (size_t)t->shape.rank * sizeof *t->shape.dims);
    hash = hash_bytes(hash, t->params, t->params_size);
    uint32_t first = g->first[n];
    return hash_bytes(hash, g->operands + first, (g->first[n + 1] - first) * sizeof(uint32_t));
}

static bool same_structure(const void *context, uintptr_t number, const void *index) {
    const subgraph *g = context;
    uint32_t a = *(const uint32_t *)index, b = (uint32_t)number - 1;
    const emlx_tensor *x = g->nodes[a], *y = g->nodes[b];
    size_t operands = g->first[a + 1] - g->first[a];
    return x->primitive == y->primitive && x->type == y->type && x->params_size == y->params_size &&
           x->shape.rank == y->shape.rank && operands == g->first[b + 1] - g->first[b] &&
           memcmp(x->shape.dims, y->shape.dims, (size_t)x->shape.rank * sizeof(int64_t)) == 0 &&
           memcmp(x->params, y->params, x->params_size) == 0 &&
           memcmp(g->operands + g->first[a], g->operands + g->first[b],
                  operands * sizeof(uint32_t)) == 0;
}

emlx_status plan_no_memory(emlx_error *err) {
    return error_no_memory(err, "to plan the computation");
}

// Makes room for one more node, which comes behind the others.
static emlx_status begin_node(walk *w, emlx_tensor *t) {
    subgraph *g = w->g;
    arena *memory = &g->memory;
    if (!arena_reserve_slot(memory, &w->by_address) ||
        !arena_reserve_slot(memory, &w->by_structure) ||
        !arena_reserve(memory, &w->met, &w->met_room, w->met_count, 1, sizeof *w->met) ||
        !arena_reserve(memory, &g->nodes, &w->node_room, g->count, 1, sizeof *g->nodes) ||
        !arena_reserve(memory, &g->first, &w->first_room, g->count + 1, 1, sizeof *g->first))
        return plan_no_memory(w->err);
    g->nodes[g->count] = t;
    g->first[g->count + 1] = g->operand_count;
    return EMLX_OK;
}

operand_span subgraph_operands(const emlx_device *device, const emlx_tensor *t) {
    if (t->primitive != PRIM_either) return (operand_span){0, t->input_count};
    bool whole = device->ops->takes != NULL && device->ops->takes(device, t);
    return whole ? (operand_span){1, t->input_count} : (operand_span){0, 1};
}

// Gives a node, all of whose operands have indices, its own index or that of an equal one. An
// `either` that is not taken whole has that of its operand 0.
static emlx_status number_node(walk *w, emlx_tensor *t, operand_span operands) {
    subgraph *g = w->g;
    TRY(begin_node(w, t));
    if (t->primitive == PRIM_either && operands.first == 0) {
        note_met(w, t, met_number(w, t->inputs[0]));
        return EMLX_OK;
    }
    uint32_t n = g->count, count = operands.end - operands.first;
    if (!arena_reserve(&g->memory, &g->operands, &w->operand_room, g->operand_count, count,
                       sizeof *g->operands))
        return plan_no_memory(w->err);
    for (uint32_t i = 0; i < count; i++)
        g->operands[g->operand_count + i] = met_number(w, t->inputs[operands.first + i]) - 1;
    g->first[n + 1] = g->first[n] + count;
    uint64_t hash = structure_hash(g, n);
    hash_slot *slot = hash_find(&w->by_structure, hash, same_structure, g, &n);
    if (slot->item == 0) {
        hash_take(&w->by_structure, slot, hash, n + 1);
        g->operand_count += count;
        g->count = n + 1;
    }
    note_met(w, t, (uint32_t)slot->item);
    return EMLX_OK;
}

static emlx_status push(walk *w, emlx_tensor *t) {
    if (!arena_reserve(&w->g->memory, &w->stack, &w->stack_room, w->depth, 1, sizeof *w->stack))
        return plan_no_memory(w->err);
    w->stack[w->depth++] = (visit){t, subgraph_operands(w->device, t), 0};
    return EMLX_OK;
}

static emlx_status walk_from(walk *w, emlx_tensor *root) {
    if (met_number(w, root) != 0) return EMLX_OK;
    TRY(push(w, root));
    while (w->depth > 0) {
        visit *top = &w->stack[w->depth - 1];
        if (top->span.first + top->done < top->span.end) {
            emlx_tensor *input = top->node->inputs[top->span.first + top->done++];
            if (met_number(w, input) == 0) TRY(push(w, input));
            continue;
        }
        visit done = *top;
        w->depth--;
        if (met_number(w, done.node) == 0) TRY(number_node(w, done.node, done.span));
    }
    return EMLX_OK;
}

static emlx_status begin_walk(walk *w, const plan_request *request) {
    subgraph *g = w->g;
    w->met_room = w->stack_room = w->node_room = w->first_room = w->operand_room = 64;
    w->met = arena_array(&g->memory, w->met_room, sizeof *w->met);
    w->stack = arena_array(&g->memory, w->stack_room, sizeof *w->stack);
    g->nodes = arena_array(&g->memory, w->node_room, sizeof *g->nodes);
    g->first = arena_array(&g->memory, w->first_room, sizeof *g->first);
    g->operands = arena_array(&g->memory, w->operand_room, sizeof *g->operands);
    g->roots = arena_array(&g->memory, request->root_count + 1, sizeof *g->roots);
    bool complete = arena_reserve_slot(&g->memory, &w->by_address) && w->met && w->stack &&
                    g->nodes && g->first && g->operands && g->roots;
    return complete ? EMLX_OK : plan_no_memory(w->err);
}

static emlx_status add_leaf(walk *w, emlx_tensor *t) {
    TRY(begin_node(w, t));
    w->g->count++;
    if (met_number(w, t) == 0) note_met(w, t, w->g->count);
    return EMLX_OK;
}

emlx_status subgraph_collect(const plan_request *request, subgraph *g, emlx_error *err) {
    walk w = {.device = request->device, .g = g, .err = err};
    memset(g, 0, sizeof *g);
    arena_borrow(&g->memory);
    TRY(begin_walk(&w, request));
    for (size_t i = 0; i < request->leaf_count; i++) TRY(add_leaf(&w, request->leaves[i]));
    g->leaf_count = (uint32_t)request->leaf_count;
    for (size_t i = 0; i < request->root_count; i++) {
        TRY(walk_from(&w, request->roots[i]));
        g->roots[i] = met_number(&w, request->roots[i]) - 1;
    }
    g->root_count = (uint32_t)request->root_count;
    g->parameter = arena_array(&g->memory, g->count + 1, sizeof *g->parameter);
    if (g->parameter == NULL) return plan_no_memory(err);
    for (uint32_t n = g->leaf_count; n < g->count; n++) {
        if (g->nodes[n]->primitive == PRIM_constant) g->parameter[n] = g->constant_count++;
        if (g->nodes[n]->primitive == PRIM_function) g->parameter[n] = g->function_count++;
    }
    return EMLX_OK;
}

void subgraph_clear(subgraph *g) { arena_clear(&g->memory); }

// The key -----------------------------------------------------------------------------------

typedef struct key_head {
    uint32_t primitive, type, rank, operands, params, parameter;
} key_head;

// Whether its errors name the node's op: a plan that was made for another would blame that one.
static bool names_op(const emlx_tensor *t) {
    if (t->primitive == PRIM_map) return ((const map_params *)t->params)->guard != GUARD_NONE;
    return primitive_table[t->primitive].kept == KEPT_ALWAYS;
}

// Bytes of its parameters that make another plan, which the values that it is run with do not.
static uint32_t key_params(const subgraph *g, uint32_t n) {
    const emlx_tensor *t = g->nodes[n];
    bool given = t->primitive == PRIM_constant || t->primitive == PRIM_function;
    return n < g->leaf_count || given ? 0 : t->params_size;
}

bool copy_params(const subgraph *g, uint32_t n, arena *memory, const void **out, uint32_t *size) {
    *size = key_params(g, n);
    *out = NULL;
    if (*size == 0) return true;
    void *copy = arena_alloc(memory, *size);
    if (copy != NULL) memcpy(copy, g->nodes[n]->params, *size);
    *out = copy;
    return copy != NULL;
}

static size_t node_key_size(const subgraph *g, uint32_t n) {
    const emlx_tensor *t = g->nodes[n];
    bool leaf = n < g->leaf_count;
    size_t op = !leaf && names_op(t) ? sizeof t->op : 0;
    return sizeof(key_head) + (size_t)t->shape.rank * sizeof(int64_t) + key_params(g, n) + op +
           (g->first[n + 1] - g->first[n]) * sizeof(uint32_t);
}

static char *put_bytes(char *to, const void *from, size_t size) {
    memcpy(to, from, size);
    return to + size;
}

static char *put_node_key(const subgraph *g, uint32_t n, char *at) {
    const emlx_tensor *t = g->nodes[n];
    bool leaf = n < g->leaf_count;
    uint32_t operands = g->first[n + 1] - g->first[n];
    uint32_t params = key_params(g, n);
    key_head head = {leaf ? (uint32_t)PRIM_input : t->primitive,
                     t->type,
                     (uint32_t)t->shape.rank,
                     operands,
                     params,
                     leaf ? 0 : g->parameter[n]};
    at = put_bytes(at, &head, sizeof head);
    at = put_bytes(at, t->shape.dims, (size_t)t->shape.rank * sizeof(int64_t));
    at = put_bytes(at, t->params, params);
    // Names of ops are there once each.
    if (!leaf && names_op(t)) at = put_bytes(at, &t->op, sizeof t->op);
    return put_bytes(at, g->operands + g->first[n], operands * sizeof(uint32_t));
}

emlx_status subgraph_key(subgraph *g, const void **key, size_t *size, emlx_error *err) {
    size_t total = 5 * sizeof(uint32_t) + g->root_count * sizeof(uint32_t);
    for (uint32_t n = 0; n < g->count; n++) total += node_key_size(g, n);
    char *bytes = arena_alloc(&g->memory, total), *at = bytes;
    if (bytes == NULL) return plan_no_memory(err);
    uint32_t counts[5] = {g->count, g->leaf_count, g->root_count, g->constant_count,
                          g->function_count};
    at = put_bytes(at, counts, sizeof counts);
    at = put_bytes(at, g->roots, g->root_count * sizeof(uint32_t));
    for (uint32_t n = 0; n < g->count; n++) at = put_node_key(g, n, at);
    *key = bytes;
    *size = total;
    return EMLX_OK;
}
