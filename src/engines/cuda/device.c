// SPDX-License-Identifier: Apache-2.0
// device.c - who uses a GPU's context, and what is known of its faults.
#include "engines/cuda/device.h"

#include "base/error.h"
#include "engines/cuda/stream.h"

// The thread's context, and which of those that had its address.
static _Thread_local cuda_context entered;
static _Thread_local unsigned entered_generation;

// A thread's context rarely changes, and setting it takes a while.
emlx_status gpu_enter(const gpu *g, emlx_error *err) {
    unsigned generation = atomic_load_explicit(&g->generation, memory_order_relaxed);
    if (entered == g->context && entered_generation == generation) return EMLX_OK;
    CUDA_TRY("cuCtxSetCurrent", cuda.context_set(g->context));
    entered = g->context;
    entered_generation = generation;
    return EMLX_OK;
}

static emlx_status report_fault(const gpu *g, int fault, emlx_error *err) {
    emlx_error text;
    if (fault < 0)
        return error_set(err, EMLX_LOST, "device cuda:%d is being opened anew", g->number);
    (void)driver_check(fault, "a kernel", &text);
    return error_set(err, EMLX_LOST,
                     "device cuda:%d has failed and its memory is lost: %.200s; emlx_device_reset "
                     "may open it anew",
                     g->number, text.message);
}

emlx_status gpu_check(const gpu *g, cuda_result result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    if (!driver_is_fatal(result)) return driver_check(result, what, err);
    int none = 0;
    (void)atomic_compare_exchange_strong(&((gpu *)g)->fault, &none, result);
    return report_fault(g, result, err);
}

void gpu_end(gpu *g) { atomic_fetch_sub(&g->inside, 1); }

emlx_status gpu_hold(gpu *g, emlx_error *err) {
    atomic_fetch_add(&g->inside, 1);
    int fault = atomic_load(&g->fault);
    if (fault == 0) return EMLX_OK;
    gpu_end(g);
    return report_fault(g, fault, err);
}

emlx_status gpu_begin(gpu *g, emlx_error *err) {
    if (g->rehearsal)
        return error_set(err, EMLX_UNSUPPORTED,
                         "device cuda:%d is rehearsed: it has no memory of a GPU", g->number);
    TRY(gpu_hold(g, err));
    emlx_status status = gpu_enter(g, err);
    if (status != EMLX_OK) gpu_end(g);
    return status;
}

emlx_status gpu_wait(gpu *g, emlx_error *err) {
    emlx_status status = EMLX_OK;
    if (g->rehearsal) return EMLX_OK;
    TRY(gpu_begin(g, err));
    for (int i = 0; i < STREAM_COUNT && status == EMLX_OK; i++)
        status = gpu_check(g, cuda.stream_synchronize(g->streams[i]->stream),
                           "waiting for the device", err);
    gpu_end(g);
    return status;
}
