// SPDX-License-Identifier: Apache-2.0
// engine.c - the CPU engine: its door, and what its kernels share.
#include "engine.h"

#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/error.h"
#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/run.h"
#include "engines/cpu/whole.h"

// Parallel tasks --------------------------------------------------------------------------------

emlx_status run_tasks(const cpu_run *run, int64_t count, pool_body body, void *work,
                      emlx_error *err) {
    bool all = pool_for_unless(run->device->pool, run->call->cancel, count, body, work);
    // A task may have ended early, too.
    if (all && !cancel_raised(run->call->cancel)) return EMLX_OK;
    return error_set(err, EMLX_CANCELLED, "cancelled");
}

// The tasks that are left of a stretch: the first one, and, in the upper half, the end.
typedef struct stretch {
    _Alignas(64) _Atomic uint64_t left;
} stretch;

enum { MOST_STRETCHES = 64 };

typedef struct stretches {
    pool_body body;
    void *work;
    uint64_t number; // of all there ever were
    int count;
    atomic_int begun;
    stretch of[MOST_STRETCHES];
} stretches;

// Which stretch the thread works on, and of which loop.
static _Thread_local struct {
    uint64_t number;
    int at;
} mine;

static bool take_of(stretch *s, bool first, int64_t *task) {
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed), rest;
    do {
        uint64_t begin = (uint32_t)left, end = left >> 32;
        if (begin == end) return false;
        *task = (int64_t)(first ? begin : end - 1);
        rest = first ? left + 1 : left - ((uint64_t)1 << 32);
    } while (!atomic_compare_exchange_weak_explicit(&s->left, &left, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static stretch *longest(stretches *s) {
    uint64_t most = 0;
    stretch *found = &s->of[0];
    for (int i = 0; i < s->count; i++) {
        uint64_t left = atomic_load_explicit(&s->of[i].left, memory_order_relaxed);
        uint64_t length = (left >> 32) - (uint32_t)left;
        if (length > most) most = length, found = &s->of[i];
    }
    return found;
}

// From the thread's stretch, else from one that nobody has begun, else the last one of the longest.
// There are as many calls as tasks, so that each finds one.
static int64_t take_task(stretches *s) {
    int64_t task;
    if (mine.number == s->number && take_of(&s->of[mine.at], true, &task)) return task;
    while (atomic_load_explicit(&s->begun, memory_order_relaxed) < s->count) {
        int at = atomic_fetch_add_explicit(&s->begun, 1, memory_order_relaxed);
        if (at >= s->count) break;
        mine.number = s->number;
        mine.at = at;
        if (take_of(&s->of[at], true, &task)) return task;
    }
    while (!take_of(longest(s), false, &task)) continue;
    return task;
}

static void stretch_task(void *context, int64_t index) {
    stretches *s = context;
    (void)index;
    s->body(s->work, take_task(s));
}

emlx_status run_tasks_in_order(const cpu_run *run, int64_t count, pool_body body, void *work,
                               emlx_error *err) {
    static _Atomic uint64_t loops;
    int threads = pool_threads(run->device->pool);
    stretches s = {.body = body, .work = work};
    s.number = atomic_fetch_add_explicit(&loops, 1, memory_order_relaxed) + 1;
    s.count = threads < MOST_STRETCHES ? threads : MOST_STRETCHES;
    for (int i = 0; i < s.count; i++)
        s.of[i].left = (uint64_t)(count * i / s.count) | (uint64_t)(count * (i + 1) / s.count)
                                                             << 32;
    return run_tasks(run, count, stretch_task, &s, err);
}

bool task_goes_on(const cpu_run *run) {
    pool_turn(run->device->pool);
    return !cancel_raised(run->call->cancel);
}

void task_failed(task_errors *errors, const emlx_error *err) {
    int expected = 0;
    if (!atomic_compare_exchange_strong(&errors->failed, &expected, 1)) return;
    errors->error = *err;
    atomic_store_explicit(&errors->failed, 2, memory_order_release);
}

// All tasks have ended, so that the one which failed first has written its error.
emlx_status task_result(task_errors *errors, emlx_error *err) {
    if (atomic_load_explicit(&errors->failed, memory_order_acquire) == 0) return EMLX_OK;
    if (err != NULL) *err = errors->error;
    return errors->error.code;
}

emlx_status room_take(char *room, size_t size, void **out, emlx_error *err) {
    if (size > ROOM_SIZE) return data_alloc(size, out, err);
    *out = room;
    return EMLX_OK;
}

void room_end(const char *room, void *memory, size_t size) {
    if (memory != room) data_free(memory, size);
}

// The door --------------------------------------------------------------------------------------

typedef struct kernel_runner {
    emlx_status (*prepare)(kernel_form *, const emlx_plan *, const plan_kernel *,
                           const cpu_kernels *, arena *, emlx_error *);
    emlx_status (*run)(const cpu_run *, emlx_error *);
} kernel_runner;

static const kernel_runner runners[KERNEL_COUNT] = {
    [KERNEL_MAP] = {prepare_map, run_map},
    [KERNEL_REDUCE] = {prepare_fold, run_fold},
    [KERNEL_DOT] = {NULL, run_dot},
    [KERNEL_GATHER] = {NULL, run_gather},
    [KERNEL_SCATTER] = {NULL, run_scatter},
    [KERNEL_SORT] = {NULL, run_sort},
    [KERNEL_CONV] = {NULL, run_conv},
    [KERNEL_SCAN] = {NULL, run_scan},
    [KERNEL_PICK] = {NULL, run_pick},
    [KERNEL_ROUTINE] = {prepare_routine, run_routine},
    [KERNEL_EITHER] = {NULL, run_either},
    [KERNEL_CALL] = {NULL, run_call},
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

static emlx_status cpu_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                emlx_error *err) {
    (void)device;
    return buffer_new(size, out, err);
}

static bool cpu_can_wrap(const emlx_device *device, const void *data, size_t size, size_t element) {
    (void)device, (void)size;
    return (uintptr_t)data % element == 0;
}

static emlx_status cpu_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                              emlx_error *err) {
    (void)device;
    (void)err;
    memcpy(to->data, from, size);
    return EMLX_OK;
}

static emlx_status cpu_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                void *to, size_t size, emlx_error *err) {
    (void)device;
    (void)err;
    memcpy(to, (const char *)from->data + offset, size);
    return EMLX_OK;
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
    .allocate = cpu_allocate,
    .can_wrap = cpu_can_wrap,
    .upload = cpu_upload,
    .download = cpu_download,
    .rows = cpu_rows,
    .takes = cpu_takes,
    .prepare = cpu_prepare,
    .discard = cpu_discard,
    .submit = cpu_submit,
};
