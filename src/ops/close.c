// SPDX-License-Identifier: Apache-2.0
// close.c - comparing tensors with a tolerance, composed of other ops by Nx's definition.
#include "ops/make.h"

emlx_status check_all_close(const op_call *call, op_result *result, emlx_error *err) {
    emlx_shape both;
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (!shape_broadcast(operand_shape(call, 0), operand_shape(call, 1), &both))
        return error_set(err, EMLX_INVALID, "shapes %s and %s do not fit together",
                         shape_print(operand_shape(call, 0), a),
                         shape_print(operand_shape(call, 1), b));
    for (int i = 0; i < 2; i++) {
        const emlx_attr *tolerance = attr_get(call, i == 0 ? "rtol" : "atol");
        if (tolerance != NULL && tolerance->value.kind == EMLX_NUMBER_COMPLEX)
            return error_set(err, EMLX_INVALID, "%s must be real", tolerance->name);
    }
    result->type = EMLX_U8;
    result->choice = CHOOSE_U8;
    return EMLX_OK;
}

static emlx_tensor *tolerance_attr(maker *m, const op_call *call, const char *name,
                                   double otherwise) {
    const emlx_attr *attr = attr_get(call, name);
    emlx_number number = {.kind = EMLX_NUMBER_REAL, .as.f = {otherwise}};
    emlx_shape scalar = {0};
    if (attr != NULL) number = attr->value;
    return make_constant(m, EMLX_F32, &scalar, &number);
}

// The distance of integers, which nothing wraps: the lower is taken from the higher.
static emlx_tensor *integer_distance(maker *m, emlx_tensor *a, emlx_tensor *b) {
    emlx_type left = emlx_tensor_type(a), right = emlx_tensor_type(b);
    bool is_signed = type_class_of(left) == CLASS_SIGNED || type_class_of(right) == CLASS_SIGNED;
    bool mixed = is_signed && (left == EMLX_U64 || right == EMLX_U64);
    emlx_type type = mixed ? EMLX_F64 : is_signed ? EMLX_S64 : EMLX_U64;
    emlx_tensor *high = make_op(m, "max", type, 2, a, b), *low = make_op(m, "min", type, 2, a, b);
    return make_op(m, "subtract", mixed ? EMLX_F64 : EMLX_U64, 2, high, low);
}

// What the distance may be: atol + rtol * |b|, in b's type, or where that has no fractions in f32
// or, among integers, f64.
static emlx_tensor *bound(maker *m, const op_call *call, bool integers, emlx_tensor *b) {
    if (integers) b = make_cast(m, b, EMLX_F64);
    emlx_tensor *size = make_op(m, "abs", EMLX_TYPE_DEFAULT, 1, b);
    if (size == NULL) return NULL;
    emlx_type type = emlx_tensor_type(size);
    if (type_is_integer(type) || type == EMLX_F8_E4M3FN) type = EMLX_F32;
    emlx_tensor *relative =
        make_op(m, "multiply", type, 2, size, tolerance_attr(m, call, "rtol", 1e-5));
    return make_op(m, "add", type, 2, relative, tolerance_attr(m, call, "atol", 1e-8));
}

// Infinities are close to themselves only, NaNs to each other if that is wished.
static emlx_tensor *special(maker *m, const op_call *call, emlx_tensor *close) {
    emlx_tensor *a = call->in[0], *b = call->in[1];
    const emlx_type u8 = EMLX_U8;
    emlx_tensor *infinite = make_op(m, "logical_or", u8, 2, make_op(m, "is_infinity", u8, 1, a),
                                    make_op(m, "is_infinity", u8, 1, b));
    close = make_op(m, "select", u8, 3, infinite, make_op(m, "equal", u8, 2, a, b), close);
    if (!attr_int(call, "equal_nan", 0)) return close;
    emlx_tensor *nan = make_op(m, "logical_and", u8, 2, make_op(m, "is_nan", u8, 1, a),
                               make_op(m, "is_nan", u8, 1, b));
    return make_op(m, "logical_or", u8, 2, nan, close);
}

emlx_status lower_all_close(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    emlx_tensor *a = call->in[0], *b = call->in[1];
    bool integers = type_is_integer(emlx_tensor_type(a)) && type_is_integer(emlx_tensor_type(b));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *distance = integers ? integer_distance(&m, a, b)
                                     : make_op(&m, "abs", EMLX_TYPE_DEFAULT, 1,
                                               make_op(&m, "subtract", EMLX_TYPE_DEFAULT, 2, a, b));
    emlx_tensor *close =
        make_op(&m, "less_equal", EMLX_U8, 2, distance, bound(&m, call, integers, b));
    if (!integers) close = special(&m, call, close);
    return make_done(&m, make_op(&m, "all", EMLX_U8, 1, close), out);
}
