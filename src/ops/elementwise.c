// SPDX-License-Identifier: Apache-2.0
// elementwise.c - checks and lowerings of the element-wise ops: which type each is computed in, and
// the few that take more than one scalar function.
#include "ops/make.h"

#include <string.h>

// Elements looked at when an op's operand is already known and bad values are to be reported at
// the call; larger operands are checked when the op runs.
#define CHECKED_NOW 65536

// Checks ------------------------------------------------------------------------------------

static emlx_status broadcast_shapes(const op_call *call, op_result *result, emlx_error *err) {
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    result->shape = *operand_shape(call, 0);
    for (size_t i = 1; i < call->count; i++) {
        emlx_shape so_far = result->shape;
        if (!shape_broadcast(&so_far, operand_shape(call, i), &result->shape))
            return error_set(err, EMLX_INVALID, "shapes %s and %s do not fit together",
                             shape_print(&so_far, a), shape_print(operand_shape(call, i), b));
    }
    return EMLX_OK;
}

static emlx_status check_map(const op_call *call, op_result *result, emlx_type type,
                             type_choice choice, emlx_error *err) {
    result->type = type;
    result->choice = choice;
    return broadcast_shapes(call, result, err);
}

static emlx_type merged(const op_call *call) {
    emlx_type type = operand_type(call, 0);
    for (size_t i = 1; i < call->count; i++) type = type_merge(type, operand_type(call, i));
    return type;
}

emlx_status check_math(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, type_floating(merged(call)), CHOOSE_FLOAT, err);
}

emlx_status check_divide(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, type_floating(merged(call)), CHOOSE_FLOAT, err);
}

emlx_status check_real_math(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    return check_math(call, result, err);
}

// A part of a complex number, or a number made of its parts.
emlx_status check_part(const op_call *call, op_result *result, emlx_error *err) {
    emlx_type type = type_floating(type_part(operand_type(call, 0)));
    return check_map(call, result, type, CHOOSE_FLOAT, err);
}

emlx_status check_abs(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, type_part(operand_type(call, 0)), CHOOSE_ANY, err);
}

emlx_status check_conjugate(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, type_complex(operand_type(call, 0)), CHOOSE_COMPLEX, err);
}

emlx_status check_same(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, merged(call), CHOOSE_ANY, err);
}

emlx_status check_real_same(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    return check_same(call, result, err);
}

emlx_status check_arithmetic(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, merged(call), CHOOSE_ANY, err);
}

emlx_status check_predicate(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, EMLX_U8, CHOOSE_U8, err);
}

emlx_status check_comparison(const op_call *call, op_result *result, emlx_error *err) {
    return check_map(call, result, EMLX_U8, CHOOSE_U8, err);
}

emlx_status check_order_of_two(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    return check_comparison(call, result, err);
}

emlx_status check_integers(const op_call *call, op_result *result, emlx_error *err) {
    for (size_t i = 0; i < call->count; i++)
        if (!type_is_integer(operand_type(call, i)))
            return error_set(err, EMLX_INVALID, "operands must be integers, got %s",
                             emlx_type_name(operand_type(call, i)));
    return check_map(call, result, merged(call), CHOOSE_INTEGER, err);
}

emlx_status check_bits(const op_call *call, op_result *result, emlx_error *err) {
    return check_integers(call, result, err);
}

emlx_status check_as_type(const op_call *call, op_result *result, emlx_error *err) {
    return check_same(call, result, err);
}

emlx_status check_bitcast(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    return check_same(call, result, err);
}

emlx_status check_select(const op_call *call, op_result *result, emlx_error *err) {
    emlx_type type = type_merge(operand_type(call, 1), operand_type(call, 2));
    return check_map(call, result, type, CHOOSE_ANY, err);
}

emlx_status check_clip(const op_call *call, op_result *result, emlx_error *err) {
    TRY(refuse_complex(call, err));
    for (size_t i = 1; i < 3; i++)
        if (operand_shape(call, i)->rank != 0)
            return error_set(err, EMLX_INVALID, "the bounds must be scalars");
    return check_map(call, result, merged(call), CHOOSE_ANY, err);
}

// Types to compute in -----------------------------------------------------------------------

// Whether f32, or c64, holds every value that the operand can have.
static bool exact_in_f32(const emlx_tensor *t) {
    emlx_type type = emlx_tensor_type(t), less = type_is_complex(type) ? EMLX_C64 : EMLX_F32;
    if (type_table[type].digits <= type_table[less].digits) return true;
    scalar_value value, narrow = {{0}};
    if (!node_is_constant(t, &value)) return false;
    emlx_number number = type_load(type, value.bytes);
    type_store(less, &number, narrow.bytes);
    emlx_number back = type_load(less, narrow.bytes);
    scalar_value again = {{0}};
    type_store(type, &back, again.bytes);
    return memcmp(&again, &value, type_size(type)) == 0;
}

static bool any_complex(const op_call *call) {
    for (size_t i = 0; i < call->count; i++)
        if (type_is_complex(operand_type(call, i))) return true;
    return false;
}

static bool any_float(const op_call *call) {
    for (size_t i = 0; i < call->count; i++)
        if (!type_is_integer(operand_type(call, i))) return true;
    return false;
}

// Nx computes floats in double and rounds once. f32 gives the same where every operand is exact in
// it, because kernels round each f32 function correctly; likewise c64.
static emlx_type float_compute(emlx_type result, const op_call *call) {
    emlx_type part = type_compute(type_part(result));
    bool narrow = part == EMLX_F32;
    for (size_t i = 0; i < call->count; i++) narrow = narrow && exact_in_f32(call->in[i]);
    if (type_is_complex(result) || any_complex(call)) return narrow ? EMLX_C64 : EMLX_C128;
    return narrow ? EMLX_F32 : EMLX_F64;
}

// Integers wrap in the result's type; anything with a float goes by float_compute.
static emlx_type arithmetic_compute(emlx_type result, const op_call *call) {
    if (type_is_integer(result) && !any_float(call)) return result;
    return float_compute(result, call);
}

// u64 with a signed type has no common type that holds both.
static bool mixes_u64(const op_call *call) {
    emlx_type a = operand_type(call, 0), b = operand_type(call, 1);
    return (a == EMLX_U64 && type_class_of(b) == CLASS_SIGNED) ||
           (b == EMLX_U64 && type_class_of(a) == CLASS_SIGNED);
}

// Lowerings ---------------------------------------------------------------------------------

static emlx_tensor *operand(const op_call *call, size_t i) {
    return i < call->count ? call->in[i] : NULL;
}

static emlx_status one_map(const op_call *call, const op_result *result, scalar_op op,
                           emlx_type compute, emlx_tensor **out, emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_map(&m, op, compute, result->type, operand(call, 0), operand(call, 1),
                              operand(call, 2));
    return make_done(&m, t, out);
}

emlx_status lower_float(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    emlx_type compute = float_compute(result->type, call);
    // f32 rounds a function once more than a narrow type can bear; quotients and roots it does not.
    scalar_op op = (scalar_op)call->op->code;
    bool safe = op == SCALAR_divide || op == SCALAR_sqrt || op == SCALAR_remainder;
    if (emlx_type_bits(result->type) < 32 && !safe) compute = EMLX_F64;
    return one_map(call, result, op, compute, out, err);
}

emlx_status lower_arithmetic(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    emlx_type compute = arithmetic_compute(result->type, call);
    return one_map(call, result, (scalar_op)call->op->code, compute, out, err);
}

// An operand whose own value may be the result. Where the result's type rounds it, that is done
// here and now: on the way through the type computed in it would be rounded twice.
static emlx_tensor *round_once(maker *m, const op_result *result, emlx_tensor *t) {
    emlx_type from = emlx_tensor_type(t), to = result->type;
    bool rounds = !type_is_integer(to) && !type_is_complex(from) &&
                  type_table[from].digits > type_table[to].digits;
    return rounds ? make_cast(m, t, to) : t;
}

// A function that gives one of its operands, or a part of one: rounding them first changes nothing
// else, as it keeps their order.
static emlx_status choosing_map(const op_call *call, const op_result *result, scalar_op op,
                                emlx_type (*compute)(emlx_type, const op_call *), emlx_tensor **out,
                                emlx_error *err) {
    maker m;
    emlx_tensor *in[3] = {NULL};
    op_call rounded = *call;
    make_start(&m, call, &result->shape, err);
    for (size_t i = 0; i < call->count; i++) in[i] = round_once(&m, result, call->in[i]);
    if (m.status != EMLX_OK) return make_done(&m, NULL, out);
    rounded.in = in;
    emlx_type type = compute(result->type, &rounded);
    return make_done(&m, make_map(&m, op, type, result->type, in[0], in[1], in[2]), out);
}

static emlx_type complex_compute(emlx_type result, const op_call *call) {
    return type_complex(float_compute(result, call));
}

// A real operand is a complex one without an imaginary part.
emlx_status lower_complex(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    return choosing_map(call, result, (scalar_op)call->op->code, complex_compute, out, err);
}

emlx_status lower_as_type(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    return make_done(&m, make_cast(&m, call->in[0], result->type), out);
}

emlx_status lower_bitcast(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    emlx_type from = operand_type(call, 0);
    if (emlx_type_bits(from) != emlx_type_bits(result->type))
        return error_set(err, EMLX_INVALID, "%s and %s differ in size", emlx_type_name(from),
                         emlx_type_name(result->type));
    if (type_is_complex(result->type))
        return error_set(err, EMLX_INVALID, "there is no %s of other bits",
                         emlx_type_name(result->type));
    // In memory the bits above those of a narrow type are copies of its sign, or zero.
    if (emlx_type_bits(from) < 8) return lower_as_type(call, result, out, err);
    return one_map(call, result, SCALAR_bitcast, from, out, err);
}

// Integers are whole and finite: rounding keeps them, and none is NaN or infinite.
emlx_status lower_same(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    scalar_op op = (scalar_op)call->op->code;
    emlx_type type = operand_type(call, 0);
    bool integer = type_is_integer(type);
    if (integer && (op == SCALAR_floor || op == SCALAR_ceil || op == SCALAR_round))
        return lower_as_type(call, result, out, err);
    if (integer && (op == SCALAR_is_nan || op == SCALAR_is_infinity)) {
        maker m;
        make_start(&m, call, &result->shape, err);
        emlx_number zero = {.kind = EMLX_NUMBER_SIGNED};
        return make_done(&m, make_constant(&m, result->type, &result->shape, &zero), out);
    }
    return one_map(call, result, op, type_compute(type), out, err);
}

static bool is_number(const emlx_tensor *t, double wanted) {
    scalar_value value;
    if (!node_is_constant(t, &value)) return false;
    emlx_number number = type_load(emlx_tensor_type(t), value.bytes);
    switch (number.kind) {
    case EMLX_NUMBER_SIGNED: return (double)number.as.s == wanted;
    case EMLX_NUMBER_UNSIGNED: return (double)number.as.u == wanted;
    case EMLX_NUMBER_COMPLEX: return number.as.f[0] == wanted && number.as.f[1] == 0;
    default: return number.as.f[0] == wanted;
    }
}

// Truth values, logic and choice ------------------------------------------------------------

static bool is_truth_value(const emlx_tensor *t) {
    if (t->primitive != PRIM_map || emlx_tensor_type(t) != EMLX_U8) return false;
    const map_params *params = t->params;
    return params->guard == GUARD_NONE && scalar_table[params->op].gives == GIVES_BOOL;
}

static emlx_tensor *make_truth(maker *m, emlx_tensor *t) {
    if (is_truth_value(t)) return t;
    emlx_shape shape = m->shape;
    m->shape = t->shape;
    emlx_type compute = type_compute(emlx_tensor_type(t));
    emlx_tensor *truth = make_map(m, SCALAR_truth, compute, EMLX_U8, t, NULL, NULL);
    m->shape = shape;
    return truth;
}

emlx_status lower_logical(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *a = make_truth(&m, call->in[0]);
    emlx_tensor *b = make_truth(&m, call->in[1]);
    scalar_op op = (scalar_op)call->op->code;
    return make_done(&m, make_map(&m, op, EMLX_U8, EMLX_U8, a, b, NULL), out);
}

emlx_status lower_select(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *truth = make_truth(&m, call->in[0]);
    emlx_tensor *t =
        make_map(&m, SCALAR_select, type_compute(result->type), result->type, truth,
                 round_once(&m, result, call->in[1]), round_once(&m, result, call->in[2]));
    return make_done(&m, t, out);
}

// Comparison, exact across types ------------------------------------------------------------

// The comparison with its operands exchanged.
static scalar_op mirrored(scalar_op op) {
    switch (op) {
    case SCALAR_less: return SCALAR_greater;
    case SCALAR_less_equal: return SCALAR_greater_equal;
    case SCALAR_greater: return SCALAR_less;
    case SCALAR_greater_equal: return SCALAR_less_equal;
    default: return op;
    }
}

static emlx_tensor *compare(maker *m, scalar_op op, emlx_type type, emlx_tensor *a,
                            emlx_tensor *b) {
    return make_map(m, op, type, EMLX_U8, a, b, NULL);
}

static emlx_tensor *choose(maker *m, emlx_type type, emlx_tensor *truth, emlx_tensor *a,
                           emlx_tensor *b) {
    return make_map(m, SCALAR_select, type, type, truth, a, b);
}

// A negative number is below every u64; the others compare as u64.
static emlx_tensor *compare_u64(maker *m, scalar_op op, emlx_tensor *u, emlx_tensor *s) {
    bool above = op == SCALAR_greater || op == SCALAR_greater_equal || op == SCALAR_not_equal;
    emlx_tensor *negative = compare(m, SCALAR_less, EMLX_S64, s, make_integer(m, EMLX_S64, 0));
    return choose(m, EMLX_U8, negative, make_integer(m, EMLX_U8, above),
                  compare(m, op, EMLX_U64, u, s));
}

// A 64-bit integer against a float: as doubles where those differ. Where they are equal the float
// is whole, and they compare as integers, unless the float lies just past the integer's range.
static emlx_tensor *compare_wide(maker *m, scalar_op op, emlx_tensor *i, emlx_tensor *f) {
    emlx_type type = emlx_tensor_type(i);
    emlx_number limit = {EMLX_NUMBER_REAL, {.f = {type == EMLX_U64 ? 0x1p64 : 0x1p63, 0}}};
    emlx_shape scalar = {0};
    bool below = op == SCALAR_less || op == SCALAR_less_equal || op == SCALAR_not_equal;
    emlx_tensor *same = compare(m, SCALAR_equal, EMLX_F64, i, f);
    emlx_tensor *past =
        compare(m, SCALAR_greater_equal, EMLX_F64, f, make_constant(m, EMLX_F64, &scalar, &limit));
    emlx_tensor *whole =
        choose(m, EMLX_U8, past, make_integer(m, EMLX_U8, below), compare(m, op, type, i, f));
    return choose(m, EMLX_U8, same, whole, compare(m, op, EMLX_F64, i, f));
}

static bool is_wide(const emlx_tensor *t) {
    emlx_type type = emlx_tensor_type(t);
    return (type == EMLX_U64 || type == EMLX_S64) && t->primitive != PRIM_constant;
}

// `real` or `imag` of a complex operand; a real one as it is.
static emlx_tensor *part_of(maker *m, scalar_op part, emlx_tensor *t) {
    emlx_type type = emlx_tensor_type(t);
    if (!type_is_complex(type)) return t;
    return make_map(m, part, type, type_part(type), t, NULL, NULL);
}

// A 64-bit integer against a complex number, whose imaginary part has to be 0 to be equal.
static emlx_tensor *compare_complex(maker *m, scalar_op op, emlx_tensor *i, emlx_tensor *z) {
    emlx_type part = type_part(emlx_tensor_type(z));
    emlx_tensor *re = part_of(m, SCALAR_real, z), *im = part_of(m, SCALAR_imag, z);
    if (m->status != EMLX_OK) return NULL;
    emlx_tensor *real = compare_wide(m, op, i, re);
    emlx_tensor *whole = compare(m, op, part, im, make_integer(m, part, 0));
    scalar_op both = op == SCALAR_equal ? SCALAR_bitwise_and : SCALAR_bitwise_or;
    return make_map(m, both, EMLX_U8, EMLX_U8, real, whole, NULL);
}

static emlx_tensor *make_comparison(maker *m, scalar_op op, const op_call *call) {
    emlx_tensor *a = call->in[0], *b = call->in[1];
    emlx_type ta = emlx_tensor_type(a), tb = emlx_tensor_type(b);
    if (type_is_complex(tb) && is_wide(a)) return compare_complex(m, op, a, b);
    if (type_is_complex(ta) && is_wide(b)) return compare_complex(m, op, b, a);
    if (mixes_u64(call))
        return ta == EMLX_U64 ? compare_u64(m, op, a, b) : compare_u64(m, mirrored(op), b, a);
    if (!any_float(call)) return compare(m, op, type_merge(ta, tb), a, b);
    if (type_is_float(tb) && is_wide(a)) return compare_wide(m, op, a, b);
    if (type_is_float(ta) && is_wide(b)) return compare_wide(m, mirrored(op), b, a);
    return compare(m, op, float_compute(EMLX_F32, call), a, b);
}

emlx_status lower_comparison(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    return make_done(&m, make_comparison(&m, (scalar_op)call->op->code, call), out);
}

// The code is the comparison under which the first operand is chosen.
emlx_status lower_extreme(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    scalar_op op = (scalar_op)call->op->code;
    scalar_op extreme = op == SCALAR_greater_equal ? SCALAR_max : SCALAR_min;
    if (!mixes_u64(call)) return choosing_map(call, result, extreme, arithmetic_compute, out, err);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *first = make_comparison(&m, op, call);
    return make_done(&m, choose(&m, result->type, first, call->in[0], call->in[1]), out);
}

// Where u64 meets signed bounds, each pair is compared by its values.
static emlx_tensor *clip_mixed(maker *m, const op_call *call) {
    emlx_tensor *x = call->in[0], *low = call->in[1], *high = call->in[2];
    op_call above_low = *call, below_high = *call, bounds = *call;
    above_low.in = (emlx_tensor *[]){x, low};
    below_high.in = (emlx_tensor *[]){x, high};
    bounds.in = (emlx_tensor *[]){low, high};
    above_low.count = below_high.count = bounds.count = 2;
    emlx_tensor *inside =
        choose(m, EMLX_S64, make_comparison(m, SCALAR_less, &below_high), x, high);
    emlx_tensor *bound = choose(m, EMLX_S64, make_comparison(m, SCALAR_less, &bounds), low, high);
    return choose(m, EMLX_S64, make_comparison(m, SCALAR_greater, &above_low), inside, bound);
}

emlx_status lower_clip(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    bool has_u64 = false;
    for (size_t i = 0; i < 3; i++) has_u64 = has_u64 || operand_type(call, i) == EMLX_U64;
    if (has_u64 && result->type == EMLX_S64) {
        maker m;
        make_start(&m, call, &result->shape, err);
        return make_done(&m, clip_mixed(&m, call), out);
    }
    return choosing_map(call, result, SCALAR_clip, arithmetic_compute, out, err);
}

// Powers ------------------------------------------------------------------------------------

// A u64 above 1 to a negative power is 0, also where its bits are those of -1.
static emlx_tensor *pow_mixed(maker *m, const op_call *call) {
    emlx_tensor *x = call->in[0], *y = call->in[1];
    emlx_tensor *power = make_map(m, SCALAR_pow, EMLX_S64, EMLX_S64, x, y, NULL);
    emlx_tensor *above = compare(m, SCALAR_greater, EMLX_U64, x, make_integer(m, EMLX_U64, 1));
    emlx_tensor *negative = compare(m, SCALAR_less, EMLX_S64, y, make_integer(m, EMLX_S64, 0));
    emlx_tensor *gone = make_map(m, SCALAR_bitwise_and, EMLX_U8, EMLX_U8, above, negative, NULL);
    return choose(m, EMLX_S64, gone, make_integer(m, EMLX_S64, 0), power);
}

// A square is the same number as the power, and far cheaper.
emlx_status lower_pow(const op_call *call, const op_result *result, emlx_tensor **out,
                      emlx_error *err) {
    bool square = is_number(call->in[1], 2.0);
    bool mixed = mixes_u64(call) && operand_type(call, 0) == EMLX_U64 && result->type == EMLX_S64;
    if (!square && !mixed) return lower_arithmetic(call, result, out, err);
    maker m;
    make_start(&m, call, &result->shape, err);
    if (!square) return make_done(&m, pow_mixed(&m, call), out);
    emlx_type compute = arithmetic_compute(result->type, call);
    emlx_tensor *x = call->in[0];
    return make_done(&m, make_map(&m, SCALAR_multiply, compute, result->type, x, x, NULL), out);
}

// Quotient, remainder, shifts: bad operands --------------------------------------------------

// Whether a known operand has an element for which `bad` holds; *known says if it could be seen.
static bool has_bad(const emlx_tensor *t, bool (*bad)(const emlx_number *), bool *known,
                    emlx_number *which) {
    const void *data;
    size_t count;
    scalar_value room;
    emlx_type type = emlx_tensor_type(t);
    *known = known_values(t, CHECKED_NOW, &data, &count, &room);
    for (size_t i = 0; *known && i < count; i++) {
        *which = type_load(type, (const char *)data + i * type_size(type));
        if (bad(which)) return true;
    }
    return false;
}

static bool is_zero(const emlx_number *n) { return n->as.u == 0; }
static bool is_negative(const emlx_number *n) {
    return n->kind == EMLX_NUMBER_SIGNED && n->as.s < 0;
}

// Magnitudes divide as u64; the sign of the result is put back.
static emlx_tensor *divide_mixed(maker *m, const op_call *call) {
    emlx_tensor *a = call->in[0], *b = call->in[1];
    bool unsigned_left = emlx_tensor_type(a) == EMLX_U64;
    emlx_tensor *s = unsigned_left ? b : a;
    emlx_tensor *zero = make_integer(m, EMLX_S64, 0);
    emlx_tensor *negative = compare(m, SCALAR_less, EMLX_S64, s, zero);
    emlx_tensor *size = make_map(m, SCALAR_abs, EMLX_S64, EMLX_S64, s, NULL, NULL);
    scalar_op op = (scalar_op)call->op->code;
    emlx_tensor *q = make_map(m, op, EMLX_U64, EMLX_S64, unsigned_left ? a : size,
                              unsigned_left ? size : b, NULL);
    if (op == SCALAR_remainder && unsigned_left) return q;
    emlx_tensor *minus = make_map(m, SCALAR_negate, EMLX_S64, EMLX_S64, q, NULL, NULL);
    return choose(m, EMLX_S64, negative, minus, q);
}

emlx_status lower_quotient(const op_call *call, const op_result *result, emlx_tensor **out,
                           emlx_error *err) {
    if (any_float(call)) return lower_float(call, result, out, err);
    bool known;
    emlx_number which;
    emlx_tensor *divisor = call->in[1];
    if (has_bad(divisor, is_zero, &known, &which))
        return error_fault(err, EMLX_ARITHMETIC, EMLX_FAULT_DIVISION, "division by zero");
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = mixes_u64(call) ? make_cast(&m, divide_mixed(&m, call), result->type)
                                     : make_map(&m, (scalar_op)call->op->code, result->type,
                                                result->type, call->in[0], divisor, NULL);
    if (!known) {
        emlx_type type = emlx_tensor_type(divisor);
        emlx_tensor *zero = make_integer(&m, type, 0);
        t = make_guard(&m, GUARD_DIVISION, t, compare(&m, SCALAR_equal, type, divisor, zero));
    }
    return make_done(&m, t, out);
}

static bool is_not_real(const emlx_number *n) {
    return n->kind == EMLX_NUMBER_COMPLEX && n->as.f[1] != 0;
}

// Complex operands are accepted as long as they are real.
emlx_status lower_atan2(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    if (!any_complex(call)) return lower_float(call, result, out, err);
    bool known[2];
    emlx_number which;
    for (size_t i = 0; i < 2; i++)
        if (has_bad(call->in[i], is_not_real, &known[i], &which))
            return error_fault(err, EMLX_ARITHMETIC, EMLX_FAULT_COMPLEX,
                               "only accepts real numbers as arguments, got %g%+gi", which.as.f[0],
                               which.as.f[1]);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_type compute = type_part(float_compute(result->type, call));
    emlx_tensor *t = make_map(&m, SCALAR_atan2, compute, type_part(result->type),
                              part_of(&m, SCALAR_real, call->in[0]),
                              part_of(&m, SCALAR_real, call->in[1]), NULL);
    for (size_t i = 0; i < 2; i++) {
        emlx_type type = operand_type(call, i), part = type_part(type);
        if (known[i] || !type_is_complex(type)) continue;
        emlx_tensor *zero = make_integer(&m, part, 0);
        emlx_tensor *imaginary = part_of(&m, SCALAR_imag, call->in[i]);
        t = make_guard(&m, GUARD_REAL, t, compare(&m, SCALAR_not_equal, part, imaginary, zero));
    }
    return make_done(&m, make_cast(&m, t, result->type), out);
}

// Bits shifted in are the left operand's: its signedness in the result's width.
static emlx_type shift_compute(emlx_type left, emlx_type result) {
    for (int t = 0; t < EMLX_TYPE_COUNT; t++)
        if (type_class_of((emlx_type)t) == type_class_of(left) &&
            emlx_type_bits((emlx_type)t) == emlx_type_bits(result))
            return (emlx_type)t;
    return result;
}

emlx_status lower_shift(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    scalar_op op = (scalar_op)call->op->code;
    emlx_tensor *amount = call->in[1];
    emlx_type type = emlx_tensor_type(amount);
    bool known, left = op == SCALAR_left_shift;
    emlx_number which;
    if (has_bad(amount, is_negative, &known, &which))
        return error_fault(err, EMLX_INVALID, EMLX_FAULT_SHIFT, "cannot %s shift by %lld",
                           left ? "left" : "right", (long long)which.as.s);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_type compute = shift_compute(operand_type(call, 0), result->type);
    emlx_tensor *t = make_map(&m, op, compute, result->type, call->in[0], amount, NULL);
    if (!known && type_class_of(type) == CLASS_SIGNED) {
        emlx_tensor *zero = make_integer(&m, type, 0);
        t = make_guard(&m, left ? GUARD_LEFT_SHIFT : GUARD_RIGHT_SHIFT, t,
                       compare(&m, SCALAR_less, type, amount, zero));
    }
    return make_done(&m, t, out);
}
