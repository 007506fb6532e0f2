// SPDX-License-Identifier: Apache-2.0
// quantize.c - numbers as weights of few bits: to the bit what MLX makes of finite numbers, and
// what GGUF's own writer does. Groups lie along the last axis.
#include <string.h>

#include "ops/models/packed.h"

emlx_status check_quantize(const op_call *call, op_result *results, emlx_error *err) {
    packing how;
    char text[SHAPE_TEXT];
    TRY(packing_of(call, &how, err));
    const packed_info *p = how.info;
    const emlx_shape *x = operand_shape(call, 0);
    if (!type_is_float(operand_type(call, 0)))
        return error_set(err, EMLX_INVALID, "floats expected, got %s",
                         emlx_type_name(operand_type(call, 0)));
    if (how.kind == PACKED_q4_k || how.kind == PACKED_q6_k)
        return error_set(err, EMLX_UNSUPPORTED, "weights of mode %s are read only", p->mode);
    int64_t last = x->rank == 0 ? -1 : x->dims[x->rank - 1];
    int64_t length = last < 0 || last % how.group != 0 ? -1 : packed_length(p, last);
    if (length < 0)
        return error_set(err, EMLX_INVALID,
                         "the last axis of %s is not divisible by groups of %lld",
                         shape_print(x, text), (long long)how.group);
    emlx_type scales = p->operands == 3 ? operand_type(call, 0) : EMLX_U8;
    for (uint32_t i = 0; i < 3; i++) {
        results[i] =
            (op_result){.type = i == 0 && p->block_values == 0 ? EMLX_U32 : scales, .shape = *x};
        results[i].shape.dims[x->rank - 1] = i >= p->operands ? 0
                                             : i == 0         ? length
                                                              : last / how.group;
    }
    return EMLX_OK;
}

static emlx_tensor *real(maker *m, double value) { return make_real(m, EMLX_F32, value); }
static emlx_tensor *in_f32(maker *m, const char *op, emlx_tensor *a, emlx_tensor *b) {
    return packed_two(m, op, EMLX_F32, a, b);
}
static emlx_tensor *test(maker *m, const char *op, emlx_tensor *a, emlx_tensor *b) {
    return packed_two(m, op, EMLX_U8, a, b);
}
static emlx_tensor *choose(maker *m, emlx_tensor *which, emlx_tensor *yes, emlx_tensor *no) {
    return make_op(m, "select", EMLX_F32, 3, which, yes, no);
}
static emlx_tensor *size_of(maker *m, emlx_tensor *t) { return make_op(m, "abs", EMLX_F32, 1, t); }
static emlx_tensor *words_of(maker *m, const char *op, emlx_tensor *t, int64_t n) {
    return packed_two(m, op, EMLX_U32, t, make_integer(m, EMLX_U32, n));
}

// Folds the last axis, which stays with length 1.
static emlx_tensor *fold_last(maker *m, const char *op, emlx_type type, emlx_tensor *t) {
    if (t == NULL) return NULL;
    const int64_t axis = t->shape.rank - 1;
    const emlx_attr attrs[] = {
        {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = &axis, .count = 1},
        {.name = "keep_axes", .kind = EMLX_ATTR_BOOL, .value = {EMLX_NUMBER_SIGNED, {.s = 1}}}};
    return make_op_with(m, op, type, &t, 1, attrs, 2);
}

// To the nearest whole number, of two the even one. Adding what leaves no bits behind the point
// does that; larger numbers have none.
static emlx_tensor *nearest(maker *m, emlx_tensor *t) {
    const double shift = 12582912; // 1.5 * 2^23
    emlx_tensor *whole = in_f32(m, "subtract", in_f32(m, "add", t, real(m, shift)), real(m, shift));
    return choose(m, test(m, "less", size_of(m, t), real(m, 4194304)), whole, t);
}

// Bits -------------------------------------------------------------------------------------------

// The bits of elements as one stream, in words: sums of shifted elements are units of 32 bits, or
// of 24 bits and three bytes, four of which are words.
static emlx_tensor *pack(maker *m, emlx_tensor *codes, int32_t bits) {
    bool across = 32 % bits != 0;
    int64_t many = (across ? 24 : 32) / bits;
    emlx_tensor *shifted = packed_two(m, "left_shift", EMLX_U32, packed_cut(m, codes, 1, many),
                                      packed_steps(m, many, bits));
    emlx_tensor *units = fold_last(m, "sum", EMLX_U32, shifted);
    if (!across) return packed_join(m, units);
    emlx_tensor *bytes = packed_two(m, "right_shift", EMLX_U32, units, packed_steps(m, 3, 8));
    bytes = packed_cut(m, packed_join(m, words_of(m, "bitwise_and", bytes, 255)), 1, 4);
    bytes = packed_two(m, "left_shift", EMLX_U32, bytes, packed_steps(m, 4, 8));
    return packed_join(m, fold_last(m, "sum", EMLX_U32, bytes));
}

// Affine -----------------------------------------------------------------------------------------

// The edge of a group that is larger in size is kept exactly; the scale is then such that zero
// falls on a code.
static void affine(maker *m, const packing *how, emlx_tensor *x, emlx_type type,
                   emlx_tensor **out) {
    emlx_tensor *most = real(m, (double)((1 << how->info->bits) - 1));
    emlx_tensor *low = fold_last(m, "reduce_min", EMLX_F32, x);
    emlx_tensor *high = fold_last(m, "reduce_max", EMLX_F32, x);
    emlx_tensor *scale = in_f32(m, "divide", in_f32(m, "subtract", high, low), most);
    scale = in_f32(m, "max", scale, real(m, 1e-7f));
    emlx_tensor *is_low = test(m, "greater", size_of(m, low), size_of(m, high));
    scale = choose(m, is_low, scale, make_op(m, "negate", EMLX_F32, 1, scale));
    emlx_tensor *edge = choose(m, is_low, low, high);
    emlx_tensor *zero = nearest(m, in_f32(m, "divide", edge, scale));
    emlx_tensor *some = test(m, "not_equal", zero, real(m, 0));
    scale = choose(m, some, in_f32(m, "divide", edge, zero), scale);
    emlx_tensor *bias = choose(m, some, edge, real(m, 0));
    emlx_tensor *codes = nearest(m, in_f32(m, "divide", in_f32(m, "subtract", x, bias), scale));
    codes = make_op(m, "clip", EMLX_F32, 3, codes, real(m, 0), most);
    out[0] = pack(m, packed_join(m, make_cast(m, codes, EMLX_U32)), how->info->bits);
    out[1] = make_cast(m, packed_join(m, scale), type);
    out[2] = make_cast(m, packed_join(m, bias), type);
}

// Microscaled ------------------------------------------------------------------------------------

// How many of the borders between the sizes of E2M1 a size is above; on one it counts as the
// smaller.
static emlx_tensor *e2m1(maker *m, emlx_tensor *y) {
    static const double borders[] = {0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5};
    emlx_tensor *size = make_integer(m, EMLX_U32, 0), *y_size = size_of(m, y);
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++)
        size =
            packed_two(m, "add", EMLX_U32, size, test(m, "greater", y_size, real(m, borders[i])));
    emlx_tensor *minus = test(m, "logical_and", test(m, "less", y, real(m, 0)), size);
    return packed_two(m, "bitwise_or", EMLX_U32, size,
                      words_of(m, "left_shift", make_cast(m, minus, EMLX_U32), 3));
}

static emlx_tensor *e4m3(maker *m, emlx_tensor *y) {
    y = make_op(m, "clip", EMLX_F32, 3, y, real(m, -448), real(m, 448));
    return packed_bits(m, make_cast(m, y, EMLX_F8_E4M3FN), EMLX_U8);
}

// The exponent, from 127 on, of the least power of two by which nothing is too large.
static emlx_tensor *exponent(maker *m, emlx_tensor *most, double largest) {
    emlx_tensor *ratio = in_f32(m, "divide", most, real(m, largest));
    emlx_tensor *log = make_op(m, "log", EMLX_F64, 1, make_cast(m, ratio, EMLX_F64));
    log = packed_two(m, "multiply", EMLX_F64, log, make_real(m, EMLX_F64, 1.4426950408889634));
    emlx_tensor *up = make_op(m, "ceil", EMLX_F32, 1, make_cast(m, log, EMLX_F32));
    up = choose(m, test(m, "equal", most, real(m, 0)), real(m, 0), up);
    up = make_op(m, "clip", EMLX_F32, 3, up, real(m, -127), real(m, 127));
    return make_cast(m, in_f32(m, "add", up, real(m, 127)), EMLX_U32);
}

static emlx_tensor *power_of(maker *m, emlx_tensor *exponent) {
    emlx_tensor *bits = words_of(m, "max", words_of(m, "left_shift", exponent, 23), 0x400000);
    return packed_bits(m, bits, EMLX_F32);
}

static void microscaled(maker *m, const packing *how, emlx_tensor *x, emlx_tensor **out) {
    bool wide = how->kind == PACKED_mxfp8;
    emlx_tensor *most = fold_last(m, "reduce_max", EMLX_F32, size_of(m, x)), *scale;
    if (how->kind == PACKED_nvfp4) {
        out[1] = e4m3(m, in_f32(m, "divide", most, real(m, 6)));
        scale = make_cast(m, packed_bits(m, out[1], EMLX_F8_E4M3FN), EMLX_F32);
    } else {
        out[1] = exponent(m, most, wide ? 448 : 6);
        scale = power_of(m, out[1]);
    }
    emlx_tensor *y = in_f32(m, "divide", x, scale);
    y = choose(m, test(m, "equal", scale, real(m, 0)), real(m, 0), y);
    emlx_tensor *codes = make_cast(m, wide ? e4m3(m, y) : e2m1(m, y), EMLX_U32);
    out[0] = pack(m, packed_join(m, codes), how->info->bits);
    out[1] = make_cast(m, packed_join(m, out[1]), EMLX_U8);
}

// Blocks -----------------------------------------------------------------------------------------

// The number of largest size, the first of equals, with its sign.
static emlx_tensor *group_largest(maker *m, emlx_tensor *x) {
    if (x == NULL) return NULL;
    const int64_t axis = x->shape.rank - 1;
    const emlx_attr attrs[] = {
        {.name = "axis", .kind = EMLX_ATTR_INT, .value = {EMLX_NUMBER_SIGNED, {.s = axis}}},
        {.name = "keep_axis", .kind = EMLX_ATTR_BOOL, .value = {EMLX_NUMBER_SIGNED, {.s = 1}}}};
    emlx_tensor *size = size_of(m, x);
    emlx_tensor *at = make_op_with(m, "argmax", EMLX_TYPE_DEFAULT, &size, 1, attrs, 2);
    emlx_tensor *in[2] = {x, at};
    return make_op_with(m, "take_along_axis", EMLX_TYPE_DEFAULT, in, 2, attrs, 1);
}

static emlx_tensor *inverse(maker *m, emlx_tensor *t) {
    emlx_tensor *none = test(m, "equal", t, real(m, 0));
    return choose(m, none, real(m, 0), in_f32(m, "divide", real(m, 1), t));
}

static emlx_tensor *cut_off(maker *m, emlx_tensor *t) {
    return make_op(m, "as_type", EMLX_S32, 1, t);
}

// Half away from zero.
static emlx_tensor *q8_0(maker *m, emlx_tensor *x, emlx_tensor **scale) {
    emlx_tensor *most = fold_last(m, "reduce_max", EMLX_F32, size_of(m, x));
    *scale = in_f32(m, "divide", most, real(m, 127));
    emlx_tensor *y = in_f32(m, "multiply", x, inverse(m, *scale));
    emlx_tensor *half = choose(m, test(m, "less", y, real(m, 0)), real(m, -0.5), real(m, 0.5));
    return make_cast(m, cut_off(m, in_f32(m, "add", y, half)), EMLX_U8);
}

static emlx_tensor *q4_0(maker *m, emlx_tensor *x, emlx_tensor **scale) {
    *scale = in_f32(m, "divide", group_largest(m, x), real(m, -8));
    emlx_tensor *y = in_f32(m, "multiply", x, inverse(m, *scale));
    y = make_op(m, "clip", EMLX_F32, 3, in_f32(m, "add", y, real(m, 8.5)), real(m, 0), real(m, 15));
    emlx_tensor *codes = packed_cut(m, make_cast(m, cut_off(m, y), EMLX_U32), 1, 16);
    emlx_tensor *shifts = packed_cut(m, packed_steps(m, 2, 4), 1, 1);
    codes = packed_two(m, "left_shift", EMLX_U32, codes, shifts);
    if (codes == NULL) return NULL;
    const int64_t axis = codes->shape.rank - 2;
    const emlx_attr attrs[] = {{.name = "axes", .kind = EMLX_ATTR_INTS, .ints = &axis, .count = 1}};
    return make_cast(m, make_op_with(m, "sum", EMLX_U32, &codes, 1, attrs, 1), EMLX_U8);
}

// Two bytes of scale before those of the elements.
static void blocks(maker *m, const packing *how, emlx_tensor *x, emlx_tensor **out) {
    emlx_tensor *scale = NULL;
    emlx_tensor *bytes = how->kind == PACKED_q8_0 ? q8_0(m, x, &scale) : q4_0(m, x, &scale);
    emlx_tensor *half = packed_bits(m, make_cast(m, scale, EMLX_F16), EMLX_U16);
    half =
        packed_two(m, "right_shift", EMLX_U32, make_cast(m, half, EMLX_U32), packed_steps(m, 2, 8));
    half = make_cast(m, words_of(m, "bitwise_and", half, 255), EMLX_U8);
    if (half == NULL || bytes == NULL) return;
    const emlx_attr attrs[] = {{.name = "axis",
                                .kind = EMLX_ATTR_INT,
                                .value = {EMLX_NUMBER_SIGNED, {.s = bytes->shape.rank - 1}}}};
    emlx_tensor *in[2] = {half, bytes};
    out[0] = packed_join(m, make_op_with(m, "concatenate", EMLX_U8, in, 2, attrs, 1));
}

emlx_status lower_quantize(const op_call *call, const op_result *results, emlx_tensor **out,
                           emlx_error *err) {
    packing how;
    maker m;
    emlx_tensor *made[3] = {NULL};
    const emlx_number zero = {.kind = EMLX_NUMBER_SIGNED};
    TRY(packing_of(call, &how, err));
    make_start(&m, call, &results[0].shape, err);
    emlx_tensor *x = packed_cut(&m, make_cast(&m, call->in[0], EMLX_F32), 1, how.group);
    if (how.info->operands == 3)
        affine(&m, &how, x, operand_type(call, 0), made);
    else if (how.info->operands == 2)
        microscaled(&m, &how, x, made);
    else
        blocks(&m, &how, x, made);
    for (uint32_t i = how.info->operands; i < 3; i++)
        made[i] = make_constant(&m, results[i].type, &results[i].shape, &zero);
    return make_done_all(&m, made, 3, out);
}
