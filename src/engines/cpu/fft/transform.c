// SPDX-License-Identifier: Apache-2.0
// transform.c - transforms of complex lines: side by side in a panel, whose passes sort them on
// their way (after Stockham); or each as a matrix, whose columns are transformed and turned, then
// its rows, both side by side (after Bailey). Columns and rows are tasks where the line is long.
#include <string.h>

#include "base/error.h"
#include "engines/cpu/fft/fft.h"
#include "threads/cancel.h"

enum {
    LONG_LINE = 1 << 15,    // elements of one that all threads work on
    BODY_ELEMENTS = 1 << 14 // of columns or rows that are transformed in one call
};

bool fft_is_long(const fft_form *form) {
    return (form->longer != NULL ? form->longer->length : form->length) > LONG_LINE;
}

emlx_status fft_each(const fft_job *job, int64_t count, pool_body body, void *context,
                     emlx_error *err) {
    if (job->spread) return run_tasks(job->run, count, body, context, err);
    for (int64_t i = 0; i < count; i++) {
        if (i > 0 && job->run != NULL && !task_goes_on(job->run))
            return error_set(err, EMLX_CANCELLED, "cancelled");
        body(context, i);
    }
    return EMLX_OK;
}

// Panels ----------------------------------------------------------------------------------------

static size_t panel_size(const fft_form *form) {
    return (size_t)(form->length * form->fns->lines) * 2 * form->size;
}

// `view` from an element of a line on.
static char *view_at(const fft_form *form, const fft_view *v, int64_t line, int64_t element) {
    return v->data + (line * v->line + element * v->element) * (int64_t)form->size;
}

// A panel and its spare, where passes leave the result.
typedef struct panel {
    char *data, *spare;
} panel;

static panel panel_in(const fft_form *form, char *memory) {
    return (panel){memory, memory + panel_size(form)};
}

static void load(const fft_form *form, const fft_view *from, int64_t lines, panel *p) {
    int64_t n = form->length;
    if (from->element == 2)
        form->fns->along(p->data, from->data, from->line, 1, (size_t)lines, (size_t)n * 2);
    else
        form->fns->across(p->data, from->data, from->element, from->line, lines, n);
}

static void store(const fft_form *form, const fft_view *to, bool exchange, int64_t lines,
                  const panel *p) {
    int64_t n = form->length;
    if (to->element == 2)
        form->fns->back_along(to->data, p->data, exchange, to->line, lines, n);
    else
        form->fns->back_across(to->data, p->data, exchange, to->element, to->line, lines, n);
}

static void run_passes(const fft_form *form, bool exchange, panel *p) {
    for (int32_t i = 0; i < form->pass_count; i++) {
        form->fns->pass(&form->passes[i], exchange && i == 0, p->data, p->spare);
        *p = (panel){p->spare, p->data};
    }
}

static void tidy(const fft_lines *t, const fft_form *form, const panel *p) {
    if (t->scale != NULL) form->fns->tidy(p->data, form->length * form->fns->lines * 2, t->scale);
}

// Exchanged before and after there is nothing to be done for a single element.
static void transform_panel(const fft_lines *t) {
    const fft_form *form = t->form;
    bool exchange = t->exchange && form->pass_count > 0;
    panel p = panel_in(form, t->memory);
    load(form, &t->from, t->lines, &p);
    run_passes(form, exchange, &p);
    if (t->unfold != NULL) {
        fft_mixing m = *t->unfold;
        m.from = p.data;
        m.to = t->memory + 2 * panel_size(form);
        form->fns->unfold(&m);
        int64_t count = m.mirror != NULL ? 2 * m.half : m.half + 1;
        form->fns->back_along(t->to.data, m.to, false, t->to.line, t->lines, count);
        return;
    }
    tidy(t, form, &p);
    store(form, &t->to, exchange, t->lines, &p);
}

// Columns and rows ------------------------------------------------------------------------------

// A line as a matrix; `turned` has the transformed columns, as they were in the line.
typedef struct matrix {
    const fft_lines *of;
    fft_view from, to;
    char *turned;
    int64_t group; // lines side by side in one call, a whole number of panels
    task_errors errors;
} matrix;

// The turns of columns from `first` on, which the base has relative to that one.
static void turn_columns(const fft_form *form, panel *p, int64_t first) {
    enum { ROWS = 64 };
    double starts[2 * ROWS];
    int64_t rows = form->columns->length, row = 2 * form->fns->lines * (int64_t)form->size;
    for (int64_t e = 0, place = 0; e < rows; e += ROWS) {
        int64_t count = least(rows - e, ROWS);
        for (int64_t i = 0; i < count; i++) {
            fft_root(&form->roots, place, starts + 2 * i);
            place += first;
            if (place >= form->length) place -= form->length;
        }
        form->fns->turn(p->data + e * row, (const char *)form->base + e * row, starts, count);
    }
}

static void transform_columns(const matrix *m, int64_t first, int64_t lines, char *memory) {
    const fft_form *form = m->of->form, *columns = form->columns;
    int64_t step = form->rows->length;
    panel p = panel_in(columns, memory);
    fft_view from = {view_at(form, &m->from, 0, first), m->from.element, m->from.element * step};
    fft_view turned = {m->turned + (size_t)first * 2 * form->size, 2, 2 * step};
    load(columns, &from, lines, &p);
    run_passes(columns, m->of->exchange, &p);
    turn_columns(form, &p, first);
    store(columns, &turned, false, lines, &p);
}

static void transform_rows(const matrix *m, int64_t first, int64_t lines, char *memory) {
    const fft_form *form = m->of->form, *rows = form->rows;
    int64_t step = form->columns->length;
    panel p = panel_in(rows, memory);
    fft_view turned = {m->turned + (size_t)(first * rows->length) * 2 * form->size,
                       2 * rows->length, 2};
    fft_view to = {view_at(form, &m->to, 0, first), m->to.element, m->to.element * step};
    load(rows, &turned, lines, &p);
    run_passes(rows, false, &p);
    tidy(m->of, rows, &p);
    store(rows, &to, m->of->exchange, lines, &p);
}

// Of `side`, the transform of a column or of a row, those that are in group `index` of all.
static void transform_side(matrix *m, const fft_form *side, int64_t index,
                           void (*body)(const matrix *, int64_t, int64_t, char *)) {
    int64_t all = m->of->form->length / side->length, lines = side->fns->lines;
    int64_t end = least(all, (index + 1) * m->group);
    _Alignas(64) char room[ROOM_SIZE];
    void *memory;
    emlx_error err;
    if (room_take(room, 2 * panel_size(side), &memory, &err) != EMLX_OK) {
        task_failed(&m->errors, &err);
        return;
    }
    for (int64_t i = index * m->group; i < end; i += lines)
        body(m, i, least(end - i, lines), memory);
    room_end(room, memory, 2 * panel_size(side));
}

static void columns_body(void *context, int64_t index) {
    matrix *m = context;
    transform_side(m, m->of->form->columns, index, transform_columns);
}

static void rows_body(void *context, int64_t index) {
    matrix *m = context;
    transform_side(m, m->of->form->rows, index, transform_rows);
}

static emlx_status each_side(matrix *m, const fft_form *side, pool_body body, emlx_error *err) {
    int64_t all = m->of->form->length / side->length, lines = side->fns->lines;
    m->group = lines;
    while (m->group * side->length < BODY_ELEMENTS) m->group *= 2;
    TRY(fft_each(m->of->job, (all - 1) / m->group + 1, body, m, err));
    return task_result(&m->errors, err);
}

static emlx_status transform_matrix(const fft_lines *t, int64_t line, emlx_error *err) {
    matrix m = {.of = t, .from = t->from, .to = t->to, .turned = t->memory};
    m.from.data = view_at(t->form, &t->from, line, 0);
    m.to.data = view_at(t->form, &t->to, line, 0);
    TRY(each_side(&m, t->form->columns, columns_body, err));
    return each_side(&m, t->form->rows, rows_body, err);
}

// All -------------------------------------------------------------------------------------------

// Lines that are side by side in memory need not be turned to be so in a panel.
static bool through_panel(const fft_form *form, bool beside) {
    return form->passes != NULL && (form->columns == NULL || beside);
}

bool fft_in_panel(const fft_form *form) {
    return form->longer == NULL && through_panel(form, false);
}

size_t fft_unfold_room(const fft_form *form) {
    return 2 * panel_size(form) + (size_t)(2 * form->fns->lines) * form->size;
}

size_t fft_room(const fft_form *form, int64_t lines, bool beside) {
    if (form->longer != NULL) {
        size_t both = (size_t)(lines * form->longer->length) * 4 * sizeof(double);
        return both + fft_room(form->longer, lines, false);
    }
    size_t line = (size_t)form->length * 2 * form->size;
    return through_panel(form, beside) ? 2 * panel_size(form) : line;
}

int64_t fft_bunch(const fft_form *form, bool beside) {
    if (form->longer != NULL) return fft_bunch(form->longer, false);
    return through_panel(form, beside) ? form->fns->lines : 1;
}

emlx_status fft_transform(const fft_lines *t, emlx_error *err) {
    if (t->form->longer != NULL) return t->form->convolve(t, err);
    if (through_panel(t->form, t->from.element != 2 && t->from.line == 2)) {
        transform_panel(t);
        return EMLX_OK;
    }
    for (int64_t line = 0; line < t->lines; line++) TRY(transform_matrix(t, line, err));
    return EMLX_OK;
}
