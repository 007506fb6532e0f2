// SPDX-License-Identifier: Apache-2.0
// engine.c - the CUDA engine's door. Only this file knows it.
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engines/cuda/hand.h"
#include "engines/cuda/launch.h"
#include "engines/cuda/library/convolutions.h"
#include "engines/cuda/library/factors.h"
#include "engines/cuda/library/products.h"
#include "engines/cuda/library/transforms.h"
#include "engines/cuda/text/fold/rows.h"
#include "engines/cuda/text/whole/whole.h"

// The form of a plan: one of each kernel, in its order.
typedef struct gpu_plan {
    uint32_t count;
    gpu_kernel *kernels;
} gpu_plan;

static int cuda_count(char *why, size_t size) {
    emlx_error err;
    int count = gpu_count(&err);
    if (count == 0) snprintf(why, size, "%s", err.message);
    return count;
}

static emlx_status cuda_open(emlx_device *device, emlx_error *err) {
    gpu *g;
    TRY(gpu_open(device->number, &g, err));
    device->state = g;
    return EMLX_OK;
}

static void cuda_close(emlx_device *device) {
    gpu *g = device->state;
    emlx_error err;
    if (gpu_wait(g, &err) == EMLX_OK) {
        product_close(g->products);
        convolution_close(g->convolutions);
        factors_close(g->factors);
    }
    gpu_close(g);
}

// "op 3, other 1": how often each op was handed over.
static void describe_handovers(const emlx_device *device, char *text, size_t size) {
    const char *op;
    uint64_t count;
    for (size_t i = 0; emlx_device_handover(device, i, &op, &count); i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s %llu", i == 0 ? "; handed over: " : ", ", op,
                 (unsigned long long)count);
    }
}

static void cuda_describe(const emlx_device *device, char *text, size_t size) {
    char place[512];
    gpu_describe(device->state, text, size);
    product_describe(place, sizeof place);
    size_t used = strlen(text);
    snprintf(text + used, size - used, "; products: %s", place);
    convolution_describe(place, sizeof place);
    used = strlen(text);
    snprintf(text + used, size - used, "; convolutions: %s", place);
    factors_describe(place, sizeof place);
    used = strlen(text);
    snprintf(text + used, size - used, "; factors: %s", place);
    transform_describe(place, sizeof place);
    used = strlen(text);
    snprintf(text + used, size - used, "; transforms: %s", place);
    describe_handovers(device, text, size);
}

static emlx_status cuda_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                 emlx_error *err) {
    return gpu_buffer_new(device->state, size, out, err);
}

static bool cuda_can_wrap(const emlx_device *device, const void *data, size_t size,
                          size_t element) {
    (void)device, (void)data, (void)size, (void)element;
    return false;
}

static emlx_status cuda_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                               emlx_error *err) {
    return gpu_upload(device->state, to, from, size, err);
}

static emlx_status cuda_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                 void *to, size_t size, emlx_error *err) {
    return gpu_download(device->state, from, offset, to, size, err);
}

// Plans -------------------------------------------------------------------------------------------

static void cuda_discard(emlx_device *device, void *form) {
    (void)device;
    gpu_plan *p = form;
    for (uint32_t i = 0; i < p->count; i++) {
        code_clear(&p->kernels[i].code);
        if (p->kernels[i].discard != NULL) p->kernels[i].discard(&p->kernels[i]);
        hand_discard(atomic_load(&p->kernels[i].handed));
    }
    mem_free(p->kernels, p->count * sizeof *p->kernels);
    mem_free(p, sizeof *p);
}

static bool cuda_rows(const emlx_device *device, const plan_kernel *kernel) {
    (void)device;
    return rows_suit(kernel);
}

static bool cuda_takes(const emlx_device *device, const emlx_tensor *either) {
    return whole_suits(either, ((const gpu *)device->state)->shared_most);
}

// A kernel that no library takes and that cannot be generated is handed over: its `run` stays NULL.
static emlx_status prepare_kernel(gpu *g, gpu_kernel *out, const emlx_plan *plan,
                                  const plan_kernel *k, emlx_error *err) {
    TRY(product_prepare(g, out, plan, k, err));
    TRY(convolution_prepare(g, out, plan, k, err));
    TRY(transform_prepare(g, out, plan, k, err));
    TRY(factors_prepare(g, out, plan, k, err));
    if (out->run != NULL) return EMLX_OK;
    emlx_status status = code_make(&out->code, plan, k, err);
    if (status == EMLX_OK) out->run = launch_generated;
    if (status != EMLX_UNSUPPORTED) return status;
    code_clear(&out->code);
    return EMLX_OK;
}

static emlx_status prepare_all(gpu *g, gpu_plan *p, const emlx_plan *plan, emlx_error *err) {
    size_t codes_size = (p->count + 1) * sizeof(kernel_code);
    size_t stored_size = (p->count + 1) * sizeof(stored_kernel *);
    kernel_code *codes = mem_alloc(codes_size);
    stored_kernel **stored = mem_alloc(stored_size);
    emlx_status status = EMLX_OK;
    if (codes == NULL || stored == NULL) status = error_no_memory(err, "to prepare a plan");
    for (uint32_t i = 0; i < p->count && status == EMLX_OK; i++) {
        status = prepare_kernel(g, &p->kernels[i], plan, &plan->kernels[i], err);
        if (status != EMLX_OK) error_prefix(err, status, "%s", plan->kernels[i].op);
        codes[i] = p->kernels[i].code;
    }
    if (status == EMLX_OK && !g->rehearsal) status = gpu_enter(g, err);
    if (status == EMLX_OK) status = store_get(g->store, codes, p->count, stored, err);
    for (uint32_t i = 0; i < p->count && status == EMLX_OK; i++) p->kernels[i].stored = stored[i];
    mem_free(codes, codes_size);
    mem_free(stored, stored_size);
    return status;
}

static emlx_status cuda_prepare(emlx_device *device, const emlx_plan *plan, void **form,
                                emlx_error *err) {
    gpu_plan *p = mem_alloc(sizeof *p);
    if (p == NULL) return error_no_memory(err, "to prepare a plan");
    p->count = plan->kernel_count;
    p->kernels = mem_alloc(p->count * sizeof *p->kernels);
    emlx_status status = EMLX_OK;
    if (p->kernels == NULL) {
        p->count = 0;
        status = error_no_memory(err, "to prepare a plan");
    }
    if (status == EMLX_OK) status = prepare_all(device->state, p, plan, err);
    if (status == EMLX_OK)
        *form = p;
    else
        cuda_discard(device, p);
    return status;
}

static emlx_status run_kernel(emlx_device *device, void *context, const kernel_call *call,
                              emlx_error *err) {
    (void)context;
    gpu *g = device->state;
    gpu_plan *form = call->prepared;
    gpu_kernel *k = &form->kernels[call->kernel - call->plan->kernels];
    if (k->run != NULL && !g->rehearsal) return k->run(g, k, call, err);
    if (!g->rehearsal && handovers_refused())
        return error_set(err, EMLX_UNSUPPORTED, "device %s cannot compute it", device->name);
    if (!g->rehearsal) handover_count(device, call->kernel->op);
    return hand_over(g, device->pool, &k->handed, call, err);
}

// All work of a device is in one stream, so that whatever is queued counts as done: what comes
// later finds its results, and blocks that are freed are given out to work behind. Only what may
// report an error is waited for.
static emlx_status cuda_submit(emlx_device *device, void *stream, const plan_call *call,
                               fence **end, emlx_error *err) {
    (void)stream, (void)end;
    return run_kernels(device, call, &(kernel_loop){.run = run_kernel}, err);
}

const engine_ops cuda_engine = {
    .name = "cuda",
    .form = FORM_KERNELS,
    .speed = 128,
    .count = cuda_count,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .allocate = cuda_allocate,
    .can_wrap = cuda_can_wrap,
    .upload = cuda_upload,
    .download = cuda_download,
    .takes = cuda_takes,
    .rows = cuda_rows,
    .prepare = cuda_prepare,
    .discard = cuda_discard,
    .submit = cuda_submit,
};
