// SPDX-License-Identifier: Apache-2.0
// bytes.c - products of bytes as a library wants them: terms beside each other on both sides, and
// counted in fours; sums in 32 bits, of which the result has the lowest eight.
//
// Wider integers are sums of digits of eight bits, x = x0 + 256 x1 + ..., and so are their products
// without what is beyond their width: 256^n counts x0 yn + ... + xn y0. The left side's digits lie
// one after another in each row, the right side's the other way round, so that each of these sums
// is a product of its own over parts of both.
#include "engines/cuda/text/product/bytes.h"

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"

enum { LINE = 16, SQUARE = 64, TILE = 32, BLOCK = 256 };

void byte_product_place(byte_product *b, const plan_kernel *kernel) {
    size_t at = 0;
    b->padded_terms = round_up(b->terms, LINE);
    for (int i = 0; i < 2; i++) {
        byte_side *s = &b->sides[i];
        s->padded = i == 1 ? round_up(s->outer, 4) : s->outer;
        s->brought = s->terms_step != 1 || b->terms != b->padded_terms || s->padded != s->outer ||
                     s->outer_step % LINE != 0 || s->batch_step % LINE != 0 ||
                     kernel->accesses[i].offset % LINE != 0 || b->digits > 1;
        if (!s->brought) continue;
        s->place = at;
        at += (size_t)round_up(b->batch * s->padded * b->padded_terms * b->digits, BLOCK);
    }
    b->direct =
        b->digits == 1 && type_size(b->type) == 4 && b->sides[1].padded == b->sides[1].outer;
    b->plane = b->batch * b->sides[0].outer * b->sides[1].padded;
    b->out_place = at;
    b->work_place = at + (b->direct ? 0 : (size_t)round_up(b->plane * b->digits * 4, BLOCK));
}

static bool turns(const byte_side *s, const byte_product *b, int64_t offset) {
    return s->outer_step == 1 && s->outer % 4 == 0 && s->terms_step % 4 == 0 &&
           s->batch_step % 4 == 0 && offset % 4 == 0 && b->terms > 1;
}

static void emit_side(emitter *e, const byte_product *b, int side) {
    const byte_side *s = &b->sides[side];
    char suffix = side == 0 ? 'a' : 'c';
    uint32_t in = operand_word(e, (uint32_t)side);
    uint32_t to = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)s->place);
    uint32_t w = code_word(e->code, s->outer);
    code_word(e->code, b->terms);
    code_word(e->code, s->outer_step);
    code_word(e->code, s->terms_step);
    code_word(e->code, s->batch_step);
    code_word(e->code, s->padded);
    code_word(e->code, b->padded_terms);
    emit_function(e, suffix, BLOCK);
    if (turns(s, b, e->kernel->accesses[side].offset)) {
        EMIT(" turn_squares<T_u8>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
             "p.w[%u]);\n}\n",
             in, to, w, w + 1, w + 3, w + 4, w + 5, w + 6);
        int64_t blocks = round_up(s->padded, SQUARE) / SQUARE *
                         (round_up(b->padded_terms, SQUARE) / SQUARE) * b->batch;
        code_launch_add(e->code, suffix, blocks * BLOCK, 0);
        return;
    }
    emit_loop(e, b->batch * s->padded * b->padded_terms)->suffix = suffix;
    EMIT("  bring_bytes(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u], t);\n }\n}\n",
         in, to, w, w + 1, w + 2, w + 3, w + 4, w + 5, w + 6);
}

static int64_t tiles_of(int64_t outer, int64_t inner) {
    return (outer + TILE - 1) / TILE * ((inner + SQUARE - 1) / SQUARE);
}

static void emit_digits(emitter *e, const byte_product *b, int side) {
    const byte_side *s = &b->sides[side];
    char suffix = side == 0 ? 'a' : 'c';
    uint32_t in = operand_word(e, (uint32_t)side);
    uint32_t to = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)s->place);
    emit_function(e, suffix, BLOCK);
    EMIT(" bring_digits<T_%s, T_%s, %d, %s, %s>(p.w[%u], p.w[%u]",
         type_text(e->kernel->accesses[side].type), type_text(b->type), b->digits,
         truth_text(side == 1), truth_text(s->outer_step == 1), in, to);
    const int64_t words[] = {s->outer,      b->terms,  s->outer_step,  s->terms_step,
                             s->batch_step, s->padded, b->padded_terms};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        EMIT(", p.w[%u]", code_word(e->code, words[i]));
    EMIT(");\n}\n");
    code_launch_add(e->code, suffix, tiles_of(s->padded, b->padded_terms) * b->batch * BLOCK, 0);
}

static void emit_joined(emitter *e, const byte_product *b) {
    int64_t columns = b->sides[1].outer, count = b->batch * b->sides[0].outer * columns;
    const char *type = type_text(b->type);
    uint32_t in = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)b->out_place);
    uint32_t to = output_word(e);
    e->wide = count > INDEX_MOST;
    emit_function(e, 'b', BLOCK);
    emit_loop(e, count)->suffix = 'b';
    EMIT("  const X n = t, row = ");
    emit_quotient(e, "n", columns);
    EMIT(";\n  const ll at = t + row * p.w[%u];\n"
         "  ((T_%s *)p.w[%u])[t] = join_digits<T_%s, %d>(p.w[%u], p.w[%u], at);\n }\n}\n",
         code_word(e->code, b->sides[1].padded - columns), type, to, type, b->digits, in,
         code_word(e->code, b->plane));
}

static void emit_result(emitter *e, const byte_product *b) {
    int64_t columns = b->sides[1].outer, count = b->batch * b->sides[0].outer * columns;
    int width = columns % 4 == 0 ? 4 : 1;
    uint32_t in = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)b->out_place);
    uint32_t to = output_word(e);
    emit_function(e, 'b', BLOCK);
    emit_loop(e, count / width)->suffix = 'b';
    EMIT("  take_bytes<%d>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], t);\n }\n}\n", width, in, to,
         code_word(e->code, columns), code_word(e->code, b->sides[1].padded));
}

emlx_status code_bytes(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                       const byte_product *b, emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE | PART_COPIES | PART_BYTES};
    emit_begin(&e);
    for (int side = 0; side < 2; side++)
        if (b->sides[side].brought) (b->digits > 1 ? emit_digits : emit_side)(&e, b, side);
    if (!b->direct) (type_size(b->type) > 1 ? emit_joined : emit_result)(&e, b);
    if (code->failed) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to generate a kernel");
    return EMLX_OK;
}
