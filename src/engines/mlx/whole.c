// SPDX-License-Identifier: Apache-2.0
// whole.c - functions that MLX has as a whole: see EITHER_MAP in graph.h.
#include <string.h>

#include "engines/mlx/builder.h"

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

static value (*const lowerings[EITHER_COUNT])(builder *, const plan_node *) = {
    [EITHER_softmax] = lower_softmax,
    [EITHER_logsumexp] = lower_logsumexp,
    [EITHER_rms_norm] = lower_norm,
    [EITHER_layer_norm] = lower_norm,
};

value mlx_lower_either(builder *b, const plan_node *n) {
    const either_params *p = n->params;
    return mlx_to_dtype(b, lowerings[p->function](b, n), mlx_dtype_for(n->type));
}

bool mlx_takes(const mlx_traits *traits, const emlx_tensor *either) {
    const either_params *p = either->params;
    if (traits->exact || lowerings[p->function] == NULL || !is_fast(either->type)) return false;
    for (uint32_t i = 0; i < either->input_count; i++) {
        const emlx_tensor *t = either->inputs[i];
        if (!is_fast(t->type) || t->shape.rank > traits->rank) return false;
        for (int32_t d = 0; d < t->shape.rank; d++)
            if (t->shape.dims[d] > INT32_MAX) return false;
    }
    return true;
}
