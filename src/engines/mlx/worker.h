// SPDX-License-Identifier: Apache-2.0
// worker.h - the one thread that makes a device's calls of MLX, in the order they were given: its
// streams and what it compiled belong to a thread, and its older versions have no locks.
#ifndef EMLX_ENGINES_MLX_WORKER_H
#define EMLX_ENGINES_MLX_WORKER_H

#include "emlx.h"

typedef struct mlx_worker mlx_worker;

// A piece of work; embedded in the caller's own structure, which lives until `run` is called.
typedef struct mlx_job {
    struct mlx_job *next;
    void (*run)(struct mlx_job *job);
} mlx_job;

emlx_status worker_start(mlx_worker **out, emlx_error *err);
// Does what is left, then ends the thread. Not from the thread itself.
void worker_stop(mlx_worker *worker);
// From now on the process's end waits for lists that are running. To be called when MLX has made
// its own data: what is registered later comes first.
void worker_watch_exit(void);
// Queues a job.
void worker_post(mlx_worker *worker, mlx_job *job);
// Waits until the job, and all before it, have run. It must not be in use by others.
void worker_do(mlx_worker *worker, void (*run)(void *context), void *context);

#endif
