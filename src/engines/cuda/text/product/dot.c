// SPDX-License-Identifier: Apache-2.0
// dot.c - contractions by our own kernel.
#include <stdio.h>

#include "base/types.h"
#include "engines/cuda/text/emit.h"

// Axes of an operand that are counted together, innermost last.
typedef struct axis_list {
    int64_t dims[EMLX_MAX_RANK], strides[EMLX_MAX_RANK], count;
    int32_t rank;
} axis_list;

static void list_add(axis_list *list, int64_t dim, int64_t stride) {
    list->dims[list->rank] = dim;
    list->strides[list->rank++] = stride;
    list->count *= dim;
}

static bool is_contracted(const int32_t *axes, int32_t count, int32_t d) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == d) return true;
    return false;
}

static axis_list batch_axes(const plan_kernel *k, int side) {
    axis_list list = {.count = 1};
    const dot_params *p = k->params;
    for (int32_t d = 0; d < p->batch; d++)
        list_add(&list, k->shapes[side].dims[d], k->accesses[side].strides[d]);
    return list;
}

static axis_list free_axes(const plan_kernel *k, int side) {
    axis_list list = {.count = 1};
    const dot_params *p = k->params;
    for (int32_t d = p->batch; d < k->shapes[side].rank; d++)
        if (!is_contracted(side == 0 ? p->left : p->right, p->contracted, d))
            list_add(&list, k->shapes[side].dims[d], k->accesses[side].strides[d]);
    return list;
}

static axis_list term_axes(const plan_kernel *k, int side) {
    axis_list list = {.count = 1};
    const dot_params *p = k->params;
    for (int32_t i = 0; i < p->contracted; i++) {
        int32_t d = side == 0 ? p->left[i] : p->right[i];
        list_add(&list, k->shapes[side].dims[d], k->accesses[side].strides[d]);
    }
    return list;
}

// A function that gives the offset of element `left` of some axes.
static void emit_offset_of(emitter *e, const char *name, const axis_list *list) {
    EMIT(" static METHOD ll %s(const Words<#> &p, ll left) {\n  ll off = 0;\n", name);
    for (int32_t d = list->rank - 1; d >= 0; d--) {
        uint32_t stride = code_word(e->code, list->strides[d]);
        if (d == 0) {
            EMIT("  off += left * p.w[%u];\n", stride);
            break;
        }
        uint32_t dim = code_word(e->code, list->dims[d]);
        EMIT("  off += left %% p.w[%u] * p.w[%u]; left /= p.w[%u];\n", dim, stride, dim);
    }
    EMIT("  return off;\n }\n");
}

static int accumulated(int type) {
    if (type_is_complex((emlx_type)type)) return EMLX_C128;
    return type_is_float((emlx_type)type) ? EMLX_F64 : type_whole((emlx_type)type);
}

// Integers are multiplied without a sign, and in 32 bits at least.
static const char *sum_type(int type) {
    if (!type_is_integer((emlx_type)type)) return type_text(type);
    return type_table[type].bits > 32 ? "u64" : "u32";
}

static void emit_conversions(emitter *e, int wide, int out) {
    const plan_kernel *k = e->kernel;
    const char *a = sum_type(wide);
    char x[CAST_TEXT];
    bool whole = type_is_integer((emlx_type)wide);
    for (int side = 0; side < 2; side++) {
        const char *type = type_text(k->accesses[side].type);
        cast_text(x, k->accesses[side].type, whole ? out : wide, "x");
        EMIT(" typedef T_%s %c;\n static METHOD A %s(T_%s x) { return %s(%s); }\n", type,
             side == 0 ? 'L' : 'R', side == 0 ? "left" : "right", type, whole ? "(A)" : "", x);
    }
    if (whole)
        cast_text(x, a[1] == '6' ? EMLX_U64 : EMLX_U32, out, "x");
    else
        cast_text(x, wide, out, "x");
    EMIT(" static METHOD T result(A x) { return %s; }\n", x);
    EMIT(" static METHOD A add(A s, A x, A y) { return f_add(s, f_multiply(x, y)); }\n");
}

void emit_dot(emitter *e) {
    const plan_kernel *k = e->kernel;
    int out = e->plan->values[k->output].type, wide = accumulated(out);
    axis_list batch = batch_axes(k, 0), right_batch = batch_axes(k, 1);
    axis_list rows = free_axes(k, 0), columns = free_axes(k, 1);
    axis_list terms = term_axes(k, 0), right_terms = term_axes(k, 1);
    if (batch.count * rows.count * columns.count == 0) return;
    e->code->parts |= PART_DOT;
    uint32_t left = operand_word(e, 0), right = operand_word(e, 1), to = output_word(e);
    bool lie = terms.rank > 0 && terms.strides[terms.rank - 1] == 1;
    bool lie_right = right_terms.rank > 0 && right_terms.strides[right_terms.rank - 1] == 1;
    EMIT("struct Dot@ {\n typedef T_%s A;\n typedef T_%s T;\n static const bool TERMS_LIE = %d;\n"
         " static const bool TERMS_LIE_RIGHT = %d;\n",
         sum_type(wide), type_text(out), lie, lie_right);
    emit_conversions(e, wide, out);
    emit_offset_of(e, "left_batch", &batch);
    emit_offset_of(e, "right_batch", &right_batch);
    emit_offset_of(e, "row", &rows);
    emit_offset_of(e, "column", &columns);
    emit_offset_of(e, "left_term", &terms);
    emit_offset_of(e, "right_term", &right_terms);
    EMIT("};\n");
    emit_function(e, 'k', 256);
    EMIT(" dot_tiles<Dot@>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", left,
         right, to, code_word(e->code, rows.count), code_word(e->code, columns.count),
         code_word(e->code, terms.count));
    int64_t blocks = (rows.count + 63) / 64 * ((columns.count + 63) / 64) * batch.count;
    code_launch_add(e->code, 'k', blocks * 256, 0);
    if (k->accesses[0].start_count + k->accesses[1].start_count > 0)
        e->refused = "a product of regions with run-time starts";
}
