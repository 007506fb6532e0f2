// SPDX-License-Identifier: Apache-2.0
// engine.c - the CPU engine: its door.
#include "engine.h"

#include <stdio.h>

#include "base/error.h"
#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/run.h"
#include "engines/cpu/whole.h"

typedef struct kernel_runner {
    emlx_status (*prepare)(kernel_form *, const emlx_plan *, const plan_kernel *,
                           const cpu_kernels *, arena *, emlx_error *);
    emlx_status (*run)(const cpu_run *, emlx_error *);
} kernel_runner;

static const kernel_runner runners[KERNEL_COUNT] = {
    [KERNEL_MAP] = {prepare_map, run_map},
    [KERNEL_REDUCE] = {prepare_fold, run_fold},
    [KERNEL_DOT] = {NULL, run_products},
    [KERNEL_GATHER] = {NULL, run_gather},
    [KERNEL_SCATTER] = {NULL, run_scatter},
    [KERNEL_SORT] = {NULL, run_sort},
    [KERNEL_CONV] = {NULL, run_conv},
    [KERNEL_SCAN] = {NULL, run_scan},
    [KERNEL_PICK] = {NULL, run_pick},
    [KERNEL_ROUTINE] = {prepare_routine, run_routine},
    [KERNEL_EITHER] = {NULL, run_either},
    [KERNEL_FUNCTION] = {NULL, run_function},
    [KERNEL_CUSTOM] = {prepare_custom, run_custom},
    [KERNEL_ROWS] = {prepare_rows, run_rows},
};

// The form of a plan: one of each kernel, in the order of the plan.
typedef struct cpu_form {
    arena memory;
    kernel_form *kernels;
} cpu_form;

static emlx_status cpu_open(emlx_device *device, emlx_error *err) {
    TRY(blas_load(err));
    device->state = (void *)cpu_kernels_select();
    return EMLX_OK;
}

static void cpu_describe(const emlx_device *device, char *text, size_t size) {
    const cpu_kernels *kernels = device->state;
    snprintf(text, size, "kernels %s, %d threads, %s", kernels->level, pool_threads(device->pool),
             openblas_get_config());
}

static bool cpu_can_wrap(const emlx_device *device, const void *data, size_t size, size_t element) {
    (void)device, (void)size;
    return (uintptr_t)data % element == 0;
}

static void cpu_discard(emlx_device *device, void *form) {
    (void)device;
    cpu_form *p = form;
    arena_clear(&p->memory);
    mem_free(p, sizeof *p);
}

static emlx_status cpu_prepare(emlx_device *device, const emlx_plan *plan, void **form,
                               emlx_error *err) {
    cpu_form *p = mem_alloc(sizeof *p);
    if (p == NULL) return error_no_memory(err, "to prepare a plan");
    p->kernels = arena_array(&p->memory, plan->kernel_count + 1, sizeof *p->kernels);
    emlx_status status = EMLX_OK;
    if (p->kernels == NULL) status = error_no_memory(err, "to prepare a plan");
    for (uint32_t i = 0; i < plan->kernel_count && status == EMLX_OK; i++) {
        const plan_kernel *k = &plan->kernels[i];
        const kernel_runner *r = &runners[k->kind];
        if (r->prepare == NULL) continue;
        status = r->prepare(&p->kernels[i], plan, k, device->state, &p->memory, err);
        if (status != EMLX_OK) error_prefix(err, status, "%s", k->op);
    }
    if (status == EMLX_OK)
        *form = p;
    else
        cpu_discard(device, p);
    return status;
}

static emlx_status cpu_run_kernel(emlx_device *device, void *context, const kernel_call *call,
                                  emlx_error *err) {
    (void)context;
    const cpu_form *form = call->prepared;
    cpu_run run = {device, device->state, call, &form->kernels[call->kernel - call->plan->kernels]};
    return runners[call->kernel->kind].run(&run, err);
}

static emlx_status cpu_submit(emlx_device *device, void *stream, const plan_call *call, fence **end,
                              emlx_error *err) {
    (void)stream, (void)end;
    return run_kernels(device, call, &(kernel_loop){.run = cpu_run_kernel}, err);
}

const engine_ops cpu_engine = {
    .name = "cpu",
    .form = FORM_KERNELS,
    .immediate = true,
    .host_memory = true,
    .open = cpu_open,
    .describe = cpu_describe,
    .allocate = host_allocate,
    .can_wrap = cpu_can_wrap,
    .upload = host_upload,
    .download = host_download,
    .rows = cpu_rows,
    .takes = cpu_takes,
    .widens = cpu_widens,
    .beside = cpu_beside,
    .prepare = cpu_prepare,
    .discard = cpu_discard,
    .submit = cpu_submit,
};
