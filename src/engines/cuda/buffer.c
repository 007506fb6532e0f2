// SPDX-License-Identifier: Apache-2.0
// buffer.c - buffers on a device: from its heap, over memory of others, and of other processes.
#include <string.h>

#include "base/error.h"
#include "engines/cuda/stream.h"

emlx_status gpu_buffer_check(const gpu *g, const gpu_buffer *b, emlx_error *err) {
    if (b->generation == atomic_load_explicit(&g->generation, memory_order_relaxed)) return EMLX_OK;
    return error_set(err, EMLX_LOST, "the tensor's data was lost when cuda:%d was opened anew",
                     g->number);
}

// Borrowed memory is its owner's; what comes from another process is closed when nothing uses it.
static void destroy_gpu_buffer(emlx_buffer *buffer) {
    gpu_buffer *b = (gpu_buffer *)buffer;
    gpu *g = b->gpu;
    emlx_error err;
    if (b->kind != BUFFER_BORROWED && gpu_hold(g, &err) == EMLX_OK) {
        bool alive = gpu_buffer_check(g, b, &err) == EMLX_OK;
        if (alive && b->kind == BUFFER_OWN) gpu_give(g, &b->block);
        if (alive && b->kind == BUFFER_IMPORTED && gpu_wait(g, &err) == EMLX_OK)
            cuda.handle_close(b->block.address);
        gpu_end(g);
    }
    mem_free(b, sizeof *b);
}

static gpu_buffer *describe_buffer(gpu *g, size_t size, buffer_kind kind, emlx_error *err) {
    gpu_buffer *b = mem_alloc(sizeof *b);
    if (b == NULL) {
        (void)error_no_memory(err, "for a buffer's description");
        return NULL;
    }
    b->gpu = g;
    b->kind = kind;
    b->generation = atomic_load_explicit(&g->generation, memory_order_relaxed);
    buffer_init(&b->base, size, destroy_gpu_buffer);
    b->base.writable = kind == BUFFER_OWN;
    b->base.ordered = true;
    return b;
}

emlx_status gpu_buffer_new(gpu *g, size_t size, emlx_buffer **out, emlx_error *err) {
    if (g->rehearsal) return buffer_new(size, out, err);
    TRY(gpu_begin(g, err));
    emlx_status status = EMLX_OUT_OF_MEMORY;
    gpu_buffer *b = describe_buffer(g, size, BUFFER_OWN, err);
    if (b != NULL) status = gpu_take(g, size, &b->block, err);
    gpu_end(g);
    if (status != EMLX_OK) {
        mem_free(b, sizeof *b);
        return status;
    }
    b->base.handle = (void *)(uintptr_t)b->block.address;
    *out = &b->base;
    return EMLX_OK;
}

// Memory of others --------------------------------------------------------------------------------

static void set_address(gpu_buffer *b, cuda_address at, emlx_buffer **out) {
    b->base.handle = (void *)(uintptr_t)at;
    *out = &b->base;
}

// What lies there is as it is when the work that is queued on the device later reads it.
static emlx_status borrow(gpu *g, cuda_address address, size_t size, emlx_buffer **out,
                          emlx_error *err) {
    cuda_address base = 0;
    size_t room = 0;
    if (cuda.address_range(&base, &room, address) != 0 || size > room - (address - base))
        return error_set(err, EMLX_INVALID,
                         "%zu bytes at address 0x%llx are not within memory of cuda:%d", size,
                         (unsigned long long)address, g->number);
    gpu_buffer *b = describe_buffer(g, size, BUFFER_BORROWED, err);
    if (b == NULL) return EMLX_OUT_OF_MEMORY;
    set_address(b, address, out);
    return EMLX_OK;
}

static emlx_status import(gpu *g, cuda_handle handle, uint64_t offset, size_t size,
                          emlx_buffer **out, emlx_error *err) {
    size_t room = 0;
    cuda_address base = 0, start = 0;
    GPU_TRY(g, "opening memory of another process",
            cuda.handle_open(&base, handle, CUDA_HANDLE_PEERS));
    bool fits =
        cuda.address_range(&start, &room, base) == 0 && offset <= room && size <= room - offset;
    gpu_buffer *b = fits ? describe_buffer(g, size, BUFFER_IMPORTED, err) : NULL;
    if (b == NULL) cuda.handle_close(base);
    if (!fits)
        return error_set(err, EMLX_INVALID, "the handle's memory has fewer than %zu bytes", size);
    if (b == NULL) return EMLX_OUT_OF_MEMORY;
    b->block.address = base;
    set_address(b, base + offset, out);
    return EMLX_OK;
}

// Whoever opens it knows nothing of our streams: what is to be there has to be there.
static emlx_status export(gpu *g, emlx_buffer *buffer, cuda_handle *handle, uint64_t *offset,
                          emlx_error *err) {
    cuda_address base = 0;
    size_t room = 0;
    TRY(gpu_buffer_check(g, buffer_of_gpu(buffer), err));
    TRY(gpu_wait(g, err));
    GPU_TRY(g, "asking for a buffer's memory",
            cuda.address_range(&base, &room, buffer_address(buffer)));
    GPU_TRY(g, "sharing a buffer's memory", cuda.handle_get(handle, base));
    *offset = buffer_address(buffer) - base;
    return EMLX_OK;
}

// Whoever gets it knows nothing of our streams either.
emlx_status gpu_buffer_address(gpu *g, emlx_buffer *buffer, cuda_address *address,
                               emlx_error *err) {
    TRY(gpu_begin(g, err));
    emlx_status status = gpu_buffer_check(g, buffer_of_gpu(buffer), err);
    if (status == EMLX_OK) status = gpu_wait(g, err);
    gpu_end(g);
    if (status == EMLX_OK) *address = buffer_address(buffer);
    return status;
}

emlx_status gpu_buffer_borrow(gpu *g, cuda_address address, size_t size, emlx_buffer **out,
                              emlx_error *err) {
    TRY(gpu_begin(g, err));
    emlx_status status = borrow(g, address, size, out, err);
    gpu_end(g);
    return status;
}

emlx_status gpu_buffer_import(gpu *g, const void *handle, size_t handle_size, size_t size,
                              emlx_buffer **out, emlx_error *err) {
    cuda_handle h;
    uint64_t offset = 0;
    if (handle_size != sizeof h && handle_size != EXPORT_MOST)
        return error_set(err, EMLX_INVALID, "a handle of memory has %zu or %d bytes, not %zu",
                         sizeof h, EXPORT_MOST, handle_size);
    memcpy(&h, handle, sizeof h);
    if (handle_size == EXPORT_MOST) memcpy(&offset, (const char *)handle + sizeof h, sizeof offset);
    TRY(gpu_begin(g, err));
    emlx_status status = import(g, h, offset, size, out, err);
    gpu_end(g);
    return status;
}

emlx_status gpu_buffer_export(gpu *g, emlx_buffer *buffer, void *handle, size_t *size,
                              emlx_error *err) {
    cuda_handle h;
    uint64_t offset = 0;
    TRY(gpu_begin(g, err));
    emlx_status status = export(g, buffer, &h, &offset, err);
    gpu_end(g);
    TRY(status);
    memcpy(handle, &h, sizeof h);
    memcpy((char *)handle + sizeof h, &offset, sizeof offset);
    *size = offset == 0 ? sizeof h : EXPORT_MOST;
    return EMLX_OK;
}
