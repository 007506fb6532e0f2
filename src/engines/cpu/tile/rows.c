// SPDX-License-Identifier: Apache-2.0
// rows.c - several folds and maps on each row: a block of rows goes through all stages before the
// next one begins, so that it is read once from memory and what lies between stages stays in the
// cache.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/run.h"
#include "plan/kernels/emit.h"

// Longer rows are cut into pieces, by kernels of their own. Blocks have about so many elements.
enum { LONGEST = TASK_ELEMENTS, BLOCK_ELEMENTS = 2048 };
enum { ROWS_STACK = 65536, CACHE_LINE = 64 };

// A value that only stages know of: elements of the rows of a block.
typedef struct row_local {
    uint32_t value;
    size_t row;    // bytes of a row
    size_t offset; // into the task's memory
} row_local;

// An access of a stage to such a value.
typedef struct row_binding {
    uint32_t access, local;
} row_binding;

typedef struct stage_form {
    plan_kernel kernel; // over its axes as they are walked: from row to row, and along rows
    tile_form tile;
    fold_form fold; // where the stage is one
    int64_t length; // elements of a row
    size_t offset;  // into the task's memory: of the tile's
    uint32_t binding_count;
    row_binding *bindings;
    const row_local *local; // where a fold's results go, or NULL: into the buffer of its output
} stage_form;

typedef struct rows_form {
    const plan_kernel *kernel;
    int64_t rows, length, block;
    uint32_t stage_count, local_count;
    stage_form *stages;
    row_local *locals;
    size_t accumulators; // offset into a task's memory
    size_t size;         // of that
} rows_form;

static bool runs_along(const plan_kernel *k, int32_t d) { return k->axes >> d & 1; }

static int64_t count_elements(const plan_kernel *k, bool along) {
    int64_t count = 1;
    for (int32_t d = 0; d < k->rank; d++)
        if (runs_along(k, d) == along) count *= k->dims[d];
    return count;
}

// Along the last axis, so that rows are read as they lie; and nothing is transposed on the way.
bool cpu_rows(const emlx_device *device, const plan_kernel *k) {
    (void)device;
    int32_t axis;
    if (!runs_along(k, k->rank - 1) || count_elements(k, true) > LONGEST) return false;
    for (uint32_t i = 0; i < k->stage_count; i++)
        if (k->rank > 1 && kernel_crosses(&k->stages[i], &axis)) return false;
    return true;
}

// Preparing -------------------------------------------------------------------------------------

typedef struct rows_preparer {
    rows_form *form;
    const emlx_plan *plan;
    const cpu_kernels *kernels;
    arena *memory;
    emlx_error *err;
} rows_preparer;

static size_t padded(size_t size) { return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE; }

static const row_local *find_local(const rows_form *f, uint32_t value) {
    for (uint32_t i = 0; i < f->local_count; i++)
        if (f->locals[i].value == value) return &f->locals[i];
    return NULL;
}

// The axes of the kernel in the order in which they are walked.
static void order_row_axes(const plan_kernel *k, int32_t *order) {
    int32_t n = 0;
    for (int along = 0; along <= 1; along++)
        for (int32_t d = 0; d < k->rank; d++)
            if (runs_along(k, d) == along) order[n++] = d;
}

// The stage's axes in that order, with those merged that are one.
static void walk_stage(const plan_kernel *k, plan_kernel *stage) {
    plan_kernel from = *stage;
    int32_t order[EMLX_MAX_RANK];
    order_row_axes(k, order);
    for (int32_t d = 0; d < k->rank; d++) stage->dims[d] = from.dims[order[d]];
    for (uint32_t i = 0; i < stage->access_count; i++) {
        int64_t strides[EMLX_MAX_RANK] = {0};
        for (int32_t d = 0; d < k->rank; d++) strides[d] = from.accesses[i].strides[order[d]];
        memcpy(stage->accesses[i].strides, strides, sizeof strides);
    }
    stage->axes = 0;
}

// Locals lie row by row.
static void lay_out(const rows_form *f, const plan_kernel *stage, plan_access *a) {
    int32_t last = stage->rank;
    const row_local *local = find_local(f, a->value);
    bool along = local->row > emlx_type_size(a->type);
    int64_t dense = 1;
    for (int32_t d = last - 1; d >= 0; d--) {
        bool inside = d >= last - __builtin_popcount(f->kernel->axes);
        a->strides[d] = inside && !along ? 0 : dense;
        if (!inside || along) dense *= stage->dims[d];
    }
    a->offset = 0;
}

static emlx_status bind_locals(const rows_preparer *p, stage_form *s, emlx_error *err) {
    s->bindings = arena_array(p->memory, s->kernel.access_count + 1, sizeof *s->bindings);
    if (s->bindings == NULL) return error_no_memory(err, "to prepare a kernel");
    for (uint32_t i = 0; i < s->kernel.access_count; i++) {
        plan_access *a = &s->kernel.accesses[i];
        const row_local *local = find_local(p->form, a->value);
        if (local == NULL) continue;
        lay_out(p->form, &s->kernel, a);
        s->bindings[s->binding_count++] = (row_binding){i, (uint32_t)(local - p->form->locals)};
    }
    return EMLX_OK;
}

static emlx_status prepare_stage(const rows_preparer *p, const plan_kernel *stage, stage_form *s) {
    const plan_kernel *k = p->form->kernel;
    tile_walk walk = {.rows = k};
    size_t size = stage->access_count * sizeof *stage->accesses;
    s->kernel = *stage;
    s->kernel.accesses = arena_alloc(p->memory, size);
    if (s->kernel.accesses == NULL) return error_no_memory(p->err, "to prepare a kernel");
    memcpy(s->kernel.accesses, stage->accesses, size);
    walk_stage(k, &s->kernel);
    TRY(bind_locals(p, s, p->err));
    merge_kernel_axes(&s->kernel);
    for (int32_t d = 0; d < s->kernel.rank; d++) walk.axes[d] = d;
    s->length = count_elements(stage, false) * count_elements(stage, true) / p->form->rows;
    if (stage->kind == KERNEL_REDUCE) {
        TRY(fold_functions(&s->fold, p->plan, stage, p->kernels, p->err));
        s->fold.outer = p->form->rows;
        s->fold.length = s->length;
        s->fold.inner = 1;
        s->local = find_local(p->form, stage->output);
    }
    return tile_prepare(&s->tile, p->plan, &s->kernel, p->kernels, &walk, p->memory, p->err);
}

static emlx_status list_locals(const rows_preparer *p) {
    rows_form *f = p->form;
    const plan_kernel *k = f->kernel;
    f->locals = arena_array(p->memory, k->local_count + 1, sizeof *f->locals);
    if (f->locals == NULL) return error_no_memory(p->err, "to prepare a kernel");
    f->local_count = k->local_count;
    for (uint32_t i = 0; i < k->local_count; i++) {
        const plan_value *v = &p->plan->values[k->locals[i]];
        f->locals[i] = (row_local){k->locals[i], v->bytes / (size_t)f->rows, 0};
    }
    return EMLX_OK;
}

// Rows of a block, and where in a task's memory everything lies.
static void size_block(rows_form *f) {
    size_t accumulator = 0;
    f->block = BLOCK_ELEMENTS / f->length;
    if (f->block < 1) f->block = 1;
    if (f->block > f->rows) f->block = f->rows;
    for (uint32_t i = 0; i < f->stage_count; i++) {
        stage_form *s = &f->stages[i];
        // What this block reads is at hand already.
        s->tile.ahead = f->block * s->length;
        s->offset = f->size;
        f->size += padded(tile_room(&s->tile));
        if (s->fold.fns.accumulator > accumulator) accumulator = s->fold.fns.accumulator;
    }
    f->accumulators = f->size;
    f->size += padded(accumulator * (size_t)f->block);
    for (uint32_t i = 0; i < f->local_count; i++) {
        f->locals[i].offset = f->size;
        f->size += padded(f->locals[i].row * (size_t)f->block);
    }
}

emlx_status prepare_rows(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, arena *memory, emlx_error *err) {
    rows_form *f = arena_alloc(memory, sizeof *f);
    if (f == NULL) return error_no_memory(err, "to prepare a kernel");
    rows_preparer p = {f, plan, kernels, memory, err};
    form->rows = f;
    f->kernel = kernel;
    f->rows = count_elements(kernel, false);
    f->length = count_elements(kernel, true);
    f->stage_count = kernel->stage_count;
    f->stages = arena_array(memory, f->stage_count, sizeof *f->stages);
    if (f->stages == NULL) return error_no_memory(err, "to prepare a kernel");
    TRY(list_locals(&p));
    for (uint32_t i = 0; i < f->stage_count; i++)
        TRY(prepare_stage(&p, &kernel->stages[i], &f->stages[i]));
    size_block(f);
    return EMLX_OK;
}

// Running ---------------------------------------------------------------------------------------

typedef struct rows_work {
    const cpu_run *run;
    const rows_form *form;
    int64_t group; // rows of a task
    task_errors errors;
} rows_work;

// Where rows from `row` on lie as if all rows were there, so that accesses need not know better.
static char *local_base(const row_local *local, char *memory, int64_t row) {
    return (char *)((uintptr_t)(memory + local->offset) - local->row * (uintptr_t)row);
}

static void fold_stage(const rows_work *w, const stage_form *s, tile_run *run, char *memory,
                       int64_t row, int64_t end) {
    const kernel_call *call = w->run->call;
    emlx_type type = call->plan->values[s->kernel.output].type;
    char *acc = memory + w->form->accumulators, *out;
    s->fold.fns.init(acc, (size_t)(end - row));
    fold_rows(&s->fold, run, row, end, acc);
    if (s->local != NULL)
        out = memory + s->local->offset;
    else
        out = (char *)call->buffers[s->kernel.output]->data + row * (int64_t)type_size(type);
    fold_finish(&s->fold, type, out, acc, (size_t)(end - row));
}

static void do_stage(const rows_work *w, const stage_form *s, tile_run *run, char *memory,
                     int64_t row, int64_t end) {
    const row_local *locals = w->form->locals;
    for (uint32_t i = 0; i < s->binding_count; i++)
        run->bases[s->bindings[i].access] = local_base(&locals[s->bindings[i].local], memory, row);
    if (s->kernel.kind == KERNEL_REDUCE) {
        fold_stage(w, s, run, memory, row, end);
        return;
    }
    int64_t to = end * s->length;
    for (int64_t at = row * s->length; at < to; at += s->tile.tile)
        tile_step(run, at, (size_t)least(s->tile.tile, to - at));
}

static emlx_status do_rows(const rows_work *w, int64_t row, int64_t end, char *memory,
                           emlx_error *err) {
    const rows_form *f = w->form;
    tile_run runs[MOST_STAGES];
    for (uint32_t i = 0; i < f->stage_count; i++)
        tile_begin(&runs[i], &f->stages[i].tile, w->run->call, memory + f->stages[i].offset);
    for (int64_t block; row < end; row += block) {
        block = least(f->block, end - row);
        for (uint32_t i = 0; i < f->stage_count; i++)
            do_stage(w, &f->stages[i], &runs[i], memory, row, row + block);
    }
    for (uint32_t i = 0; i < f->stage_count; i++) TRY(tile_result(&runs[i], err));
    return EMLX_OK;
}

static void rows_task(void *context, int64_t index) {
    rows_work *w = context;
    const rows_form *f = w->form;
    _Alignas(64) char stack[ROWS_STACK];
    emlx_error err;
    void *memory = stack;
    emlx_status status = EMLX_OK;
    if (f->size > sizeof stack) status = data_alloc(f->size, &memory, &err);
    if (status == EMLX_OK) {
        int64_t row = index * w->group;
        status = do_rows(w, row, least(row + w->group, f->rows), memory, &err);
        if (memory != stack) data_free(memory, f->size);
    }
    if (status != EMLX_OK) task_failed(&w->errors, &err);
}

emlx_status run_rows(const cpu_run *run, emlx_error *err) {
    const rows_form *f = run->form->rows;
    // Of several stages a task has fewer rows, so that it is as brief as that of another kernel.
    int64_t group = 2 * TASK_ELEMENTS / (f->length * f->stage_count);
    rows_work w = {.run = run, .form = f, .group = group > 0 ? group : 1};
    TRY(run_tasks(run, (f->rows - 1) / w.group + 1, rows_task, &w, err));
    return task_result(&w.errors, err);
}
