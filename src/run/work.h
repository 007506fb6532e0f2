// SPDX-License-Identifier: Apache-2.0
// work.h - jobs done as an emlx_work says: side by side, or one after another in a queue.
#ifndef EMLX_RUN_WORK_H
#define EMLX_RUN_WORK_H

#include "engine.h"

// `work` may be NULL. Fails for a queue of another device.
emlx_status work_check(const emlx_device *device, const emlx_work *work, emlx_error *err);
// `work` may be NULL.
void work_submit(emlx_device *device, const emlx_work *work, pool_job *job);
// Where work of the queue goes on the device; NULL for no queue.
void *queue_stream(const emlx_queue *queue);

// A job that cannot go on before a fence is signalled leaves it with this and returns, holding no
// thread; it is run once more then, or, with no fence, after others. Its queue does nothing else
// meanwhile.
typedef struct work_pause {
    fence_waiter waiter;
    emlx_device *device;
    emlx_queue *queue; // NULL: none
    pool_job *job;
} work_pause;

// The job may be running again when this returns.
void work_wait(work_pause *pause, fence *end);

#endif
