// SPDX-License-Identifier: Apache-2.0
// rope.c - rotary positions: pairs of elements are turned by an angle that grows with the position.
#include "ops/make.h"

static emlx_status check_positions(const op_call *call, emlx_error *err) {
    const emlx_shape *x = operand_shape(call, 0), *at = operand_shape(call, 1);
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    bool each =
        at->rank == 2 && x->rank >= 3 && at->dims[0] == x->dims[0] && at->dims[1] == x->dims[1];
    if (!type_is_integer(operand_type(call, 1)))
        return error_set(err, EMLX_INVALID, "positions must be integers, got %s",
                         emlx_type_name(operand_type(call, 1)));
    if (at->rank == 0 || each) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "positions %s of %s, {} or the first two axes expected",
                     shape_print(at, b), shape_print(x, a));
}

emlx_status check_rope(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *x = operand_shape(call, 0);
    int64_t dims = attr_int(call, "dims", 0), size = x->rank < 2 ? 0 : x->dims[x->rank - 1];
    char text[SHAPE_TEXT];
    TRY(check_real(call, "base", err));
    TRY(check_real(call, "scale", err));
    if (dims <= 0 || dims % 2 != 0 || dims > size)
        return error_set(err, EMLX_INVALID,
                         "%lld dims of shape %s: an even number, up to the last of two or more "
                         "axes, expected",
                         (long long)dims, shape_print(x, text));
    TRY(check_positions(call, err));
    const emlx_shape *periods = call->count == 3 ? operand_shape(call, 2) : NULL;
    if (periods != NULL && (periods->rank != 1 || periods->dims[0] != dims / 2))
        return error_set(err, EMLX_INVALID, "periods have shape %s, one for each of %lld expected",
                         shape_print(periods, text), (long long)dims / 2);
    return check_first(call, result, err);
}

// 0, 1, ... along one axis.
static emlx_tensor *counted(maker *m, int64_t count, emlx_type type) {
    emlx_tensor *t = NULL;
    const emlx_attr shape = {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = &count, .count = 1};
    if (m->status != EMLX_OK) return NULL;
    emlx_status status =
        op_apply(emlx_op_find("iota"), m->device, NULL, 0, &shape, 1, type, &t, m->err);
    return make_keep(m, status, t);
}

// {pairs}: by how much each pair is turned a position.
static emlx_tensor *frequencies(maker *m, const op_call *call, int64_t pairs, emlx_type type) {
    if (call->count == 3)
        return make_binary(m, "divide", make_real(m, type, 1), make_cast(m, call->in[2], type));
    emlx_tensor *power = make_binary(m, "multiply", counted(m, pairs, type),
                                     make_real(m, type, -1.0 / (double)pairs));
    return make_binary(m, "pow", make_real(m, type, attr_real(call, "base", 1e4)), power);
}

// As many axes as x has, of length 1 where positions do not differ, and the pairs last.
static emlx_tensor *angles(maker *m, const op_call *call, int64_t pairs, emlx_type type) {
    const emlx_shape *x = operand_shape(call, 0);
    emlx_tensor *at = make_cast(m, call->in[1], type);
    emlx_shape shape = {.rank = x->rank};
    for (int32_t d = 0; d < x->rank; d++) shape.dims[d] = 1;
    if (operand_shape(call, 1)->rank == 0) {
        shape.dims[x->rank - 2] = x->dims[x->rank - 2];
        at = make_binary(m, "add", counted(m, x->dims[x->rank - 2], type), at);
    } else {
        shape.dims[0] = x->dims[0];
        shape.dims[1] = x->dims[1];
    }
    at = make_binary(m, "multiply", at, make_real(m, type, attr_real(call, "scale", 1)));
    if (at == NULL) return NULL;
    return make_binary(m, "multiply", view_reshape(m, at, &shape),
                       frequencies(m, call, pairs, type));
}

// Elements first, first + step, ... of the last axis.
static emlx_tensor *rope_part(maker *m, emlx_tensor *t, int64_t first, int64_t step,
                              int64_t count) {
    int64_t starts[EMLX_MAX_RANK] = {0}, steps[EMLX_MAX_RANK];
    emlx_shape shape = t->shape;
    for (int32_t d = 0; d < EMLX_MAX_RANK; d++) steps[d] = 1;
    starts[shape.rank - 1] = first;
    steps[shape.rank - 1] = step;
    shape.dims[shape.rank - 1] = count;
    return view_slice(m, t, starts, steps, &shape);
}

// Both elements of the pairs in the places that they came from, and what is not turned.
static emlx_tensor *put_back(maker *m, emlx_tensor *x, emlx_tensor *a, emlx_tensor *b, int64_t dims,
                             bool traditional) {
    int32_t last = x->shape.rank - 1;
    int64_t rest = x->shape.dims[last] - dims;
    write_source sources[3] = {{.tensor = a}, {.tensor = b}};
    if (a == NULL || b == NULL) return NULL;
    for (int i = 0; i < 3; i++)
        for (int32_t d = 0; d < EMLX_MAX_RANK; d++) sources[i].steps[d] = 1;
    sources[0].steps[last] = sources[1].steps[last] = traditional ? 2 : 1;
    sources[1].starts[last] = traditional ? 1 : dims / 2;
    sources[2].starts[last] = dims;
    if (rest > 0) sources[2].tensor = rope_part(m, x, dims, 1, rest);
    return make_write(m, x, sources, rest > 0 ? 3 : 2, true);
}

static emlx_tensor *turned(maker *m, const op_call *call, emlx_tensor *x, int64_t dims,
                           bool traditional) {
    int64_t pairs = dims / 2, step = traditional ? 2 : 1;
    emlx_tensor *turn = angles(m, call, pairs, emlx_tensor_type(x));
    emlx_tensor *cosine = make_unary(m, "cos", turn), *sine = make_unary(m, "sin", turn);
    emlx_tensor *a = rope_part(m, x, 0, step, pairs),
                *b = rope_part(m, x, traditional ? 1 : pairs, step, pairs);
    emlx_tensor *left = make_binary(m, "subtract", make_binary(m, "multiply", a, cosine),
                                    make_binary(m, "multiply", b, sine));
    emlx_tensor *right = make_binary(m, "add", make_binary(m, "multiply", a, sine),
                                     make_binary(m, "multiply", b, cosine));
    return put_back(m, x, left, right, dims, traditional);
}

emlx_status lower_rope(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    either_params params = {.function = EITHER_rope, .count = attr_int(call, "dims", 0)};
    params.bits = attr_int(call, "traditional", 0) ? ROPE_TRADITIONAL : 0;
    params.n[0] = attr_real(call, "base", 1e4);
    params.n[1] = attr_real(call, "scale", 1);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *x = make_wide(&m, call->in[0]);
    if (x == NULL || emlx_shape_count(&result->shape) == 0)
        return make_done(&m, make_cast(&m, x, result->type), out);
    emlx_tensor *t = turned(&m, call, x, params.count, params.bits & ROPE_TRADITIONAL);
    emlx_tensor *plain = make_cast(&m, t, result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, call->count), out);
}
