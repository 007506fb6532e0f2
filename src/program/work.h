// SPDX-License-Identifier: Apache-2.0
// work.h - jobs done as an emlx_work says: side by side, or one after another in a queue.
#ifndef EMLX_PROGRAM_WORK_H
#define EMLX_PROGRAM_WORK_H

#include "engine.h"

// What a job may do and still be a small one, in element operations: about a millisecond's work.
#define SMALL_WORK ((int64_t)1 << 20)
// Elements of operands up to which products, sorts and so on take no longer.
#define SMALL_OPERANDS ((int64_t)1 << 12)

// `work` may be NULL.
void work_submit(emlx_device *device, const emlx_work *work, pool_job *job);

#endif
