// SPDX-License-Identifier: Apache-2.0
// plan.h - a graph cut into kernels with buffers assigned. Immutable once built; shared by all who
// run the same structure. Knows primitives; knows neither Nx ops nor any engine.
#ifndef EMLX_PLAN_PLAN_H
#define EMLX_PLAN_PLAN_H

#include "graph/faults.h"
#include "memory/arena.h"

// Values ----------------------------------------------------------------------------------------

// A dense array that is in memory at some time during a run: inputs first, in order.
typedef struct plan_value {
    emlx_type type;
    emlx_shape shape;
    size_t bytes;
} plan_value;

// How a kernel reaches an element of a value: at offset + sum(index[d] * strides[d]) over the
// kernel's axes, in elements, plus the run-time starts.
typedef struct plan_start {
    uint32_t value; // an integer scalar
    int64_t stride;
    int64_t limit;
} plan_start;

// What a start of that value adds to an offset.
static inline int64_t start_offset(const plan_start *start, emlx_number value) {
    return start_within(value, start->limit) * start->stride;
}

typedef struct plan_access {
    uint32_t value;
    emlx_type type;
    int64_t offset;
    int64_t strides[EMLX_MAX_RANK];
    uint32_t start_count;
    plan_start *starts;
} plan_access;

// Expressions -----------------------------------------------------------------------------------

typedef enum expr_kind {
    EXPR_LOAD,  // the element at accesses[index]
    EXPR_CONST, // constants[index] of the run, in `type`
    EXPR_IOTA,  // accesses[index].offset + sum(index * strides), converted to `type` (s64 wraps)
    EXPR_CAST,  // args[0], of type `compute`, converted to `type`
    EXPR_GUARD, // args[0]; the run fails with guard `op` where args[1] (u8) is not 0, and says
                // that the kernel's guards[index] did
    EXPR_CARRY, // what was folded so far (CUSTOM)
    EXPR_SCALAR // scalar_table[op] of the args, computed in `compute`; `bitcast` only renames
                // the type of the bits, `identity` does not occur
} expr_kind;

// One step of a kernel's scalar expression, in SSA form: args are indices of earlier steps.
typedef struct expr_step {
    uint8_t kind;
    uint8_t op;
    uint8_t type;    // of the result
    uint8_t compute; // of the operands (`select`: of the last two)
    uint16_t args[3];
    uint32_t index;
} expr_step;

typedef struct expr_store {
    uint32_t step;
    uint32_t access;
} expr_store;

// Kernels ---------------------------------------------------------------------------------------

// A kernel is of the kind of the primitive that it computes; MAP kernels compute what has no kind.
typedef enum kernel_kind {
    KERNEL_MAP = PRIM_map,       // expression over `rank` axes, stored
    KERNEL_REDUCE = PRIM_reduce, // the same, and `reduced` folded over the axes in `axes`
    KERNEL_CUSTOM =
        PRIM_custom, // expression over `rank` axes, step by step along the axes in `axes`
    // Those that are computed whole.
    KERNEL_DOT = PRIM_dot,
    KERNEL_CONV = PRIM_conv,
    KERNEL_GATHER = PRIM_gather,
    KERNEL_SCATTER = PRIM_scatter,
    KERNEL_SORT = PRIM_sort,
    KERNEL_SCAN = PRIM_scan,
    KERNEL_PICK = PRIM_pick,
    KERNEL_ROUTINE = PRIM_routine,
    KERNEL_FUNCTION = PRIM_function,
    KERNEL_EITHER = PRIM_either,
    // Several of the first two, one after another on each row.
    KERNEL_ROWS = PRIM_COUNT,
    KERNEL_COUNT
} kernel_kind;

enum { MOST_STAGES = 16 }; // of a kernel of the kind ROWS
enum { MOST_BESIDE = 7 };  // see `beside`

typedef struct plan_kernel {
    kernel_kind kind;
    const char *op; // name of the op that it computes last, for messages

    // MAP, REDUCE and CUSTOM: iteration space, axes of length 1 dropped and adjacent ones merged
    // where every access allows it.
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK];
    uint32_t step_count, access_count, store_count;
    expr_step *steps;
    plan_access *accesses;
    expr_store *stores;
    const char **guards; // names of the ops that its guards belong to
    uint32_t guard_count;

    // REDUCE: folds step `reduced` over the axes whose bit is set; `output` is dense over the
    // others, in order. With no axis folded the result is the element itself.
    uint32_t reduced;
    uint32_t axes;
    reduce_kind reduce;

    // CUSTOM: the same, but every element of the fold gives step `reduced`, which is step `carry`
    // at the next one; `carry` begins as step `start`.
    uint32_t carry, start;

    // The other kinds: operands as accesses over their own shapes (dense except in DOT, CONV and
    // EITHER), in the primitive's order, but for operand 0 of EITHER; `params` is the primitive's.
    const void *params; // CALL: NULL
    uint32_t function;  // CALL: its number among those of the run
    emlx_shape *shapes; // of those operands
    uint32_t output;    // REDUCE, CUSTOM and the other kinds: the value produced

    // ROWS: stages, MAP and REDUCE kernels over the same axes, of which those in `axes` run along a
    // row. A stage is computed for a row when the one before it has been. What a stage makes, later
    // ones read of their own row only: through the strides that it was written with, which are 0
    // along the row where it is one element a row. A MAP of one element a row has length 1 along
    // it. A stage's accesses are a part of `accesses`; behind those of all stages come the places
    // of what folds make. `stores` are those of all stages, with the number of the stage as `step`.
    uint32_t stage_count;
    struct plan_kernel *stages;

    // So many kernels behind this one, of which it is the first, are run with it as one step: none
    // reads what another makes, and what ends in any of them ends behind the last.
    uint32_t beside;

    // A DOT whose result only the kernel behind it reads: a MAP without guards that goes over it
    // element by element, and makes one value of the same type and shape in its buffer. Buffers of
    // both are there before the first is run, so that an engine can do all in it.
    bool epilogue;

    // A MAP that copies one value unchanged: nothing to do when the copy took its source's buffer.
    bool copies;

    // Memory: values that come into being here, each with a value that ends here and may give its
    // buffer (or UINT32_MAX); values whose last reader this is.
    uint32_t made_count, ended_count;
    uint32_t *made, *reuse, *ended;
    // ROWS: values that are made here and read by nobody else. They are in no buffer.
    uint32_t local_count;
    uint32_t *locals;
} plan_kernel;

// Whether the kernel works on operands in memory; else it evaluates an expression.
static inline bool kernel_is_whole(const plan_kernel *k) {
    return k->kind != KERNEL_ROWS && primitive_table[k->kind].form == FORM_WHOLE;
}

static inline bool kernel_is_local(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->local_count; i++)
        if (k->locals[i] == value) return true;
    return false;
}

// A value may be written by several kernels: `write` is one MAP kernel for the base and one for
// each source, SCATTER works in place on a copy made by the kernel before it.

// Nodes -----------------------------------------------------------------------------------------

// One node of the graph that a plan was made of. Inputs come first, others after their operands.
typedef struct plan_node {
    uint8_t primitive; // PRIM_input for inputs, whatever they are elsewhere
    uint8_t type;
    uint32_t params_size, operand_count;
    const void *params;       // the primitive's; of a `constant` and a `function` NULL
    const uint32_t *operands; // numbers of nodes; an `either` has lost operand 0
    uint32_t parameter; // of a `constant`: its number among those of the run; of a `function`: that
                        // of its function among these
    const char *op;     // name of the op that made it, for messages; NULL for inputs
    emlx_shape shape;
} plan_node;

// A share of a plan that two devices run between them, as a plan of its own: its device is who runs
// it. Its inputs and outputs are values of the whole; constants have the numbers of the whole.
typedef struct plan_part {
    struct emlx_plan *plan;
    uint32_t *inputs, *outputs;
    bool handed_over; // to the host
    uint32_t op_count;
    const char **ops; // one a node, where it is handed over
} plan_part;

// A plan has one of three forms: kernels; nodes, where values are numbered as nodes are; or parts,
// run in order.
typedef struct emlx_plan {
    atomic_int references;
    uint32_t input_count, constant_count, function_count, value_count, kernel_count, output_count;
    plan_value *values;      // inputs come first
    uint8_t *constant_types; // emlx_type of each run constant
    plan_kernel *kernels;
    uint32_t node_count, part_count;
    plan_node *nodes;
    plan_part *parts;
    uint32_t *last_part; // of each value: the part that reads it last; UINT32_MAX: it stays
    uint32_t *outputs;   // values, in the order of the roots; inputs may be among them
    arena memory;        // where all of the above lives
    // The engine's own form of this plan, made when a program is compiled or at the first run, and
    // given back through its ops.
    _Atomic(void *) prepared;
    emlx_device *device; // whose form that is; borrowed, as plans do not outlive their device
} emlx_plan;

emlx_plan *plan_retain(emlx_plan *plan);
void plan_release(emlx_plan *plan);
// Kernels of all its parts; nodes of a plan in nodes count as one each.
size_t plan_kernel_count(const emlx_plan *plan);

#endif
