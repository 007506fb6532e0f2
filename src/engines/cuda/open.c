// SPDX-License-Identifier: Apache-2.0
// open.c - opening GPUs, and opening them anew.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "engines/cuda/driver/nvrtc.h"
#include "engines/cuda/stream.h"

enum { REHEARSED_SHARED = 163 << 10 };

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

// EMLX_CUDA_TF32=1 allows what is eight times as fast on tensor cores, and keeps three digits.
static bool choose_tf32(void) {
    const char *given = getenv("EMLX_CUDA_TF32");
    return given != NULL && strcmp(given, "1") == 0;
}

// EMLX_CUDA_EPILOGUES=0: what follows a product is a kernel of its own.
static bool choose_epilogues(void) {
    const char *given = getenv("EMLX_CUDA_EPILOGUES");
    return given == NULL || strcmp(given, "0") != 0;
}

static void wait_for_all(void *context) {
    const gpu *g = context;
    for (int i = 0; i < STREAM_COUNT; i++) cuda.stream_synchronize(g->streams[i]->stream);
}

static void shrink_memory(memory_account *account, uint64_t keep) {
    gpu *g = (gpu *)((char *)account - offsetof(gpu, memory));
    emlx_error err;
    if (gpu_begin(g, &err) != EMLX_OK) return;
    device_heap_shrink(g->heap, keep);
    gpu_end(g);
}

// What lives in a context.
static emlx_status open_context(gpu *g, emlx_error *err) {
    size_t left = 0, total = 0;
    CUDA_TRY("cuDevicePrimaryCtxRetain", cuda.context_retain(&g->context, g->device));
    TRY(gpu_enter(g, err));
    TRY(streams_open(g, err));
    TRY(staging_open(g, err));
    TRY(device_heap_open(&g->memory, wait_for_all, g, &g->heap, err));
    CUDA_TRY("cuMemGetInfo", cuda.memory_info(&left, &total));
    // A sixteenth is for libraries, graphs and others.
    if (g->memory.shrink == NULL) atomic_store(&g->memory.cache_limit, total);
    atomic_store(&g->memory.soft_limit, total - total / 16);
    g->memory.shrink = shrink_memory;
    return EMLX_OK;
}

static emlx_status open_store(gpu *g, emlx_error *err) {
    return store_open(g->major * 10 + g->minor, g->f32_in_double, g->context, &g->store, err);
}

static emlx_status open_gpu(gpu *g, emlx_error *err) {
    int count = 0;
    TRY(driver_open(err));
    CUDA_TRY("cuDeviceGetCount", cuda.device_count(&count));
    if (g->number >= count)
        return error_set(err, EMLX_UNSUPPORTED, "there is no CUDA device %d; this machine has %d",
                         g->number, count);
    TRY(read_facts(g, err));
    return open_context(g, err);
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
    g->tf32 = choose_tf32();
    g->epilogues = choose_epilogues();
    return open_store(g, err);
}

emlx_status gpu_open(int number, gpu **out, emlx_error *err) {
    gpu *g = mem_alloc(sizeof *g);
    if (g == NULL) return error_no_memory(err, "for a device");
    g->number = number;
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
    bool alive = g->context != NULL && atomic_load(&g->fault) == 0 && gpu_enter(g, &err) == EMLX_OK;
    store_close(g->store, alive || g->rehearsal);
    if (alive)
        device_heap_close(g->heap);
    else
        device_heap_forget(g->heap);
    staging_close(g, alive);
    streams_close(g, alive);
    mem_free(g, sizeof *g);
}

// Anew --------------------------------------------------------------------------------------------

// Of the context that is gone nothing is given back: it went with it. Handles of libraries stay,
// as those may want to work with it when they are closed.
static void forget_context(gpu *g) {
    store_close(g->store, false);
    device_heap_forget(g->heap);
    atomic_store(&g->memory.active, 0);
    atomic_store(&g->memory.cached, 0);
    staging_close(g, false);
    streams_close(g, false);
    g->store = NULL;
    g->heap = NULL;
    g->products = g->convolutions = g->factors = NULL;
    g->turn = NULL;
}

// Nobody gets in any more; those inside find their work done, or failed.
static void shut_out(gpu *g) {
    atomic_store(&g->fault, -1);
    while (atomic_load(&g->inside) > 0) usleep(100);
    store_settle(g->store);
}

static emlx_status open_anew(gpu *g, emlx_error *err) {
    CUDA_TRY("cuDevicePrimaryCtxReset", cuda.context_reset(g->device));
    atomic_fetch_add(&g->generation, 1);
    forget_context(g);
    TRY(open_context(g, err));
    return open_store(g, err);
}

// Drivers of today (580) give a process that a kernel has faulted in no context any more.
emlx_status gpu_reset(gpu *g, emlx_error *err) {
    if (g->rehearsal) return EMLX_OK;
    int fault = atomic_load(&g->fault);
    shut_out(g);
    emlx_status status = open_anew(g, err);
    atomic_store(&g->fault, status == EMLX_OK ? 0 : fault != 0 ? fault : CUDA_ERROR_UNKNOWN);
    if (status == EMLX_OK) return EMLX_OK;
    emlx_error text = *err;
    return error_set(err, EMLX_LOST,
                     "device cuda:%d cannot be opened anew, as the driver refuses it to this "
                     "process: %.200s; a new one can use it",
                     g->number, text.message);
}

void gpu_describe(const gpu *g, char *text, size_t size) {
    if (g->rehearsal) {
        snprintf(text, size, "rehearsal for sm_%d%d, computed by the CPU", g->major, g->minor);
        return;
    }
    snprintf(text, size,
             "%s, sm_%d%d, driver %d.%d, NVRTC %d.%d, %.1f MB in use, f32 functions in %s%s",
             g->name, g->major, g->minor, driver_version() / 1000, driver_version() % 1000 / 10,
             nvrtc_version() / 1000, nvrtc_version() % 1000 / 10,
             (double)atomic_load(&g->memory.active) / 1e6, g->f32_in_double ? "double" : "f32",
             g->tf32 ? ", products in TF32" : "");
}
