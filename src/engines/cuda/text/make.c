// SPDX-License-Identifier: Apache-2.0
// make.c - makes the code of a kernel by its kind.
#include "base/error.h"
#include "engines/cuda/text/emit.h"

typedef void (*emit_fn)(emitter *e);

static const emit_fn emitters[KERNEL_COUNT] = {
    [KERNEL_MAP] = emit_map,         [KERNEL_REDUCE] = emit_fold,     [KERNEL_CUSTOM] = emit_custom,
    [KERNEL_GATHER] = emit_gather,   [KERNEL_PICK] = emit_pick,       [KERNEL_DOT] = emit_dot,
    [KERNEL_SCATTER] = emit_scatter, [KERNEL_SORT] = emit_sort,       [KERNEL_SCAN] = emit_scan,
    [KERNEL_CONV] = emit_conv,       [KERNEL_ROUTINE] = emit_routine, [KERNEL_ROWS] = emit_rows,
    [KERNEL_EITHER] = emit_either,
};

// Parameters of a launch: CUDA takes 32,764 bytes of them since 12.1, 4,096 before.
enum { WORDS_MOST = 4000 };

emlx_status code_make(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                      emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE | PART_SCALARS};
    if (emitters[kernel->kind] == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cuda generates no such kernel");
    emit_begin(&e);
    emitters[kernel->kind](&e);
    if (code->failed) return error_no_memory(err, "to generate a kernel");
    if (code->word_count > WORDS_MOST) e.refused = "as many operands";
    if (e.refused != NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cuda generates no kernel with %s", e.refused);
    return EMLX_OK;
}
