// SPDX-License-Identifier: Apache-2.0
// buffer.c - reference-counted blocks of host memory: our own, and borrowed ones.
#include <stdatomic.h>

#include "base/error.h"
#include "memory/memory.h"

// A buffer over memory of somebody else.
typedef struct wrapped_buffer {
    emlx_buffer base;
    void (*release)(void *context);
    void *context;
} wrapped_buffer;

static emlx_status no_memory(emlx_error *err) {
    return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a buffer's description");
}

static void destroy_own(emlx_buffer *buffer) {
    pool_free(buffer->data, buffer->size);
    mem_free(buffer, sizeof *buffer);
}

static void destroy_wrapped(emlx_buffer *buffer) {
    wrapped_buffer *wrapped = buffer->owner;
    if (wrapped->release != NULL) wrapped->release(wrapped->context);
    mem_free(wrapped, sizeof *wrapped);
}

emlx_status buffer_new(size_t size, emlx_buffer **out, emlx_error *err) {
    emlx_buffer *buffer = mem_alloc(sizeof *buffer);
    if (buffer == NULL) return no_memory(err);
    emlx_status status = pool_alloc(size, &buffer->data, err);
    if (status != EMLX_OK) {
        mem_free(buffer, sizeof *buffer);
        return status;
    }
    atomic_init(&buffer->references, 1);
    buffer->size = size;
    buffer->destroy = destroy_own;
    buffer->writable = true;
    *out = buffer;
    return EMLX_OK;
}

emlx_status buffer_wrap(const void *data, size_t size, void (*release)(void *), void *context,
                        emlx_buffer **out, emlx_error *err) {
    wrapped_buffer *wrapped = mem_alloc(sizeof *wrapped);
    if (wrapped == NULL) return no_memory(err);
    atomic_init(&wrapped->base.references, 1);
    wrapped->base.size = size;
    // Nobody writes through it, as `writable` stays false.
    wrapped->base.data = (void *)data;
    wrapped->base.owner = wrapped;
    wrapped->base.destroy = destroy_wrapped;
    wrapped->release = release;
    wrapped->context = context;
    *out = &wrapped->base;
    return EMLX_OK;
}

emlx_buffer *buffer_retain(emlx_buffer *buffer) {
    atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    return buffer;
}

void buffer_release(emlx_buffer *buffer) {
    if (buffer == NULL) return;
    // Acquire and release: all uses by all holders come before the end.
    if (atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel) == 1) {
        buffer->destroy(buffer);
    }
}

bool buffer_exclusive(const emlx_buffer *buffer) {
    return buffer->writable &&
           atomic_load_explicit(&((emlx_buffer *)buffer)->references, memory_order_acquire) == 1;
}
