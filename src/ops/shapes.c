// SPDX-License-Identifier: Apache-2.0
// shapes.c - creation and the ops that move elements: checks and lowerings.
#include "ops/make.h"

#include <string.h>

// Checks ------------------------------------------------------------------------------------

static emlx_status bad_shape(const op_call *call, const char *what, const emlx_shape *got,
                             emlx_error *err) {
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    const char *operand = call->count > 0 ? shape_print(operand_shape(call, 0), a) : "none";
    return error_set(err, EMLX_INVALID, "%s %s does not fit operand shape %s", what,
                     shape_print(got, b), operand);
}

static emlx_status take_shape(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_attr *shape = attr_get(call, "shape");
    return emlx_shape_make(shape->ints, shape->count, &result->shape, err);
}

// A list of axes, each within rank; *mask has their bits.
static emlx_status check_axes(const emlx_attr *axes, int32_t rank, bool distinct, uint32_t *mask,
                              emlx_error *err) {
    *mask = 0;
    for (size_t i = 0; i < axes->count; i++) {
        int64_t axis = axes->ints[i];
        if (axis < 0 || axis >= rank)
            return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis,
                             rank);
        if (distinct && (*mask >> axis & 1))
            return error_set(err, EMLX_INVALID, "axis %lld is given twice", (long long)axis);
        *mask |= 1u << axis;
    }
    return EMLX_OK;
}

static emlx_status check_one_axis(const op_call *call, int32_t rank, emlx_error *err) {
    int64_t axis = attr_int(call, "axis", 0);
    if (axis >= 0 && axis < rank) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis, rank);
}

static emlx_status check_length(const op_call *call, const char *name, int32_t rank,
                                emlx_error *err) {
    const emlx_attr *attr = attr_get(call, name);
    if (attr == NULL || attr->count == (size_t)rank) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "%zu %s given for rank %d", attr->count, name, rank);
}

emlx_status check_shape(const op_call *call, op_result *result, emlx_error *err) {
    static const emlx_type types[] = {EMLX_S32, EMLX_U64, EMLX_F32, EMLX_C64};
    result->type = types[attr_get(call, "value")->value.kind];
    return take_shape(call, result, err);
}

emlx_status check_iota(const op_call *call, op_result *result, emlx_error *err) {
    result->type = EMLX_S32;
    TRY(take_shape(call, result, err));
    if (attr_get(call, "axis") == NULL) return EMLX_OK;
    return check_one_axis(call, result->shape.rank, err);
}

emlx_status check_eye(const op_call *call, op_result *result, emlx_error *err) {
    result->type = EMLX_S32;
    TRY(take_shape(call, result, err));
    if (result->shape.rank >= 2) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "needs at least two axes, got %d", result->shape.rank);
}

emlx_status check_reshape(const op_call *call, op_result *result, emlx_error *err) {
    result->type = operand_type(call, 0);
    TRY(take_shape(call, result, err));
    if (emlx_shape_count(&result->shape) == emlx_shape_count(operand_shape(call, 0)))
        return EMLX_OK;
    return bad_shape(call, "shape", &result->shape, err);
}

emlx_status check_squeeze(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    uint32_t mask;
    result->type = operand_type(call, 0);
    TRY(check_axes(attr_get(call, "axes"), shape->rank, false, &mask, err));
    for (int32_t d = 0; d < shape->rank; d++) {
        if (!(mask >> d & 1))
            result->shape.dims[result->shape.rank++] = shape->dims[d];
        else if (shape->dims[d] != 1)
            return error_set(err, EMLX_INVALID, "axis %d has length %lld, not 1", d,
                             (long long)shape->dims[d]);
    }
    return EMLX_OK;
}

emlx_status check_broadcast(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *from = operand_shape(call, 0);
    const emlx_attr *axes = attr_get(call, "axes");
    uint32_t mask;
    result->type = operand_type(call, 0);
    TRY(take_shape(call, result, err));
    TRY(check_length(call, "axes", from->rank, err));
    TRY(check_axes(axes, result->shape.rank, true, &mask, err));
    for (int32_t d = 0; d < from->rank; d++)
        if (from->dims[d] != 1 && from->dims[d] != result->shape.dims[axes->ints[d]])
            return bad_shape(call, "shape", &result->shape, err);
    return EMLX_OK;
}

emlx_status check_transpose(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *from = operand_shape(call, 0);
    const emlx_attr *axes = attr_get(call, "axes");
    uint32_t mask;
    result->type = operand_type(call, 0);
    result->shape.rank = from->rank;
    TRY(check_length(call, "axes", from->rank, err));
    TRY(check_axes(axes, from->rank, true, &mask, err));
    for (int32_t d = 0; d < from->rank; d++) result->shape.dims[d] = from->dims[axes->ints[d]];
    return EMLX_OK;
}

emlx_status check_reverse(const op_call *call, op_result *result, emlx_error *err) {
    uint32_t mask;
    result->type = operand_type(call, 0);
    result->shape = *operand_shape(call, 0);
    return check_axes(attr_get(call, "axes"), result->shape.rank, false, &mask, err);
}

// Starts are either an attribute or one integer scalar a axis, from operand `first` on.
static emlx_status check_starts(const op_call *call, size_t first, int32_t rank, emlx_error *err) {
    size_t wanted = attr_get(call, "starts") != NULL ? 0 : (size_t)rank;
    TRY(check_length(call, "starts", rank, err));
    if (call->count != first + wanted)
        return error_set(err, EMLX_INVALID, "%zu starts given as operands, %zu expected",
                         call->count - first, wanted);
    for (size_t i = first; i < call->count; i++)
        if (operand_shape(call, i)->rank != 0 || !type_is_integer(operand_type(call, i)))
            return error_set(err, EMLX_INVALID, "starts must be integer scalars");
    return EMLX_OK;
}

emlx_status check_slice(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *from = operand_shape(call, 0);
    const emlx_attr *lengths = attr_get(call, "lengths"), *strides = attr_get(call, "strides");
    result->type = operand_type(call, 0);
    result->shape.rank = from->rank;
    TRY(check_length(call, "lengths", from->rank, err));
    TRY(check_length(call, "strides", from->rank, err));
    TRY(check_starts(call, 1, from->rank, err));
    for (int32_t d = 0; d < from->rank; d++) {
        int64_t length = lengths->ints[d], stride = strides != NULL ? strides->ints[d] : 1;
        if (length < 0 || length > from->dims[d] || stride < 1)
            return error_set(err, EMLX_INVALID, "length %lld with stride %lld on axis %d of %lld",
                             (long long)length, (long long)stride, d, (long long)from->dims[d]);
        result->shape.dims[d] = length == 0 ? 0 : (length - 1) / stride + 1;
    }
    return EMLX_OK;
}

emlx_status check_put_slice(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *target = operand_shape(call, 0), *slice = operand_shape(call, 1);
    result->type = type_merge(operand_type(call, 0), operand_type(call, 1));
    result->shape = *target;
    TRY(check_starts(call, 2, target->rank, err));
    bool fits = slice->rank == target->rank;
    for (int32_t d = 0; fits && d < target->rank; d++) fits = slice->dims[d] <= target->dims[d];
    return fits ? EMLX_OK : bad_shape(call, "slice", slice, err);
}

static emlx_status check_members(const op_call *call, int32_t free_axis, op_result *result,
                                 emlx_error *err) {
    const emlx_shape *first = operand_shape(call, 0);
    result->type = operand_type(call, 0);
    for (size_t i = 1; i < call->count; i++) {
        const emlx_shape *other = operand_shape(call, i);
        result->type = type_merge(result->type, operand_type(call, i));
        bool fits = other->rank == first->rank;
        for (int32_t d = 0; fits && d < first->rank; d++)
            fits = d == free_axis || other->dims[d] == first->dims[d];
        if (!fits) return bad_shape(call, "shape", other, err);
    }
    return EMLX_OK;
}

emlx_status check_concatenate(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *first = operand_shape(call, 0);
    int32_t axis = (int32_t)attr_int(call, "axis", 0);
    TRY(check_one_axis(call, first->rank, err));
    TRY(check_members(call, axis, result, err));
    int64_t dims[EMLX_MAX_RANK];
    memcpy(dims, first->dims, sizeof dims);
    for (size_t i = 1; i < call->count; i++)
        if (__builtin_add_overflow(dims[axis], operand_shape(call, i)->dims[axis], &dims[axis]))
            return error_set(err, EMLX_INVALID, "the result is too large");
    return emlx_shape_make(dims, (size_t)first->rank, &result->shape, err);
}

emlx_status check_stack(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *first = operand_shape(call, 0);
    int64_t axis = attr_int(call, "axis", 0), dims[EMLX_MAX_RANK + 1];
    TRY(check_one_axis(call, first->rank + 1, err));
    TRY(check_members(call, -1, result, err));
    for (int32_t d = 0, from = 0; d <= first->rank; d++)
        dims[d] = d == axis ? (int64_t)call->count : first->dims[from++];
    return emlx_shape_make(dims, (size_t)first->rank + 1, &result->shape, err);
}

emlx_status check_pad(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *from = operand_shape(call, 0);
    const emlx_attr *padding = attr_get(call, "padding");
    int64_t dims[EMLX_MAX_RANK];
    result->type = type_merge(operand_type(call, 0), operand_type(call, 1));
    if (operand_shape(call, 1)->rank != 0)
        return error_set(err, EMLX_INVALID, "the padding value must be a scalar");
    if (padding->count != 3 * (size_t)from->rank)
        return error_set(err, EMLX_INVALID, "%zu numbers of padding for rank %d, three an axis",
                         padding->count, from->rank);
    for (int32_t d = 0; d < from->rank; d++) {
        const int64_t *p = &padding->ints[3 * d];
        int64_t gaps, n = from->dims[d];
        const int64_t most = INT64_MAX / 4;
        bool over = p[2] < 0 || p[2] > most || p[0] < -most || p[1] < -most ||
                    __builtin_mul_overflow(n > 0 ? n - 1 : 0, p[2], &gaps) ||
                    __builtin_add_overflow(n, gaps, &dims[d]) ||
                    __builtin_add_overflow(dims[d], p[0], &dims[d]) ||
                    __builtin_add_overflow(dims[d], p[1], &dims[d]);
        if (over)
            return error_set(err, EMLX_INVALID, "padding {%lld, %lld, %lld} of axis %d",
                             (long long)p[0], (long long)p[1], (long long)p[2], d);
        if (dims[d] < 0)
            return error_set(
                err, EMLX_INVALID,
                "padding {%lld, %lld, %lld} removes more of axis %d than its length %lld",
                (long long)p[0], (long long)p[1], (long long)p[2], d, (long long)n);
    }
    return emlx_shape_make(dims, (size_t)from->rank, &result->shape, err);
}

// Lowerings ---------------------------------------------------------------------------------

emlx_status lower_constant(const op_call *call, const op_result *result, emlx_tensor **out,
                           emlx_error *err) {
    const emlx_number *value = &attr_get(call, "value")->value;
    bool whole = value->kind <= EMLX_NUMBER_UNSIGNED;
    if (!whole && type_is_integer(result->type))
        return error_set(err, EMLX_INVALID, "%g is not an integer for type %s", value->as.f[0],
                         emlx_type_name(result->type));
    maker m;
    make_start(&m, call, &result->shape, err);
    return make_done(&m, make_constant(&m, result->type, &result->shape, value), out);
}

static emlx_tensor *make_iota(maker *m, emlx_type type, const iota_params *params) {
    node_spec spec = {.primitive = PRIM_iota, .type = type, .shape = m->shape};
    spec.params = params;
    spec.params_size = sizeof *params;
    return make_node(m, &spec);
}

emlx_status lower_iota(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    iota_params params = {0};
    maker m;
    make_start(&m, call, &result->shape, err);
    if (attr_get(call, "axis") != NULL)
        params.strides[attr_int(call, "axis", 0)] = 1;
    else
        shape_strides(&result->shape, params.strides);
    return make_done(&m, make_iota(&m, result->type, &params), out);
}

// One where the last two indices are equal.
emlx_status lower_eye(const op_call *call, const op_result *result, emlx_tensor **out,
                      emlx_error *err) {
    iota_params row = {0}, column = {0};
    row.strides[result->shape.rank - 2] = 1;
    column.strides[result->shape.rank - 1] = 1;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t =
        make_map(&m, SCALAR_equal, EMLX_S64, result->type, make_iota(&m, EMLX_S64, &row),
                 make_iota(&m, EMLX_S64, &column), NULL);
    return make_done(&m, t, out);
}

emlx_status lower_reshape(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_cast(&m, view_reshape(&m, call->in[0], &result->shape), result->type);
    return make_done(&m, t, out);
}

emlx_status lower_broadcast(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = view_broadcast(&m, call->in[0], &result->shape, attr_get(call, "axes")->ints);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_transpose(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = view_transpose(&m, call->in[0], attr_get(call, "axes")->ints);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_reverse(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    const emlx_attr *axes = attr_get(call, "axes");
    int64_t starts[EMLX_MAX_RANK] = {0}, steps[EMLX_MAX_RANK];
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++) steps[d] = 1;
    for (size_t i = 0; i < axes->count; i++) {
        int64_t length = result->shape.dims[axes->ints[i]];
        starts[axes->ints[i]] = length > 0 ? length - 1 : 0;
        steps[axes->ints[i]] = -1;
    }
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = view_slice(&m, call->in[0], starts, steps, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Fills in starts that are known now, clamped; false when one is only known at run time.
static bool known_starts(const op_call *call, size_t first, const int64_t *lengths,
                         int64_t *starts) {
    const emlx_shape *shape = operand_shape(call, 0);
    const emlx_attr *given = attr_get(call, "starts");
    for (int32_t d = 0; d < shape->rank; d++) {
        int64_t value = 0;
        if (given != NULL)
            value = given->ints[d];
        else if (!known_integer(call->in[first + (size_t)d], &value))
            return false;
        const emlx_number start = {EMLX_NUMBER_SIGNED, {.s = value}};
        starts[d] = start_within(start, shape->dims[d] - lengths[d]);
    }
    return true;
}

emlx_status lower_slice(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    const int64_t *lengths = attr_get(call, "lengths")->ints;
    const emlx_attr *strides = attr_get(call, "strides");
    int64_t starts[EMLX_MAX_RANK], steps[EMLX_MAX_RANK];
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++)
        steps[d] = strides != NULL && d < result->shape.rank ? strides->ints[d] : 1;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t =
        known_starts(call, 1, lengths, starts)
            ? view_slice(&m, call->in[0], starts, steps, &result->shape)
            : view_slice_at(&m, call->in[0], call->in + 1, steps, lengths, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_put_slice(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    write_source source = {.tensor = make_cast(&m, call->in[1], result->type)};
    emlx_tensor *base = make_cast(&m, call->in[0], result->type);
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++) source.steps[d] = 1;
    if (!known_starts(call, 2, operand_shape(call, 1)->dims, source.starts))
        source.run_starts = call->in + 2;
    return make_done(&m, make_write(&m, base, &source, 1, false), out);
}

// Joins operands along `axis`; stacked ones first get that axis, of length 1.
static emlx_status join(const op_call *call, const op_result *result, int32_t axis, bool stacked,
                        emlx_tensor **out, emlx_error *err) {
    size_t size = call->count * sizeof(write_source);
    write_source *sources = mem_alloc(size);
    if (sources == NULL) return error_no_memory(err, "for the operands");
    emlx_shape one = result->shape;
    one.dims[axis] = 1;
    emlx_tensor **casts = mem_alloc(call->count * sizeof *casts);
    int64_t at = 0;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_number zero = {.kind = EMLX_NUMBER_SIGNED};
    emlx_tensor *base = make_constant(&m, result->type, &result->shape, &zero);
    if (casts == NULL && m.status == EMLX_OK) m.status = error_no_memory(err, "for the operands");
    for (size_t i = 0; i < call->count && m.status == EMLX_OK; i++) {
        // Each operand gets a maker of its own, as there may be any number of them.
        maker each;
        make_start(&each, call, &result->shape, err);
        emlx_tensor *t = make_cast(&each, call->in[i], result->type);
        if (stacked) t = view_reshape(&each, t, &one);
        m.status = make_done(&each, t, &casts[i]);
        if (m.status != EMLX_OK) break;
        sources[i].tensor = casts[i];
        for (int32_t d = 0; d < EMLX_MAX_RANK; d++) sources[i].steps[d] = 1;
        sources[i].starts[axis] = at;
        at += casts[i]->shape.dims[axis];
    }
    emlx_tensor *t = make_write(&m, base, sources, call->count, true);
    for (size_t i = 0; casts != NULL && i < call->count; i++) emlx_tensor_release(casts[i]);
    if (casts != NULL) mem_free(casts, call->count * sizeof *casts);
    mem_free(sources, size);
    return make_done(&m, t, out);
}

emlx_status lower_concatenate(const op_call *call, const op_result *result, emlx_tensor **out,
                              emlx_error *err) {
    return join(call, result, (int32_t)attr_int(call, "axis", 0), false, out, err);
}

emlx_status lower_stack(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    return join(call, result, (int32_t)attr_int(call, "axis", 0), true, out, err);
}

// Along an axis, element i of the operand lands at low + i * (interior + 1); those outside of the
// result are cropped. Gives the first kept element and how many are kept.
static int64_t kept_elements(const int64_t padding[3], int64_t length, int64_t result,
                             int64_t *first) {
    int64_t low = padding[0], step = padding[2] + 1;
    *first = low < 0 ? (-low + step - 1) / step : 0;
    if (*first >= length || low >= result) return 0;
    int64_t last = (result - 1 - low) / step;
    if (result - 1 - low < 0) return 0;
    if (last > length - 1) last = length - 1;
    return last < *first ? 0 : last - *first + 1;
}

emlx_tensor *make_pad(maker *m, emlx_tensor *t, emlx_tensor *value, const int64_t *padding,
                      const emlx_shape *shape) {
    if (t == NULL || value == NULL) return NULL;
    const emlx_shape *from = emlx_tensor_shape(t);
    int64_t first[EMLX_MAX_RANK] = {0}, ones[EMLX_MAX_RANK];
    emlx_shape kept = {.rank = from->rank};
    write_source source = {0};
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++) ones[d] = 1;
    for (int32_t d = 0; d < from->rank; d++) {
        const int64_t *p = &padding[3 * d];
        kept.dims[d] = kept_elements(p, from->dims[d], shape->dims[d], &first[d]);
        source.steps[d] = p[2] + 1;
        source.starts[d] = p[0] + first[d] * source.steps[d];
    }
    emlx_tensor *base = view_broadcast(m, value, shape, NULL);
    if (base == NULL || emlx_shape_count(&kept) == 0) return base;
    source.tensor = view_slice(m, t, first, ones, &kept);
    return make_write(m, base, &source, 1, false);
}

emlx_status lower_pad(const op_call *call, const op_result *result, emlx_tensor **out,
                      emlx_error *err) {
    const int64_t *padding = attr_get(call, "padding")->ints;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *value = make_cast(&m, call->in[1], result->type);
    emlx_tensor *t = make_cast(&m, call->in[0], result->type);
    return make_done(&m, make_pad(&m, t, value, padding, &result->shape), out);
}
