// SPDX-License-Identifier: Apache-2.0
// fused.c - functions of several steps that an engine may take whole: softmax, norms, gates.
// What they mean is what they are composed of here.
#include "ops/make.h"

emlx_status check_first(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    result->type = type_floating(operand_type(call, 0));
    result->shape = *operand_shape(call, 0);
    return EMLX_OK;
}

// Folding axes and keeping them ------------------------------------------------------------------

emlx_tensor *make_fold(maker *m, const char *op, emlx_tensor *t, uint32_t axes) {
    int64_t list[EMLX_MAX_RANK];
    size_t count = 0;
    for (int64_t d = 0; d < EMLX_MAX_RANK; d++)
        if (axes >> d & 1) list[count++] = d;
    const emlx_attr attrs[] = {
        {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = list, .count = count},
        {.name = "keep_axes", .kind = EMLX_ATTR_BOOL, .value = {EMLX_NUMBER_SIGNED, {.s = 1}}}};
    return make_op_with(m, op, EMLX_TYPE_DEFAULT, &t, 1, attrs, 2);
}

// Over the last axis.
static emlx_tensor *mean(maker *m, emlx_tensor *t) {
    if (t == NULL) return NULL;
    int32_t last = t->shape.rank - 1;
    emlx_tensor *sum = make_fold(m, "sum", t, 1u << last);
    if (sum == NULL) return NULL;
    return make_binary(m, "divide", sum,
                       make_real(m, emlx_tensor_type(sum), (double)t->shape.dims[last]));
}

// Softmax ----------------------------------------------------------------------------------------

// By default the last axis.
static emlx_status softmax_axes(const op_call *call, uint32_t *axes, emlx_error *err) {
    TRY(folded_axes(call, axes, err));
    if (attr_get(call, "axes") == NULL) *axes ^= *axes >> 1;
    return EMLX_OK;
}

emlx_status check_softmax(const op_call *call, op_result *result, emlx_error *err) {
    uint32_t axes;
    TRY(softmax_axes(call, &axes, err));
    return check_first(call, result, err);
}

emlx_status lower_softmax(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    either_params params = {.function = EITHER_softmax};
    maker m;
    TRY(softmax_axes(call, &params.bits, err));
    make_start(&m, call, &result->shape, err);
    if (emlx_shape_count(&result->shape) == 0) {
        emlx_number zero = {.kind = EMLX_NUMBER_REAL};
        return make_done(&m, make_constant(&m, result->type, &result->shape, &zero), out);
    }
    emlx_tensor *x = make_wide(&m, call->in[0]);
    emlx_tensor *most = make_fold(&m, "reduce_max", x, params.bits);
    emlx_tensor *powers = make_unary(&m, "exp", make_binary(&m, "subtract", x, most));
    emlx_tensor *parts =
        make_binary(&m, "divide", powers, make_fold(&m, "sum", powers, params.bits));
    emlx_tensor *plain = make_cast(&m, parts, result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, 1), out);
}

emlx_status check_logsumexp(const op_call *call, op_result *result, emlx_error *err) {
    TRY(check_reduce(call, result, err));
    result->type = type_floating(result->type);
    return EMLX_OK;
}

// Of infinities nothing is taken away.
emlx_status lower_logsumexp(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    either_params params = {.function = EITHER_logsumexp};
    maker m;
    TRY(folded_axes(call, &params.bits, err));
    make_start(&m, call, &result->shape, err);
    emlx_tensor *x = make_wide(&m, call->in[0]);
    emlx_tensor *most = make_fold(&m, "reduce_max", x, params.bits);
    if (most == NULL) return make_done(&m, NULL, out);
    most = make_op(&m, "select", emlx_tensor_type(most), 3, make_unary(&m, "is_infinity", most),
                   make_real(&m, emlx_tensor_type(most), 0), most);
    emlx_tensor *powers = make_unary(&m, "exp", make_binary(&m, "subtract", x, most));
    emlx_tensor *sum = make_unary(&m, "log", make_fold(&m, "sum", powers, params.bits));
    emlx_tensor *plain = view_reshape(&m, make_binary(&m, "add", sum, most), &result->shape);
    plain = make_cast(&m, plain, result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, 1), out);
}

// Norms ------------------------------------------------------------------------------------------

emlx_status check_norm(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *x = operand_shape(call, 0);
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    TRY(check_real(call, "eps", err));
    for (size_t i = 1; i < call->count; i++) {
        const emlx_shape *w = operand_shape(call, i);
        if (x->rank > 0 && w->rank == 1 && w->dims[0] == x->dims[x->rank - 1]) continue;
        return error_set(err, EMLX_INVALID,
                         "operand %zu has shape %s, which is not the last axis of %s", i,
                         shape_print(w, b), shape_print(x, a));
    }
    return check_first(call, result, err);
}

// t / sqrt(mean(t * t) + eps)
static emlx_tensor *scaled(maker *m, emlx_tensor *t, double eps) {
    emlx_tensor *square = mean(m, make_binary(m, "multiply", t, t));
    if (square == NULL) return NULL;
    emlx_tensor *more = make_binary(m, "add", square, make_real(m, emlx_tensor_type(square), eps));
    return make_binary(m, "multiply", t, make_unary(m, "rsqrt", more));
}

// The op's code is the function as a whole. A layer's norm takes the mean away first.
emlx_status lower_norm(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    either_params params = {.function = (uint32_t)call->op->code};
    params.n[0] = attr_real(call, "eps", 0);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *x = make_wide(&m, call->in[0]);
    if (params.function == EITHER_layer_norm) x = make_binary(&m, "subtract", x, mean(&m, x));
    emlx_tensor *t =
        make_binary(&m, "multiply", scaled(&m, x, params.n[0]), make_wide(&m, call->in[1]));
    if (call->count == 3) t = make_binary(&m, "add", t, make_wide(&m, call->in[2]));
    emlx_tensor *plain = make_cast(&m, t, result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, call->count), out);
}

// Gates ------------------------------------------------------------------------------------------

emlx_status check_swiglu(const op_call *call, op_result *result, emlx_error *err) {
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (!shape_equal(operand_shape(call, 0), operand_shape(call, 1)))
        return error_set(err, EMLX_INVALID, "the shapes %s and %s are not the same",
                         shape_print(operand_shape(call, 0), a),
                         shape_print(operand_shape(call, 1), b));
    return check_first(call, result, err);
}

emlx_status lower_swiglu(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    either_params params = {.function = EITHER_swiglu};
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *gate = make_wide(&m, call->in[0]), *up = make_wide(&m, call->in[1]);
    emlx_tensor *open = make_binary(&m, "multiply", gate, make_unary(&m, "sigmoid", gate));
    emlx_tensor *plain = make_cast(&m, make_binary(&m, "multiply", open, up), result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, call->count), out);
}
