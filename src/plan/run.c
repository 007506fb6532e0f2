// SPDX-License-Identifier: Apache-2.0
// run.c - runs a plan on its device, kernel by kernel.
#include "plan/run.h"

#include <string.h>

#include "base/cancel.h"
#include "base/error.h"

// The engine's form is made once; of two threads that make it at the same time one gives way.
static emlx_status prepare(emlx_device *device, emlx_plan *plan, void **form, emlx_error *err) {
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

// Where memory is short, that of spares may do.
static emlx_status make_buffer(emlx_device *device, size_t size, buffer_spares *spares,
                               emlx_buffer **out, emlx_error *err) {
    *out = spares_take(spares, size);
    if (*out != NULL) return EMLX_OK;
    emlx_status status = device->ops->allocate(device, size, out, err);
    if (status != EMLX_OUT_OF_MEMORY || !spares_clear(spares)) return status;
    return device->ops->allocate(device, size, out, err);
}

// Gives every value made by the kernel a buffer. *taken: the first took over its source's.
static emlx_status make_values(emlx_device *device, const emlx_plan *plan, const plan_kernel *k,
                               emlx_buffer **buffers, buffer_spares *spares, bool *taken,
                               emlx_error *err) {
    *taken = false;
    for (uint32_t i = 0; i < k->made_count; i++) {
        uint32_t v = k->made[i], old = k->reuse[i];
        emlx_buffer *source = old != UINT32_MAX ? buffers[old] : NULL;
        if (source != NULL && source->writable && buffer_exclusive(source)) {
            buffers[v] = source;
            // The kernel still reads through the old value: both names stay until it has run.
            buffers[old] = buffer_retain(source);
            *taken = *taken || i == 0;
        } else {
            TRY(make_buffer(device, plan->values[v].bytes, spares, &buffers[v], err));
        }
    }
    return EMLX_OK;
}

static emlx_status run_kernel(emlx_device *device, kernel_call *call, emlx_buffer **buffers,
                              buffer_spares *spares, emlx_error *err) {
    const plan_kernel *k = call->kernel;
    bool taken;
    TRY(make_values(device, call->plan, k, buffers, spares, &taken, err));
    if (!(taken && k->copies)) {
        emlx_status status = device->ops->run(device, call, err);
        if (status != EMLX_OK) return error_prefix(err, status, "%s", k->op);
    }
    for (uint32_t i = 0; i < k->ended_count; i++) {
        spares_give(spares, buffers[k->ended[i]]);
        buffers[k->ended[i]] = NULL;
    }
    return EMLX_OK;
}

static emlx_status run_kernels(emlx_device *device, const planned *planned, emlx_buffer **buffers,
                               const emlx_cancel *cancel, buffer_spares *spares, emlx_error *err) {
    const emlx_plan *plan = planned->plan;
    kernel_call call = {
        .plan = plan, .buffers = buffers, .constants = planned->constants, .cancel = cancel};
    TRY(prepare(device, planned->plan, &call.prepared, err));
    for (uint32_t i = 0; i < plan->kernel_count; i++) {
        if (cancel_raised(cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
        call.kernel = &plan->kernels[i];
        TRY(run_kernel(device, &call, buffers, spares, err));
    }
    return EMLX_OK;
}

emlx_status plan_run(emlx_device *device, const planned *planned, emlx_buffer **inputs,
                     emlx_buffer **outputs, const emlx_cancel *cancel, buffer_spares *spares,
                     emlx_error *err) {
    const emlx_plan *plan = planned->plan;
    emlx_buffer *few[64];
    size_t size = plan->value_count * sizeof(emlx_buffer *);
    emlx_buffer **buffers = size <= sizeof few ? few : mem_alloc(size);
    if (buffers == NULL) {
        for (uint32_t i = 0; i < plan->input_count; i++) buffer_release(inputs[i]);
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to run a plan");
    }
    memset(buffers, 0, size);
    memcpy(buffers, inputs, plan->input_count * sizeof(emlx_buffer *));
    emlx_status status = run_kernels(device, planned, buffers, cancel, spares, err);
    for (uint32_t i = 0; i < plan->output_count && status == EMLX_OK; i++)
        outputs[i] = buffer_retain(buffers[plan->outputs[i]]);
    for (uint32_t i = 0; i < plan->value_count; i++) spares_give(spares, buffers[i]);
    if (buffers != few) mem_free(buffers, size);
    return status;
}
