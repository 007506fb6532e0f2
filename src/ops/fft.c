// SPDX-License-Identifier: Apache-2.0
// fft.c - Fourier transforms: checks, and lowerings into routines along the last axis.
#include "ops/make.h"

// Far above what fits in memory, so that sizes cannot overflow.
#define LONGEST ((int64_t)1 << 40)

// One axis' share in a transform.
typedef struct along {
    int64_t axis, length;
} along;

// Checks ------------------------------------------------------------------------------------

static emlx_status check_line(const op_call *call, along a, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    char text[SHAPE_TEXT];
    if (a.axis < 0 || a.axis >= shape->rank)
        return error_set(err, EMLX_INVALID, "axis %lld is outside of rank %d", (long long)a.axis,
                         shape->rank);
    if (a.length < 1 || a.length > LONGEST)
        return error_set(err, EMLX_INVALID,
                         "length %lld given for axis %lld of %s, 1 or more "
                         "expected",
                         (long long)a.length, (long long)a.axis, shape_print(shape, text));
    return EMLX_OK;
}

// The last axis by default, as long as it is. `whole` is the length that `there` elements stand
// for.
static emlx_status find_along(const op_call *call, int64_t (*whole)(int64_t there), along *found,
                              emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    found->axis = attr_int(call, "axis", shape->rank - 1);
    bool inside = found->axis >= 0 && found->axis < shape->rank;
    found->length = attr_int(call, "length", inside ? whole(shape->dims[found->axis]) : 1);
    return check_line(call, *found, err);
}

static int64_t all_of(int64_t there) { return there; }
static int64_t twice(int64_t there) { return 2 * (there - 1); }

static emlx_status set_result(const op_call *call, along a, int64_t length, emlx_type type,
                              op_result *result, emlx_error *err) {
    emlx_shape shape = *operand_shape(call, 0);
    shape.dims[a.axis] = length;
    result->type = type;
    return emlx_shape_make(shape.dims, (size_t)shape.rank, &result->shape, err);
}

emlx_status check_fft(const op_call *call, op_result *result, emlx_error *err) {
    along a;
    TRY(find_along(call, all_of, &a, err));
    return set_result(call, a, a.length, type_complex(operand_type(call, 0)), result, err);
}

emlx_status check_rfft(const op_call *call, op_result *result, emlx_error *err) {
    along a;
    TRY(refuse_complex(call, err));
    TRY(find_along(call, all_of, &a, err));
    return set_result(call, a, a.length / 2 + 1, type_complex(operand_type(call, 0)), result, err);
}

emlx_status check_irfft(const op_call *call, op_result *result, emlx_error *err) {
    along a;
    TRY(find_along(call, twice, &a, err));
    return set_result(call, a, a.length, type_part(type_floating(operand_type(call, 0))), result,
                      err);
}

// In the order in which they are transformed: the second one given first.
static emlx_status find_two(const op_call *call, along found[2], emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    const emlx_attr *axes = attr_get(call, "axes"), *lengths = attr_get(call, "lengths");
    if ((axes != NULL && axes->count != 2) || (lengths != NULL && lengths->count != 2))
        return error_set(err, EMLX_INVALID, "two axes and two lengths are expected");
    for (int i = 0; i < 2; i++) {
        int64_t axis = axes != NULL ? axes->ints[1 - i] : shape->rank - 1 - i;
        bool inside = axis >= 0 && axis < shape->rank;
        int64_t length = inside ? shape->dims[axis] : 1;
        found[i] = (along){axis, lengths != NULL ? lengths->ints[1 - i] : length};
        TRY(check_line(call, found[i], err));
    }
    if (found[0].axis == found[1].axis)
        return error_set(err, EMLX_INVALID, "axis %lld is given twice", (long long)found[0].axis);
    return EMLX_OK;
}

emlx_status check_fft2(const op_call *call, op_result *result, emlx_error *err) {
    along found[2];
    emlx_shape shape = *operand_shape(call, 0);
    TRY(find_two(call, found, err));
    for (int i = 0; i < 2; i++) shape.dims[found[i].axis] = found[i].length;
    result->type = type_complex(operand_type(call, 0));
    return emlx_shape_make(shape.dims, (size_t)shape.rank, &result->shape, err);
}

// Lowerings ---------------------------------------------------------------------------------

static double tolerance(const op_call *call) {
    const emlx_attr *eps = attr_get(call, "eps");
    if (eps == NULL) return 0;
    switch (eps->value.kind) {
    case EMLX_NUMBER_SIGNED: return (double)eps->value.as.s;
    case EMLX_NUMBER_UNSIGNED: return (double)eps->value.as.u;
    default: return eps->value.as.f[0];
    }
}

// Of the types that transforms read, the least one that holds every value of `type`.
static emlx_type line_type(emlx_type type) {
    if (type_is_complex(type)) return type;
    return type_table[type].digits <= type_table[EMLX_F32].digits ? EMLX_F32 : EMLX_F64;
}

// `t` with the axis exchanged with the last one.
static emlx_tensor *exchange_last(maker *m, emlx_tensor *t, int64_t axis) {
    if (t == NULL || axis == t->shape.rank - 1) return t;
    int64_t axes[EMLX_MAX_RANK];
    for (int32_t d = 0; d < t->shape.rank; d++) axes[d] = d;
    axes[axis] = t->shape.rank - 1;
    axes[t->shape.rank - 1] = axis;
    return view_transpose(m, t, axes);
}

// Lines of up to that length are transformed side by side where they lie so in memory. Longer ones
// are brought together first.
#define LONGEST_BESIDE 4096

static emlx_tensor *make_transform(maker *m, const op_call *call, routine_kind kind, along a,
                                   int64_t length, emlx_type type, emlx_tensor *t) {
    t = make_cast(m, t, line_type(emlx_tensor_type(t)));
    int64_t last = t == NULL ? 0 : t->shape.rank - 1, axis = last;
    if (kind == ROUTINE_fft && a.length <= LONGEST_BESIDE) axis = a.axis;
    if (axis != a.axis) t = exchange_last(m, t, a.axis);
    if (t == NULL) return NULL;
    routine_params params = {.kind = (int32_t)kind,
                             .batch = (int32_t)axis,
                             .flags = call->op->code,
                             .length = a.length,
                             .tolerance = tolerance(call)};
    node_spec spec = {.primitive = PRIM_routine,
                      .type = type,
                      .shape = t->shape,
                      .params = &params,
                      .params_size = sizeof params,
                      .inputs = &t,
                      .input_count = 1};
    spec.shape.dims[axis] = length;
    t = make_node(m, &spec);
    return axis != a.axis ? exchange_last(m, t, a.axis) : t;
}

// The type of the transform whose result is to be of `type`.
static emlx_type wide_type(emlx_type type, emlx_type wide, emlx_type narrow) {
    return type_table[type_part(type)].digits > type_table[EMLX_F32].digits ? wide : narrow;
}

static emlx_status lower_along(const op_call *call, const op_result *result, routine_kind kind,
                               along a, emlx_type type, emlx_tensor **out, emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t =
        make_transform(&m, call, kind, a, result->shape.dims[a.axis], type, call->in[0]);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_fft(const op_call *call, const op_result *result, emlx_tensor **out,
                      emlx_error *err) {
    along a;
    TRY(find_along(call, all_of, &a, err));
    return lower_along(call, result, ROUTINE_fft, a, wide_type(result->type, EMLX_C128, EMLX_C64),
                       out, err);
}

emlx_status lower_rfft(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    along a;
    TRY(find_along(call, all_of, &a, err));
    return lower_along(call, result, ROUTINE_rfft, a, wide_type(result->type, EMLX_C128, EMLX_C64),
                       out, err);
}

emlx_status lower_irfft(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    along a;
    TRY(find_along(call, twice, &a, err));
    return lower_along(call, result, ROUTINE_irfft, a, wide_type(result->type, EMLX_F64, EMLX_F32),
                       out, err);
}

emlx_status lower_fft2(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    along found[2];
    emlx_type type = wide_type(result->type, EMLX_C128, EMLX_C64);
    maker m;
    TRY(find_two(call, found, err));
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = call->in[0];
    for (int i = 0; i < 2 && t != NULL; i++)
        t = make_transform(&m, call, ROUTINE_fft, found[i], found[i].length, type, t);
    return make_done(&m, make_cast(&m, t, result->type), out);
}
