// SPDX-License-Identifier: Apache-2.0
// transform.c - what a transform is asked for, and the kernels around one by a library.
#include "engines/cuda/text/whole/transform.h"

#include "base/error.h"
#include "base/types.h"

transform find_transform(const emlx_plan *plan, const plan_kernel *kernel) {
    const routine_params *p = kernel->params;
    const emlx_shape *shape = &kernel->shapes[0];
    const plan_value *out = &plan->values[kernel->output];
    int32_t axis = p->batch;
    transform t = {.length = p->length, .given = shape->dims[axis]};
    t.beside = axes_product(shape->dims + axis + 1, shape->rank - axis - 1);
    t.lines = axes_product(shape->dims, axis) * t.beside;
    t.results = out->shape.dims[axis];
    t.half = p->kind == ROUTINE_irfft ? p->length / 2 + 1 : p->length;
    t.from = kernel->accesses[0].type;
    t.to = out->type;
    t.inverse = p->kind == ROUTINE_irfft || (p->flags & ROUTINE_INVERSE);
    t.tolerance = p->tolerance;
    return t;
}

static void emit_bring(emitter *e, const transform *t, const library_lines *l) {
    uint32_t in = operand_word(e, 0);
    uint32_t to = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)l->in_place);
    emit_function(e, 'a', 256);
    emit_loop(e, t->lines * l->in)->suffix = 'a';
    EMIT("  bring_line<T_%s, T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u], t);\n }\n}\n",
         type_text(t->from), type_text(l->in_type), in, to, code_word(e->code, t->given),
         code_word(e->code, t->half), code_word(e->code, t->length), code_word(e->code, l->in),
         code_word(e->code, t->beside));
}

static void emit_take(emitter *e, const transform *t, const library_lines *l) {
    uint32_t to = output_word(e);
    uint32_t in = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)l->out_place);
    emit_function(e, 'b', 256);
    emit_loop(e, t->lines * t->results)->suffix = 'b';
    EMIT("  take_line<T_%s, T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], *(const double "
         "*)&p.w[%u], "
         "*(const double *)&p.w[%u], t);\n }\n}\n",
         type_text(l->out_type), type_text(t->to), in, to, code_word(e->code, l->out),
         code_word(e->code, t->results), code_word(e->code, t->beside),
         code_double(e->code, t->inverse ? (double)t->length : 1.0),
         code_double(e->code, t->tolerance));
}

emlx_status code_around(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                        const transform *t, const library_lines *lines, emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE | PART_SCALARS | PART_FFT};
    emit_begin(&e);
    if (lines->brought) emit_bring(&e, t, lines);
    if (lines->taken) emit_take(&e, t, lines);
    if (code->failed) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to generate a kernel");
    return EMLX_OK;
}
