// SPDX-License-Identifier: Apache-2.0
// panels.c - LU factors of matrices of a few hundred rows by our own kernels: launch after launch a
// panel of columns, and what is beside it.
#include "base/shape.h"
#include "engines/cuda/text/whole/factors.h"

enum { BESIDE = 8, BESIDE_THREADS = 256, PANEL_THREADS = 512 };

// By rows: how wide panels are, rows of one and of columns beside it a thread has, and right sides
// that are solved at a time.
typedef struct panel_form {
    int64_t most;
    int wide, rows, rows_beside, rights;
} panel_form;
static const panel_form forms[] = {{512, 32, 1, 2, 8}, {PANELS_MOST, 16, 2, 4, 4}};

// Launches of a panel, which begins at a word that each has its own of.
static void add_launch(const factor_writer *w, char suffix, int64_t blocks, int64_t threads,
                       uint32_t word, int64_t first) {
    code_launch *l = code_launch_add(w->e->code, suffix, 1, 0);
    l->grid_x = blocks * w->f->count;
    l->block = (uint32_t)threads;
    l->word = word;
    l->turn = first;
}

static void add_launches(const factor_writer *w, const panel_form *form, uint32_t word,
                         int64_t rights, bool before) {
    int64_t n = w->f->rows;
    for (int64_t first = 0; first < n; first += form->wide) {
        int64_t left = n - first, wide = left < form->wide ? left : form->wide;
        int64_t blocks = (left - wide + rights + BESIDE - 1) / BESIDE;
        if (before) blocks += first / BESIDE;
        add_launch(w, 'c', 1, round_up((left + form->rows - 1) / form->rows, 32), word, first);
        if (blocks > 0) add_launch(w, 'd', blocks, BESIDE_THREADS, word, first);
    }
}

void emit_panels(const factor_writer *w) {
    const panel_form *form = &forms[w->f->rows > forms[0].most];
    emitter *e = w->e;
    e->code->parts |= PART_PANELS;
    const factoring *f = w->f;
    bool solves = f->params->kind == ROUTINE_solve, before = f->params->kind == ROUTINE_lu;
    uint32_t first = code_word(e->code, 0), rights = code_word(e->code, solves ? f->other : 0);
    emit_function(e, 'c', PANEL_THREADS);
    EMIT(" lu_panel<%d, %d>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         form->wide, form->rows, w->places[PLACE_MATRIX], w->places[PLACE_PIVOTS],
         w->places[PLACE_THIRD], w->order, w->places[PLACE_INFOS], w->sizes, first);
    emit_function(e, 'd', BESIDE_THREADS);
    EMIT(" lu_beside<%d, %d, %s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         form->wide, form->rows_beside, truth_text(before), w->places[PLACE_MATRIX],
         w->places[PLACE_SECOND], w->places[PLACE_THIRD], w->sizes, rights, first);
    add_launches(w, form, first, solves ? f->other : 0, before);
    if (!solves) return;
    emit_function(e, 'e', BESIDE_THREADS);
    EMIT(" upper_solve<%d, %d, %d>(p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", form->wide,
         (int)form->most, form->rights, w->places[PLACE_MATRIX], w->places[PLACE_SECOND], w->sizes,
         rights);
    add_launch(w, 'e', (f->other + form->rights - 1) / form->rights, BESIDE_THREADS, UINT32_MAX, 0);
}
