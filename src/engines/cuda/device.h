// SPDX-License-Identifier: Apache-2.0
// device.h - one GPU: its context, streams, memory and compiled kernels. Knows no plans.
#ifndef EMLX_CUDA_DEVICE_H
#define EMLX_CUDA_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engines/cuda/driver/heap.h"
#include "engines/cuda/driver/store.h"
#include "memory/memory.h"
#include "threads/pool.h"

typedef struct gpu_stream gpu_stream;
typedef struct staging staging;

// Who waits for a stream does so in order: loops among themselves, as not every stream is for them.
typedef struct stream_line {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    atomic_int waiting;
    struct {
        uint64_t next, now; // numbers given out, and whose turn it is
    } kinds[2];
} stream_line;

typedef struct gpu {
    int number, device, major, minor, multiprocessors, shared_most;
    char name[64];
    // Kernels are generated and compiled for a device that is not there, and computed by the CPU
    // engine: EMLX_CUDA_REHEARSE=90 tests everything but the results on any machine.
    bool rehearsal;
    bool f32_in_double;
    bool tf32;      // products and convolutions of f32 may be of operands rounded to 11 bits
    bool epilogues; // what follows a product may be computed, and rounded, with it
    cuda_context context;
    gpu_stream *streams[STREAM_COUNT];
    stream_line line;
    memory_account memory;
    device_heap *heap;
    kernel_store *store;
    staging *staging;
    thread_pool *threads;                    // that copy on the host, and compile
    cuda_function turn;                      // see loop.c; made at first use
    void *products, *convolutions, *factors; // handles of libraries, made at first use
    // A kernel has failed in a way that the context does not survive: the driver's error. -1 while
    // the device is opened anew, else 0.
    atomic_int fault;
    atomic_int graphs;      // that there are, see graph.c
    atomic_int inside;      // threads that use what lives in the context
    atomic_uint generation; // of what was made in the context; counts how often it was reset
} gpu;

emlx_status gpu_open(int number, gpu **out, emlx_error *err);
void gpu_close(gpu *g);
// Opens the device anew, after a fault or not. All that its memory held is lost.
emlx_status gpu_reset(gpu *g, emlx_error *err);
int gpu_count(emlx_error *err); // 0: the error says why
void gpu_describe(const gpu *g, char *text, size_t size);

// Until gpu_end the context stays, where this ends well; it is made the calling thread's. Fails
// with EMLX_LOST after a fault. gpu_hold leaves the thread's context as it is.
emlx_status gpu_begin(gpu *g, emlx_error *err);
emlx_status gpu_hold(gpu *g, emlx_error *err);
void gpu_end(gpu *g);
// Makes it the thread's once more, in between.
emlx_status gpu_enter(const gpu *g, emlx_error *err);
// Until all that is queued has ended.
emlx_status gpu_wait(gpu *g, emlx_error *err);
// As driver_check; takes note of faults.
emlx_status gpu_check(const gpu *g, cuda_result result, const char *what, emlx_error *err);

#define GPU_TRY(g, what, call) TRY(gpu_check(g, call, what, err))

// Buffers -----------------------------------------------------------------------------------------

// Whose memory a buffer is.
typedef enum buffer_kind { BUFFER_OWN, BUFFER_BORROWED, BUFFER_IMPORTED } buffer_kind;

typedef struct gpu_buffer {
    emlx_buffer base; // handle: the address
    gpu *gpu;
    device_block block; // `uses`: those of the buffer while it lives
    buffer_kind kind;
    unsigned generation;
    // The piece of work that wrote it, on which stream. Set while nobody else knows the buffer.
    int writer;
    uint64_t written;
} gpu_buffer;

emlx_status gpu_buffer_new(gpu *g, size_t size, emlx_buffer **out, emlx_error *err);
static inline cuda_address buffer_address(const emlx_buffer *b) {
    return (cuda_address)(uintptr_t)b->handle;
}
// The device's own description of a buffer; NULL where it lies on the host.
static inline gpu_buffer *buffer_of_gpu(emlx_buffer *b) {
    return b->handle != NULL ? (gpu_buffer *)b : NULL;
}
// Fails with EMLX_LOST if its contents went with an earlier context.
emlx_status gpu_buffer_check(const gpu *g, const gpu_buffer *b, emlx_error *err);

// Memory at an address that somebody else owns, or of another process, by what it gave out with
// gpu_buffer_export: a handle of the driver's, and behind it the offset where that is not 0.
enum { EXPORT_MOST = sizeof(cuda_handle) + sizeof(uint64_t) };
emlx_status gpu_buffer_address(gpu *g, emlx_buffer *buffer, cuda_address *address, emlx_error *err);
emlx_status gpu_buffer_borrow(gpu *g, cuda_address address, size_t size, emlx_buffer **out,
                              emlx_error *err);
emlx_status gpu_buffer_import(gpu *g, const void *handle, size_t handle_size, size_t size,
                              emlx_buffer **out, emlx_error *err);
emlx_status gpu_buffer_export(gpu *g, emlx_buffer *buffer, void *handle, size_t *size,
                              emlx_error *err);

// Copies -----------------------------------------------------------------------------------------

emlx_status gpu_upload(gpu *g, emlx_buffer *to, const void *from, size_t size, emlx_error *err);
emlx_status gpu_download(gpu *g, const emlx_buffer *from, size_t offset, void *to, size_t size,
                         emlx_error *err);
// From another device, or within this one.
emlx_status gpu_copy(gpu *g, emlx_buffer *to, gpu *from, const emlx_buffer *buffer, size_t size,
                     emlx_error *err);
emlx_status staging_open(gpu *g, emlx_error *err);
// `alive`: whether the context is.
void staging_close(gpu *g, bool alive);

#endif
