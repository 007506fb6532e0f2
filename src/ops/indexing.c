// SPDX-License-Identifier: Apache-2.0
// indexing.c - gather, scatter and sort: checks and lowerings.
#include "ops/make.h"

#include <string.h>

// Indices looked at when they are already known, so that a bad one is reported at the call.
#define CHECKED_NOW 65536

// Checks ------------------------------------------------------------------------------------

// The indexed axes must ascend; the last axis of the indices has one entry for each.
static emlx_status check_indexed(const op_call *call, emlx_error *err) {
    const emlx_shape *target = operand_shape(call, 0), *indices = operand_shape(call, 1);
    const emlx_attr *axes = attr_get(call, "axes");
    if (!type_is_integer(operand_type(call, 1)))
        return error_set(err, EMLX_INVALID, "indices must be integers, got %s",
                         emlx_type_name(operand_type(call, 1)));
    if (indices->rank < 1 || indices->dims[indices->rank - 1] != (int64_t)axes->count)
        return error_set(err, EMLX_INVALID, "the last axis of the indices must have length %zu",
                         axes->count);
    for (size_t i = 0; i < axes->count; i++) {
        bool ascends = i == 0 || axes->ints[i] > axes->ints[i - 1];
        if (axes->ints[i] < 0 || axes->ints[i] >= target->rank || !ascends)
            return error_set(err, EMLX_INVALID, "axes must ascend within rank %d, got %lld",
                             target->rank, (long long)axes->ints[i]);
    }
    return EMLX_OK;
}

static bool is_indexed(const emlx_attr *axes, int32_t axis) {
    for (size_t i = 0; i < axes->count; i++)
        if (axes->ints[i] == axis) return true;
    return false;
}

emlx_status check_gather(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *source = operand_shape(call, 0), *indices = operand_shape(call, 1);
    const emlx_attr *axes = attr_get(call, "axes");
    TRY(check_indexed(call, err));
    int64_t dims[2 * EMLX_MAX_RANK];
    size_t rank = 0;
    for (int32_t d = 0; d + 1 < indices->rank; d++) dims[rank++] = indices->dims[d];
    for (int32_t d = 0; d < source->rank; d++)
        if (!is_indexed(axes, d)) dims[rank++] = source->dims[d];
    result->type = operand_type(call, 0);
    return emlx_shape_make(dims, rank, &result->shape, err);
}

emlx_status check_take(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *source = operand_shape(call, 0), *indices = operand_shape(call, 1);
    int64_t axis = attr_int(call, "axis", 0), dims[2 * EMLX_MAX_RANK];
    size_t rank = 0;
    if (!type_is_integer(operand_type(call, 1)))
        return error_set(err, EMLX_INVALID, "indices must be integers, got %s",
                         emlx_type_name(operand_type(call, 1)));
    if (axis < 0 || axis >= source->rank)
        return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis,
                         source->rank);
    for (int32_t d = 0; d < axis; d++) dims[rank++] = source->dims[d];
    for (int32_t d = 0; d < indices->rank; d++) dims[rank++] = indices->dims[d];
    for (int32_t d = (int32_t)axis + 1; d < source->rank; d++) dims[rank++] = source->dims[d];
    result->type = operand_type(call, 0);
    return emlx_shape_make(dims, rank, &result->shape, err);
}

emlx_status check_scatter(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *target = operand_shape(call, 0), *indices = operand_shape(call, 1);
    const emlx_shape *updates = operand_shape(call, 2);
    const emlx_attr *axes = attr_get(call, "axes");
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    TRY(check_indexed(call, err));
    int32_t at = 1;
    bool fits = indices->rank == 2 && updates->rank >= 1 && updates->dims[0] == indices->dims[0];
    for (int32_t d = 0; fits && d < target->rank; d++) {
        if (is_indexed(axes, d)) continue;
        fits = at < updates->rank && updates->dims[at] <= target->dims[d];
        at++;
    }
    if (!fits || at != updates->rank)
        return error_set(err, EMLX_INVALID, "updates %s do not fit into target %s",
                         shape_print(updates, a), shape_print(target, b));
    result->type = type_merge(operand_type(call, 0), operand_type(call, 2));
    result->shape = *target;
    return EMLX_OK;
}

static emlx_status check_order(const op_call *call, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    int64_t axis = attr_int(call, "axis", 0);
    const char *direction = attr_text(call, "direction", "asc");
    if (axis < 0 || axis >= shape->rank)
        return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis,
                         shape->rank);
    if (strcmp(direction, "asc") != 0 && strcmp(direction, "desc") != 0)
        return error_set(err, EMLX_INVALID, "direction is asc or desc, not %s", direction);
    return EMLX_OK;
}

emlx_status check_sort(const op_call *call, op_result *result, emlx_error *err) {
    result->type = operand_type(call, 0);
    result->shape = *operand_shape(call, 0);
    return check_order(call, err);
}

emlx_status check_argsort(const op_call *call, op_result *result, emlx_error *err) {
    result->type = EMLX_S32;
    result->shape = *operand_shape(call, 0);
    return check_order(call, err);
}

// Lowerings ---------------------------------------------------------------------------------

// The indexed axes of an operand, ascending.
typedef struct indexed {
    const int64_t *axes;
    size_t count;
} indexed;

static indexed indexed_axes(const op_call *call) {
    const emlx_attr *axes = attr_get(call, "axes");
    return (indexed){axes->ints, axes->count};
}

static emlx_status bad_index(const op_call *call, indexed axes, int64_t index, size_t which,
                             emlx_error *err) {
    const emlx_shape *target = operand_shape(call, 0);
    char text[SHAPE_TEXT];
    emlx_shape front = {.rank = target->rank};
    int32_t at = 0;
    uint32_t used = 0;
    for (size_t i = 0; i < axes.count; i++) {
        front.dims[at++] = target->dims[axes.axes[i]];
        used |= 1u << axes.axes[i];
    }
    for (int32_t d = 0; d < target->rank; d++)
        if (!(used >> d & 1)) front.dims[at++] = target->dims[d];
    return error_set(err, EMLX_OUT_OF_BOUNDS,
                     "index %lld is out of bounds for axis %zu in shape %s", (long long)index,
                     which, shape_print(&front, text));
}

// Reports a bad index at once when the indices are known. The others are checked by the engine.
static emlx_status check_known(const op_call *call, indexed axes, emlx_error *err) {
    const emlx_tensor *indices = call->in[1];
    emlx_type type = emlx_tensor_type(indices);
    const void *data;
    size_t count;
    scalar_value room;
    if (!known_values(indices, CHECKED_NOW, &data, &count, &room)) return EMLX_OK;
    bool constant = indices->primitive == PRIM_constant;
    for (size_t i = 0; i < (constant ? axes.count : count); i++) {
        const char *at = (const char *)data + (constant ? 0 : i * type_size(type));
        emlx_number n = type_load(type, at);
        size_t which = i % axes.count;
        uint64_t length = (uint64_t)operand_shape(call, 0)->dims[axes.axes[which]];
        if (n.as.u >= length) return bad_index(call, axes, n.as.s, which, err);
    }
    return EMLX_OK;
}

static emlx_tensor *make_gather(maker *m, emlx_tensor *source, emlx_tensor *indices, indexed axes,
                                const emlx_shape *shape) {
    gather_params params = {.count = (int32_t)axes.count};
    for (size_t i = 0; i < axes.count; i++) params.axes[i] = (int32_t)axes.axes[i];
    emlx_tensor *inputs[2] = {source, make_cast(m, indices, EMLX_S64)};
    if (m->status != EMLX_OK) return NULL;
    node_spec spec = {.primitive = PRIM_gather,
                      .type = emlx_tensor_type(source),
                      .shape = *shape,
                      .params = &params,
                      .params_size = sizeof params,
                      .inputs = inputs,
                      .input_count = 2};
    return make_node(m, &spec);
}

emlx_status lower_gather(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    TRY(check_known(call, indexed_axes(call), err));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_gather(&m, call->in[0], call->in[1], indexed_axes(call), &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Gathered slices come with the axes of the indices first; they belong where the axis was.
emlx_status lower_take(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    int64_t axis = attr_int(call, "axis", 0), order[EMLX_MAX_RANK];
    indexed axes = {&axis, 1};
    TRY(check_known(call, axes, err));
    emlx_shape vectors = *operand_shape(call, 1), found = result->shape;
    int32_t lead = (int32_t)axis, inner = vectors.rank;
    for (int32_t d = 0; d < found.rank; d++) {
        bool from_indices = d >= lead && d < lead + inner;
        order[d] = from_indices ? d - lead : d < lead ? inner + d : d;
        found.dims[order[d]] = result->shape.dims[d];
    }
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *indices = call->in[1];
    if (vectors.rank < EMLX_MAX_RANK) {
        vectors.dims[vectors.rank++] = 1;
        indices = view_reshape(&m, indices, &vectors);
    } else {
        m.status = error_set(err, EMLX_INVALID, "the indices have too many axes");
    }
    emlx_tensor *t = make_gather(&m, call->in[0], indices, axes, &found);
    t = view_transpose(&m, t, order);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Sums are rounded once: operands of more digits than the result has are added in double.
static emlx_type scatter_type(const op_call *call, emlx_type type) {
    // Narrower than a byte, a sum would keep bits that the type has not got.
    if (emlx_type_bits(type) < 8) return EMLX_S8;
    if (call->op->code != SCATTER_ADD || !type_is_float(type)) return type;
    unsigned digits = type_table[type].digits;
    bool lossy = type_table[operand_type(call, 0)].digits > digits ||
                 type_table[operand_type(call, 2)].digits > digits;
    return lossy ? EMLX_F64 : type;
}

emlx_status lower_scatter(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    TRY(check_known(call, indexed_axes(call), err));
    const emlx_attr *axes = attr_get(call, "axes");
    scatter_params params = {.kind = (uint8_t)call->op->code, .count = (int32_t)axes->count};
    for (size_t i = 0; i < axes->count; i++) params.axes[i] = (int32_t)axes->ints[i];
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_type type = scatter_type(call, result->type);
    emlx_tensor *inputs[3] = {make_cast(&m, call->in[0], type),
                              make_cast(&m, call->in[1], EMLX_S64),
                              make_cast(&m, call->in[2], type)};
    node_spec spec = {.primitive = PRIM_scatter,
                      .type = type,
                      .shape = result->shape,
                      .params = &params,
                      .params_size = sizeof params,
                      .inputs = inputs,
                      .input_count = 3};
    emlx_tensor *t = m.status == EMLX_OK ? make_node(&m, &spec) : NULL;
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// The code says whether positions are wanted instead of values.
emlx_status lower_sort(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    sort_params params = {.axis = (int32_t)attr_int(call, "axis", 0),
                          .descending = strcmp(attr_text(call, "direction", "asc"), "desc") == 0,
                          .indices = call->op->code == 1};
    maker m;
    make_start(&m, call, &result->shape, err);
    node_spec spec = {.primitive = PRIM_sort,
                      .shape = result->shape,
                      .params = &params,
                      .params_size = sizeof params,
                      .inputs = call->in,
                      .input_count = 1};
    spec.type = params.indices ? EMLX_S64 : operand_type(call, 0);
    return make_done(&m, make_cast(&m, make_node(&m, &spec), result->type), out);
}
