// SPDX-License-Identifier: Apache-2.0
// packed.c - products of a few vectors with weights of few bits. Of many vectors the weights become
// numbers first: those are products of matrices, for which a library is.
#include <stdio.h>

#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/whole/whole.h"
#include "graph/packed.h"

enum {
    FEW_VECTORS = 8,
    TERMS_OF = 64, // of which the number of terms is a multiple
    UNIT = 32,
    WARPS = 8,
    MANY_ROWS = 8192 // from which a warp has four
};

bool packed_suits(const emlx_tensor *either, int64_t shared_most) {
    (void)shared_most;
    const emlx_tensor *x = either->inputs[1], *w = either->inputs[2];
    emlx_type type = x->type;
    bool known = type == EMLX_F32 || type == EMLX_BF16 || type == EMLX_F16;
    int64_t terms = x->shape.dims[x->shape.rank - 1], count = emlx_shape_count(&x->shape);
    return known && either->type == type && terms > 0 && terms % TERMS_OF == 0 && count > 0 &&
           count / terms <= FEW_VECTORS && w->shape.dims[0] > 0;
}

static bool is_dense(const plan_kernel *k, uint32_t i) {
    const plan_access *a = &k->accesses[i];
    return a->start_count == 0 && shape_is_dense(&k->shapes[i], a->strides);
}

// Of which format the weights are, as a type of packed.cu.
static void emit_format(emitter *e, const either_params *p) {
    static const char *const micro[PACKED_COUNT] = {[PACKED_mxfp4] = "E2m1, E8m0",
                                                    [PACKED_mxfp8] = "E4m3, E8m0",
                                                    [PACKED_nvfp4] = "E2m1, E4m3"};
    static const char *const blocks[PACKED_COUNT] = {[PACKED_q4_0] = "Q4_0",
                                                     [PACKED_q8_0] = "Q8_0",
                                                     [PACKED_q4_k] = "Q4_k",
                                                     [PACKED_q6_k] = "Q6_k"};
    const packed_info *info = &packed_table[p->bits];
    char cast[CAST_TEXT];
    if (info->operands == 3) {
        int type = e->kernel->accesses[2].type;
        cast_text(cast, type, EMLX_F32, "x");
        EMIT("struct Scale@ {\n typedef T_%s T;\n static METHOD float wide(T x) { return %s; "
             "}\n};\n",
             type_text(type), cast);
        EMIT("typedef Affine<%d, %d, Scale@> F@;\n", (int)info->bits, (int)p->count);
    } else if (info->operands == 2) {
        EMIT("typedef Micro<%d, %d, %s> F@;\n", (int)info->bits, (int)p->count, micro[p->bits]);
    } else {
        EMIT("typedef %s F@;\n", blocks[p->bits]);
    }
}

// Elements of vectors, and what becomes of sums.
static void emit_vectors(emitter *e, int64_t terms) {
    const plan_kernel *k = e->kernel;
    int type = k->accesses[0].type;
    char wide[CAST_TEXT], narrow[CAST_TEXT];
    cast_text(wide, type, EMLX_F32, "x");
    cast_text(narrow, EMLX_F32, type, "x");
    EMIT("struct Op@ {\n typedef T_%s T;\n static METHOD T narrow(float x) { return %s; }\n"
         " static METHOD float vector(const Words<#> &p, int v, ll i) {\n",
         type_text(type), narrow);
    if (!is_dense(k, 0)) e->refused = "vectors that do not lie together";
    EMIT("  const T x = ((const T *)p.w[%u])[v * p.w[%u] + i];\n  return %s;\n }\n};\n",
         operand_word(e, 0), code_word(e->code, terms), wide);
}

void emit_packed(emitter *e) {
    const plan_kernel *k = e->kernel;
    const either_params *p = k->params;
    const emlx_shape *x = &k->shapes[0];
    int64_t terms = x->dims[x->rank - 1], vectors = emlx_shape_count(x) / terms;
    int64_t rows = k->shapes[1].dims[0], each = rows >= MANY_ROWS && vectors <= 4 ? 4 : 2;
    uint32_t w[3] = {0}, count = packed_table[p->bits].operands;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_dense(k, i + 1)) e->refused = "packed weights that do not lie together";
        w[i] = operand_word(e, i + 1);
    }
    uint32_t out = output_word(e);
    e->code->parts |= PART_PACKED;
    emit_format(e, p);
    emit_vectors(e, terms);
    emit_function(e, 'k', WARPS * 32);
    EMIT(" packed_rows<F@, Op@, %d, %d>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u]);\n}\n",
         (int)each, (int)vectors, w[0], w[1], w[2], out, code_word(e->code, rows),
         code_word(e->code, terms / UNIT));
    code_launch *launch = code_launch_add(e->code, 'k', 1, 0);
    launch->block = WARPS * 32;
    launch->grid_x = (rows + WARPS * each - 1) / (WARPS * each);
}
