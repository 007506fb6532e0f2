// SPDX-License-Identifier: Apache-2.0
// device.h - one GPU: its context, stream, memory and compiled kernels. Knows no plans.
//
// All work of a device goes to one stream, in the order in which it is given.
#ifndef EMLX_CUDA_DEVICE_H
#define EMLX_CUDA_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engines/cuda/driver/pool.h"
#include "engines/cuda/driver/store.h"
#include "memory/memory.h"

typedef struct gpu {
    int number, device, major, minor, multiprocessors, shared_most;
    char name[64];
    // Kernels are generated and compiled for a device that is not there, and computed by the CPU
    // engine: EMLX_CUDA_REHEARSE=90 tests everything but the results on any machine.
    bool rehearsal;
    bool f32_in_double;
    cuda_context context;
    cuda_stream stream;
    device_pool *pool;
    kernel_store *store;
    void *products, *convolutions, *factors; // handles of libraries, made at first use
    // Where kernels report: a word they claim, on the device, and what they say, in host memory.
    cuda_address claim, report_address;
    volatile int64_t *report;
    pthread_mutex_t report_lock; // held from a kernel's launch until its report is read
} gpu;

emlx_status gpu_open(int number, gpu **out, emlx_error *err);
void gpu_close(gpu *g);
int gpu_count(emlx_error *err); // 0: the error says why
void gpu_describe(const gpu *g, char *text, size_t size);

// Makes the device's context the calling thread's.
emlx_status gpu_enter(const gpu *g, emlx_error *err);
emlx_status gpu_wait(const gpu *g, emlx_error *err);

// Buffers -----------------------------------------------------------------------------------------

typedef struct gpu_buffer {
    emlx_buffer base; // handle: the address
    gpu *gpu;
    uint32_t size_class;
} gpu_buffer;

emlx_status gpu_buffer_new(gpu *g, size_t size, emlx_buffer **out, emlx_error *err);
static inline cuda_address buffer_address(const emlx_buffer *b) {
    return (cuda_address)(uintptr_t)b->handle;
}

emlx_status gpu_upload(gpu *g, emlx_buffer *to, const void *from, size_t size, emlx_error *err);
emlx_status gpu_download(gpu *g, const emlx_buffer *from, size_t offset, void *to, size_t size,
                         emlx_error *err);

#endif
