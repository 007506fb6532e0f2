// SPDX-License-Identifier: Apache-2.0
// routine.h - numerical routines on one element of a batch at a time. See routine.c.
#ifndef EMLX_CPU_ROUTINE_H
#define EMLX_CPU_ROUTINE_H

#include "base/error.h"
#include "engines/cpu/run.h"

// Working memory that a task keeps from one element to the next.
typedef struct scratch {
    void *data;
    size_t size;
    const char *room; // where it begins; see room_take
} scratch;

// One element of a batch: operands and packed results, dense.
typedef struct routine_call {
    const cpu_run *run; // whose tasks share the element; NULL: it is part of a task
    const routine_params *params;
    int rows, columns; // of the first operand
    int other;         // triangular_solve, solve: rows or columns of the second besides those
    const void *in[2];
    void *out;
    scratch *scratch;
} routine_call;

typedef emlx_status (*routine_fn)(const routine_call *call, emlx_error *err);

// At least that many bytes, aligned for any type, with arbitrary contents; lost by the next call.
emlx_status scratch_take(const routine_call *call, size_t size, void **out, emlx_error *err);

// Calls body(work, index) for each index below `count`, side by side where the element is shared.
emlx_status call_tasks(const routine_call *call, int64_t count, pool_body body, void *work,
                       emlx_error *err);
// Between two steps: false when the result is not wanted any more.
bool call_goes_on(const routine_call *call);

// The transforms of lines, many at a time.
typedef struct fft_form fft_form;
// What a transform of that length needs, of lines of a type, in `memory`; `real`: of real numbers,
// or to such; NULL when there is none left.
const fft_form *fft_prepare(int64_t length, emlx_type type, bool real, const cpu_kernels *kernels,
                            arena *memory);
emlx_status run_fft(const cpu_run *run, emlx_error *err);

// The routines of linear algebra by type: f32, f64, c64, c128. NULL: there is none.
extern const routine_fn linalg_f32[ROUTINE_COUNT], linalg_f64[ROUTINE_COUNT];
extern const routine_fn linalg_c64[ROUTINE_COUNT], linalg_c128[ROUTINE_COUNT];

#endif
