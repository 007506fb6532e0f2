// SPDX-License-Identifier: Apache-2.0
// custom.c - folds with a function of scalars: a thread a result, element after element; and the
// positions of windows' winners.
#include <stdio.h>

#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/emit.h"

// The start is a constant, the same element everywhere, or made by steps before the carry.
static bool starts_in_time(const plan_kernel *k) {
    const expr_step *s = &k->steps[k->start];
    bool fixed = s->kind == EXPR_CONST || (s->kind == EXPR_LOAD && !step_loads(k, s));
    return fixed || k->start < k->carry;
}

void emit_custom(emitter *e) {
    const plan_kernel *k = e->kernel;
    int32_t kept[EMLX_MAX_RANK], folded[EMLX_MAX_RANK], kept_count = 0, folded_count = 0;
    int64_t cells = 1, length = 1;
    char carry[48];
    for (int32_t d = 0; d < k->rank; d++) {
        bool folds = k->axes >> d & 1;
        *(folds ? &folded[folded_count++] : &kept[kept_count++]) = d;
        *(folds ? &length : &cells) *= k->dims[d];
    }
    if (!starts_in_time(k)) e->refused = "a fold whose start comes late";
    if (cells == 0 || length == 0) return;
    const char *type = type_text(k->steps[k->carry].type);
    uint32_t length_word = code_word(e->code, length), out = output_word(e);
    emit_function(e, 'k', 256);
    emit_bases(e);
    emit_fixed(e);
    emit_loop(e, cells);
    EMIT("  const X cell = t;\n  T_%s c = T_%s();\n  bool first = true;\n", type, type);
    emit_indices(e, "cell", kept, kept_count);
    EMIT("  for (X f = 0; f < p.w[%u]; f++) {\n", length_word);
    emit_indices(e, "f", folded, folded_count);
    snprintf(carry, sizeof carry, "first ? v%u : c", k->start);
    emit_steps(e, NULL, carry);
    EMIT("  c = v%u;\n  first = false;\n  }\n  ((T_%s *)p.w[%u])[cell] = c;\n }\n}\n", k->reduced,
         type, out);
}

// Windows of a dense operand: the last of equal winners; a NaN wins only as the first element.
void emit_pick(emitter *e) {
    const plan_kernel *k = e->kernel;
    const pick_params *p = k->params;
    const emlx_shape *out = &e->plan->values[k->output].shape;
    int type = k->accesses[0].type;
    int64_t count = emlx_shape_count(out), strides[EMLX_MAX_RANK], window = 1;
    uint32_t word[EMLX_MAX_RANK];
    char x[CAST_TEXT];
    if (type_is_complex((emlx_type)type)) e->refused = "windows of complex numbers";
    if (count == 0) return;
    const char *name = type_text(type);
    const char *held = type_text(type_compute((emlx_type)type));
    shape_strides(&k->shapes[0], strides);
    uint32_t in = operand_word(e, 0), to = output_word(e);
    emit_function(e, 'k', 256);
    emit_loop(e, count);
    EMIT("  ll left = t, base = 0;\n");
    for (int32_t d = out->rank - 1; d >= 0; d--) {
        word[d] = code_word(e->code, out->dims[d]);
        code_word(e->code, strides[d] * p->strides[d]);
        code_word(e->code, p->window[d]);
        code_word(e->code, strides[d]);
        window *= p->window[d];
        EMIT("  base += left %% p.w[%u] * p.w[%u]; left /= p.w[%u];\n", word[d], word[d] + 1,
             word[d]);
    }
    cast_text(x, type, type_compute((emlx_type)type), "x[off]");
    EMIT("  const T_%s *x = (const T_%s *)p.w[%u] + base;\n  T_%s best;\n  ll place = 0;\n"
         "  for (ll c = 0; c < p.w[%u]; c++) {\n   ll q = c, off = 0;\n",
         name, name, in, held, code_word(e->code, window));
    for (int32_t d = out->rank - 1; d >= 0; d--)
        EMIT("   off += q %% p.w[%u] * p.w[%u]; q /= p.w[%u];\n", word[d] + 2, word[d] + 3,
             word[d] + 2);
    EMIT("   const T_%s v = %s;\n   if (c == 0 || v %s best) { best = v; place = off; }\n  }\n"
         "  ((ll *)p.w[%u])[t] = base + place;\n }\n}\n",
         held, x, p->lowest ? "<=" : ">=", to);
}
