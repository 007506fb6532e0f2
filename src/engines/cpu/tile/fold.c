// SPDX-License-Identifier: Apache-2.0
// fold.c - reductions: the expression is evaluated tile by tile and folded as it comes.
//
// The index space is walked as [outer, length, inner]: kept axes, folded axes, and where the
// innermost axis is a kept one, that axis. A result is a cell of [outer, inner]. Long folds are cut
// into pieces of fixed size whose results are merged in order, so that the same bits come out
// whatever the number of threads. Columns of an operand as it is are folded where they lie.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/run.h"

enum { PIECE = TASK_ELEMENTS, MOST_WINDOW = 256 };

static bool folded(const plan_kernel *k, int32_t d) { return k->axes >> d & 1; }

static void order_axes(fold_form *fold, const plan_kernel *k, int32_t *order) {
    int32_t n = 0, last = k->rank - 1;
    fold->columns = k->rank > 0 && k->axes != 0 && !folded(k, last);
    fold->outer = fold->length = fold->inner = 1;
    for (int32_t d = 0; d < k->rank; d++) {
        if (folded(k, d) || (fold->columns && d == last)) continue;
        order[n++] = d;
        fold->outer *= k->dims[d];
    }
    for (int32_t d = 0; d < k->rank; d++) {
        if (!folded(k, d)) continue;
        order[n++] = d;
        fold->length *= k->dims[d];
    }
    if (fold->columns) {
        order[n] = last;
        fold->inner = k->dims[last];
    }
}

// Whether columns of an operand as it is are folded, and with them how far apart its elements along
// the last axis are.
static bool folds_memory(const fold_form *fold, const tile_form *f, int64_t *apart) {
    const plan_kernel *k = f->kernel;
    if (!fold->columns || k->step_count != 1 || k->store_count != 0) return false;
    if (k->steps[0].kind != EXPR_LOAD) return false;
    *apart = f->strides[k->steps[0].index][f->rank - 1];
    return true;
}

// Few elements for each result.
static window_fn find_windows(const fold_form *fold, const tile_form *f) {
    if (fold->convert != NULL || fold->length < 1 || fold->length > MOST_WINDOW) return NULL;
    return f->kernels->windows[f->kernel->reduce][fold->element];
}

emlx_status fold_functions(fold_form *fold, const emlx_plan *plan, const plan_kernel *kernel,
                           const cpu_kernels *kernels, emlx_error *err) {
    fold->element = (emlx_type)kernel->steps[kernel->reduced].type;
    fold->fns = kernels->reduce[kernel->reduce][fold->element];
    fold->found = reduce_result_type(kernel->reduce, fold->element);
    emlx_type type = plan->values[kernel->output].type;
    if (fold->found != type) fold->convert = kernels->cast[fold->found][type];
    if (fold->fns.init != NULL && (fold->found == type || fold->convert != NULL)) return EMLX_OK;
    return error_set(err, EMLX_UNSUPPORTED, "cpu has no such reduction of %s",
                     emlx_type_name(fold->element));
}

emlx_status prepare_fold(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, arena *memory, emlx_error *err) {
    fold_form *fold = &form->fold;
    tile_walk walk = {.blocked = false};
    order_axes(fold, kernel, walk.axes);
    TRY(fold_functions(fold, plan, kernel, kernels, err));
    TRY(tile_prepare(&form->tile, plan, kernel, kernels, &walk, memory, err));
    int64_t apart;
    if (!folds_memory(fold, &form->tile, &apart)) return EMLX_OK;
    fold->plain = apart == 1;
    fold->windows = find_windows(fold, &form->tile);
    return EMLX_OK;
}

typedef struct fold_work {
    const cpu_run *run;
    const fold_form *fold;
    const tile_form *tile;
    task_errors errors;
    int64_t block;      // inner cells of a task
    int64_t blocks;     // of these in `inner`
    int64_t piece;      // folded elements of a task
    int64_t pieces;     // of these in `length`
    int64_t group;      // outer cells of a task
    int64_t cells;      // outer * inner
    char *accumulators; // pieces x cells, or NULL: every task has its own and finishes it
} fold_work;

void fold_finish(const fold_form *fold, emlx_type type, void *out, const char *acc, size_t n) {
    if (fold->convert == NULL) {
        fold->fns.finish(out, acc, n);
        return;
    }
    char few[1024], *to = out;
    size_t size = type_size(type), room = sizeof few / type_size(fold->found);
    for (size_t at = 0; at < n; at += room) {
        size_t part = n - at < room ? n - at : room;
        fold->fns.finish(few, acc + at * fold->fns.accumulator, part);
        fold->convert(to + at * size, few, NULL, NULL, part);
    }
}

// Writes the results of n cells.
static void finish_folds(const fold_work *w, int64_t cell, const char *acc, size_t n) {
    emlx_type type = output_value(w->run)->type;
    char *out = output_data(w->run) + cell * (int64_t)type_size(type);
    fold_finish(w->fold, type, out, acc, n);
}

static uint32_t folded_step(const tile_form *f) { return f->kernel->reduced; }

// Folds elements `from` to `to` of one row.
static void fold_row(const fold_form *fold, tile_run *run, int64_t row, int64_t from, int64_t to,
                     char *acc) {
    int64_t start = row * fold->length, tile = run->form->tile;
    for (int64_t at = from; at < to; at += tile) {
        size_t n = (size_t)least(to - at, tile);
        tile_step(run, start + at, n);
        fold->fns.rows(acc, run->at[folded_step(run->form)], 1, n, at);
    }
}

// Whether several outer cells fit into a tile.
static bool are_few(const fold_form *fold, const tile_form *f) {
    return fold->length > 0 && fold->length * fold->inner * 2 <= f->tile;
}

// Where rows of at most a tile begin that are folded as they lie in memory, or NULL.
static const char *rows_in_memory(const fold_form *fold, const tile_run *run, int64_t row) {
    const tile_form *f = run->form;
    const step_form *step = &f->steps[folded_step(f)];
    bool plain = f->kernel->step_count == 1 && f->kernel->store_count == 0;
    if (!plain || step->storage != STORAGE_MEMORY || fold->length > f->tile) return NULL;
    return run->bases[step->access] + row * fold->length * step->size;
}

void fold_rows(const fold_form *fold, tile_run *run, int64_t row, int64_t end, char *acc) {
    int64_t size = (int64_t)fold->fns.accumulator, length = fold->length;
    const char *memory = rows_in_memory(fold, run, row);
    if (memory != NULL) {
        fold->fns.rows(acc, memory, (size_t)(end - row), (size_t)length, 0);
        return;
    }
    if (!are_few(fold, run->form)) {
        for (; row < end; row++, acc += size) fold_row(fold, run, row, 0, length, acc);
        return;
    }
    for (int64_t most = run->form->tile / length, rows; row < end; row += rows) {
        rows = least(end - row, most);
        tile_step(run, row * length, (size_t)(rows * length));
        const char *from = run->at[folded_step(run->form)];
        fold->fns.rows(acc, from, (size_t)rows, (size_t)length, 0);
        acc += rows * size;
    }
}

// Folds rows `from` to `to` of one outer cell into `n` columns from `column` on.
static void fold_columns(const fold_work *w, tile_run *run, int64_t outer, int64_t from, int64_t to,
                         int64_t column, int64_t n, char *acc) {
    int64_t inner = w->fold->inner;
    int64_t most = n < inner ? 1 : w->tile->tile / inner;
    for (int64_t row = from; row < to; row += most) {
        int64_t rows = to - row < most ? to - row : most;
        int64_t first = (outer * w->fold->length + row) * inner + column;
        tile_step(run, first, (size_t)(rows * n));
        w->fold->fns.columns(acc, run->at[folded_step(w->tile)], (size_t)rows, (size_t)n, n, row);
    }
}

// Several outer cells of few elements fit into a tile.
static void fold_few_columns(const fold_work *w, tile_run *run, int64_t outer, int64_t end,
                             char *acc) {
    int64_t inner = w->fold->inner, length = w->fold->length, elements = length * inner;
    int64_t most = w->tile->tile / elements;
    size_t size = type_size(w->fold->element);
    for (int64_t cells; outer < end; outer += cells) {
        cells = end - outer < most ? end - outer : most;
        tile_step(run, outer * elements, (size_t)(cells * elements));
        const char *from = run->at[folded_step(w->tile)];
        for (int64_t c = 0; c < cells; c++, from += elements * (int64_t)size) {
            w->fold->fns.columns(acc, from, (size_t)length, (size_t)inner, inner, 0);
            acc += inner * (int64_t)w->fold->fns.accumulator;
        }
    }
}

// Columns where the elements lie: for every run of rows along the last folded axis.
static void fold_memory(const fold_work *w, tile_run *run, int64_t outer, int64_t from, int64_t to,
                        int64_t column, int64_t n, char *acc) {
    const tile_form *f = w->tile;
    const expr_step *load = &f->kernel->steps[0];
    const int64_t *strides = f->strides[load->index];
    int64_t length = f->dims[f->rank - 2], size = (int64_t)type_size((emlx_type)load->type);
    for (int64_t row = from, rows; row < to; row += rows) {
        rows = length - row % length < to - row ? length - row % length : to - row;
        int64_t first = (outer * w->fold->length + row) * w->fold->inner + column;
        int64_t offset = axis_offset(f->dims, strides, f->rank, first);
        w->fold->fns.columns(acc, run->bases[load->index] + offset * size, (size_t)rows, (size_t)n,
                             strides[f->rank - 2], row);
    }
}

// Windows where the elements lie, row by row: nothing is stored but results.
static void fold_windows(const fold_work *w, const tile_run *run, int64_t outer, int64_t end,
                         int64_t column, int64_t n) {
    const tile_form *f = w->tile;
    const expr_step *load = &f->kernel->steps[0];
    const int64_t *strides = f->strides[load->index];
    int64_t size = (int64_t)type_size(w->fold->element), places[MOST_WINDOW];
    int64_t inner = w->fold->inner, cell = w->fold->length * inner;
    for (int64_t i = 0; i < w->fold->length; i++)
        places[i] = axis_offset(f->dims, strides, f->rank, i * inner);
    size_t neighbours = strides[f->rank - 2] == 1 ? (size_t)f->dims[f->rank - 2] : 1;
    char *out = output_data(w->run) + (outer * inner + column) * size;
    for (; outer < end; outer++, out += inner * size) {
        int64_t offset = axis_offset(f->dims, strides, f->rank, outer * cell + column);
        w->fold->windows(out, run->bases[load->index] + offset * size, places,
                         (size_t)w->fold->length, (size_t)n, strides[f->rank - 1], neighbours);
    }
}

// One task: some outer cells, one piece of the folded axes, one block of columns.
static void fold_cells(fold_work *w, tile_run *run, int64_t index, char *own) {
    const fold_form *fold = w->fold;
    int64_t block = index % w->blocks, piece = index / w->blocks % w->pieces;
    int64_t outer = index / w->blocks / w->pieces * w->group;
    int64_t end = outer + w->group < fold->outer ? outer + w->group : fold->outer;
    int64_t from = piece * w->piece, column = block * w->block;
    int64_t to = from + w->piece < fold->length ? from + w->piece : fold->length;
    int64_t width = fold->inner - column < w->block ? fold->inner - column : w->block;
    int64_t cell = outer * fold->inner + column, cells = (end - outer) * width;
    size_t size = fold->fns.accumulator;
    char *acc = own;
    if (fold->windows != NULL && w->pieces == 1) {
        fold_windows(w, run, outer, end, column, width);
        return;
    }
    if (w->accumulators != NULL) acc = w->accumulators + (piece * w->cells + cell) * (int64_t)size;
    fold->fns.init(acc, (size_t)cells);
    if (!fold->columns && w->pieces == 1) {
        fold_rows(fold, run, outer, end, acc);
    } else if (!fold->columns) {
        fold_row(fold, run, outer, from, to, acc);
    } else if (are_few(fold, w->tile) && !fold->plain) {
        fold_few_columns(w, run, outer, end, acc);
    } else {
        for (int64_t o = outer; o < end; o++) {
            char *to_acc = acc + (o - outer) * width * (int64_t)size;
            if (fold->plain)
                fold_memory(w, run, o, from, to, column, width, to_acc);
            else
                fold_columns(w, run, o, from, to, column, width, to_acc);
        }
    }
    if (w->accumulators == NULL) finish_folds(w, cell, acc, (size_t)cells);
}

static void fold_task(void *context, int64_t index) {
    fold_work *w = context;
    _Alignas(64) char stack[TILE_STACK], room[ROOM_SIZE];
    emlx_error err;
    tile_run run;
    void *own = NULL;
    size_t size = (size_t)(w->group * w->block) * w->fold->fns.accumulator;
    emlx_status status = tile_start(&run, w->tile, w->run->call, stack, &err);
    if (status == EMLX_OK) {
        if (w->accumulators == NULL) status = room_take(room, size, &own, &err);
        if (status == EMLX_OK) fold_cells(w, &run, index, own);
        if (own != NULL) room_end(room, own, size);
        if (status == EMLX_OK) status = tile_result(&run, &err);
        tile_end(&run);
    }
    if (status != EMLX_OK) task_failed(&w->errors, &err);
}

// How the space is cut. A block of columns is at most a tile; with several blocks a task has one
// outer cell. Tasks have about PIECE elements.
static void cut_pieces(fold_work *w) {
    const fold_form *fold = w->fold;
    w->block = fold->inner <= w->tile->tile ? fold->inner : w->tile->tile;
    if (w->block < 1) w->block = 1;
    w->blocks = fold->inner > 0 ? (fold->inner - 1) / w->block + 1 : 1;
    w->piece = PIECE / w->block;
    if (w->piece >= fold->length) w->piece = fold->length > 0 ? fold->length : 1;
    w->pieces = fold->length > 0 ? (fold->length - 1) / w->piece + 1 : 1;
    int64_t cell = w->piece * w->block;
    w->group = w->blocks > 1 || w->pieces > 1 || cell >= PIECE ? 1 : PIECE / cell;
    if (w->group > fold->outer) w->group = fold->outer > 0 ? fold->outer : 1;
    w->cells = fold->outer * fold->inner;
}

static void merge_pieces(const fold_work *w) {
    size_t size = w->fold->fns.accumulator;
    for (int64_t piece = 1; piece < w->pieces; piece++)
        w->fold->fns.merge(w->accumulators, w->accumulators + piece * w->cells * (int64_t)size,
                           (size_t)w->cells);
    finish_folds(w, 0, w->accumulators, (size_t)w->cells);
}

emlx_status run_fold(const cpu_run *run, emlx_error *err) {
    fold_work w = {.run = run, .fold = &run->form->fold, .tile = &run->form->tile};
    cut_pieces(&w);
    if (w.cells == 0) return EMLX_OK;
    size_t size = (size_t)(w.pieces * w.cells) * w.fold->fns.accumulator;
    void *memory = NULL;
    if (w.pieces > 1) TRY(data_alloc(size, &memory, err));
    w.accumulators = memory;
    int64_t groups = (w.fold->outer - 1) / w.group + 1;
    emlx_status status = run_tasks(run, groups * w.pieces * w.blocks, fold_task, &w, err);
    if (status == EMLX_OK) status = task_result(&w.errors, err);
    if (status == EMLX_OK && w.pieces > 1) merge_pieces(&w);
    if (memory != NULL) data_free(memory, size);
    return status;
}
