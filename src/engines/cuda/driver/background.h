// SPDX-License-Identifier: Apache-2.0
// background.h - one thread of the process for what nobody waits for, one job after another.
#ifndef EMLX_CUDA_BACKGROUND_H
#define EMLX_CUDA_BACKGROUND_H

#include <stdbool.h>

// Embedded in the owner's structure, and `run`'s to free: it is called once, on the thread, or
// with `wanted` false where the owner has given the job up.
typedef struct background_job {
    struct background_job *next;
    const void *owner;
    void (*run)(struct background_job *job, bool wanted);
} background_job;

void background_submit(background_job *job);
// Gives up an owner's jobs. One that has begun is waited for.
void background_drop(const void *owner);

#endif
