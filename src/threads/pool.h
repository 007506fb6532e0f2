// SPDX-License-Identifier: Apache-2.0
// pool.h - the library's threads: queued jobs and parallel loops on one set of workers.
// A worker first takes queued jobs, in order; idle workers help with running parallel loops, and
// leave them when a job is queued. Long jobs take turns, so that a queue moves on however many
// there are: as many run as there are workers. One stands still on a thread until it is its turn
// again, or, better, is left and submitted anew.
//
// The shared pool has a thread besides that takes small jobs that wait for longer than they take,
// and lets more jobs run for a while where those that do ask for no turns.
#ifndef EMLX_THREADS_POOL_H
#define EMLX_THREADS_POOL_H

#include "emlx.h"

typedef struct thread_pool thread_pool;

// One more reference on the process-wide pool, started at first use with a worker per core
// (EMLX_NUM_THREADS overrides the count).
emlx_status pool_acquire(thread_pool **out, emlx_error *err);
void pool_release(thread_pool *pool);
// A pool of its own, without those, for tests: there a job is not begun before a worker is free.
// Released by pool_release.
emlx_status pool_new(int threads, thread_pool **out, emlx_error *err);
int pool_threads(const thread_pool *pool);

// A job is embedded in the caller's own structure and must live until `run` is called.
typedef struct pool_job {
    struct pool_job *next;
    uint64_t number; // the pool's: its place in the order of all jobs
    bool small;      // it takes a millisecond or less
    void (*run)(struct pool_job *job);
} pool_job;

// Never fails and never blocks for long.
void pool_submit(thread_pool *pool, pool_job *job);

// Calls body(context, index) for every index below `count`, on the caller and on idle workers,
// and returns when all calls have. May be called from a job and from any other thread.
typedef void (*pool_body)(void *context, int64_t index);
void pool_for(thread_pool *pool, int64_t count, pool_body body, void *context);
// The same, but starts no more calls once `cancel` (may be NULL) is raised: false when it was seen
// to be, and calls may be missing.
bool pool_for_unless(thread_pool *pool, const emlx_cancel *cancel, int64_t count, pool_body body,
                     void *context);

// For long jobs, often: where others have waited for a few milliseconds they go on instead, and the
// call returns when it is the caller's turn again. Loops ask between two indices by themselves. The
// caller holds no lock. On other threads, and where nobody waits, it does nothing.
void pool_turn(thread_pool *pool);
// Whether it is time for a job that can be left between two steps to be left, and submitted anew:
// what gives way so needs no thread while it waits, and there are only so many of these. False on
// other threads, and where nobody waits.
bool pool_due(const thread_pool *pool);

#endif
