// SPDX-License-Identifier: Apache-2.0
// custom.c - folds with a function that the caller wrote.
//
// One that is written out as scalar steps goes through the tile interpreter, over many results side
// by side: the k-th elements of their folds, then the next ones. Others are called, one element
// after another.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/run.h"
#include "graph/function.h"

enum { FEWEST_RESULTS = 64 }; // of a task, where there are that many

// Folded axes come first, so that results lie side by side.
emlx_status prepare_custom(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                           const cpu_kernels *kernels, arena *memory, emlx_error *err) {
    fold_form *fold = &form->fold;
    tile_walk walk = {.blocked = false};
    int32_t n = 0;
    fold->length = fold->outer = 1;
    for (int folded = 1; folded >= 0; folded--)
        for (int32_t d = 0; d < kernel->rank; d++) {
            if ((int)(kernel->axes >> d & 1) != folded) continue;
            walk.axes[n++] = d;
            *(folded ? &fold->length : &fold->outer) *= kernel->dims[d];
        }
    return tile_prepare(&form->tile, plan, kernel, kernels, &walk, memory, err);
}

typedef struct custom_work {
    const cpu_run *run;
    int64_t length, results, group;
    task_errors errors;
} custom_work;

static void fold_group(const custom_work *w, tile_run *run, int64_t first, size_t n) {
    const plan_kernel *k = w->run->call->kernel;
    size_t size = type_size(output_value(w->run)->type);
    memcpy(run->at[k->carry], run->at[k->start], n * size);
    for (int64_t i = 0; i < w->length && run->failed == NULL; i++) {
        tile_step(run, i * w->results + first, n);
        if (k->reduced != k->carry) memcpy(run->at[k->carry], run->at[k->reduced], n * size);
    }
    memcpy(output_data(w->run) + first * (int64_t)size, run->at[k->carry], n * size);
}

static void custom_task(void *context, int64_t index) {
    custom_work *w = context;
    int64_t first = index * w->group, left = w->results - first;
    _Alignas(64) char stack[TILE_STACK];
    emlx_error err;
    tile_run run;
    emlx_status status = tile_start(&run, &w->run->form->tile, w->run->call, stack, &err);
    if (status == EMLX_OK) {
        fold_group(w, &run, first, (size_t)(left < w->group ? left : w->group));
        status = tile_result(&run, &err);
        tile_end(&run);
    }
    if (status != EMLX_OK) task_failed(&w->errors, &err);
}

emlx_status run_custom(const cpu_run *run, emlx_error *err) {
    const fold_form *fold = &run->form->fold;
    custom_work w = {.run = run, .length = fold->length, .results = fold->outer};
    if (w.results == 0 || w.length == 0) return EMLX_OK;
    w.group = TASK_ELEMENTS / w.length;
    if (w.group < FEWEST_RESULTS) w.group = FEWEST_RESULTS;
    if (w.group > run->form->tile.tile) w.group = run->form->tile.tile;
    TRY(run_tasks(run, (w.results - 1) / w.group + 1, custom_task, &w, err));
    return task_result(&w.errors, err);
}

emlx_status run_function(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    emlx_function *function = run->call->functions[k->function];
    int64_t results = k->shapes[0].dims[0], length = k->shapes[0].dims[1];
    size_t size = type_size(output_value(run)->type), from = type_size(k->accesses[0].type);
    const char *element = operand_data(run, 0);
    for (int64_t i = 0; i < results; i++) {
        char *out = output_data(run) + i * (int64_t)size;
        memcpy(out, operand_data(run, 1), size);
        for (int64_t n = 0; n < length; n++, element += from) {
            const void *inputs[2] = {element, out};
            TRY(function->call(function, inputs, out, err));
        }
    }
    return EMLX_OK;
}
