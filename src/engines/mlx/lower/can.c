// SPDX-License-Identifier: Apache-2.0
// can.c - what MLX is not given: what it has no function for, what it computes in less than was
// asked for, and what it gets wrong.
#include "base/shape.h"
#include "base/types.h"
#include "engines/mlx/lower/builder.h"

#define VERSION(major, minor, patch) ((major)*1000000u + (minor)*1000u + (patch))

static emlx_type type_of(const plan_node *n, const plan_node *nodes, uint32_t operand) {
    return nodes[n->operands[operand]].type;
}

static bool is_f8(emlx_type type) { return type == EMLX_F8 || type == EMLX_F8_E4M3FN; }

// Arrays of the type exist there.
static bool has_type(const mlx_traits *t, emlx_type type) {
    return type != EMLX_C128 && (type != EMLX_F64 || t->f64);
}

static bool has_shape(const mlx_traits *t, const emlx_shape *shape) {
    if (shape->rank > t->rank) return false;
    for (int32_t d = 0; d < shape->rank; d++)
        if (shape->dims[d] > INT32_MAX) return false;
    return true;
}

// Before 0.32.4 a NaN of f8_e4m3fn was read as a number.
static bool reads(const mlx_traits *t, emlx_type type) {
    return type != EMLX_F8_E4M3FN || t->version >= VERSION(0, 32, 4);
}

// Numbers of an integer type go to narrow floats by way of f32 there, and would be rounded twice.
static bool casts(emlx_type from, emlx_type to) {
    bool narrow = to == EMLX_F16 || to == EMLX_BF16;
    return !is_f8(to) && !(narrow && type_is_integer(from) && type_table[from].bits > 16);
}

// Maps -------------------------------------------------------------------------------------------

static bool in_list(scalar_op op, const uint8_t *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (list[i] == op) return true;
    return false;
}
#define IN(op, list) in_list(op, list, sizeof(list))

// Computed in f32 there, whatever the type.
static const uint8_t f32_only[] = {SCALAR_exp,     SCALAR_sin, SCALAR_cos,
                                   SCALAR_sigmoid, SCALAR_erf, SCALAR_erf_inv};
// Functions that we round correctly in f32, and MLX does not: exp errs by up to 60 units in the
// last place, erf near 0 by 1,700, most others by 1 to 3.
static const uint8_t inexact[] = {
    SCALAR_exp,  SCALAR_expm1, SCALAR_log,     SCALAR_log1p, SCALAR_sigmoid, SCALAR_sin,
    SCALAR_cos,  SCALAR_tan,   SCALAR_sinh,    SCALAR_cosh,  SCALAR_tanh,    SCALAR_asin,
    SCALAR_acos, SCALAR_atan,  SCALAR_asinh,   SCALAR_acosh, SCALAR_atanh,   SCALAR_rsqrt,
    SCALAR_cbrt, SCALAR_erf,   SCALAR_erf_inv, SCALAR_pow,   SCALAR_atan2};
// Of huge angles: infinite before 0.32.1.
static const uint8_t angles[] = {SCALAR_sin, SCALAR_cos, SCALAR_tan};
// That lose no digits and no branches of complex numbers, infinite ones among them.
static const uint8_t complex_ones[] = {
    SCALAR_identity,    SCALAR_negate, SCALAR_abs,         SCALAR_conjugate,
    SCALAR_real,        SCALAR_imag,   SCALAR_phase,       SCALAR_truth,
    SCALAR_logical_not, SCALAR_is_nan, SCALAR_is_infinity, SCALAR_add,
    SCALAR_subtract,    SCALAR_equal,  SCALAR_not_equal,   SCALAR_select};

static bool can_compute(const mlx_traits *t, scalar_op op, emlx_type type) {
    if (!has_type(t, type) || !has_type(t, scalar_result_type(op, type))) return false;
    // One minus erf would cancel.
    if (op == SCALAR_erfc) return false;
    if (type_is_complex(type)) return IN(op, complex_ones) && !(t->exact && op == SCALAR_phase);
    if (type == EMLX_F64 && IN(op, f32_only)) return false;
    if (t->version < VERSION(0, 32, 1) && IN(op, angles)) return false;
    return !(t->exact && type_is_float(type) && IN(op, inexact));
}

// Rounding to 8 bits has no function there.
static bool can_map(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    const map_params *p = n->params;
    bool as_is = p->guard != GUARD_NONE || p->op == SCALAR_bitcast;
    if (as_is) return true;
    for (uint32_t i = p->op == SCALAR_select; i < n->operand_count; i++) {
        emlx_type type = type_of(n, nodes, i);
        if (!reads(t, type) || !casts(type, (emlx_type)p->compute)) return false;
    }
    emlx_type computed = scalar_result_type((scalar_op)p->op, (emlx_type)p->compute);
    return casts(computed, n->type) && !is_f8((emlx_type)p->compute) &&
           can_compute(t, (scalar_op)p->op, (emlx_type)p->compute);
}

// The others -------------------------------------------------------------------------------------

// A run-time start must be that of one axis.
static bool can_write(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    const write_params *p = n->params;
    (void)t;
    for (int32_t i = 0; i < p->count; i++)
        for (int32_t s = 0; s < p->regions[i].start_count; s++)
            if (mlx_start_axis(&n->shape, &nodes[n->operands[i + 1]].shape,
                               &p->regions[i].starts[s]) < 0)
                return false;
    return true;
}

// Without f64 a product may leave f32's range on its way and not come back.
static bool leaves_range(const mlx_traits *t, reduce_kind kind, emlx_type type) {
    return kind == REDUCE_PRODUCT && type_is_float(type) && !t->f64;
}

static bool can_reduce(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    const reduce_params *p = n->params;
    emlx_type type = (emlx_type)p->accumulate;
    if (leaves_range(t, (reduce_kind)p->kind, type)) return false;
    return mlx_folds((reduce_kind)p->kind) && has_type(t, type) && !type_is_complex(type) &&
           !is_f8(type) && !is_f8(n->type) && reads(t, type_of(n, nodes, 0));
}

// Its products of complex numbers make NaN of infinities.
static bool can_dot(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    (void)t;
    (void)nodes;
    return type_is_float(n->type) && !is_f8(n->type);
}

static bool can_conv(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    const conv_params *p = n->params;
    int32_t spatial = n->shape.rank - 2;
    bool real_number = n->type == EMLX_F32 || n->type == EMLX_F16 || n->type == EMLX_BF16;
    bool grouped = p->feature_groups > 1 && spatial > 2 && !t->cpu;
    if (!real_number || grouped || p->batch_groups > 1 || spatial < 1 || spatial > 3) return false;
    return emlx_shape_count(&n->shape) > 0 && emlx_shape_count(&nodes[n->operands[0]].shape) > 0 &&
           emlx_shape_count(&nodes[n->operands[1]].shape) > 0;
}

static bool can_gather(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    (void)t;
    return emlx_shape_count(&nodes[n->operands[0]].shape) > 0 &&
           ((const gather_params *)n->params)->count > 0;
}

// On its GPUs two updates of one element are in no order, and some integers cannot be added.
static bool can_scatter(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    const scatter_params *p = n->params;
    if (!t->cpu && (p->kind == SCATTER_PUT || type_table[n->type].bits == 64)) return false;
    return p->count > 0 && !is_f8(n->type) && !type_is_complex(n->type) &&
           emlx_shape_count(&n->shape) > 0 && emlx_shape_count(&nodes[n->operands[1]].shape) > 0 &&
           emlx_shape_count(&nodes[n->operands[2]].shape) > 0;
}

static bool has_order(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    emlx_type type = type_of(n, nodes, 0);
    (void)t;
    return !type_is_complex(type) && !is_f8(type);
}

// Of zeros that differ in their sign its running extremes keep another one.
static bool can_scan(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    reduce_kind kind = (reduce_kind)((const scan_params *)n->params)->kind;
    bool extreme = reduce_table[kind].gives != GIVES_COMBINED;
    if (leaves_range(t, kind, n->type)) return false;
    return mlx_folds(kind) && has_order(t, n, nodes) && !(extreme && type_is_float(n->type));
}

static bool can_count(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    (void)t;
    (void)nodes;
    return casts(EMLX_S64, n->type);
}

static bool always(const mlx_traits *t, const plan_node *n, const plan_node *nodes) {
    (void)t;
    (void)n;
    (void)nodes;
    return true;
}

// Primitives without a row have nothing there.
static bool (*const answers[PRIM_COUNT])(const mlx_traits *, const plan_node *,
                                         const plan_node *) = {
    [PRIM_constant] = always,     [PRIM_iota] = can_count,  [PRIM_map] = can_map,
    [PRIM_view] = always,         [PRIM_write] = can_write, [PRIM_reduce] = can_reduce,
    [PRIM_dot] = can_dot,         [PRIM_conv] = can_conv,   [PRIM_gather] = can_gather,
    [PRIM_scatter] = can_scatter, [PRIM_sort] = has_order,  [PRIM_scan] = can_scan,
};

bool mlx_can(const mlx_traits *traits, const plan_node *node, const plan_node *nodes) {
    if (answers[node->primitive] == NULL) return false;
    if (!has_type(traits, node->type) || !has_shape(traits, &node->shape)) return false;
    for (uint32_t i = 0; i < node->operand_count; i++) {
        const plan_node *operand = &nodes[node->operands[i]];
        if (!has_type(traits, operand->type) || !has_shape(traits, &operand->shape)) return false;
    }
    return answers[node->primitive](traits, node, nodes);
}
