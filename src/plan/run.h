// SPDX-License-Identifier: Apache-2.0
// run.h - runs a plan on its device, kernel by kernel.
#ifndef EMLX_PLAN_RUN_H
#define EMLX_PLAN_RUN_H

#include "engine.h"
#include "memory/spares.h"
#include "plan/build.h"

// `inputs` holds one buffer per plan input. Takes the references over (also on failure), so that a
// buffer that nobody else holds can be reused for a result. Fills `outputs` with one reference
// each; an output may be an input. Stops with EMLX_CANCELLED between kernels when `cancel` (may be
// NULL) is raised. Buffers come from and go to `spares` (may be NULL) where they can.
emlx_status plan_run(emlx_device *device, const planned *planned, emlx_buffer **inputs,
                     emlx_buffer **outputs, const emlx_cancel *cancel, buffer_spares *spares,
                     emlx_error *err);

#endif
