// SPDX-License-Identifier: Apache-2.0
// reduce.c - reductions and contraction: checks and lowerings.
#include "ops/models/packed.h"

#include <string.h>

// Checks ------------------------------------------------------------------------------------

emlx_status folded_axes(const op_call *call, uint32_t *mask, emlx_error *err) {
    int32_t rank = operand_shape(call, 0)->rank;
    const emlx_attr *axes = attr_get(call, "axes");
    *mask = (1u << rank) - 1;
    if (axes == NULL) return EMLX_OK;
    *mask = 0;
    for (size_t i = 0; i < axes->count; i++) {
        if (axes->ints[i] < 0 || axes->ints[i] >= rank)
            return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d",
                             (long long)axes->ints[i], rank);
        *mask |= 1u << axes->ints[i];
    }
    return EMLX_OK;
}

void folded_shape(const emlx_shape *from, uint32_t mask, bool keep, emlx_shape *shape) {
    shape->rank = 0;
    for (int32_t d = 0; d < from->rank; d++) {
        bool folded = mask >> d & 1;
        if (!folded || keep) shape->dims[shape->rank++] = folded ? 1 : from->dims[d];
    }
}

static emlx_status check_fold(const op_call *call, op_result *result, emlx_type type,
                              type_choice choice, emlx_error *err) {
    uint32_t mask;
    TRY(folded_axes(call, &mask, err));
    result->type = type;
    result->choice = choice;
    folded_shape(operand_shape(call, 0), mask, attr_int(call, "keep_axes", 0), &result->shape);
    return EMLX_OK;
}

emlx_status check_aggregate(const op_call *call, op_result *result, emlx_error *err) {
    return check_fold(call, result, type_aggregate(operand_type(call, 0)), CHOOSE_ANY, err);
}

emlx_status check_reduce(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    if (emlx_shape_count(operand_shape(call, 0)) == 0)
        return error_set(err, EMLX_INVALID, "there is no element to choose from");
    return check_fold(call, result, operand_type(call, 0), CHOOSE_ANY, err);
}

emlx_status check_all_any(const op_call *call, op_result *result, emlx_error *err) {
    return check_fold(call, result, EMLX_U8, CHOOSE_U8, err);
}

emlx_status check_arg_reduce(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *from = operand_shape(call, 0);
    const emlx_attr *axis = attr_get(call, "axis");
    const char *tie = attr_text(call, "tie_break", "low");
    result->type = EMLX_S32;
    TRY(refuse_complex(call, err));
    if (emlx_shape_count(from) == 0)
        return error_set(err, EMLX_INVALID, "there is no element to choose from");
    if (strcmp(tie, "low") != 0 && strcmp(tie, "high") != 0)
        return error_set(err, EMLX_INVALID, "tie_break is low or high, not %s", tie);
    if (axis == NULL) return EMLX_OK; // a flat index, a scalar even with keep_axis
    if (axis->value.as.s < 0 || axis->value.as.s >= from->rank)
        return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d",
                         (long long)axis->value.as.s, from->rank);
    folded_shape(from, 1u << axis->value.as.s, attr_int(call, "keep_axis", 0), &result->shape);
    return EMLX_OK;
}

// Lowerings of reductions -------------------------------------------------------------------

emlx_tensor *make_reduce(maker *m, reduce_kind kind, emlx_type fold, emlx_type type, uint32_t axes,
                         emlx_tensor *t) {
    if (t == NULL) return NULL;
    reduce_params params = {.kind = (uint8_t)kind, .accumulate = (uint8_t)fold, .axes = axes};
    node_spec spec = {.primitive = PRIM_reduce, .type = type, .shape = m->shape};
    spec.params = &params;
    spec.params_size = sizeof params;
    spec.inputs = &t;
    spec.input_count = 1;
    return make_node(m, &spec);
}

// Sums fold in the result's type, which wraps as it should; floats in the wider of both types.
// Choosing an element needs no other type than its own.
emlx_type fold_type(reduce_kind kind, emlx_type from, emlx_type to) {
    if (reduce_table[kind].gives != GIVES_COMBINED) return from;
    if (type_is_complex(from) || type_is_complex(to)) {
        emlx_type part = fold_type(kind, type_part(from), type_part(to));
        return type_complex(type_is_integer(part) ? EMLX_F64 : part);
    }
    if (type_is_integer(to)) return type_is_float(from) ? EMLX_F64 : to;
    if (type_is_integer(from)) return EMLX_F64;
    return type_size(from) >= type_size(to) ? from : to;
}

emlx_status lower_reduce(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    uint32_t mask;
    TRY(folded_axes(call, &mask, err));
    reduce_kind kind = (reduce_kind)call->op->code;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_type fold = fold_type(kind, operand_type(call, 0), result->type);
    return make_done(&m, make_reduce(&m, kind, fold, result->type, mask, call->in[0]), out);
}

// `all` is the least truth value, `any` the greatest; of none the highest and the lowest that a
// truth value can be, which the fold over its type does not know.
emlx_status lower_all_any(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    reduce_kind kind = (reduce_kind)call->op->code;
    uint32_t mask;
    TRY(folded_axes(call, &mask, err));
    maker m;
    make_start(&m, call, operand_shape(call, 0), err);
    if (emlx_shape_count(operand_shape(call, 0)) == 0) {
        emlx_number none = {.kind = EMLX_NUMBER_SIGNED, .as.s = reduce_is_least(kind)};
        return make_done(&m, make_constant(&m, EMLX_U8, &result->shape, &none), out);
    }
    emlx_type compute = type_compute(operand_type(call, 0));
    emlx_tensor *truth = make_map(&m, SCALAR_truth, compute, EMLX_U8, call->in[0], NULL, NULL);
    m.shape = result->shape;
    return make_done(&m, make_reduce(&m, kind, EMLX_U8, EMLX_U8, mask, truth), out);
}

emlx_status lower_arg_reduce(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    const emlx_attr *axis = attr_get(call, "axis");
    uint32_t all = (1u << operand_shape(call, 0)->rank) - 1;
    uint32_t mask = axis == NULL ? all : 1u << axis->value.as.s;
    bool high = strcmp(attr_text(call, "tie_break", "low"), "high") == 0;
    reduce_kind kind = (reduce_kind)call->op->code;
    if (high) kind = reduce_table[kind].late;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_type fold = operand_type(call, 0);
    return make_done(&m, make_reduce(&m, kind, fold, result->type, mask, call->in[0]), out);
}

// Contraction -------------------------------------------------------------------------------

static emlx_status dot_axes(const op_call *call, dot_params *p, emlx_error *err) {
    const emlx_attr *left = attr_get(call, "contract_left");
    const emlx_attr *right = attr_get(call, "contract_right");
    const emlx_attr *batch_left = attr_get(call, "batch_left");
    const emlx_attr *batch_right = attr_get(call, "batch_right");
    if (left->count != right->count || batch_left->count != batch_right->count)
        return error_set(err, EMLX_INVALID, "the axes of both sides do not pair up");
    if (left->count + batch_left->count > EMLX_MAX_RANK)
        return error_set(err, EMLX_INVALID, "too many axes");
    for (size_t i = 0; i < batch_left->count; i++)
        if (batch_left->ints[i] != (int64_t)i || batch_right->ints[i] != (int64_t)i)
            return error_set(err, EMLX_INVALID, "batch axes must be the leading ones, in order");
    p->batch = (int32_t)batch_left->count;
    p->contracted = (int32_t)left->count;
    for (size_t i = 0; i < left->count; i++) {
        p->left[i] = (int32_t)left->ints[i];
        p->right[i] = (int32_t)right->ints[i];
    }
    return EMLX_OK;
}

// Appends to `shape` the axes that are neither batch nor contracted.
static emlx_status free_axes(const emlx_shape *from, const dot_params *p, const int64_t *axes,
                             int64_t *dims, size_t *rank, emlx_error *err) {
    uint32_t used = (1u << p->batch) - 1;
    if (p->batch > from->rank) return error_set(err, EMLX_INVALID, "too many batch axes");
    for (int32_t i = 0; i < p->contracted; i++) {
        if (axes[i] < 0 || axes[i] >= from->rank || (used >> axes[i] & 1))
            return error_set(err, EMLX_INVALID, "cannot contract axis %lld of rank %d",
                             (long long)axes[i], from->rank);
        used |= 1u << axes[i];
    }
    for (int32_t d = 0; d < from->rank; d++)
        if (!(used >> d & 1)) dims[(*rank)++] = from->dims[d];
    return EMLX_OK;
}

emlx_status check_dot(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *l = operand_shape(call, 0), *r = operand_shape(call, 1);
    const int64_t *left = attr_get(call, "contract_left")->ints;
    const int64_t *right = attr_get(call, "contract_right")->ints;
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    dot_params p = {0};
    int64_t dims[3 * EMLX_MAX_RANK];
    size_t rank = 0;
    TRY(dot_axes(call, &p, err));
    for (int32_t d = 0; d < p.batch && d < l->rank; d++) dims[rank++] = l->dims[d];
    TRY(free_axes(l, &p, left, dims, &rank, err));
    TRY(free_axes(r, &p, right, dims, &rank, err));
    bool fits = true;
    for (int32_t i = 0; i < p.batch; i++) fits = fits && l->dims[i] == r->dims[i];
    for (int32_t i = 0; i < p.contracted; i++) fits = fits && l->dims[left[i]] == r->dims[right[i]];
    if (!fits)
        return error_set(err, EMLX_INVALID, "axes of shapes %s and %s differ in length",
                         shape_print(l, a), shape_print(r, b));
    result->type = type_merge(operand_type(call, 0), operand_type(call, 1));
    return emlx_shape_make(dims, rank, &result->shape, err);
}

// The product, or what reads the right side's bits where that is packed weights along whose groups
// it goes: the weights themselves, or their transpose.
static emlx_tensor *of_packed(maker *m, const op_call *call, const dot_params *p, emlx_tensor *x,
                              emlx_tensor *product) {
    packed right;
    bool turned;
    const emlx_tensor *l = call->in[0];
    if (product == NULL || p->batch > 0 || p->contracted != 1 || p->left[0] != l->shape.rank - 1 ||
        call->in[1]->shape.rank != 2 || !packed_behind(m, call->in[1], &right, &turned) ||
        p->right[0] != (turned ? 0 : 1))
        return product;
    either_params params = {.function = EITHER_quantized_dot,
                            .bits = (uint32_t)right.how.kind,
                            .count = right.how.group};
    emlx_tensor *operands[4] = {x, right.operands[0], right.operands[1], right.operands[2]};
    return make_either(m, &params, product, operands, 1 + right.how.info->operands);
}

// Both sides come in one type and the result is that type: the engine accumulates as it needs.
emlx_status lower_dot(const op_call *call, const op_result *result, emlx_tensor **out,
                      emlx_error *err) {
    dot_params p = {0};
    TRY(dot_axes(call, &p, err));
    emlx_type type = result->type;
    for (size_t i = 0; i < 2; i++) type = type_holding(type, operand_type(call, i));
    type = type_whole(type);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *sides[2] = {make_cast(&m, call->in[0], type), make_cast(&m, call->in[1], type)};
    node_spec spec = {.primitive = PRIM_dot, .type = type, .shape = result->shape};
    spec.params = &p;
    spec.params_size = sizeof p;
    spec.inputs = sides;
    spec.input_count = 2;
    emlx_tensor *t = m.status == EMLX_OK ? make_node(&m, &spec) : NULL;
    t = of_packed(&m, call, &p, sides[0], t);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Running folds -----------------------------------------------------------------------------

emlx_status check_cumulative(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    int64_t axis = attr_int(call, "axis", 0);
    if (axis < 0 || axis >= shape->rank)
        return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)axis,
                         shape->rank);
    if (reduce_table[call->op->code].gives == GIVES_CHOSEN) TRY(refuse_complex(call, err));
    result->type = operand_type(call, 0);
    result->shape = *shape;
    return EMLX_OK;
}

// Engines scan whole bytes, f32 and f64. A narrower float is summed in f64, from which it is
// rounded once; the highest and lowest are exact in f32. Sub-byte integers wrap in their own width
// at the end.
static emlx_type scan_type(reduce_kind kind, emlx_type fold) {
    bool narrow = type_is_float(fold) && type_size(fold) < sizeof(float);
    if (narrow) return reduce_table[kind].gives == GIVES_COMBINED ? EMLX_F64 : EMLX_F32;
    return type_whole(fold);
}

emlx_status lower_cumulative(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    reduce_kind kind = (reduce_kind)call->op->code;
    scan_params params = {.kind = (uint8_t)kind,
                          .reverse = attr_int(call, "reverse", 0) != 0,
                          .axis = (int32_t)attr_int(call, "axis", 0)};
    emlx_type type = scan_type(kind, fold_type(kind, operand_type(call, 0), result->type));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_cast(&m, call->in[0], type);
    node_spec spec = {.primitive = PRIM_scan, .type = type, .shape = result->shape};
    spec.params = &params;
    spec.params_size = sizeof params;
    spec.inputs = &t;
    spec.input_count = 1;
    emlx_tensor *scanned = m.status == EMLX_OK ? make_node(&m, &spec) : NULL;
    return make_done(&m, make_cast(&m, scanned, result->type), out);
}
