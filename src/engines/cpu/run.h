// SPDX-License-Identifier: Apache-2.0
// run.h - the CPU engine's kernels by kind: each is prepared once a plan and run many times.
#ifndef EMLX_CPU_RUN_H
#define EMLX_CPU_RUN_H

#include "base/shape.h"
#include "engines/cpu/tile/tile.h"

// Whether the stages of a kernel of rows are worth doing together.
bool cpu_rows(const emlx_device *device, const plan_kernel *kernel);

// What a fold over axes needs besides the expression. See fold.c.
typedef struct fold_form {
    reduce_fns fns;
    emlx_type element;            // of what is folded
    emlx_type found;              // of what fns.finish writes
    tile_fn convert;              // from that to the result's type, or NULL
    bool columns;                 // the innermost axis is kept: folds run down columns
    bool plain;                   // of an operand in memory
    window_fn windows;            // of windows of an operand in memory, or NULL
    int64_t outer, length, inner; // index space: kept axes, folded axes, innermost kept axis
} fold_form;

typedef struct kernel_form {
    tile_form tile;               // of MAP, REDUCE and CUSTOM
    fold_form fold;               // of REDUCE
    const struct rows_form *rows; // of ROWS
    const struct fft_form *fft;   // of ROUTINE, or NULL: made when it runs
} kernel_form;

// Whether memory is dense along another axis than the last, over whose elements the last one steps;
// *axis: the innermost such.
bool kernel_crosses(const plan_kernel *k, int32_t *axis);

// Fills in what depends on the fold alone.
emlx_status fold_functions(fold_form *fold, const emlx_plan *plan, const plan_kernel *kernel,
                           const cpu_kernels *kernels, emlx_error *err);
// Folds rows of a kernel whose folded axes come last, each of fold->length elements: row r into
// accumulator r - row, which is begun.
void fold_rows(const fold_form *fold, tile_run *run, int64_t row, int64_t end, char *acc);
// Writes the results of n accumulators, of the given type.
void fold_finish(const fold_form *fold, emlx_type type, void *out, const char *acc, size_t n);

// Whether products in `type` read operands of type `from` as they are.
bool cpu_widens(const emlx_device *device, emlx_type from, emlx_type type);

// Whether products of the same vector are run together.
bool cpu_beside(const emlx_device *device, const plan_kernel *first, const plan_kernel *kernel);

typedef struct cpu_run {
    emlx_device *device;
    const cpu_kernels *kernels;
    const kernel_call *call;
    const kernel_form *form;
} cpu_run;

emlx_status prepare_map(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                        const cpu_kernels *kernels, arena *memory, emlx_error *err);
emlx_status prepare_fold(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, arena *memory, emlx_error *err);
emlx_status prepare_custom(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                           const cpu_kernels *kernels, arena *memory, emlx_error *err);
emlx_status prepare_rows(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, arena *memory, emlx_error *err);
emlx_status prepare_routine(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                            const cpu_kernels *kernels, arena *memory, emlx_error *err);
emlx_status run_map(const cpu_run *run, emlx_error *err);
emlx_status run_fold(const cpu_run *run, emlx_error *err);
emlx_status run_rows(const cpu_run *run, emlx_error *err);
emlx_status run_products(const cpu_run *run, emlx_error *err);
emlx_status run_conv(const cpu_run *run, emlx_error *err);
emlx_status run_gather(const cpu_run *run, emlx_error *err);
emlx_status run_scatter(const cpu_run *run, emlx_error *err);
emlx_status run_sort(const cpu_run *run, emlx_error *err);
emlx_status run_scan(const cpu_run *run, emlx_error *err);
emlx_status run_pick(const cpu_run *run, emlx_error *err);
emlx_status run_routine(const cpu_run *run, emlx_error *err);
emlx_status run_custom(const cpu_run *run, emlx_error *err);
emlx_status run_function(const cpu_run *run, emlx_error *err);

// Before products of that many multiplications by BLAS. See blas.c.
void blas_ready(const cpu_run *run, double work);

// Elements that one parallel task takes on. Results must not depend on the number of threads, so
// work is always cut in the same places.
#define TASK_ELEMENTS 65536

// Address of element 0 of operand i, and of the result.
static inline char *operand_data(const cpu_run *run, uint32_t i) {
    const plan_access *a = &run->call->kernel->accesses[i];
    char *data = run->call->buffers[a->value]->data;
    return data + a->offset * (int64_t)emlx_type_size(a->type);
}
static inline char *output_data(const cpu_run *run) {
    return run->call->buffers[run->call->kernel->output]->data;
}
static inline const plan_value *output_value(const cpu_run *run) {
    return &run->call->plan->values[run->call->kernel->output];
}

// Offset of element number `index` of some axes, counted row by row.
static inline int64_t axis_offset(const int64_t *dims, const int64_t *strides, int32_t rank,
                                  int64_t index) {
    int64_t offset = 0;
    for (int32_t d = rank - 1; d >= 0; d--) {
        offset += index % dims[d] * strides[d];
        index /= dims[d];
    }
    return offset;
}

static inline int64_t axes_offset(const axis_list *axes, int64_t index) {
    return axis_offset(axes->dims, axes->strides, axes->rank, index);
}

// Runs a kernel's tasks side by side, and takes turns with other work between them. EMLX_CANCELLED
// when nobody wants the result any more: tasks may be missing then, and what they would have
// written. A task is to take some milliseconds at most; a longer one asks task_goes_on in between.
emlx_status run_tasks(const cpu_run *run, int64_t count, pool_body body, void *work,
                      emlx_error *err);
// The same for tasks that read memory one after another: a thread mostly gets those that follow
// each other, so that what is asked for ahead of one is there for the next.
emlx_status run_tasks_in_order(const cpu_run *run, int64_t count, pool_body body, void *work,
                               emlx_error *err);
// Gives other work its turn. False when the task may end early, as its results are not wanted.
bool task_goes_on(const cpu_run *run);

// Working memory of a task: in `room`, 64-byte aligned bytes on its stack, where it is small, so
// that short kernels take no lock.
#define ROOM_SIZE 16384
emlx_status room_take(char *room, size_t size, void **out, emlx_error *err);
void room_end(const char *room, void *memory, size_t size);

// Collects the first failure of parallel tasks.
typedef struct task_errors {
    atomic_int failed;
    emlx_error error;
} task_errors;
// Remembers `err` if it is the first.
void task_failed(task_errors *errors, const emlx_error *err);
emlx_status task_result(task_errors *errors, emlx_error *err);

#endif
