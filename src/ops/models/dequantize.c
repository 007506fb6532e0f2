// SPDX-License-Identifier: Apache-2.0
// dequantize.c - weights of few bits as numbers. All of it is maps over unpacked bits, so that it
// fuses with what reads the numbers; a product that an engine takes whole reads the bits
// themselves. graph/packed.def says how formats look.
#include <string.h>

#include "graph/lock.h"
#include "ops/models/packed.h"

// Calls ------------------------------------------------------------------------------------------

emlx_status packing_of(const op_call *call, packing *out, emlx_error *err) {
    const char *mode = attr_text(call, "mode", "affine");
    int64_t bits = attr_int(call, "bits", strcmp(mode, "affine") == 0 ? 4 : 0);
    out->kind = packed_find(mode, bits);
    if (out->kind == PACKED_COUNT && packed_find(mode, 0) == PACKED_COUNT)
        return error_set(err, EMLX_INVALID,
                         "mode \"%.30s\" is none of affine, mxfp4, mxfp8, nvfp4, "
                         "q4_0, q8_0, q4_k, q6_k",
                         mode);
    if (out->kind == PACKED_COUNT)
        return error_set(err, EMLX_INVALID, "mode %s has no elements of %lld bits", mode,
                         (long long)bits);
    out->info = &packed_table[out->kind];
    int64_t fixed = out->info->group;
    out->group = attr_int(call, "group_size", fixed > 0 ? fixed : 64);
    bool known =
        fixed > 0 ? out->group == fixed : out->group == 32 || out->group == 64 || out->group == 128;
    if (known) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "mode %s has groups of %s, got %lld", mode,
                     fixed == 0    ? "32, 64 or 128"
                     : fixed == 16 ? "16"
                                   : "32",
                     (long long)out->group);
}

// What scales and biases have to look like: a number a group.
static emlx_status check_scales(const op_call *call, const emlx_shape *values, int64_t group,
                                emlx_error *err) {
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    emlx_shape wanted = *values;
    if (call->count == 1) return EMLX_OK;
    wanted.dims[wanted.rank - 1] /= group;
    for (size_t i = 1; i < call->count; i++)
        if (!shape_equal(operand_shape(call, i), &wanted))
            return error_set(err, EMLX_INVALID, "operand %zu has shape %s, %s expected", i,
                             shape_print(operand_shape(call, i), a), shape_print(&wanted, b));
    emlx_type scales = operand_type(call, 1);
    bool fits = call->count == 3 ? type_is_float(scales) && scales == operand_type(call, 2)
                                 : scales == EMLX_U8;
    if (fits) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "scales are %s, %s expected", emlx_type_name(scales),
                     call->count == 3 ? "floats, as biases," : "u8");
}

emlx_status check_dequantize(const op_call *call, op_result *result, emlx_error *err) {
    packing how;
    char text[SHAPE_TEXT];
    TRY(packing_of(call, &how, err));
    const packed_info *p = how.info;
    if (call->count != p->operands)
        return error_set(err, EMLX_INVALID, "mode %s takes %u operands, got %zu", p->mode,
                         p->operands, call->count);
    emlx_type elements = p->block_values > 0 ? EMLX_U8 : EMLX_U32;
    if (operand_type(call, 0) != elements)
        return error_set(err, EMLX_INVALID, "elements are packed into %s, got %s",
                         emlx_type_name(elements), emlx_type_name(operand_type(call, 0)));
    result->shape = *operand_shape(call, 0);
    int64_t *last = &result->shape.dims[result->shape.rank - 1];
    int64_t values = result->shape.rank == 0 ? -1 : packed_values(p, *last);
    if (values < 0 || values % how.group != 0)
        return error_set(err, EMLX_INVALID,
                         "shape %s has no whole groups of %lld elements of %d bits",
                         shape_print(operand_shape(call, 0), text), (long long)how.group, p->bits);
    *last = values;
    TRY(check_scales(call, &result->shape, how.group, err));
    result->choice = CHOOSE_FLOAT;
    result->type = call->count == 3   ? operand_type(call, 1)
                   : call->count == 2 ? EMLX_BF16
                                      : EMLX_F32;
    return emlx_shape_make(result->shape.dims, (size_t)result->shape.rank, &result->shape, err);
}

emlx_status lower_dequantize(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    packed p = {.shape = result->shape};
    maker m;
    TRY(packing_of(call, &p.how, err));
    memcpy(p.operands, call->in, call->count * sizeof *call->in);
    make_start(&m, call, &result->shape, err);
    return make_done(&m, make_dequantized(&m, &p, result->type), out);
}

// Shapes -----------------------------------------------------------------------------------------

emlx_tensor *packed_cut(maker *m, emlx_tensor *t, int64_t middle, int64_t inner) {
    if (t == NULL) return NULL;
    emlx_shape shape = t->shape;
    int32_t last = shape.rank - 1;
    shape.dims[last] /= middle * inner;
    if (middle != 1) shape.dims[++last] = middle;
    shape.dims[++last] = inner;
    shape.rank = last + 1;
    return view_reshape(m, t, &shape);
}

emlx_tensor *packed_join(maker *m, emlx_tensor *t) {
    if (t == NULL) return NULL;
    emlx_shape shape = t->shape;
    shape.rank--;
    shape.dims[shape.rank - 1] *= shape.dims[shape.rank];
    return view_reshape(m, t, &shape);
}

emlx_tensor *packed_steps(maker *m, int64_t count, int64_t step) {
    iota_params params = {.strides = {step}};
    node_spec spec = {.primitive = PRIM_iota, .type = EMLX_U32, .shape = {1, {count}}};
    spec.params = &params;
    spec.params_size = sizeof params;
    return m->status == EMLX_OK ? make_node(m, &spec) : NULL;
}

emlx_tensor *packed_two(maker *m, const char *op, emlx_type type, emlx_tensor *a, emlx_tensor *b) {
    return make_op(m, op, type, 2, a, b);
}

emlx_tensor *packed_bits(maker *m, emlx_tensor *t, emlx_type type) {
    return make_op(m, "bitcast", type, 1, t);
}

static emlx_tensor *number(maker *m, int64_t value) { return make_integer(m, EMLX_U32, value); }

// (t >> shifts) & mask
static emlx_tensor *field(maker *m, emlx_tensor *t, emlx_tensor *shifts, int64_t mask) {
    emlx_tensor *low = packed_two(m, "right_shift", EMLX_U32, t, shifts);
    return packed_two(m, "bitwise_and", EMLX_U32, low, number(m, mask));
}

// `count` of the last axis from `first` on.
static emlx_tensor *part(maker *m, emlx_tensor *t, int64_t first, int64_t count) {
    int64_t starts[EMLX_MAX_RANK] = {0}, steps[EMLX_MAX_RANK];
    if (t == NULL) return NULL;
    emlx_shape shape = t->shape;
    for (int32_t d = 0; d < shape.rank; d++) steps[d] = 1;
    starts[shape.rank - 1] = first;
    shape.dims[shape.rank - 1] = count;
    return view_slice(m, t, starts, steps, &shape);
}

// Elements ---------------------------------------------------------------------------------------

// Where elements lie across words, three bytes are what they fill.
static emlx_tensor *triples(maker *m, emlx_tensor *words) {
    emlx_tensor *bytes = field(m, packed_cut(m, words, 1, 1), packed_steps(m, 4, 8), 255);
    bytes = packed_cut(m, packed_join(m, bytes), 1, 3);
    emlx_tensor *middle = packed_two(m, "left_shift", EMLX_U32, part(m, bytes, 1, 1), number(m, 8));
    emlx_tensor *high = packed_two(m, "left_shift", EMLX_U32, part(m, bytes, 2, 1), number(m, 16));
    emlx_tensor *low = packed_two(m, "bitwise_or", EMLX_U32, part(m, bytes, 0, 1), middle);
    return packed_two(m, "bitwise_or", EMLX_U32, low, high);
}

// The bits of all elements, as u32.
static emlx_tensor *unpack(maker *m, emlx_tensor *words, int32_t bits) {
    bool across = 32 % bits != 0;
    emlx_tensor *units = across ? triples(m, words) : packed_cut(m, words, 1, 1);
    emlx_tensor *shifts = packed_steps(m, (across ? 24 : 32) / bits, bits);
    return packed_join(m, field(m, units, shifts, ((int64_t)1 << bits) - 1));
}

// E2M1 is the upper half of an f16 whose exponent counts from 14 less.
static emlx_tensor *e2m1(maker *m, emlx_tensor *codes) {
    emlx_tensor *size =
        packed_two(m, "left_shift", EMLX_U32,
                   packed_two(m, "bitwise_and", EMLX_U32, codes, number(m, 7)), number(m, 9));
    emlx_tensor *sign =
        packed_two(m, "left_shift", EMLX_U32,
                   packed_two(m, "bitwise_and", EMLX_U32, codes, number(m, 8)), number(m, 12));
    emlx_tensor *both = packed_two(m, "bitwise_or", EMLX_U32, size, sign);
    emlx_tensor *half = packed_bits(m, make_cast(m, both, EMLX_U16), EMLX_F16);
    return packed_two(m, "multiply", EMLX_F32, make_cast(m, half, EMLX_F32),
                      make_cast(m, number(m, 16384), EMLX_F32));
}

static emlx_tensor *e4m3(maker *m, emlx_tensor *codes) {
    return make_cast(m, packed_bits(m, make_cast(m, codes, EMLX_U8), EMLX_F8_E4M3FN), EMLX_F32);
}

// A power of two by its exponent; that of 0 is below the normal numbers.
static emlx_tensor *e8m0(maker *m, emlx_tensor *codes) {
    emlx_tensor *bits =
        packed_two(m, "left_shift", EMLX_U32, make_cast(m, codes, EMLX_U32), number(m, 23));
    bits = packed_two(m, "max", EMLX_U32, bits, number(m, 0x400000));
    return packed_bits(m, bits, EMLX_F32);
}

// One number for each group of elements.
static emlx_tensor *a_group(maker *m, emlx_tensor *t) { return packed_cut(m, t, 1, 1); }

// Both steps are rounded to the type, as MLX does.
static emlx_tensor *affine(maker *m, const packed *p, emlx_type type) {
    emlx_tensor *q = make_cast(m, unpack(m, p->operands[0], p->how.info->bits), EMLX_F32);
    q = packed_cut(m, q, 1, p->how.group);
    emlx_tensor *scaled = packed_two(m, "multiply", type, q, a_group(m, p->operands[1]));
    return packed_join(m, packed_two(m, "add", type, scaled, a_group(m, p->operands[2])));
}

static emlx_tensor *microscaled(maker *m, const packed *p, emlx_type type) {
    packed_kind kind = p->how.kind;
    emlx_tensor *codes = unpack(m, p->operands[0], p->how.info->bits);
    emlx_tensor *q = kind == PACKED_mxfp8 ? e4m3(m, codes) : e2m1(m, codes);
    emlx_tensor *scales = p->operands[1];
    scales = kind == PACKED_nvfp4 ? e4m3(m, scales) : e8m0(m, scales);
    q = packed_cut(m, q, 1, p->how.group);
    return packed_join(m, packed_two(m, "multiply", type, q, a_group(m, scales)));
}

// Blocks -----------------------------------------------------------------------------------------

// The f16 at a place in blocks, as f32, with an axis of length 1 last.
static emlx_tensor *half_at(maker *m, emlx_tensor *blocks, int64_t at) {
    emlx_tensor *high = make_cast(m, part(m, blocks, at + 1, 1), EMLX_U16);
    high = packed_two(m, "left_shift", EMLX_U16, high, make_integer(m, EMLX_U16, 8));
    emlx_tensor *both = packed_two(m, "bitwise_or", EMLX_U16, part(m, blocks, at, 1), high);
    return make_cast(m, packed_bits(m, both, EMLX_F16), EMLX_F32);
}

static emlx_tensor *wide_part(maker *m, emlx_tensor *blocks, int64_t at, int64_t count) {
    return make_cast(m, part(m, blocks, at, count), EMLX_U32);
}

static emlx_tensor *q8_0(maker *m, emlx_tensor *blocks) {
    emlx_tensor *q = packed_bits(m, part(m, blocks, 2, 32), EMLX_S8);
    return packed_two(m, "multiply", EMLX_F32, half_at(m, blocks, 0), make_cast(m, q, EMLX_F32));
}

static emlx_tensor *less(maker *m, emlx_tensor *q, int64_t zero) {
    return packed_two(m, "subtract", EMLX_F32, make_cast(m, q, EMLX_F32),
                      make_cast(m, number(m, zero), EMLX_F32));
}

// Low nibbles are the first half of a block.
static emlx_tensor *q4_0(maker *m, emlx_tensor *blocks) {
    emlx_tensor *bytes = packed_cut(m, wide_part(m, blocks, 2, 16), 1, 16);
    emlx_tensor *shifts = packed_cut(m, packed_steps(m, 2, 4), 1, 1);
    emlx_tensor *q = packed_join(m, field(m, bytes, shifts, 15));
    return packed_two(m, "multiply", EMLX_F32, half_at(m, blocks, 0), less(m, q, 8));
}

// Eight numbers of six bits: of the first four in bytes of their own, of the others the low four
// bits in `low` and the high two above those of the first.
static emlx_tensor *six_bits(maker *m, emlx_tensor *first, emlx_tensor *low) {
    emlx_tensor *high =
        packed_two(m, "left_shift", EMLX_U32, field(m, first, number(m, 6), 3), number(m, 4));
    emlx_tensor *second = packed_two(m, "bitwise_or", EMLX_U32, low, high);
    first = field(m, first, number(m, 0), 63);
    emlx_tensor *is_second = packed_cut(m, packed_steps(m, 2, 1), 1, 1);
    first = packed_cut(m, first, 1, 4), second = packed_cut(m, second, 1, 4);
    return packed_join(m, make_op(m, "select", EMLX_U32, 3, is_second, second, first));
}

// Scale and bias of eight groups; the low nibbles of 32 bytes are one, the high ones the next.
static emlx_tensor *q4_k(maker *m, emlx_tensor *blocks) {
    emlx_tensor *s = wide_part(m, blocks, 4, 4), *b = wide_part(m, blocks, 8, 4);
    emlx_tensor *more = wide_part(m, blocks, 12, 4);
    emlx_tensor *scale = six_bits(m, s, field(m, more, number(m, 0), 15));
    emlx_tensor *bias = six_bits(m, b, field(m, more, number(m, 4), 15));
    scale =
        packed_two(m, "multiply", EMLX_F32, half_at(m, blocks, 0), make_cast(m, scale, EMLX_F32));
    bias = packed_two(m, "multiply", EMLX_F32, half_at(m, blocks, 2), make_cast(m, bias, EMLX_F32));
    emlx_tensor *bytes = packed_cut(m, packed_cut(m, wide_part(m, blocks, 16, 128), 1, 32), 1, 32);
    emlx_tensor *q = field(m, bytes, packed_cut(m, packed_steps(m, 2, 4), 1, 1), 15);
    q = packed_cut(m, packed_join(m, packed_join(m, q)), 1, 32);
    q = packed_two(m, "multiply", EMLX_F32, packed_cut(m, scale, 1, 1), make_cast(m, q, EMLX_F32));
    return packed_join(m, packed_two(m, "subtract", EMLX_F32, q, packed_cut(m, bias, 1, 1)));
}

// Two halves of 128 values, of four times 32: the low four bits from two runs of 32 bytes, low
// nibbles first, the high two from one.
static emlx_tensor *q6_k(maker *m, emlx_tensor *blocks) {
    emlx_tensor *low = packed_cut(m, packed_cut(m, wide_part(m, blocks, 0, 128), 1, 64), 1, 64);
    emlx_tensor *high = packed_cut(m, packed_cut(m, wide_part(m, blocks, 128, 64), 1, 32), 1, 32);
    low = field(m, low, packed_cut(m, packed_steps(m, 2, 4), 1, 1), 15);
    high = field(m, high, packed_cut(m, packed_steps(m, 4, 2), 1, 1), 3);
    low = packed_join(m, packed_join(m, low)), high = packed_join(m, packed_join(m, high));
    high = packed_two(m, "left_shift", EMLX_U32, high, number(m, 4));
    emlx_tensor *q = less(m, packed_two(m, "bitwise_or", EMLX_U32, low, high), 32);
    emlx_tensor *scale = packed_bits(m, part(m, blocks, 192, 16), EMLX_S8);
    scale =
        packed_two(m, "multiply", EMLX_F32, half_at(m, blocks, 208), make_cast(m, scale, EMLX_F32));
    q = packed_cut(m, q, 1, 16);
    return packed_join(m, packed_two(m, "multiply", EMLX_F32, packed_cut(m, scale, 1, 1), q));
}

static emlx_tensor *in_blocks(maker *m, const packed *p) {
    static emlx_tensor *(*const readers[PACKED_COUNT])(maker *, emlx_tensor *) = {
        [PACKED_q4_0] = q4_0, [PACKED_q8_0] = q8_0, [PACKED_q4_k] = q4_k, [PACKED_q6_k] = q6_k};
    emlx_tensor *blocks = packed_cut(m, p->operands[0], 1, p->how.info->block_bytes);
    return packed_join(m, readers[p->how.kind](m, blocks));
}

// The whole --------------------------------------------------------------------------------------

static emlx_tensor *plain_values(maker *m, const packed *p, emlx_type type) {
    if (p->how.info->operands == 3) return affine(m, p, type);
    if (p->how.info->operands == 2) return microscaled(m, p, type);
    return make_cast(m, in_blocks(m, p), type);
}

emlx_tensor *make_dequantized(maker *m, const packed *p, emlx_type type) {
    either_params params = {
        .function = EITHER_dequantize, .bits = (uint32_t)p->how.kind, .count = p->how.group};
    emlx_tensor *plain = plain_values(m, p, type);
    return make_either(m, &params, plain, p->operands, p->how.info->operands);
}

// The operands go away when somebody else computes the node, hence the lock, which is waited for:
// without them all numbers would have to be written out.
bool packed_see(maker *m, emlx_tensor *t, packed *out) {
    const either_params *params = t->params;
    if (t->primitive != PRIM_either || params->function != EITHER_dequantize) return false;
    graph_lock();
    uint32_t count = t->input_count;
    for (uint32_t i = 1; i < count; i++) out->operands[i - 1] = emlx_tensor_retain(t->inputs[i]);
    graph_unlock();
    for (uint32_t i = 1; i < count; i++) make_keep(m, EMLX_OK, out->operands[i - 1]);
    out->how = (packing){&packed_table[params->bits], (packed_kind)params->bits, params->count};
    out->shape = t->shape;
    return count > 0;
}

// The matrix that a view shows all of, transposed; NULL where it does not.
static emlx_tensor *transposed(maker *m, emlx_tensor *t) {
    const region *r = &((const view_params *)t->params)->region;
    emlx_tensor *base = NULL;
    if (r->offset != 0 || r->start_count != 0 || r->strides[0] != 1 ||
        r->strides[1] != t->shape.dims[0])
        return NULL;
    graph_lock();
    if (t->input_count > 0) base = emlx_tensor_retain(t->inputs[0]);
    graph_unlock();
    if (base == NULL || make_keep(m, EMLX_OK, base) == NULL) return NULL;
    bool all = base->shape.rank == 2 && base->shape.dims[0] == t->shape.dims[1] &&
               base->shape.dims[1] == t->shape.dims[0];
    return all ? base : NULL;
}

bool packed_behind(maker *m, emlx_tensor *t, packed *out, bool *turned) {
    *turned = t->primitive == PRIM_view && t->shape.rank == 2;
    if (*turned) t = transposed(m, t);
    return t != NULL && packed_see(m, t, out);
}
