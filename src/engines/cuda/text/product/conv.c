// SPDX-License-Identifier: Apache-2.0
// conv.c - convolutions by our own kernel, for what no library takes: a thread a result, every term
// in order; exact for integers, in double for floats. Padding counts as zeros that are multiplied.
#include <stdio.h>

#include "base/types.h"
#include "engines/cuda/text/product/depthwise.h"

static int accumulated(int type) {
    if (type_is_complex((emlx_type)type)) return EMLX_C128;
    return type_is_float((emlx_type)type) ? EMLX_F64 : (int)type_whole((emlx_type)type);
}

// n, f and the spatial indices o0, o1, ... of result t.
static void emit_result_indices(emitter *e, const emlx_shape *out, bool channels_last) {
    char left[16] = "n1";
    EMIT("  const X n1 = t;\n");
    for (int32_t d = out->rank - 1; d > 0; d--) {
        bool filter = d == (channels_last ? out->rank - 1 : 1);
        EMIT("  const X u%d = ", (int)d);
        emit_quotient(e, left, out->dims[d]);
        EMIT(", %c%d = %s - u%d * (X)p.w[%u];\n", filter ? 'f' : 'o',
             filter ? 0 : (int)(channels_last ? d - 1 : d - 2), left, (int)d,
             code_word(e->code, out->dims[d]));
        snprintf(left, sizeof left, "u%d", (int)d);
    }
    EMIT("  const X n = %s;\n", left);
}

// The loops over taps, and for each whether it meets an element, and where.
static void emit_taps(emitter *e, const conv_params *p) {
    const plan_kernel *k = e->kernel;
    const plan_access *x = &k->accesses[0], *w = &k->accesses[1];
    for (int32_t d = 0; d + 2 < k->shapes[0].rank; d++) {
        uint32_t word = code_word(e->code, k->shapes[1].dims[d + 2]);
        code_word(e->code, p->strides[d]);
        code_word(e->code, p->kernel_dilation[d]);
        code_word(e->code, p->low[d]);
        code_word(e->code, p->input_dilation[d]);
        code_word(e->code, k->shapes[0].dims[d + 2]);
        code_word(e->code, x->strides[d + 2]);
        code_word(e->code, w->strides[d + 2]);
        EMIT("  for (X j%d = 0; j%d < p.w[%u]; j%d++) {\n"
             "   const X at%d = o%d * (X)p.w[%u] + j%d * (X)p.w[%u] - (X)p.w[%u];\n",
             (int)d, (int)d, word, (int)d, (int)d, (int)d, word + 1, (int)d, word + 2, word + 3);
        if (p->input_dilation[d] == 1)
            EMIT("   const X e%d = at%d;\n   const bool in%d = in%d && e%d >= 0 && e%d < "
                 "(X)p.w[%u];\n",
                 (int)d, (int)d, (int)d + 1, (int)d, (int)d, (int)d, word + 5);
        else
            EMIT("   const X e%d = at%d / (X)p.w[%u];\n"
                 "   const bool in%d = in%d && at%d >= 0 && e%d * (X)p.w[%u] == at%d && "
                 "e%d < (X)p.w[%u];\n",
                 (int)d, (int)d, word + 4, (int)d + 1, (int)d, (int)d, (int)d, word + 4, (int)d,
                 (int)d, word + 5);
        EMIT("   const ll y%d = y%d + e%d * p.w[%u], v%d = v%d + j%d * p.w[%u];\n", (int)d + 1,
             (int)d, (int)d, word + 6, (int)d + 1, (int)d, (int)d, word + 7);
    }
}

static void emit_terms(emitter *e, const conv_params *p, int wide) {
    const plan_kernel *k = e->kernel;
    int32_t spatial = k->shapes[0].rank - 2;
    char left[CAST_TEXT], right[CAST_TEXT];
    bool whole = type_is_integer((emlx_type)wide);
    int out = e->plan->values[k->output].type;
    EMIT("  for (X c = 0; c < p.w[%u]; c++) {\n  const bool in0 = true;\n"
         "  const ll y0 = base + c * p.w[%u], v0 = weights + c * p.w[%u];\n",
         code_word(e->code, k->shapes[1].dims[1]), code_word(e->code, k->accesses[0].strides[1]),
         code_word(e->code, k->accesses[1].strides[1]));
    emit_taps(e, p);
    const char *a = type_text(k->accesses[0].type), *b = type_text(k->accesses[1].type);
    cast_text(left, k->accesses[0].type, whole ? out : wide, "x");
    cast_text(right, k->accesses[1].type, whole ? out : wide, "y");
    EMIT("   T_%s x = T_%s();\n   if (in%d) x = input[y%d];\n   const T_%s y = kernel[v%d];\n"
         "   sum = f_add(sum, f_multiply((T_%s)(%s), (T_%s)(%s)));\n",
         a, a, (int)spatial, (int)spatial, b, (int)spatial, type_text(wide), left, type_text(wide),
         right);
    for (int32_t d = 0; d < spatial; d++) EMIT("  }");
    EMIT("  }\n");
}

void emit_conv(emitter *e) {
    const plan_kernel *k = e->kernel;
    const conv_params *p = k->params;
    const plan_access *x = &k->accesses[0], *w = &k->accesses[1];
    const plan_value *out = &e->plan->values[k->output];
    int wide = accumulated(out->type);
    int64_t count = emlx_shape_count(&out->shape);
    char cast[CAST_TEXT];
    if (count == 0) return;
    if (depthwise_suits(e->plan, k)) {
        emit_depthwise(e);
        return;
    }
    e->wide = count > INDEX_MOST;
    if (x->start_count + w->start_count > 0) e->refused = "a convolution of moving regions";
    int32_t filter = p->channels_last ? out->shape.rank - 1 : 1;
    uint32_t in = operand_word(e, 0), weights = operand_word(e, 1), to = output_word(e);
    emit_function(e, 'k', 256);
    EMIT(" const T_%s *input = (const T_%s *)p.w[%u];\n const T_%s *kernel = (const T_%s "
         "*)p.w[%u];\n",
         type_text(x->type), type_text(x->type), in, type_text(w->type), type_text(w->type),
         weights);
    emit_loop(e, count);
    emit_result_indices(e, &out->shape, p->channels_last != 0);
    int64_t groups = p->feature_groups * p->batch_groups;
    EMIT("  const X group = ");
    emit_quotient(e, "f0", out->shape.dims[filter] / groups);
    EMIT(";\n  const ll base = (n + group * (ll)p.w[%u]) * p.w[%u] + group * p.w[%u],\n"
         "   weights = f0 * p.w[%u];\n  T_%s sum = T_%s();\n",
         code_word(e->code, p->batch_groups > 1 ? out->shape.dims[0] : 0),
         code_word(e->code, x->strides[0]),
         code_word(e->code, p->feature_groups > 1 ? k->shapes[1].dims[1] * x->strides[1] : 0),
         code_word(e->code, w->strides[0]), type_text(wide), type_text(wide));
    emit_terms(e, p, wide);
    cast_text(cast, wide, out->type, "sum");
    EMIT("  ((T_%s *)p.w[%u])[t] = %s;\n }\n}\n", type_text(out->type), to, cast);
}
