// SPDX-License-Identifier: Apache-2.0
// run.h - one run of a program.
#ifndef EMLX_PROGRAM_RUN_H
#define EMLX_PROGRAM_RUN_H

#include "program/program.h"

typedef struct frame frame;

// A run between two of its steps: it holds all there is to go on with, on any thread.
typedef struct program_run {
    emlx_device *device;
    frame *top;            // the block that is running; NULL when the run is over
    emlx_buffer **results; // one reference for each output, once the run is over
    size_t result_count;
    atomic_bool cancel; // may be set by another thread
} program_run;

// Prepares a run in a zeroed structure; `buffers` holds one for each input and is borrowed.
emlx_status run_start(program_run *run, const emlx_program *program, emlx_buffer *const *buffers,
                      emlx_error *err);
// Runs to the end.
emlx_status run_finish(program_run *run, emlx_error *err);
// Gives up whatever the run still holds.
void run_clear(program_run *run);

#endif
