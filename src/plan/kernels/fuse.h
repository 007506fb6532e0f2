// SPDX-License-Identifier: Apache-2.0
// fuse.h - deciding which nodes are computed together.
//
// Nodes are visited from the results down. A node is asked for by the kernels that read it, each
// through an affine map from the kernel's index space. A `map` node asked for by one kernel in one
// way becomes part of that kernel. One asked for in several ways is kept: computed once into
// memory. It is then stored by the first kernel that reads it, if that one reads it element by
// element, and otherwise by a kernel of its own. What is written side by side, as concatenate does,
// is in memory only if somebody reads across: others read the sources, and a `map` of the whole is
// computed part by part.
#ifndef EMLX_PLAN_KERNELS_FUSE_H
#define EMLX_PLAN_KERNELS_FUSE_H

#include "plan/subgraph.h"

#define NO_INDEX UINT32_MAX

// An index space to a linear element index: offset + sum(index[d] * strides[d]).
typedef struct index_map {
    int64_t offset;
    int64_t strides[EMLX_MAX_RANK];
} index_map;

// A node computed inside a kernel, for the element that `map` gives.
typedef struct inlined {
    struct inlined *next; // nodes ascend along the list
    uint32_t node;
    bool stored;
    index_map map;
} inlined;

// A kernel in the making. The parts of a node that takes several kernels: `write` copies its base
// in part 0 and writes source i in part 1 + i; `scatter` copies its target in part 0 and scatters
// in part 1; a `map` of a `write` is computed in the parts of that. One kernel may do several
// parts.
typedef struct fuse_root {
    uint32_t node, part;
    uint32_t parts;  // how many, from `part` on
    uint32_t starts; // a source of `write`: which operand is its first run-time start
    emlx_shape space;
    uint32_t size; // nodes inlined
    inlined *list;
} fuse_root;

typedef struct fusion {
    subgraph *g;
    uint32_t root_count;
    fuse_root *roots; // in descending order of execution
    bool *kept;       // of each node: whether its value is in memory
    const emlx_device *device;
} fusion;

// Everything lives in g's memory.
emlx_status fuse(subgraph *g, const emlx_device *device, fusion *f, emlx_error *err);

// What the kernel of node n reads for node `o`, an operand or what one is a view of: that, or,
// where the device widens it as it reads, what it is converted from.
uint32_t read_by(const fusion *f, uint32_t n, uint32_t o);

// Which source of the `write` n alone is read through the map, from 1 on, and the map into that; 0
// where it is not one.
uint32_t source_within(const subgraph *g, uint32_t n, const emlx_shape *space, const index_map *map,
                       index_map *out);

// The node whose value holds that of `n`: n itself, or what it is a plain reshape of.
uint32_t value_node(const subgraph *g, uint32_t n);
static inline bool is_leaf(const subgraph *g, uint32_t n) { return n < g->leaf_count; }
static inline bool is_primitive(const subgraph *g, uint32_t n, primitive p) {
    return !is_leaf(g, n) && g->nodes[n]->primitive == p;
}
// Whether its kernel reads operands through views.
static inline bool reads_strided(primitive p) {
    return p == PRIM_dot || p == PRIM_conv || p == PRIM_either;
}
static inline uint32_t operand_of(const subgraph *g, uint32_t n, uint32_t i) {
    return g->operands[g->first[n] + i];
}

// The map from `space` through `map` (into a dense array of shape `shape`) and then through an
// affine indexing of that shape's axes; false when the two together are not affine.
bool map_compose(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                 int64_t offset, const int64_t *strides, index_map *out);
// The reverse: the map into a dense array of shape `shape`, of which `map` reaches the copy that
// lies in another at `offset` with `strides`; false when that is not affine, or reaches anything
// else.
bool map_within(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                int64_t offset, const int64_t *strides, index_map *out);
// The map of an operand of `n`, whose shape is n's or stretches to it.
bool map_operand(const emlx_shape *space, const index_map *map, const emlx_shape *shape,
                 const emlx_shape *operand, index_map *out);
void map_dense(const emlx_shape *space, index_map *out);
bool map_equal(const index_map *a, const index_map *b);

#endif
