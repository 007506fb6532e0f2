// SPDX-License-Identifier: Apache-2.0
// jobs.h - the NIF's own threads.
#ifndef EMLX_NIF_JOBS_H
#define EMLX_NIF_JOBS_H

#include <stdbool.h>
#include <stdint.h>

// What runs on the NIF's own threads, never on a scheduler: computing, work that may block for any
// time (files), and the ends of what holds much.
typedef enum job_kind { JOB_COMPUTES, JOB_BLOCKS, JOB_ENDS, JOB_KINDS } job_kind;

// Embedded in the caller's own structure, which `run` may free.
typedef struct job {
    struct job *next;
    void (*run)(struct job *job);
} job;

// Starts the threads that must be there; false when the system has none.
bool jobs_load(void);
void job_start(job *job, job_kind kind);
// Calls end(object) on another thread; for destructors, which run on schedulers.
void end_later(void (*end)(void *object), void *object);
// Waits until all that was given to end_later is done, for so long at most.
void wait_for_ends(int64_t nanoseconds);

#endif
