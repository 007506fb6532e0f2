// SPDX-License-Identifier: Apache-2.0
// copies.c - copies of tensors whose elements go into another order.
#include "engines/cuda/text/product/copies.h"

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"

enum { BLOCK = 256, BLOCKS_MOST = 2112, SQUARE = 64 };

// A copy with as few axes as it takes.
typedef struct walk {
    axis_list axes;    // of what is read
    uint32_t from, to; // words
} walk;

// Whether its last two axes change places and the rest is one, with fours of two bytes everywhere.
static bool turns(const axis_list *w, size_t size, int64_t offset) {
    bool two = w->rank == 2 || w->rank == 3, fours = offset % 4 == 0;
    for (int32_t d = 0; d < w->rank && two; d++)
        fours = fours && (d == w->rank - 2 ? w->strides[d] == 1
                                           : w->strides[d] % 4 == 0 && w->strides[d] > 0);
    return size == 2 && two && fours && w->dims[w->rank - 2] % 4 == 0 &&
           w->dims[w->rank - 1] % 4 == 0;
}

// Blocks of which each has a square; returns their number.
static int64_t emit_turned(emitter *e, const walk *copy) {
    const axis_list *w = &copy->axes;
    int64_t outer = w->dims[w->rank - 2], inner = w->dims[w->rank - 1];
    int64_t batch = w->rank == 3 ? w->dims[0] : 1;
    int64_t squares = (outer + SQUARE - 1) / SQUARE * ((inner + SQUARE - 1) / SQUARE);
    uint32_t sizes = code_word(e->code, outer);
    code_word(e->code, inner);
    code_word(e->code, w->strides[w->rank - 1]);
    code_word(e->code, w->rank == 3 ? w->strides[0] : 0);
    EMIT(" if (blockIdx.x < p.w[%u]) turn_squares<T_u16>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n",
         code_word(e->code, batch * squares), copy->from, copy->to, sizes, sizes + 1, sizes + 2,
         sizes + 3, sizes, sizes + 1);
    return batch * squares;
}

// Whether elements go two by two, `offset` being that of the first.
static bool are_pairs(const axis_list *w, int64_t offset) {
    int32_t last = w->rank - 1;
    bool even = last >= 0 && w->strides[last] == 1 && w->dims[last] % 2 == 0 && offset % 2 == 0;
    for (int32_t d = 0; d < last; d++) even = even && w->strides[d] % 2 == 0;
    return even;
}

// What lies side by side on both sides as elements of up to 16 bytes.
static size_t widen(axis_list *w, int64_t offset, size_t size) {
    enum { WIDEST = 16 };
    for (; size < WIDEST && are_pairs(w, offset); size *= 2, offset /= 2, w->count /= 2) {
        w->dims[w->rank - 1] /= 2;
        for (int32_t d = 0; d < w->rank - 1; d++) w->strides[d] /= 2;
    }
    return size;
}

// As many blocks as there are.
static int64_t emit_each(emitter *e, const walk *copy, int64_t offset, emlx_type from,
                         emlx_type to) {
    axis_list axes = copy->axes, *w = &axes;
    size_t size = from == to ? widen(w, offset, type_size(from)) : 0;
    char number[CAST_TEXT];
    int64_t blocks = (w->count + BLOCK - 1) / BLOCK;
    EMIT(" for (ll t = blockIdx.x * %dll + threadIdx.x; t < p.w[%u]; t += gridDim.x * %dll) {\n"
         "  X left = t;\n  ll at = 0;\n",
         BLOCK, code_word(e->code, w->count), BLOCK);
    for (int32_t d = w->rank - 1; d > 0; d--) emit_axis(e, "at", w->dims[d], w->strides[d]);
    if (w->rank > 0) EMIT("  at += left * p.w[%u];\n", code_word(e->code, w->strides[0]));
    if (from == to) {
        const char *raw = raw_type(size);
        EMIT("  ((%s *)p.w[%u])[t] = ((const %s *)p.w[%u])[at];\n }\n", raw, copy->to, raw,
             copy->from);
    } else {
        cast_text(number, from, to, "x");
        EMIT("  const T_%s x = ((const T_%s *)p.w[%u])[at];\n  ((T_%s *)p.w[%u])[t] = %s;\n }\n",
             type_text(from), type_text(from), copy->from, type_text(to), copy->to, number);
    }
    return blocks < BLOCKS_MOST ? blocks : BLOCKS_MOST;
}

static uint32_t operand(emitter *e, const tensor_copy *c) {
    const plan_access *a = &e->kernel->accesses[c->access];
    return value_word(e, a->value, (a->offset + c->offset) * (int64_t)type_size(a->type));
}

static int64_t emit_copy(emitter *e, const tensor_copy *c) {
    bool result = c->access == UINT32_MAX;
    emlx_type from = result ? c->type : e->kernel->accesses[c->access].type;
    uint32_t memory = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)c->place);
    uint32_t other = result ? output_word(e) : operand(e, c);
    int64_t offset = result ? 0 : e->kernel->accesses[c->access].offset + c->offset;
    walk w = {.axes = {.count = 1}, .from = result ? memory : other, .to = result ? other : memory};
    for (int32_t d = 0; d < c->rank; d++) axes_add(&w.axes, c->dims[d], c->steps[d]);
    bool turned = from == c->type && turns(&w.axes, type_size(from), offset);
    return turned ? emit_turned(e, &w) : emit_each(e, &w, offset, from, c->type);
}

// Those of one suffix are a launch.
static void emit_copies(emitter *e, const tensor_copy *copies, int count, char suffix) {
    int64_t most = 0;
    e->wide = false;
    for (int i = 0; i < count; i++)
        if (copies[i].suffix == suffix)
            e->wide = e->wide || axes_product(copies[i].dims, copies[i].rank) > INDEX_MOST;
    emit_function(e, suffix, BLOCK);
    for (int i = 0; i < count; i++) {
        if (copies[i].suffix != suffix) continue;
        int64_t blocks = emit_copy(e, &copies[i]);
        if (blocks > most) most = blocks;
    }
    EMIT("}\n");
    if (most > 0) code_launch_add(e->code, suffix, most * BLOCK, 0);
}

emlx_status code_copies(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                        const tensor_copy *copies, int count, emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE | PART_COPIES};
    emit_begin(&e);
    emit_copies(&e, copies, count, 'a');
    emit_copies(&e, copies, count, 'b');
    return code->failed ? error_no_memory(err, "to generate a kernel") : EMLX_OK;
}
