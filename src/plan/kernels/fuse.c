// SPDX-License-Identifier: Apache-2.0
// fuse.c - deciding which nodes are computed together.
#include "plan/kernels/fuse.h"

#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engine.h"
#include "memory/list.h"

enum {
    CHEAP = 3,          // weight up to which a node is rather computed again than kept
    KERNEL_NODES = 400, // most nodes in one kernel
    PARTS_MOST = 8,     // of a node in one kernel
    SOURCES_MOST = 64   // of a `write` that is looked through
};

#define LAST UINT64_MAX

// A kernel's wish to read a node.
typedef struct request {
    struct request *next; // of the same node
    uint32_t node, root;
    index_map map;
} request;

typedef struct fuser {
    subgraph *g;
    fusion *f;
    size_t root_room;
    request **requests;
    hash_table asked;    // all of them
    uint64_t *first_use; // of each kept node: order of the first kernel that needs it whole, before
    uint8_t *weight;
    uint32_t *uses;  // of each node: by others, and as a result
    uint32_t *parts; // of each node: the `write` that it is a map of, element by element, and that
                     // nobody else reads; or NO_INDEX
    bool failed;
} fuser;

// Views that need no kernel --------------------------------------------------------------------

static const region *view_region(const subgraph *g, uint32_t n) {
    return &((const view_params *)g->nodes[n]->params)->region;
}

static bool is_plain_reshape(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_view)) return false;
    const region *r = view_region(g, n);
    const emlx_shape *shape = &g->nodes[n]->shape;
    const emlx_shape *base = &g->nodes[operand_of(g, n, 0)]->shape;
    if (r->start_count > 0 || r->offset != 0) return false;
    return emlx_shape_count(shape) == emlx_shape_count(base) && shape_is_dense(shape, r->strides);
}

uint32_t value_node(const subgraph *g, uint32_t n) {
    while (is_plain_reshape(g, n)) n = operand_of(g, n, 0);
    return n;
}

// Whether a `write` is nothing but its sources, each in its own place.
static bool is_side_by_side(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_write)) return false;
    const write_params *p = g->nodes[n]->params;
    int64_t count = emlx_shape_count(&g->nodes[n]->shape);
    for (uint32_t i = 0; i < (uint32_t)p->count; i++) {
        if (p->regions[i].start_count > 0) return false;
        count -= emlx_shape_count(&g->nodes[operand_of(g, n, i + 1)]->shape);
    }
    return p->covers && p->count > 0 && p->count <= SOURCES_MOST && count == 0;
}

uint32_t source_within(const subgraph *g, uint32_t n, const emlx_shape *space, const index_map *map,
                       index_map *out) {
    const write_params *p = g->nodes[n]->params;
    for (uint32_t i = 1; i <= (uint32_t)p->count; i++) {
        const region *r = &p->regions[i - 1];
        const emlx_shape *source = &g->nodes[operand_of(g, n, i)]->shape;
        if (map_within(space, map, source, r->offset, r->strides, out)) return i;
    }
    return 0;
}

// Weights --------------------------------------------------------------------------------------

static uint32_t scalar_weight(const map_params *p) {
    return p->guard != GUARD_NONE ? 1 : scalar_table[p->op].cost;
}

// What it costs to compute a node again instead of reading it.
static void weigh(fuser *u) {
    subgraph *g = u->g;
    for (uint32_t n = 0; n < g->count; n++) {
        if (is_primitive(g, n, PRIM_constant) || is_primitive(g, n, PRIM_iota)) continue;
        uint32_t weight = 1;
        if (is_primitive(g, n, PRIM_map)) {
            weight = scalar_weight(g->nodes[n]->params);
            for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++)
                weight += u->weight[g->operands[i]];
        }
        u->weight[n] = weight > 255 ? 255 : (uint8_t)weight;
    }
}

static void count_uses(fuser *u) {
    const subgraph *g = u->g;
    for (uint32_t i = 0; i < g->first[g->count]; i++) u->uses[g->operands[i]]++;
    for (uint32_t i = 0; i < g->root_count; i++) u->uses[g->roots[i]]++;
}

// The `write` that operand `o` of n is a map of, if it has an element for each of n's.
static uint32_t parts_through(const fuser *u, uint32_t n, uint32_t o) {
    const emlx_tensor *t = u->g->nodes[n], *operand = u->g->nodes[o];
    bool same = emlx_shape_count(&t->shape) == emlx_shape_count(&operand->shape);
    return same && u->uses[o] == 1 ? u->parts[o] : NO_INDEX;
}

static void find_parts(fuser *u) {
    const subgraph *g = u->g;
    for (uint32_t n = 0; n < g->count; n++) {
        uint32_t *parts = &u->parts[n];
        *parts = is_side_by_side(g, n) ? n : NO_INDEX;
        if (!is_primitive(g, n, PRIM_map) && !is_plain_reshape(g, n)) continue;
        for (uint32_t i = g->first[n]; i < g->first[n + 1] && *parts == NO_INDEX; i++)
            *parts = parts_through(u, n, g->operands[i]);
    }
}

// Roots and requests ---------------------------------------------------------------------------

// Later nodes run later; the parts of a node in order.
static uint64_t order_of(const fuser *u, uint32_t root) {
    const fuse_root *r = &u->f->roots[root];
    return (uint64_t)r->node << 32 | r->part;
}

static uint32_t add_root(fuser *u, uint32_t node, uint32_t part, const emlx_shape *space) {
    fusion *f = u->f;
    if (!arena_reserve(&u->g->memory, &f->roots, &u->root_room, f->root_count, 1,
                       sizeof *f->roots)) {
        u->failed = true;
        return 0;
    }
    f->roots[f->root_count] = (fuse_root){.node = node, .part = part, .parts = 1, .space = *space};
    return f->root_count++;
}

static bool is_request(const void *context, uintptr_t item, const void *key) {
    (void)context;
    const request *a = (const request *)item, *b = key;
    return a->node == b->node && a->root == b->root && map_equal(&a->map, &b->map);
}

// A node may be asked for by any number of kernels.
static void ask(fuser *u, uint32_t node, uint32_t root, const index_map *map) {
    if (is_leaf(u->g, node) || u->failed) return;
    u->failed = !arena_reserve_slot(&u->g->memory, &u->asked);
    if (u->failed) return;
    const request wanted = {.next = u->requests[node], .node = node, .root = root, .map = *map};
    uint64_t hash = ((uint64_t)node << 32 | root) ^ (uint64_t)map->offset * 0x9e3779b97f4a7c15u;
    hash_slot *slot = hash_find(&u->asked, hash, is_request, NULL, &wanted);
    if (slot->item != 0) return;
    request *r = arena_alloc(&u->g->memory, sizeof *r);
    if (r == NULL) {
        u->failed = true;
        return;
    }
    *r = wanted;
    u->requests[node] = r;
    hash_take(&u->asked, slot, hash, (uintptr_t)r);
}

static void ask_whole(fuser *u, uint32_t node, uint32_t root) {
    index_map map;
    map_dense(&u->g->nodes[node]->shape, &map);
    ask(u, node, root, &map);
}

// The node's value must be in memory before the kernel of that order.
static void keep(fuser *u, uint32_t n, uint64_t order) {
    n = value_node(u->g, n);
    u->f->kept[n] = true;
    if (order < u->first_use[n]) u->first_use[n] = order;
}

// Map nodes ------------------------------------------------------------------------------------

// Makes `n` part of a kernel, if the maps of its operands are affine.
static bool take_in(fuser *u, uint32_t n, uint32_t root, const index_map *map, bool stored) {
    subgraph *g = u->g;
    fuse_root *r = &u->f->roots[root];
    const emlx_tensor *t = g->nodes[n];
    index_map maps[3];
    uint32_t count = g->first[n + 1] - g->first[n];
    if (r->size >= KERNEL_NODES) return false;
    for (uint32_t i = 0; i < count; i++) {
        const emlx_shape *operand = &g->nodes[operand_of(g, n, i)]->shape;
        if (!map_operand(&r->space, map, &t->shape, operand, &maps[i])) return false;
    }
    inlined *in = arena_alloc(&g->memory, sizeof *in);
    if (in == NULL) {
        u->failed = true;
        return true;
    }
    *in = (inlined){.next = r->list, .node = n, .stored = stored, .map = *map};
    r->list = in;
    r->size++;
    for (uint32_t i = 0; i < count; i++) ask(u, operand_of(g, n, i), root, &maps[i]);
    return true;
}

static bool is_dense(const fuser *u, const request *r, uint32_t n) {
    const emlx_shape *space = &u->f->roots[r->root].space;
    index_map dense;
    map_dense(space, &dense);
    return emlx_shape_count(space) == emlx_shape_count(&u->g->nodes[n]->shape) &&
           map_equal(&dense, &r->map);
}

// A node much smaller than the space it is read in would be computed many times over. A scalar is
// not: engines compute what does not change once a kernel.
static bool worth_inlining(const fuser *u, const request *r, uint32_t n) {
    int64_t count = emlx_shape_count(&u->g->nodes[n]->shape);
    bool repeats = emlx_shape_count(&u->f->roots[r->root].space) > count;
    return u->weight[n] <= CHEAP || !repeats || count == 1;
}

// Whether those who ask for a node want more elements of it than it has.
static bool wanted_often(const fuser *u, uint32_t n) {
    int64_t left = emlx_shape_count(&u->g->nodes[n]->shape);
    for (const request *r = u->requests[n]; r != NULL && left >= 0; r = r->next)
        left -= emlx_shape_count(&u->f->roots[r->root].space);
    return left < 0;
}

static bool inline_everywhere(fuser *u, uint32_t n) {
    const request *first = u->requests[n];
    if (first == NULL) return false;
    if (first->next != NULL && u->weight[n] > CHEAP && wanted_often(u, n)) return false;
    for (const request *r = first; r != NULL; r = r->next)
        if (!worth_inlining(u, r, n)) return false;
    for (const request *r = first; r != NULL; r = r->next)
        if (!take_in(u, n, r->root, &r->map, false)) return false;
    return true;
}

// A kernel that is the first to read the node, and reads it one element each, can store it: unless
// it is itself one that needs the node whole, or runs after one.
static bool store_on_the_way(fuser *u, uint32_t n) {
    uint64_t first = LAST;
    for (const request *r = u->requests[n]; r != NULL; r = r->next)
        if (order_of(u, r->root) < first) first = order_of(u, r->root);
    if (first >= u->first_use[n]) return false;
    const request *chosen = NULL;
    for (const request *r = u->requests[n]; r != NULL; r = r->next) {
        if (order_of(u, r->root) != first) continue;
        if (!is_dense(u, r, n)) return false;
        chosen = r;
    }
    return chosen != NULL && take_in(u, n, chosen->root, &chosen->map, true);
}

static void own_kernel(fuser *u, uint32_t n) {
    const emlx_shape *shape = &u->g->nodes[n]->shape;
    uint32_t root = add_root(u, n, 0, shape);
    index_map map;
    map_dense(shape, &map);
    if (!u->failed) take_in(u, n, root, &map, true);
}

static void map_of_region(const region *r, index_map *out) {
    *out = (index_map){.offset = r->offset};
    memcpy(out->strides, r->strides, sizeof out->strides);
}

// Whether the node's operands can be read for the elements that stand where a source is written.
static bool can_part(const fuser *u, uint32_t n, uint32_t write) {
    const subgraph *g = u->g;
    const write_params *p = g->nodes[write]->params;
    for (uint32_t s = 0; s < (uint32_t)p->count; s++) {
        const emlx_shape *space = &g->nodes[operand_of(g, write, s + 1)]->shape;
        index_map place, map;
        map_of_region(&p->regions[s], &place);
        for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++)
            if (!map_operand(space, &place, &g->nodes[n]->shape, &g->nodes[g->operands[i]]->shape,
                             &map))
                return false;
    }
    return true;
}

// Whether sources have one shape, so that a kernel can write them all.
static bool are_alike(const subgraph *g, uint32_t write) {
    const write_params *p = g->nodes[write]->params;
    const emlx_shape *first = &g->nodes[operand_of(g, write, 1)]->shape;
    for (uint32_t i = 2; i <= (uint32_t)p->count; i++)
        if (!shape_equal(first, &g->nodes[operand_of(g, write, i)]->shape)) return false;
    return p->count <= PARTS_MOST;
}

// Kernels of a node for the elements that stand where the sources of a `write` are written.
static void own_kernels(fuser *u, uint32_t n, uint32_t write) {
    subgraph *g = u->g;
    const write_params *p = g->nodes[write]->params;
    bool alike = are_alike(g, write);
    uint32_t root = 0;
    for (uint32_t i = (uint32_t)p->count; i > 0 && !u->failed; i--) {
        bool first = i == (uint32_t)p->count;
        if (first || !alike) root = add_root(u, n, i, &g->nodes[operand_of(g, write, i)]->shape);
        index_map place;
        map_of_region(&p->regions[i - 1], &place);
        if (!u->failed) take_in(u, n, root, &place, true);
    }
}

static void visit_map(fuser *u, uint32_t n) {
    // A conversion that products make as they read is wanted by nobody.
    if (!u->f->kept[n] && u->requests[n] == NULL) return;
    if (!u->f->kept[n] && inline_everywhere(u, n)) return;
    u->f->kept[n] = true;
    if (store_on_the_way(u, n)) return;
    uint32_t write = u->parts[n];
    if (write != NO_INDEX && can_part(u, n, write))
        own_kernels(u, n, write);
    else
        own_kernel(u, n);
}

// The other primitives --------------------------------------------------------------------------

// Requests go on to what the view shows. Where that is not affine, or the view itself is wanted in
// memory, it is copied.
static void visit_view(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    const region *r = view_region(g, n);
    const emlx_shape *shape = &g->nodes[n]->shape;
    uint32_t base = operand_of(g, n, 0);
    uint64_t first = LAST;
    for (const request *q = u->requests[n]; q != NULL; q = q->next) {
        index_map map;
        const emlx_shape *space = &u->f->roots[q->root].space;
        if (!map_compose(space, &q->map, shape, r->offset, r->strides, &map)) {
            u->f->kept[n] = true;
            continue;
        }
        if (order_of(u, q->root) < first) first = order_of(u, q->root);
        if (r->start_count == 0) ask(u, base, q->root, &map);
    }
    if (u->f->kept[n]) {
        uint32_t root = add_root(u, n, 0, shape);
        if (u->failed) return;
        index_map map = {.offset = r->offset};
        memcpy(map.strides, r->strides, sizeof map.strides);
        for (int32_t d = 0; d < shape->rank; d++)
            if (shape->dims[d] == 1) map.strides[d] = 0;
        if (r->start_count == 0) ask(u, base, root, &map);
        if (order_of(u, root) < first) first = order_of(u, root);
    }
    // Run-time starts index the base in memory.
    for (uint32_t i = 0; r->start_count > 0 && i <= (uint32_t)r->start_count; i++)
        keep(u, operand_of(g, n, i), first);
}

static void visit_constant(fuser *u, uint32_t n) {
    if (u->f->kept[n]) add_root(u, n, 0, &u->g->nodes[n]->shape);
}

// Counted on the fly, unless a view steps across its axes in a way that is not affine.
static void visit_iota(fuser *u, uint32_t n) {
    const emlx_tensor *t = u->g->nodes[n];
    const iota_params *p = t->params;
    for (const request *r = u->requests[n]; r != NULL; r = r->next) {
        index_map map;
        const emlx_shape *space = &u->f->roots[r->root].space;
        if (!map_compose(space, &r->map, &t->shape, p->offset, p->strides, &map))
            u->f->kept[n] = true;
    }
    if (u->f->kept[n]) add_root(u, n, 0, &t->shape);
}

static void visit_reduce(fuser *u, uint32_t n) {
    u->f->kept[n] = true;
    uint32_t operand = operand_of(u->g, n, 0);
    uint32_t root = add_root(u, n, 0, &u->g->nodes[operand]->shape);
    ask_whole(u, operand, root);
}

static void visit_custom(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    const index_map scalar = {0};
    visit_reduce(u, n);
    uint32_t root = u->f->root_count - 1;
    for (uint32_t i = g->first[n] + 1; i < g->first[n + 1] && !u->failed; i++)
        ask(u, g->operands[i], root, &scalar);
}

// Whether every element is the same, so that it costs nothing to read.
static bool is_uniform(const subgraph *g, uint32_t n) {
    if (is_primitive(g, n, PRIM_constant)) return true;
    if (!is_primitive(g, n, PRIM_view)) return false;
    const region *r = view_region(g, n);
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++)
        if (r->strides[d] != 0) return false;
    return true;
}

// A source may read the base; computed before, it leaves the base free to be overwritten in place.
static void write_in_turn(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    const write_params *p = g->nodes[n]->params;
    uint32_t base = operand_of(g, n, 0);
    bool ahead = !p->covers && !is_uniform(g, base);
    uint32_t start = g->first[n + 1];
    for (uint32_t i = (uint32_t)p->count; i > 0; i--) {
        uint32_t source = operand_of(g, n, i);
        uint32_t root = add_root(u, n, i, &g->nodes[source]->shape);
        if (u->failed) return;
        start -= (uint32_t)p->regions[i - 1].start_count;
        u->f->roots[root].starts = start - g->first[n];
        if (ahead) keep(u, source, (uint64_t)n << 32);
        ask_whole(u, source, root);
    }
    for (uint32_t i = start; i < g->first[n + 1]; i++) keep(u, g->operands[i], (uint64_t)n << 32);
    if (p->covers) return;
    uint32_t root = add_root(u, n, 0, &g->nodes[n]->shape);
    if (!u->failed) ask_whole(u, base, root);
}

// Has everybody who asks for a part of what is written ask for the source of that, if it is one.
static bool ask_sources(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    index_map map = {0};
    for (const request *r = u->requests[n]; r != NULL; r = r->next)
        if (source_within(g, n, &u->f->roots[r->root].space, &r->map, &map) == 0) return false;
    for (const request *r = u->requests[n]; r != NULL && !u->failed; r = r->next) {
        uint32_t i = source_within(g, n, &u->f->roots[r->root].space, &r->map, &map);
        ask(u, operand_of(g, n, i), r->root, &map);
    }
    return true;
}

// One kernel for sources of one shape that are computed: what they share is computed once.
static bool write_at_once(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    uint32_t count = (uint32_t)((const write_params *)g->nodes[n]->params)->count;
    if (count < 2 || !are_alike(g, n)) return false;
    for (uint32_t i = 1; i <= count; i++)
        if (!is_primitive(g, operand_of(g, n, i), PRIM_map)) return false;
    uint32_t root = add_root(u, n, 1, &g->nodes[operand_of(g, n, 1)]->shape);
    if (u->failed) return true;
    u->f->roots[root].parts = count;
    for (uint32_t i = 1; i <= count; i++) ask_whole(u, operand_of(g, n, i), root);
    return true;
}

static void visit_write(fuser *u, uint32_t n) {
    bool side_by_side = is_side_by_side(u->g, n);
    if (side_by_side && !u->f->kept[n] && ask_sources(u, n)) return;
    u->f->kept[n] = true;
    if (!side_by_side || !write_at_once(u, n)) write_in_turn(u, n);
}

static void visit_scatter(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    u->f->kept[n] = true;
    add_root(u, n, 1, &g->nodes[n]->shape);
    for (uint32_t i = 1; i < 3; i++) keep(u, operand_of(g, n, i), (uint64_t)n << 32);
    uint32_t root = add_root(u, n, 0, &g->nodes[n]->shape);
    if (!u->failed) ask_whole(u, operand_of(g, n, 0), root);
}

// Whether a node is nothing but its operand's numbers in a type that has them all.
static bool only_widens(const subgraph *g, uint32_t n) {
    if (!is_primitive(g, n, PRIM_map)) return false;
    const map_params *p = g->nodes[n]->params;
    const emlx_tensor *t = g->nodes[n], *from = g->nodes[operand_of(g, n, 0)];
    return p->guard == GUARD_NONE && p->op == SCALAR_identity &&
           shape_equal(&t->shape, &from->shape) &&
           type_has((emlx_type)p->compute, (emlx_type)from->type) &&
           type_has((emlx_type)t->type, (emlx_type)p->compute);
}

uint32_t read_by(const fusion *f, uint32_t n, uint32_t o) {
    const subgraph *g = f->g;
    bool (*widens)(const emlx_device *, emlx_type, emlx_type) = f->device->ops->widens;
    emlx_type type = (emlx_type)g->nodes[n]->type;
    if (widens == NULL || !is_primitive(g, n, PRIM_dot)) return o;
    while (only_widens(g, o) &&
           widens(f->device, (emlx_type)g->nodes[operand_of(g, o, 0)]->type, type))
        o = operand_of(g, o, 0);
    return o;
}

// Of a view that is read through strides only the base has to be in memory.
static void visit_whole(fuser *u, uint32_t n) {
    subgraph *g = u->g;
    bool strided = reads_strided((primitive)g->nodes[n]->primitive);
    u->f->kept[n] = true;
    add_root(u, n, 0, &g->nodes[n]->shape);
    for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++) {
        uint32_t o = read_by(u->f, n, g->operands[i]);
        bool view = strided && is_primitive(g, o, PRIM_view) && view_region(g, o)->start_count == 0;
        keep(u, view ? read_by(u->f, n, operand_of(g, o, 0)) : o, (uint64_t)n << 32);
    }
}

static void (*const visitors[PRIM_COUNT])(fuser *, uint32_t) = {
    [PRIM_constant] = visit_constant, [PRIM_iota] = visit_iota,     [PRIM_map] = visit_map,
    [PRIM_view] = visit_view,         [PRIM_write] = visit_write,   [PRIM_reduce] = visit_reduce,
    [PRIM_scatter] = visit_scatter,   [PRIM_custom] = visit_custom,
};

static void (*visitor_of(primitive p))(fuser *, uint32_t) {
    if (visitors[p] != NULL) return visitors[p];
    return primitive_table[p].form == FORM_WHOLE ? visit_whole : NULL;
}

static bool begin_fusing(fuser *u) {
    subgraph *g = u->g;
    u->root_room = 16;
    u->f->g = g;
    u->f->roots = arena_array(&g->memory, u->root_room, sizeof *u->f->roots);
    u->f->kept = arena_array(&g->memory, g->count, sizeof *u->f->kept);
    u->requests = arena_array(&g->memory, g->count, sizeof(request *));
    u->first_use = arena_array(&g->memory, g->count, sizeof *u->first_use);
    u->weight = arena_array(&g->memory, g->count, 1);
    u->uses = arena_array(&g->memory, g->count, sizeof *u->uses);
    u->parts = arena_array(&g->memory, g->count, sizeof *u->parts);
    return u->f->roots && u->f->kept && u->requests && u->first_use && u->weight && u->uses &&
           u->parts;
}

emlx_status fuse(subgraph *g, const emlx_device *device, fusion *f, emlx_error *err) {
    fuser u = {.g = g, .f = f};
    *f = (fusion){.device = device};
    u.failed = !begin_fusing(&u);
    if (!u.failed) {
        memset(u.first_use, 0xff, g->count * sizeof *u.first_use);
        weigh(&u);
        count_uses(&u);
        find_parts(&u);
        for (uint32_t i = 0; i < g->root_count; i++) keep(&u, g->roots[i], LAST);
    }
    for (uint32_t n = g->count; n-- > g->leaf_count && !u.failed;) {
        void (*visit)(fuser *, uint32_t) = visitor_of((primitive)g->nodes[n]->primitive);
        if (visit == NULL)
            return error_set(err, EMLX_INTERNAL, "a placeholder is not among the leaves");
        visit(&u, n);
    }
    if (u.failed) return plan_no_memory(err);
    return EMLX_OK;
}
