// SPDX-License-Identifier: Apache-2.0
// run.h - one run of a program.
#ifndef EMLX_RUN_RUN_H
#define EMLX_RUN_RUN_H

#include "memory/spares.h"
#include "program/program.h"
#include "threads/pool.h"

typedef struct frame frame;

enum { RUN_FRAMES = 8, RUN_FEW = 8 };

// A run between two of its steps: it holds all there is to go on with, on any thread.
typedef struct program_run {
    emlx_device *device;
    frame *top;            // the block that is running; NULL when the run is over
    emlx_buffer **results; // one reference for each output, once the run is over
    size_t result_count;
    emlx_buffer *few_results[RUN_FEW]; // what `results` are where they are so few
    uint64_t begun;                    // when, where somebody observes
    const step *host_call;             // the one that it waits for, or NULL
    const emlx_cancel *cancel;         // may be NULL
    void *stream;                      // of the device, or NULL
    fence *end;                        // of what the device was given and is not known to have done
    bool waits;                        // for `end`, before it can go on
    thread_pool *pool; // whose other jobs have their turn between two steps, or NULL
    bool gave_way;     // to one: it can go on at once
    // What blocks that have ended leave for the next turn of a loop: a run in its steady state asks
    // nobody for memory.
    buffer_spares spares;
    frame *frames[RUN_FRAMES];
    uint32_t frame_count; // of those that are there
    uint32_t next_frame;  // the one that is replaced next
} program_run;

// For want of memory, at whatever step of a run.
emlx_status run_no_memory(emlx_error *err);

// Prepares a run in a zeroed structure; `buffers` holds one for each input and is borrowed.
emlx_status run_start(program_run *run, const emlx_program *program, emlx_buffer *const *buffers,
                      emlx_error *err);
// Runs to the next host call or to the end, where all that the device was given is done; or until
// it `waits`, or gave way: once `end` is signalled, or at once, it is to be called again.
emlx_status run_go(program_run *run, emlx_error *err);
// As above, on this thread all the while.
emlx_status run_through(program_run *run, emlx_error *err);
// The operands of the host call it waits for, as tensors: references of the caller's, all or none.
emlx_status run_operands(program_run *run, emlx_tensor **operands, emlx_error *err);
// Gives the call's results, one buffer for each, borrowed; the run can then go on.
void run_answer(program_run *run, emlx_buffer *const *results);
// Gives up whatever the run still holds.
void run_clear(program_run *run);

#endif
