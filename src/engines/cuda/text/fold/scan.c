// SPDX-License-Identifier: Apache-2.0
// scan.c - running folds along an axis.
#include <stdio.h>

#include "base/types.h"
#include "engines/cuda/text/emit.h"

enum { BLOCK = 256, TILE = 4096, ROWS_ENOUGH = 264, COLUMNS_ENOUGH = 65536, PART = 32 };

// How long a piece of a line is. Pieces depend on the shape alone.
static int64_t choose_piece(int64_t lines, int64_t length, bool rows) {
    int64_t enough = rows ? ROWS_ENOUGH : COLUMNS_ENOUGH, unit = rows ? TILE : 64;
    if (lines >= enough || length <= 2 * unit) return length;
    int64_t pieces = (2 * enough + lines - 1) / lines, most = length / unit;
    if (pieces > 1024) pieces = 1024;
    if (pieces > most) pieces = most;
    int64_t piece = (length + pieces - 1) / pieces;
    return (piece + unit - 1) / unit * unit;
}

// Elements that are read at once: lines are whole vectors, and begin at one.
static int vector_width(const plan_access *a, int64_t length) {
    int width = (int)(16 / type_size(a->type));
    if (width > 8) width = 8;
    return length % width == 0 && a->offset % width == 0 ? width : 1;
}

typedef struct scanning {
    int64_t inner, lines, pieces;
    const char *fold, *type;
    int reverse, width;
    uint32_t in, out, length, piece, pieces_word, parts, inner_word, units;
} scanning;

static void emit_phase(emitter *e, const scanning *s, char suffix, int phase) {
    bool rows = s->inner == 1;
    int64_t units = s->lines * s->pieces;
    emit_function(e, suffix, BLOCK);
    EMIT(" scan_%s%s, T_%s, ", rows ? "rows<" : "columns<X, ", s->fold, s->type);
    if (rows) EMIT("%d, ", s->width);
    EMIT("%d, %d>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]", s->reverse, phase, s->in,
         s->out, s->length, s->piece, s->pieces_word, s->parts);
    if (!rows) EMIT(", p.w[%u], p.w[%u]", s->inner_word, s->units);
    EMIT(");\n}\n");
    code_launch_add(e->code, suffix, rows ? units * BLOCK : units, 0);
}

void emit_scan(emitter *e) {
    const plan_kernel *k = e->kernel;
    const scan_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    int type = k->accesses[0].type;
    int64_t count = emlx_shape_count(shape), length = shape->dims[p->axis];
    char fold[64];
    if (fold_text(fold, (reduce_kind)p->kind, type) == NULL) {
        e->refused = "such a running fold of this type";
        return;
    }
    if (p->kind == REDUCE_SUM && type == EMLX_F64)
        snprintf(fold, sizeof fold, "Sum<double,double>");
    if (count == 0) return;
    e->wide = count > INDEX_MOST;
    scanning s = {.inner = 1, .fold = fold, .type = type_text(type), .reverse = p->reverse};
    for (int32_t d = p->axis + 1; d < shape->rank; d++) s.inner *= shape->dims[d];
    s.lines = count / length;
    s.width = vector_width(&k->accesses[0], length);
    int64_t piece = choose_piece(s.lines, length, s.inner == 1);
    s.pieces = (length + piece - 1) / piece;
    e->code->parts |= PART_FOLDS | PART_SCAN;
    s.in = operand_word(e, 0);
    s.out = output_word(e);
    s.length = code_word(e->code, length);
    s.piece = code_word(e->code, piece);
    s.pieces_word = code_word(e->code, s.pieces);
    s.parts = code_patch_word(e->code, PATCH_SCRATCH, 0, 0);
    s.inner_word = code_word(e->code, s.inner);
    s.units = code_word(e->code, s.lines * s.pieces);
    if (s.pieces > 1) {
        e->code->scratch = (size_t)(s.lines * s.pieces * PART);
        emit_phase(e, &s, 'a', 0);
        emit_function(e, 'b', BLOCK);
        EMIT(" scan_parts<X, %s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", s.fold, s.parts,
             s.pieces_word, s.inner_word, code_word(e->code, s.lines));
        code_launch_add(e->code, 'b', s.lines, 0);
    }
    emit_phase(e, &s, 'c', 2);
}
