// SPDX-License-Identifier: Apache-2.0
// emit.c - accesses, indices and expressions in generated text.
#include "engines/cuda/text/emit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shape.h"
#include "base/types.h"

// Enough blocks to fill any card while each thread still has several elements.
enum { BLOCKS_MOST = 2112 };

int64_t axes_product(const int64_t *dims, int32_t rank) {
    int64_t count = 1;
    for (int32_t d = 0; d < rank; d++) count *= dims[d];
    return count;
}

// Functions and words -----------------------------------------------------------------------------

static bool is_far(const plan_kernel *k, const plan_access *a) {
    int64_t span = 0;
    for (int32_t d = 0; d < k->rank; d++)
        if (k->dims[d] > 1) span += llabs(a->strides[d]) * (k->dims[d] - 1);
    return span > INDEX_MOST;
}

void emit_begin(emitter *e) {
    const plan_kernel *k = e->kernel;
    e->claim = code_patch_word(e->code, PATCH_CLAIM, 0, 0);
    code_patch_word(e->code, PATCH_REPORT, 0, 0);
    e->wide = axes_product(k->dims, k->rank) > INDEX_MOST;
    for (uint32_t i = 0; i < k->access_count; i++)
        if (access_is_memory(&k->accesses[i]) && is_far(k, &k->accesses[i])) e->wide = true;
}

void emit_function_of(emitter *e, char suffix, int block, int blocks) {
    char least[16] = "";
    if (blocks > 0) snprintf(least, sizeof least, ", %d", blocks);
    EMIT("extern \"C\" __global__ void __launch_bounds__(%d%s)\n"
         "@%c(const __grid_constant__ Words<#> p) {\n typedef %s X;\n",
         block, least, suffix, e->wide ? "ll" : "int");
}

void emit_function(emitter *e, char suffix, int block) { emit_function_of(e, suffix, block, 0); }

code_launch *emit_loop(emitter *e, int64_t count) {
    EMIT(" for (ll t = blockIdx.x * 256ll + threadIdx.x; t < p.w[%u]; t += gridDim.x * 256ll) {\n",
         code_word(e->code, count));
    return code_launch_add(e->code, 'k', count, BLOCKS_MOST);
}

uint32_t value_word(emitter *e, uint32_t value, int64_t bytes) {
    return code_patch_word(e->code, PATCH_VALUE, value, bytes);
}

uint32_t operand_word(emitter *e, uint32_t i) {
    const plan_access *a = &e->kernel->accesses[i];
    return value_word(e, a->value, a->offset * (int64_t)type_size(a->type));
}

uint32_t output_word(emitter *e) { return value_word(e, e->kernel->output, 0); }

void emit_report(emitter *e, int code, const char *place) {
    EMIT("report(p.w[%u], p.w[%u], %d, %s);", e->claim, e->claim + 1, code, place);
    e->code->reports = true;
}

void emit_address(emitter *e, uint32_t i) {
    const plan_access *a = &e->kernel->accesses[i];
    int64_t size = (int64_t)type_size(a->type);
    EMIT("(p.w[%u]", operand_word(e, i));
    for (uint32_t s = 0; s < a->start_count; s++) {
        const plan_start *start = &a->starts[s];
        uint32_t at = value_word(e, start->value, 0), limit = code_word(e->code, start->limit);
        EMIT("+start_at<T_%s>(p.w[%u], p.w[%u]) * p.w[%u]",
             type_text(e->plan->values[start->value].type), at, limit,
             code_word(e->code, start->stride * size));
    }
    EMIT(")");
}

// Accesses ----------------------------------------------------------------------------------------

bool access_is_memory(const plan_access *a) { return a->value != UINT32_MAX; }

bool access_is_uniform(const plan_kernel *k, const plan_access *a) {
    for (int32_t d = 0; d < k->rank; d++)
        if (a->strides[d] != 0 && k->dims[d] > 1) return false;
    return true;
}

bool step_loads(const plan_kernel *k, const expr_step *s) {
    return s->kind == EXPR_LOAD && !access_is_uniform(k, &k->accesses[s->index]);
}

void emit_base(emitter *e, uint32_t access) {
    const plan_access *a = &e->kernel->accesses[access];
    EMIT(" T_%s *b%u = (T_%s *)p.w[%u];\n", type_text(a->type), access, type_text(a->type),
         operand_word(e, access));
    for (uint32_t s = 0; s < a->start_count; s++) {
        const plan_start *start = &a->starts[s];
        uint32_t at = value_word(e, start->value, 0);
        uint32_t limit = code_word(e->code, start->limit);
        EMIT(" b%u += start_at<T_%s>(p.w[%u], p.w[%u]) * p.w[%u];\n", access,
             type_text(e->plan->values[start->value].type), at, limit,
             code_word(e->code, start->stride));
    }
}

void emit_bases(emitter *e) {
    for (uint32_t i = 0; i < e->kernel->access_count; i++)
        if (access_is_memory(&e->kernel->accesses[i])) emit_base(e, i);
}

void emit_offset(emitter *e, const plan_access *a, const char *as) {
    bool any = false;
    for (int32_t d = 0; d < e->kernel->rank; d++) {
        if (a->strides[d] == 0) continue;
        EMIT("%s%si%d", any ? "+" : "", as, (int)d);
        if (a->strides[d] != 1)
            EMIT("*%s(p.w[%u])", as[0] != '\0' ? as : "(X)", code_word(e->code, a->strides[d]));
        any = true;
    }
    if (!any) EMIT("0");
}

// The multiplier and, above it, by how many bits what it gives is shifted.
int64_t divisor_word(int64_t by) {
    uint64_t shift = 0;
    if (by < 1) return 0;
    while ((int64_t)1 << shift < by) shift++;
    uint64_t beyond = ((uint64_t)1 << shift) - (uint64_t)by;
    return (int64_t)(((beyond << 32) / (uint64_t)by + 1) | shift << 32);
}

void emit_quotient(emitter *e, const char *number, int64_t by) {
    if (e->wide)
        EMIT("%s / p.w[%u]", number, code_word(e->code, by));
    else
        EMIT("quotient(%s, p.w[%u])", number, code_word(e->code, divisor_word(by)));
}

void emit_indices(emitter *e, const char *number, const int32_t *axes, int32_t count) {
    char left[24];
    snprintf(left, sizeof left, "%s", number);
    if (count == 0) return;
    for (int32_t i = count - 1; i > 0; i--) {
        int64_t dim = e->kernel->dims[axes[i]];
        EMIT("  const X u%d = ", (int)axes[i]);
        emit_quotient(e, left, dim);
        EMIT(", i%d = %s - u%d * (X)p.w[%u];\n", (int)axes[i], left, (int)axes[i],
             code_word(e->code, dim));
        snprintf(left, sizeof left, "u%d", (int)axes[i]);
    }
    EMIT("  const X i%d = %s;\n", (int)axes[0], left);
}

void emit_axis(emitter *e, const char *offset, int64_t dim, int64_t stride) {
    EMIT("  { const X up = ");
    emit_quotient(e, "left", dim);
    EMIT("; %s += (ll)(left - up * (X)p.w[%u]) * p.w[%u]; left = up; }\n", offset,
         code_word(e->code, dim), code_word(e->code, stride));
}

// Expressions -------------------------------------------------------------------------------------

void emit_constant(emitter *e, uint32_t step) {
    const expr_step *s = &e->kernel->steps[step];
    const char *type = type_text(s->type);
    EMIT(" const T_%s v%u = *(const T_%s *)&p.w[%u];\n", type, step, type,
         code_patch_word(e->code, PATCH_CONSTANT, s->index, 0));
}

void emit_fixed(emitter *e) {
    const plan_kernel *k = e->kernel;
    for (uint32_t n = 0; n < k->step_count; n++) {
        const expr_step *s = &k->steps[n];
        if (s->kind == EXPR_CONST)
            emit_constant(e, n);
        else if (s->kind == EXPR_LOAD && !step_loads(k, s))
            EMIT(" const T_%s v%u = *b%u;\n", type_text(s->type), n, s->index);
    }
}

static bool is_fixed(const plan_kernel *k, const expr_step *s) {
    return s->kind == EXPR_CONST || (s->kind == EXPR_LOAD && !step_loads(k, s));
}

static void emit_load(emitter *e, const expr_step *s, const emit_loads *loads) {
    const plan_access *a = &e->kernel->accesses[s->index];
    if (loads != NULL && loads->write != NULL && loads->write(e, loads, s->index)) return;
    if (loads != NULL && loads->holds != NULL && loads->holds(e, a)) {
        const char *rest = strchr(loads->text, '$');
        EMIT("%.*s%u%s", (int)(rest - loads->text), loads->text, s->index, rest + 1);
        return;
    }
    EMIT("b%u[", s->index);
    emit_offset(e, a, "");
    EMIT("]");
}

// The number is made in s64 first, which wraps.
static void emit_iota(emitter *e, const expr_step *s) {
    char cast[CAST_TEXT];
    const plan_access *a = &e->kernel->accesses[s->index];
    cast_text(cast, EMLX_S64, s->type, "~");
    const char *rest = strchr(cast, '~');
    EMIT("%.*s(p.w[%u]+", (int)(rest - cast), cast, code_word(e->code, a->offset));
    emit_offset(e, a, "(ll)");
    EMIT(")%s", rest + 1);
}

static bool step_is_kept(const plan_kernel *k, uint32_t n) {
    bool kept = k->kind != KERNEL_MAP && (k->reduced == n || k->start == n);
    for (uint32_t i = 0; i < k->store_count; i++) kept = kept || k->stores[i].step == n;
    return kept;
}

// The type that a step is only converted to, or EMLX_TYPE_COUNT.
static int converted_to(const plan_kernel *k, uint32_t n) {
    int type = EMLX_TYPE_COUNT;
    if (step_is_kept(k, n)) return type;
    for (uint32_t i = n + 1; i < k->step_count; i++) {
        const expr_step *s = &k->steps[i];
        uint32_t args = s->kind == EXPR_SCALAR  ? scalar_table[s->op].operands
                        : s->kind == EXPR_GUARD ? 2
                                                : s->kind == EXPR_CAST;
        for (uint32_t a = 0; a < args; a++) {
            if (s->args[a] != n) continue;
            if (s->kind != EXPR_CAST || (type != EMLX_TYPE_COUNT && type != s->type))
                return EMLX_TYPE_COUNT;
            type = s->type;
        }
    }
    return type;
}

static bool is_half(int type) { return type == EMLX_BF16 || type == EMLX_F16; }

static bool is_exact_in_f32(int type) { return type == EMLX_F32 || is_half(type); }

// Whether a step is a function in f64 of what is exact in f32, rounded to two bytes: f32 is enough
// for most of its numbers, and it gives what rounds as the exact result does.
static bool is_shortened(const plan_kernel *k, uint32_t n) {
    const expr_step *s = &k->steps[n];
    if (s->kind != EXPR_SCALAR || s->compute != EMLX_F64) return false;
    const expr_step *of = &k->steps[s->args[0]];
    return scalar_text_of(s->op, EMLX_F32).narrows && is_half(converted_to(k, n)) &&
           of->kind == EXPR_CAST && is_exact_in_f32(of->compute);
}

// Numbers of two bytes that are read as f32 again need no NaN of their own.
static void emit_cast(emitter *e, uint32_t n) {
    const expr_step *s = &e->kernel->steps[n];
    int from = is_shortened(e->kernel, s->args[0]) ? EMLX_F32 : s->compute;
    char cast[CAST_TEXT], arg[16];
    snprintf(arg, sizeof arg, "v%u", s->args[0]);
    if (from == EMLX_F32 && is_half(s->type) && converted_to(e->kernel, n) == EMLX_F32)
        EMIT("near_%s(%s)", type_text(s->type), arg);
    else
        EMIT("%s", cast_text(cast, (emlx_type)from, s->type, arg));
}

static void emit_scalar(emitter *e, uint32_t n) {
    const expr_step *s = &e->kernel->steps[n];
    const scalar_info *f = &scalar_table[s->op];
    const scalar_text text = scalar_text_of(s->op, s->compute);
    bool sub = type_is_sub_byte(s->type), width = text.letter == 'b';
    if (s->op == SCALAR_bitcast) {
        EMIT("bits_of<T_%s>(v%u)", type_text(s->type), s->args[0]);
        return;
    }
    if (text.letter == '\0') e->refused = f->name;
    e->code->parts |= text.parts;
    if (sub) EMIT("wrap_%s((ull)(ll)", type_text(s->type));
    EMIT("%c_%s", width ? 'b' : 'f', f->name);
    bool once = is_shortened(e->kernel, n);
    int to = once || (text.narrows && s->compute == EMLX_F32) ? converted_to(e->kernel, n)
                                                              : EMLX_TYPE_COUNT;
    if (is_half(to)) EMIT("<%d,%s>", to == EMLX_BF16 ? 16 : 13, once ? "true" : "false");
    EMIT(once ? "((float)" : "(");
    for (int i = 0; i < f->operands; i++) EMIT("%sv%u", i > 0 ? ", " : "", s->args[i]);
    if (width) EMIT(", %d", type_table[s->compute].bits);
    EMIT(sub ? "))" : ")");
}

static void emit_step(emitter *e, uint32_t n, const emit_loads *loads, const char *carry) {
    const expr_step *s = &e->kernel->steps[n];
    char place[32];
    EMIT("  const T_%s v%u = ", type_text(is_shortened(e->kernel, n) ? EMLX_F32 : s->type), n);
    switch ((expr_kind)s->kind) {
    case EXPR_CONST: break;
    case EXPR_LOAD: emit_load(e, s, loads); break;
    case EXPR_IOTA: emit_iota(e, s); break;
    case EXPR_CAST: emit_cast(e, n); break;
    case EXPR_CARRY: EMIT("%s", carry); break;
    case EXPR_SCALAR: emit_scalar(e, n); break;
    case EXPR_GUARD:
        EMIT("v%u; if (v%u) ", s->args[0], s->args[1]);
        snprintf(place, sizeof place, "%u", s->index);
        emit_report(e, s->op, place);
        break;
    }
    EMIT(";\n");
}

void emit_steps(emitter *e, const emit_loads *loads, const char *carry) {
    for (uint32_t n = 0; n < e->kernel->step_count; n++)
        if (!is_fixed(e->kernel, &e->kernel->steps[n])) emit_step(e, n, loads, carry);
}

void emit_stores(emitter *e) {
    const plan_kernel *k = e->kernel;
    for (uint32_t i = 0; i < k->store_count; i++) {
        EMIT("  b%u[", k->stores[i].access);
        emit_offset(e, &k->accesses[k->stores[i].access], "");
        EMIT("] = v%u;\n", k->stores[i].step);
    }
}
