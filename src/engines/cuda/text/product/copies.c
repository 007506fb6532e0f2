// SPDX-License-Identifier: Apache-2.0
// copies.c - copies of tensors whose elements go into another order.
#include "engines/cuda/text/product/copies.h"

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"

enum { BLOCK = 256 };

// Axes of one element are left out, and those that are stepped through as one are one.
static int32_t merge_axes(const tensor_copy *c, int64_t *dims, int64_t *steps) {
    int32_t rank = 0;
    for (int32_t d = 0; d < c->rank; d++) {
        if (c->dims[d] == 1) continue;
        if (rank > 0 && axes_are_one(steps[rank - 1], c->steps[d], c->dims[d])) {
            dims[rank - 1] *= c->dims[d];
            steps[rank - 1] = c->steps[d];
            continue;
        }
        dims[rank] = c->dims[d];
        steps[rank++] = c->steps[d];
    }
    return rank;
}

static uint32_t operand(emitter *e, const tensor_copy *c) {
    const plan_access *a = &e->kernel->accesses[c->access];
    return value_word(e, a->value, (a->offset + c->offset) * (int64_t)type_size(a->type));
}

static void emit_copy(emitter *e, const tensor_copy *c) {
    bool result = c->access == UINT32_MAX;
    int type = e->kernel->accesses[0].type;
    const char *raw = raw_type(type_size((emlx_type)type));
    int64_t dims[EMLX_MAX_RANK], steps[EMLX_MAX_RANK], count = axes_product(c->dims, c->rank);
    int32_t rank = merge_axes(c, dims, steps);
    uint32_t memory = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)c->place);
    uint32_t other = result ? output_word(e) : operand(e, c);
    e->wide = count > INDEX_MOST;
    emit_function(e, c->suffix, BLOCK);
    emit_loop(e, count);
    e->code->launches[e->code->launch_count - 1].suffix = c->suffix;
    EMIT("  X left = t;\n  ll at = 0;\n");
    for (int32_t d = rank - 1; d > 0; d--) emit_axis(e, "at", dims[d], steps[d]);
    if (rank > 0) EMIT("  at += left * p.w[%u];\n", code_word(e->code, steps[0]));
    EMIT("  ((%s *)p.w[%u])[t] = ((const %s *)p.w[%u])[at];\n }\n}\n", raw, result ? other : memory,
         raw, result ? memory : other);
}

emlx_status code_copies(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                        const tensor_copy *copies, int count, emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE};
    emit_begin(&e);
    for (int i = 0; i < count; i++) emit_copy(&e, &copies[i]);
    return code->failed ? error_no_memory(err, "to generate a kernel") : EMLX_OK;
}
