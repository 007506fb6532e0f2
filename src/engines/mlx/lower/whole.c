// SPDX-License-Identifier: Apache-2.0
// whole.c - functions that MLX has as a whole: see EITHER_MAP in graph.h.
#include <string.h>

#include "engines/mlx/lower/builder.h"
#include "graph/packed.h"

static bool is_fast(emlx_type type) {
    return type == EMLX_F32 || type == EMLX_F16 || type == EMLX_BF16;
}

static int64_t bits_of(double number) {
    int64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static value lower_folded(builder *b, const plan_node *n, mlx_code code, bool has_keep) {
    const either_params *p = n->params;
    const plan_node *x = mlx_operand_node(b, n, 0);
    int64_t ints[EMLX_MAX_RANK + 1] = {0};
    size_t count = has_keep;
    value operand = mlx_operand_value(b, n, 0);
    for (int32_t d = 0; d < x->shape.rank; d++)
        if (p->bits >> d & 1) ints[count++] = d;
    return mlx_emit(b, code, mlx_dtype_of(b, operand), &operand, 1, ints, count);
}

static value lower_softmax(builder *b, const plan_node *n) {
    return lower_folded(b, n, MLX_softmax, false);
}

static value lower_logsumexp(builder *b, const plan_node *n) {
    return mlx_reshape(b, lower_folded(b, n, MLX_logsumexp, true), &n->shape);
}

// The result has the type that its operands make together. MLX's CPU rounds narrow floats between
// the steps.
static value lower_norm(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    const int64_t eps = bits_of(p->n[0]);
    value operands[3];
    mlx_dtype dtype = mlx_dtype_of(b, mlx_operand_value(b, n, 0));
    for (uint32_t i = 0; i < n->operand_count; i++) {
        operands[i] = mlx_operand_value(b, n, i);
        if (b->traits->cpu) operands[i] = mlx_to_dtype(b, operands[i], MLX_DTYPE_f32);
        if (mlx_dtype_of(b, operands[i]) != dtype) dtype = MLX_DTYPE_f32;
    }
    mlx_code code = p->function == EITHER_rms_norm ? MLX_rms_norm : MLX_layer_norm;
    return mlx_emit(b, code, dtype, operands, n->operand_count, &eps, 1);
}

// Positions and sums are of the operand's type there: narrow floats become f32.
static value wide_on_cpu(builder *b, value x) {
    return b->traits->cpu ? mlx_to_dtype(b, x, MLX_DTYPE_f32) : x;
}

static value lower_rope(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    const int64_t ints[] = {p->count, p->bits & ROPE_TRADITIONAL, bits_of(p->n[0]),
                            bits_of(p->n[1])};
    value operands[3] = {wide_on_cpu(b, mlx_operand_value(b, n, 0)),
                         mlx_to_dtype(b, mlx_operand_value(b, n, 1), MLX_DTYPE_s32)};
    if (n->operand_count == 3)
        operands[2] = mlx_to_dtype(b, mlx_operand_value(b, n, 2), MLX_DTYPE_f32);
    return mlx_emit(b, MLX_rope, mlx_dtype_of(b, operands[0]), operands, n->operand_count, ints, 4);
}

static value lower_attention(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    const int64_t ints[] = {bits_of(p->n[0]), p->bits & ATTENTION_CAUSAL,
                            (p->bits & ATTENTION_SINKS) != 0};
    value operands[4] = {0};
    for (uint32_t i = 0; i < n->operand_count; i++)
        operands[i] = wide_on_cpu(b, mlx_operand_value(b, n, i));
    return mlx_emit(b, MLX_attention, mlx_dtype_of(b, operands[0]), operands, n->operand_count,
                    ints, 3);
}

// The mode of MLX's that a format is; MLX_MODE_COUNT for one of others.
static mlx_mode mode_of(const packed_info *p) {
    static const char *const names[] = {
#define XX(name) #name,
        MLX_MODE_MAP(XX)
#undef XX
    };
    mlx_mode mode = 0;
    while (mode < MLX_MODE_COUNT && strcmp(names[mode], p->mode) != 0) mode++;
    return mode;
}

// MLX's CPU sums in the operand's type.
static value lower_quantized_dot(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    const packed_info *format = &packed_table[p->bits];
    const int64_t ints[] = {mode_of(format), p->count, format->bits};
    const plan_node *x = mlx_operand_node(b, n, 0);
    int64_t terms = x->shape.dims[x->shape.rank - 1];
    const emlx_shape rows = {2, {emlx_shape_count(&x->shape) / terms, terms}};
    mlx_dtype dtype = b->traits->cpu ? MLX_DTYPE_f32 : mlx_dtype_for(n->type);
    value operands[4] = {0};
    for (uint32_t i = 0; i < n->operand_count; i++) {
        operands[i] = mlx_operand_value(b, n, i);
        bool packed = i == 1 || format->operands == 2;
        if (i == 0 || !packed) operands[i] = mlx_to_dtype(b, operands[i], dtype);
    }
    operands[0] = mlx_reshape(b, operands[0], &rows);
    value product = mlx_emit(b, MLX_quantized_matmul, dtype, operands, n->operand_count, ints, 3);
    return mlx_reshape(b, product, &n->shape);
}

static value (*const lowerings[EITHER_COUNT])(builder *, const plan_node *) = {
    [EITHER_softmax] = lower_softmax,
    [EITHER_logsumexp] = lower_logsumexp,
    [EITHER_rms_norm] = lower_norm,
    [EITHER_layer_norm] = lower_norm,
    [EITHER_rope] = lower_rope,
    [EITHER_attention] = lower_attention,
    [EITHER_quantized_dot] = lower_quantized_dot,
};

value mlx_lower_either(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    return mlx_to_dtype(b, lowerings[p->function](b, n), mlx_dtype_for(n->type));
}

// One position, which the axis before the last counts from; batches of them are turned wrongly in
// some layouts.
static bool can_rope(const emlx_tensor *t) {
    return t->shape.rank >= 3 && t->inputs[2]->shape.rank == 0;
}

// Queries, keys and values of one type; of the masks only that which MLX makes itself, by which
// every query sees a key: of what sees none it makes NaN, or not, by the device.
static bool can_attention(const emlx_tensor *t) {
    const either_params *p = t->params;
    int64_t more = t->inputs[2]->shape.dims[2] - t->inputs[1]->shape.dims[2];
    if (p->bits & ~(uint32_t)(ATTENTION_CAUSAL | ATTENTION_SINKS)) return false;
    if (p->bits & ATTENTION_CAUSAL && (p->count != more || more < 0)) return false;
    for (uint32_t i = 2; i < t->input_count; i++)
        if (t->inputs[i]->type != t->type) return false;
    return t->inputs[1]->type == t->type;
}

// Words and scales are as it packs them itself.
static bool can_quantized_dot(const emlx_tensor *t) {
    const packed_info *format = &packed_table[((const either_params *)t->params)->bits];
    for (uint32_t i = 1; i < t->input_count; i++)
        if (emlx_shape_count(&t->inputs[i]->shape) == 0) return false;
    return mode_of(format) < MLX_MODE_COUNT && is_fast(t->inputs[1]->type);
}

static bool (*const conditions[EITHER_COUNT])(const emlx_tensor *) = {
    [EITHER_rope] = can_rope,
    [EITHER_attention] = can_attention,
    [EITHER_quantized_dot] = can_quantized_dot,
};

// Operands that are numbers of the function, rather than positions or packed ones.
static bool is_number(either_function function, uint32_t operand) {
    if (function == EITHER_rope) return operand != 2;
    return function != EITHER_quantized_dot || operand < 2;
}

static bool has_shape(const mlx_traits *traits, const emlx_tensor *t) {
    for (int32_t d = 0; d < t->shape.rank; d++)
        if (t->shape.dims[d] > INT32_MAX) return false;
    return t->shape.rank <= traits->rank;
}

bool mlx_takes(const mlx_traits *traits, const emlx_tensor *either) {
    const either_params *p = either->params;
    if (traits->exact || lowerings[p->function] == NULL || !is_fast(either->type)) return false;
    for (uint32_t i = 0; i < either->input_count; i++) {
        if (is_number(p->function, i) && !is_fast(either->inputs[i]->type)) return false;
        if (!has_shape(traits, either->inputs[i])) return false;
    }
    return conditions[p->function] == NULL || conditions[p->function](either);
}
