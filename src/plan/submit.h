// SPDX-License-Identifier: Apache-2.0
// submit.h - gives a plan to its device.
#ifndef EMLX_PLAN_SUBMIT_H
#define EMLX_PLAN_SUBMIT_H

#include "engine.h"
#include "plan/build.h"

// One run: where, and with what. `inputs` holds one buffer per plan input, whose references are
// taken over (also on failure), so that a buffer that nobody else holds can be reused for a result.
// `outputs` is filled with one reference each; an output may be an input.
typedef struct plan_submission {
    emlx_device *device;
    void *stream;              // of the device, or NULL
    const emlx_cancel *cancel; // may be NULL; stays valid until the work has ended
    emlx_buffer **inputs, **outputs;
    buffer_spares *spares; // where buffers may come from and go to; may be NULL
    emlx_device *memory;   // where results are to lie; NULL: with the device itself
} plan_submission;

// Makes the forms that engines run the plan in, which otherwise the first run does.
emlx_status plan_prepare(emlx_plan *plan, emlx_error *err);

// *end: NULL where the work is done, else a reference on the fence that ends it. Until then what
// was planned stays as it is. Parts of a plan run in order; before one of the host's this waits for
// the device, on the calling thread. STATUS_AGAIN where others failed to make an input of such.
emlx_status plan_submit(const planned *planned, const plan_submission *submission, fence **end,
                        emlx_error *err);

// Has the device run a loop whose turn this is, and of which `call` has all but the plan. As
// `loop` in engine.h.
emlx_status plan_loop(const planned *planned, emlx_device *device, void *stream, loop_call *call,
                      loop_progress *progress, emlx_error *err);

// The same two of a plan that is not divided. *form stays the plan's.
emlx_status whole_prepare(emlx_device *device, emlx_plan *plan, void **form, emlx_error *err);
emlx_status whole_submit(const planned *planned, const plan_submission *submission, fence **end,
                         emlx_error *err);

#endif
