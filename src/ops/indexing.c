// SPDX-License-Identifier: Apache-2.0
// indexing.c - gather, scatter and sort: checks and lowerings.
#include "ops/models/packed.h"

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

static emlx_status check_along(const op_call *call, int64_t axis, emlx_error *err) {
    int32_t rank = operand_shape(call, 0)->rank;
    if (!type_is_integer(operand_type(call, 1)))
        return error_set(err, EMLX_INVALID, "indices must be integers, got %s",
                         emlx_type_name(operand_type(call, 1)));
    if (axis >= 0 && axis < rank) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis, rank);
}

emlx_status check_take(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *source = operand_shape(call, 0), *indices = operand_shape(call, 1);
    int64_t axis = attr_int(call, "axis", 0), dims[2 * EMLX_MAX_RANK];
    size_t rank = 0;
    TRY(check_along(call, axis, err));
    for (int32_t d = 0; d < axis; d++) dims[rank++] = source->dims[d];
    for (int32_t d = 0; d < indices->rank; d++) dims[rank++] = indices->dims[d];
    for (int32_t d = (int32_t)axis + 1; d < source->rank; d++) dims[rank++] = source->dims[d];
    result->type = operand_type(call, 0);
    return emlx_shape_make(dims, rank, &result->shape, err);
}

emlx_status check_take_along_axis(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *source = operand_shape(call, 0), *indices = operand_shape(call, 1);
    int64_t axis = attr_int(call, "axis", 0);
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    TRY(check_along(call, axis, err));
    bool fits = source->rank == indices->rank;
    for (int32_t d = 0; d < source->rank && fits; d++)
        fits = d == axis || source->dims[d] == indices->dims[d];
    if (!fits)
        return error_set(err, EMLX_INVALID,
                         "the indices %s and the operand %s differ in more than "
                         "axis %lld",
                         shape_print(indices, a), shape_print(source, b), (long long)axis);
    result->type = operand_type(call, 0);
    result->shape = *indices;
    return EMLX_OK;
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
    TRY(refuse_complex(call, err));
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

emlx_status check_top_k(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    int64_t k = attr_int(call, "k", 1);
    char text[SHAPE_TEXT];
    TRY(refuse_complex(call, err));
    if (shape->rank == 0 || k < 1 || k > shape->dims[shape->rank - 1])
        return error_set(err, EMLX_INVALID, "there are no %lld elements along the last axis of %s",
                         (long long)k, shape_print(shape, text));
    result[0].type = operand_type(call, 0);
    result[1].type = EMLX_S32;
    for (int i = 0; i < 2; i++) {
        result[i].shape = *shape;
        result[i].shape.dims[shape->rank - 1] = k;
    }
    return EMLX_OK;
}

// Lowerings ---------------------------------------------------------------------------------

// The indexed axes of an operand, ascending.
typedef struct indexed {
    int32_t count;
    int32_t axes[EMLX_MAX_RANK];
} indexed;

static indexed indexed_axes(const op_call *call) {
    const emlx_attr *axes = attr_get(call, "axes");
    indexed out = {.count = (int32_t)axes->count};
    for (size_t i = 0; i < axes->count; i++) out.axes[i] = (int32_t)axes->ints[i];
    return out;
}

// Reports a bad index at once when the indices are known. The others are checked by the engine.
// Along an axis, all axes count as indexed.
static emlx_status check_known(const op_call *call, const indexed *axes, bool along,
                               emlx_error *err) {
    const emlx_tensor *indices = call->in[1];
    const emlx_shape *target = operand_shape(call, 0);
    emlx_type type = emlx_tensor_type(indices);
    const void *data;
    size_t count;
    scalar_value room;
    if (!known_values(indices, CHECKED_NOW, &data, &count, &room)) return EMLX_OK;
    bool constant = count > 0 && indices->primitive == PRIM_constant;
    for (size_t i = 0; i < (constant ? (size_t)axes->count : count); i++) {
        const char *at = (const char *)data + (constant ? 0 : i * type_size(type));
        emlx_number n = type_load(type, at);
        int32_t which = (int32_t)(i % (size_t)axes->count);
        if (n.as.u < (uint64_t)target->dims[axes->axes[which]]) continue;
        bool is_unsigned = n.kind == EMLX_NUMBER_UNSIGNED;
        const indexing how = {axes->count, axes->axes, along, is_unsigned};
        return index_error_at(&how, target, which, n.as.s, err);
    }
    return EMLX_OK;
}

static emlx_tensor *make_gather(maker *m, emlx_tensor *source, emlx_tensor *indices,
                                const indexed *axes, bool along, const emlx_shape *shape) {
    bool is_unsigned = indices != NULL && emlx_tensor_type(indices) == EMLX_U64;
    gather_params params = {.count = axes->count, .along = along, .is_unsigned = is_unsigned};
    memcpy(params.axes, axes->axes, sizeof params.axes);
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
    indexed axes = indexed_axes(call);
    TRY(check_known(call, &axes, false, err));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_gather(&m, call->in[0], call->in[1], &axes, false, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_take_along_axis(const op_call *call, const op_result *result, emlx_tensor **out,
                                  emlx_error *err) {
    indexed axes = {.count = 1, .axes = {(int32_t)attr_int(call, "axis", 0)}};
    TRY(check_known(call, &axes, true, err));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_gather(&m, call->in[0], call->in[1], &axes, true, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Of packed weights what is wanted is taken before it is unpacked, unless that goes through groups.
static bool take_packed(const op_call *call, const op_result *result, bool along_last,
                        emlx_tensor **out, emlx_status *status, emlx_error *err) {
    packed p;
    maker m;
    if (along_last) return false;
    make_start(&m, call, &result->shape, err);
    if (!packed_see(&m, call->in[0], &p)) {
        make_done(&m, NULL, out);
        return false;
    }
    for (uint32_t i = 0; i < p.how.info->operands; i++) {
        emlx_tensor *in[2] = {p.operands[i], call->in[1]};
        p.operands[i] = make_op_with(&m, call->op->name, EMLX_TYPE_DEFAULT, in, 2, call->attrs,
                                     call->attr_count);
    }
    p.shape = result->shape;
    emlx_tensor *t = make_dequantized(&m, &p, operand_type(call, 0));
    *status = make_done(&m, make_cast(&m, t, result->type), out);
    return true;
}

// Gathered slices come with the axes of the indices first; they belong where the axis was.
emlx_status lower_take(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    int64_t axis = attr_int(call, "axis", 0), order[EMLX_MAX_RANK];
    indexed axes = {.count = 1, .axes = {(int32_t)axis}};
    emlx_status status = EMLX_OK;
    TRY(check_known(call, &axes, false, err));
    bool last = axis == operand_shape(call, 0)->rank - 1;
    if (take_packed(call, result, last, out, &status, err)) return status;
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
    emlx_tensor *t = make_gather(&m, call->in[0], indices, &axes, false, &found);
    t = view_transpose(&m, t, order);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Sums are rounded once: operands that the result's type does not hold are added in a wider one.
static emlx_type scatter_type(const op_call *call, emlx_type type) {
    if (call->op->code != SCATTER_ADD || type_is_integer(type)) return type_whole(type);
    return type_holding(type_holding(type, operand_type(call, 0)), operand_type(call, 2));
}

emlx_status lower_scatter(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    indexed axes = indexed_axes(call);
    TRY(check_known(call, &axes, false, err));
    scatter_params params = {.kind = call->op->code,
                             .is_unsigned = operand_type(call, 1) == EMLX_U64,
                             .count = axes.count};
    memcpy(params.axes, axes.axes, sizeof params.axes);
    emlx_type type = scatter_type(call, result->type);
    maker m;
    make_start(&m, call, &result->shape, err);
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
static emlx_tensor *make_sort(maker *m, emlx_tensor *t, const sort_params *params) {
    node_spec spec = {.primitive = PRIM_sort,
                      .type = params->indices ? EMLX_S64 : emlx_tensor_type(t),
                      .shape = *emlx_tensor_shape(t),
                      .params = params,
                      .params_size = sizeof *params,
                      .inputs = &t,
                      .input_count = 1};
    spec.shape.dims[params->axis] = params->keep;
    return make_node(m, &spec);
}

emlx_status lower_sort(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    int32_t axis = (int32_t)attr_int(call, "axis", 0);
    sort_params params = {.keep = result->shape.dims[axis],
                          .axis = axis,
                          .descending = strcmp(attr_text(call, "direction", "asc"), "desc") == 0,
                          .indices = call->op->code == 1};
    maker m;
    make_start(&m, call, &result->shape, err);
    return make_done(&m, make_cast(&m, make_sort(&m, call->in[0], &params), result->type), out);
}

// The greatest values along the last axis, and where they are.
emlx_status lower_top_k(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    int32_t axis = result->shape.rank - 1;
    indexed axes = {.count = 1, .axes = {axis}};
    sort_params params = {
        .keep = result->shape.dims[axis], .axis = axis, .descending = true, .indices = true};
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *places = make_sort(&m, call->in[0], &params);
    emlx_tensor *parts[2] = {
        places == NULL ? NULL : make_gather(&m, call->in[0], places, &axes, true, &result->shape),
        make_cast(&m, places, EMLX_S32)};
    return make_done_all(&m, parts, 2, out);
}
