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
    emit_stores(e);
    EMIT("  c = v%u;\n  first = false;\n  }\n  ((T_%s *)p.w[%u])[cell] = c;\n }\n}\n", k->reduced,
         type, out);
}

// The loops over a window's elements, one in another, and how far each is from the first.
static void emit_window_loops(emitter *e, const pick_params *p, int32_t rank,
                              const int64_t *strides) {
    for (int32_t d = 0; d < rank; d++)
        if (p->window[d] > 1)
            EMIT("  for (X c%d = 0; c%d < p.w[%u]; c%d++)\n", (int)d, (int)d,
                 code_word(e->code, p->window[d]), (int)d);
    EMIT("  {\n   const ll off = 0");
    for (int32_t d = 0; d < rank; d++)
        if (p->window[d] > 1) EMIT(" + c%d * p.w[%u]", (int)d, code_word(e->code, strides[d]));
    EMIT(";\n");
}

// Windows of a dense operand: the last of equal winners; a NaN wins only as the first element.
void emit_pick(emitter *e) {
    const plan_kernel *k = e->kernel;
    const pick_params *p = k->params;
    const emlx_shape *out = &e->plan->values[k->output].shape;
    int type = k->accesses[0].type;
    int64_t count = emlx_shape_count(out), strides[EMLX_MAX_RANK];
    char x[CAST_TEXT];
    if (type_is_complex((emlx_type)type)) e->refused = "windows of complex numbers";
    if (count == 0) return;
    const char *name = type_text(type);
    const char *held = type_text(type_compute((emlx_type)type));
    shape_strides(&k->shapes[0], strides);
    e->wide = count > INDEX_MOST;
    uint32_t in = operand_word(e, 0), to = output_word(e);
    emit_function(e, 'k', 256);
    emit_loop(e, count);
    EMIT("  X left = t;\n  ll base = 0;\n");
    for (int32_t d = out->rank - 1; d >= 0; d--)
        emit_axis(e, "base", out->dims[d], strides[d] * p->strides[d]);
    cast_text(x, type, type_compute((emlx_type)type), "x[off]");
    EMIT("  const T_%s *x = (const T_%s *)p.w[%u] + base;\n  T_%s best;\n  ll place = 0;\n"
         "  bool first = true;\n",
         name, name, in, held);
    emit_window_loops(e, p, out->rank, strides);
    EMIT("   const T_%s v = %s;\n   if (first || v %s best) { best = v; place = off; }\n"
         "   first = false;\n  }\n  ((ll *)p.w[%u])[t] = base + place;\n }\n}\n",
         held, x, p->lowest ? "<=" : ">=", to);
}
