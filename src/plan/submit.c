// SPDX-License-Identifier: Apache-2.0
// submit.c - gives a plan that is not divided to its device, and the loop over kernels for engines
// that want it.
#include "plan/submit.h"

#include <string.h>

#include "base/error.h"
#include "threads/cancel.h"

// Kernel by kernel -------------------------------------------------------------------------------

typedef struct kernel_run {
    emlx_device *device;
    const kernel_loop *loop;
    const emlx_plan *plan;
    emlx_buffer **buffers; // by value
    buffer_spares *spares; // may be NULL
    emlx_device *memory;
} kernel_run;

// Where memory is short, that of spares may do.
static emlx_status make_buffer(const kernel_run *r, size_t size, emlx_buffer **out,
                               emlx_error *err) {
    emlx_device *device = r->memory;
    *out = spares_take(r->spares, size);
    if (*out != NULL) return EMLX_OK;
    emlx_status status = device->ops->allocate(device, size, out, err);
    if (status != EMLX_OUT_OF_MEMORY || !spares_clear(r->spares)) return status;
    return device->ops->allocate(device, size, out, err);
}

// Gives every value made by the kernel a buffer. *taken: the first took over its source's.
static emlx_status make_values(const kernel_run *r, const plan_kernel *k, bool *taken,
                               emlx_error *err) {
    emlx_buffer **buffers = r->buffers;
    *taken = false;
    for (uint32_t i = 0; i < k->made_count; i++) {
        uint32_t v = k->made[i], old = k->reuse[i];
        emlx_buffer *source = old != UINT32_MAX ? buffers[old] : NULL;
        if (source != NULL && buffer_reusable(source, r->loop->stream)) {
            buffer_forget(source);
            buffers[v] = source;
            // The kernel still reads through the old value: both names stay until it has run.
            buffers[old] = buffer_retain(source);
            *taken = *taken || i == 0;
        } else {
            TRY(make_buffer(r, r->plan->values[v].bytes, &buffers[v], err));
        }
        if (r->loop->end != NULL) buffer_written_by(buffers[v], r->loop->end);
    }
    return EMLX_OK;
}

// A guard has said whose it is: of what is fused only the last op is the kernel's.
static emlx_status kernel_failed(const plan_kernel *k, emlx_status status, emlx_error *err) {
    bool told = k->guard_count > 0 && status != EMLX_OUT_OF_MEMORY && status != EMLX_CANCELLED;
    return told ? status : error_prefix(err, status, "%s", k->op);
}

static void end_values(const kernel_run *r, const plan_kernel *k) {
    for (uint32_t i = 0; i < k->ended_count; i++) {
        spares_give(r->spares, r->buffers[k->ended[i]]);
        r->buffers[k->ended[i]] = NULL;
    }
}

static emlx_status run_one(const kernel_run *r, const kernel_call *call, emlx_error *err) {
    emlx_status status = r->loop->run(r->device, r->loop->context, call, err);
    return status == EMLX_OK ? status : kernel_failed(call->kernel, status, err);
}

// How many kernels are run with the first of a step, or right behind it.
static uint32_t count_followers(const plan_kernel *k) { return k->beside + k->epilogue; }

// A kernel, and those that are one step with it.
static emlx_status run_step(const kernel_run *r, const kernel_call *call, emlx_error *err) {
    const plan_kernel *k = call->kernel;
    bool taken = false;
    for (uint32_t i = 0; i <= count_followers(k); i++) TRY(make_values(r, &k[i], &taken, err));
    if (!(taken && k->copies)) TRY(run_one(r, call, err));
    if (k->epilogue) {
        kernel_call map = *call;
        map.kernel++;
        TRY(run_one(r, &map, err));
    }
    for (uint32_t i = 0; i <= count_followers(k); i++) end_values(r, &k[i]);
    return EMLX_OK;
}

static emlx_status run_each(const kernel_run *r, const plan_call *call, emlx_error *err) {
    kernel_call kernel = {.plan = r->plan,
                          .prepared = call->prepared,
                          .buffers = r->buffers,
                          .constants = call->constants,
                          .functions = call->functions,
                          .cancel = call->cancel};
    for (uint32_t i = 0; i < r->plan->kernel_count; i += 1 + count_followers(kernel.kernel)) {
        if (cancel_raised(call->cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
        kernel.kernel = &r->plan->kernels[i];
        TRY(run_step(r, &kernel, err));
    }
    return EMLX_OK;
}

// A run that fails before it has begun takes its inputs over nevertheless.
static emlx_status release_inputs(emlx_buffer *const *inputs, uint32_t count, emlx_status status) {
    for (uint32_t i = 0; i < count; i++) buffer_release(inputs[i]);
    return status;
}

emlx_status run_kernels(emlx_device *device, const plan_call *call, const kernel_loop *loop,
                        emlx_error *err) {
    const emlx_plan *plan = call->plan;
    emlx_buffer *few[64];
    size_t size = plan->value_count * sizeof(emlx_buffer *);
    emlx_buffer **buffers = size <= sizeof few ? few : mem_alloc(size);
    if (buffers == NULL)
        return release_inputs(call->inputs, plan->input_count,
                              error_no_memory(err, "to run a plan"));
    memset(buffers, 0, size);
    memcpy(buffers, call->inputs, plan->input_count * sizeof(emlx_buffer *));
    for (uint32_t i = 0; i < plan->input_count && loop->end != NULL; i++)
        buffer_read_by(buffers[i], loop->end);
    kernel_run r = {device,  loop,         plan,
                    buffers, call->spares, call->memory != NULL ? call->memory : device};
    emlx_status status = run_each(&r, call, err);
    for (uint32_t i = 0; i < plan->output_count && status == EMLX_OK; i++)
        call->outputs[i] = buffer_retain(buffers[plan->outputs[i]]);
    for (uint32_t i = 0; i < plan->value_count; i++) spares_give(call->spares, buffers[i]);
    if (buffers != few) mem_free(buffers, size);
    return status;
}

// Whole plans ------------------------------------------------------------------------------------

// The engine's form is made once; of two threads that make it at the same time one gives way.
emlx_status whole_prepare(emlx_device *device, emlx_plan *plan, void **form, emlx_error *err) {
    *form = atomic_load_explicit(&plan->prepared, memory_order_acquire);
    if (*form != NULL || device->ops->prepare == NULL) return EMLX_OK;
    void *made = NULL, *expected = NULL;
    TRY(device->ops->prepare(device, plan, &made, err));
    if (atomic_compare_exchange_strong(&plan->prepared, &expected, made)) {
        *form = made;
    } else {
        device->ops->discard(device, made);
        *form = expected;
    }
    return EMLX_OK;
}

emlx_status whole_submit(const planned *planned, const plan_submission *submission, fence **end,
                         emlx_error *err) {
    emlx_device *device = submission->device;
    plan_call call = {.plan = planned->plan,
                      .constants = planned->constants,
                      .functions = planned->functions,
                      .inputs = submission->inputs,
                      .outputs = submission->outputs,
                      .cancel = submission->cancel,
                      .spares = submission->spares,
                      .memory = submission->memory};
    *end = NULL;
    emlx_status status = buffers_check(submission->inputs, call.plan->input_count, err);
    if (status == EMLX_OK) status = whole_prepare(device, planned->plan, &call.prepared, err);
    if (status != EMLX_OK)
        return release_inputs(submission->inputs, call.plan->input_count, status);
    TRY(device->ops->submit(device, submission->stream, &call, end, err));
    for (uint32_t i = 0; *end != NULL && i < call.plan->output_count; i++)
        buffer_written_by(submission->outputs[i], *end);
    return EMLX_OK;
}

emlx_status plan_loop(const planned *planned, emlx_device *device, void *stream, loop_call *call,
                      loop_progress *progress, emlx_error *err) {
    *progress = LOOP_REFUSED;
    if (device->ops->loop == NULL || planned->plan->part_count > 0) return EMLX_OK;
    call->turn.plan = planned->plan;
    call->turn.constants = planned->constants;
    call->turn.functions = planned->functions;
    TRY(whole_prepare(device, planned->plan, &call->turn.prepared, err));
    return device->ops->loop(device, stream, call, progress, err);
}
