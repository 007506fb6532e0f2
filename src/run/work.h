// SPDX-License-Identifier: Apache-2.0
// work.h - jobs done as an emlx_work says: side by side, or one after another in a queue.
#ifndef EMLX_RUN_WORK_H
#define EMLX_RUN_WORK_H

#include "engine.h"

// `work` may be NULL.
void work_submit(emlx_device *device, const emlx_work *work, pool_job *job);

#endif
