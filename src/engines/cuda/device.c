// SPDX-License-Identifier: Apache-2.0
// device.c - opening GPUs, and their buffers.
#include "engines/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engines/cuda/driver/nvrtc.h"

enum { REPORT_BYTES = 64, REHEARSED_SHARED = 163 << 10 };

// Opening -----------------------------------------------------------------------------------------

int gpu_count(emlx_error *err) {
    int count = 0;
    if (getenv("EMLX_CUDA_REHEARSE") != NULL) return 1;
    if (driver_open(err) != EMLX_OK) return 0;
    driver_check(cuda.device_count(&count), "cuDeviceGetCount", err);
    if (count == 0) error_set(err, EMLX_UNSUPPORTED, "the driver finds no device");
    return count;
}

static emlx_status read_facts(gpu *g, emlx_error *err) {
    CUDA_TRY("cuDeviceGet", cuda.device_get(&g->device, g->number));
    CUDA_TRY("cuDeviceGetName", cuda.device_name(g->name, sizeof g->name, g->device));
    CUDA_TRY("cuDeviceGetAttribute",
             cuda.device_attribute(&g->major, CUDA_ATTRIBUTE_MAJOR, g->device));
    CUDA_TRY("cuDeviceGetAttribute",
             cuda.device_attribute(&g->minor, CUDA_ATTRIBUTE_MINOR, g->device));
    CUDA_TRY("cuDeviceGetAttribute",
             cuda.device_attribute(&g->multiprocessors, CUDA_ATTRIBUTE_MULTIPROCESSORS, g->device));
    CUDA_TRY("cuDeviceGetAttribute",
             cuda.device_attribute(&g->shared_most, CUDA_ATTRIBUTE_SHARED_MOST, g->device));
    return EMLX_OK;
}

// f64 runs at half the rate of f32 on the cards for computing centres, and at 1/32 to 1/64 on
// others. EMLX_CUDA_F32=native or double chooses otherwise.
static bool choose_f32(const gpu *g) {
    const char *given = getenv("EMLX_CUDA_F32");
    if (given != NULL && strcmp(given, "native") == 0) return false;
    if (given != NULL && strcmp(given, "double") == 0) return true;
    return g->minor == 0 && (g->major == 8 || g->major == 9 || g->major == 10);
}

static emlx_status open_reports(gpu *g, emlx_error *err) {
    void *memory = NULL;
    CUDA_TRY("cuMemHostAlloc",
             cuda.host_allocate(&memory, REPORT_BYTES, CUDA_HOST_PORTABLE | CUDA_HOST_MAPPED));
    memset(memory, 0, REPORT_BYTES);
    g->report = memory;
    CUDA_TRY("cuMemHostGetDevicePointer", cuda.host_address(&g->report_address, memory, 0));
    CUDA_TRY("cuMemAlloc", cuda.allocate(&g->claim, REPORT_BYTES));
    CUDA_TRY("cuMemsetD8Async", cuda.fill(g->claim, 0, REPORT_BYTES, g->stream));
    return EMLX_OK;
}

static emlx_status open_gpu(gpu *g, emlx_error *err) {
    int count = 0;
    TRY(driver_open(err));
    CUDA_TRY("cuDeviceGetCount", cuda.device_count(&count));
    if (g->number >= count)
        return error_set(err, EMLX_UNSUPPORTED, "there is no CUDA device %d; this machine has %d",
                         g->number, count);
    TRY(read_facts(g, err));
    CUDA_TRY("cuDevicePrimaryCtxRetain", cuda.context_retain(&g->context, g->device));
    TRY(gpu_enter(g, err));
    CUDA_TRY("cuStreamCreate", cuda.stream_create(&g->stream, CUDA_STREAM_NON_BLOCKING));
    TRY(device_pool_open(&g->pool, err));
    return open_reports(g, err);
}

static emlx_status open_all(gpu *g, emlx_error *err) {
    const char *rehearse = getenv("EMLX_CUDA_REHEARSE");
    int architecture = rehearse != NULL ? atoi(rehearse) : 0;
    g->rehearsal = rehearse != NULL;
    g->major = architecture / 10;
    g->minor = architecture % 10;
    g->shared_most = REHEARSED_SHARED;
    if (!g->rehearsal) TRY(open_gpu(g, err));
    g->f32_in_double = choose_f32(g);
    return store_open(g->major * 10 + g->minor, g->f32_in_double, !g->rehearsal, &g->store, err);
}

emlx_status gpu_open(int number, gpu **out, emlx_error *err) {
    gpu *g = mem_alloc(sizeof *g);
    if (g == NULL) return error_no_memory(err, "for a device");
    g->number = number;
    pthread_mutex_init(&g->report_lock, NULL);
    emlx_status status = open_all(g, err);
    if (status == EMLX_OK)
        *out = g;
    else
        gpu_close(g);
    return status;
}

// The context itself stays: threads know it as theirs, and whoever opens the device again gets it.
void gpu_close(gpu *g) {
    emlx_error err;
    if (g->context != NULL && gpu_enter(g, &err) == EMLX_OK) {
        if (g->stream != NULL) cuda.stream_synchronize(g->stream);
    }
    store_close(g->store);
    device_pool_close(g->pool);
    if (g->claim != 0) cuda.free(g->claim);
    if (g->report != NULL) cuda.host_free((void *)g->report);
    if (g->stream != NULL) cuda.stream_destroy(g->stream);
    pthread_mutex_destroy(&g->report_lock);
    mem_free(g, sizeof *g);
}

void gpu_describe(const gpu *g, char *text, size_t size) {
    if (g->rehearsal) {
        snprintf(text, size, "rehearsal for sm_%d%d, computed by the CPU", g->major, g->minor);
        return;
    }
    device_memory memory = device_pool_memory(g->pool);
    snprintf(text, size,
             "%s, sm_%d%d, driver %d.%d, NVRTC %d.%d, %.1f MB in use, f32 functions in %s", g->name,
             g->major, g->minor, driver_version() / 1000, driver_version() % 1000 / 10,
             nvrtc_version() / 1000, nvrtc_version() % 1000 / 10, (double)memory.active / 1e6,
             g->f32_in_double ? "double" : "f32");
}

// A thread's context rarely changes, and setting it takes a while.
emlx_status gpu_enter(const gpu *g, emlx_error *err) {
    static _Thread_local cuda_context current;
    if (current == g->context) return EMLX_OK;
    CUDA_TRY("cuCtxSetCurrent", cuda.context_set(g->context));
    current = g->context;
    return EMLX_OK;
}

emlx_status gpu_wait(const gpu *g, emlx_error *err) {
    if (g->rehearsal) return EMLX_OK;
    TRY(gpu_enter(g, err));
    return driver_check(cuda.stream_synchronize(g->stream), "waiting for the device", err);
}

// Buffers -----------------------------------------------------------------------------------------

static void destroy_gpu_buffer(emlx_buffer *buffer) {
    gpu_buffer *b = (gpu_buffer *)buffer;
    device_pool_free(b->gpu->pool, buffer_address(buffer), b->size_class);
    mem_free(b, sizeof *b);
}

emlx_status gpu_buffer_new(gpu *g, size_t size, emlx_buffer **out, emlx_error *err) {
    cuda_address address;
    if (g->rehearsal) return buffer_new(size, out, err);
    TRY(gpu_enter(g, err));
    gpu_buffer *b = mem_alloc(sizeof *b);
    if (b == NULL) return error_no_memory(err, "for a buffer's description");
    emlx_status status = device_pool_take(g->pool, size, &address, &b->size_class, err);
    if (status != EMLX_OK) {
        mem_free(b, sizeof *b);
        return status;
    }
    b->gpu = g;
    buffer_init(&b->base, size, destroy_gpu_buffer);
    b->base.handle = (void *)(uintptr_t)address;
    b->base.writable = true;
    b->base.ordered = true;
    *out = &b->base;
    return EMLX_OK;
}

emlx_status gpu_upload(gpu *g, emlx_buffer *to, const void *from, size_t size, emlx_error *err) {
    if (g->rehearsal) {
        memcpy(to->data, from, size);
        return EMLX_OK;
    }
    TRY(gpu_enter(g, err));
    if (size == 0) return EMLX_OK;
    CUDA_TRY("an upload", cuda.upload(buffer_address(to), from, size, g->stream));
    // The caller may change its memory as soon as this returns.
    CUDA_TRY("an upload", cuda.stream_synchronize(g->stream));
    return EMLX_OK;
}

emlx_status gpu_download(gpu *g, const emlx_buffer *from, size_t offset, void *to, size_t size,
                         emlx_error *err) {
    if (from->data != NULL) {
        memcpy(to, (const char *)from->data + offset, size);
        return EMLX_OK;
    }
    TRY(gpu_enter(g, err));
    if (size == 0) return EMLX_OK;
    CUDA_TRY("a download", cuda.download(to, buffer_address(from) + offset, size, g->stream));
    CUDA_TRY("a download", cuda.stream_synchronize(g->stream));
    return EMLX_OK;
}
