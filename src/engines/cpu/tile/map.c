// SPDX-License-Identifier: Apache-2.0
// map.c - element-wise kernels: tiles of the index space, several to a task.
#include <stdlib.h>

#include "base/error.h"
#include "engines/cpu/run.h"

// An index space of the last axis and one other that is smaller than this is walked in order: a
// block would be too small to pay.
enum { LEAST_BLOCK = 256 };

// Finds the axis along which memory is dense that steps along the last axis stride over: where
// something is transposed. A tile is then a block of both, so that whole lines are read and
// written.
bool kernel_crosses(const plan_kernel *k, int32_t *axis) {
    int32_t last = k->rank - 1;
    for (uint32_t i = 0; i < k->access_count; i++) {
        const plan_access *a = &k->accesses[i];
        if (a->value == UINT32_MAX || llabs(a->strides[last]) <= 1) continue;
        for (*axis = last - 1; *axis >= 0; --*axis)
            if (a->strides[*axis] == 1) return k->dims[*axis] * k->dims[last] >= LEAST_BLOCK;
    }
    return false;
}

emlx_status prepare_map(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                        const cpu_kernels *kernels, arena *memory, emlx_error *err) {
    tile_walk walk = {.blocked = false};
    int32_t crossing, n = 0;
    if (kernel->rank < 2 || !kernel_crosses(kernel, &crossing))
        return tile_prepare(&form->tile, plan, kernel, kernels, NULL, memory, err);
    walk.blocked = true;
    for (int32_t d = 0; d < kernel->rank - 1; d++)
        if (d != crossing) walk.axes[n++] = d;
    walk.axes[n++] = crossing;
    walk.axes[n] = kernel->rank - 1;
    return tile_prepare(&form->tile, plan, kernel, kernels, &walk, memory, err);
}

typedef struct map_work {
    const cpu_run *run;
    int64_t tiles, tiles_of_task;
    task_errors errors;
} map_work;

static void map_task(void *context, int64_t index) {
    map_work *work = context;
    const tile_form *form = &work->run->form->tile;
    _Alignas(64) char stack[TILE_STACK];
    emlx_error err;
    tile_run run;
    if (tile_start(&run, form, work->run->call, stack, &err) != EMLX_OK) {
        task_failed(&work->errors, &err);
        return;
    }
    int64_t at = index * work->tiles_of_task, end = at + work->tiles_of_task;
    if (end > work->tiles) end = work->tiles;
    for (; at < end; at++) tile_number(&run, at);
    if (tile_result(&run, &err) != EMLX_OK) task_failed(&work->errors, &err);
    tile_end(&run);
}

emlx_status run_map(const cpu_run *run, emlx_error *err) {
    const tile_form *form = &run->form->tile;
    map_work work = {.run = run, .tiles = tile_count(form)};
    if (work.tiles == 0) return EMLX_OK;
    work.tiles_of_task = TASK_ELEMENTS * work.tiles / form->count + 1;
    TRY(run_tasks(run, (work.tiles - 1) / work.tiles_of_task + 1, map_task, &work, err));
    return task_result(&work.errors, err);
}
