// SPDX-License-Identifier: Apache-2.0
// buffer.c - reference-counted blocks of host memory: our own, and borrowed ones.
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/sanitize.h"
#include "memory/account.h"
#include "memory/memory.h"
#include "threads/mutex.h"

// A buffer over memory of somebody else.
typedef struct wrapped_buffer {
    emlx_buffer base;
    void (*release)(void *context);
    void *context;
} wrapped_buffer;

static void destroy_own(emlx_buffer *buffer) {
    data_free(buffer->data, buffer->size);
    mem_free(buffer, sizeof *buffer);
}

static void destroy_wrapped(emlx_buffer *buffer) {
    wrapped_buffer *wrapped = buffer->owner;
    if (wrapped->release != NULL) wrapped->release(wrapped->context);
    mem_free(wrapped, sizeof *wrapped);
}

void buffer_init(emlx_buffer *buffer, size_t size, void (*destroy)(emlx_buffer *buffer)) {
    *buffer = (emlx_buffer){.size = size, .destroy = destroy};
    atomic_init(&buffer->references, 1);
}

// Little data lies behind its description, so that both are one piece of what the thread's
// allocator has at hand: blocks are for all threads and have locks.
enum { LITTLE = 512 };

static size_t little_size(size_t size) { return sizeof(emlx_buffer) + BUFFER_ALIGNMENT + size; }

static void destroy_little(emlx_buffer *buffer) {
    MEMORY_SHOW(buffer, little_size(buffer->size));
    data_unreserve(buffer->size);
    mem_free(buffer, little_size(buffer->size));
}

static emlx_status new_little(size_t size, emlx_buffer **out, emlx_error *err) {
    emlx_buffer *buffer = mem_alloc_unset(little_size(size));
    if (buffer == NULL) return error_no_memory(err, "for a buffer");
    if (!data_reserve(size)) {
        mem_free(buffer, little_size(size));
        return account_refused(account_of_host(), size, err);
    }
    buffer_init(buffer, size, destroy_little);
    uintptr_t behind = (uintptr_t)(buffer + 1) + BUFFER_ALIGNMENT - 1;
    buffer->data = (void *)(behind / BUFFER_ALIGNMENT * BUFFER_ALIGNMENT);
    buffer->writable = true;
    char *end = (char *)buffer->data + size;
    MEMORY_HIDE(end, (size_t)((char *)buffer + little_size(size) - end));
    *out = buffer;
    return EMLX_OK;
}

emlx_status buffer_new(size_t size, emlx_buffer **out, emlx_error *err) {
    if (size <= LITTLE) return new_little(size, out, err);
    emlx_buffer *buffer = mem_alloc(sizeof *buffer);
    if (buffer == NULL) return error_no_memory(err, "for a buffer's description");
    emlx_status status = data_alloc(size, &buffer->data, err);
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
    if (wrapped == NULL) return error_no_memory(err, "for a buffer's description");
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

emlx_status buffers_check(emlx_buffer *const *buffers, size_t count, emlx_error *err) {
    const buffer_guard *last = NULL;
    for (size_t i = 0; i < count; i++) {
        const buffer_guard *guard = buffers[i]->guard;
        if (guard == NULL || guard == last) continue;
        TRY(guard->check(guard, err));
        last = guard;
    }
    return EMLX_OK;
}

// Fences ----------------------------------------------------------------------------------------

// Guards the fences of all buffers that somebody else may use as well.
static pthread_mutex_t uses = PTHREAD_MUTEX_INITIALIZER;

void buffer_written_by(emlx_buffer *buffer, fence *end) {
    mutex_lock(&uses);
    fence *old = buffer->writer;
    buffer->writer = fence_retain(end);
    mutex_unlock(&uses);
    fence_release(old);
}

static bool same_stream(const fence *a, const fence *b) {
    return a->stream != NULL && a->stream == b->stream && a->device == b->device;
}

// What ends when both have: work on one stream ends in order, and there the later one does. NULL
// where there is no memory for it.
static fence *last_of(fence *first, fence *second) {
    if (fence_signalled(first) || same_stream(first, second)) return fence_retain(second);
    return fence_both(first, second);
}

void buffer_read_by(emlx_buffer *buffer, fence *end) {
    for (bool done = false; !done;) {
        mutex_lock(&uses);
        fence *old = buffer->readers, *last = last_of(old, end);
        done = last != NULL;
        if (done)
            buffer->readers = last;
        else
            fence_retain(old);
        mutex_unlock(&uses);
        if (!done) fence_wait(old, NULL);
        fence_release(old);
    }
}

fence *buffer_writer(emlx_buffer *buffer) {
    mutex_lock(&uses);
    fence *writer = fence_retain(buffer->writer);
    mutex_unlock(&uses);
    return writer;
}

static bool ends_before(const fence *f, const void *stream) {
    return f == NULL || fence_signalled(f) || (f->stream != NULL && f->stream == stream);
}

bool buffer_reusable(emlx_buffer *buffer, const void *stream) {
    if (!buffer_exclusive(buffer)) return false;
    if (buffer->writer == NULL && buffer->readers == NULL) return true;
    mutex_lock(&uses);
    bool reusable = ends_before(buffer->writer, stream) && ends_before(buffer->readers, stream);
    mutex_unlock(&uses);
    return reusable;
}

// The end of a buffer ---------------------------------------------------------------------------

static void end_buffer(emlx_buffer *buffer);

static void go_on(fence_waiter *waiter, const fence *ended) {
    (void)ended;
    end_buffer((emlx_buffer *)((char *)waiter - offsetof(emlx_buffer, put_off)));
}

static bool waits_for(emlx_buffer *buffer, fence *f) {
    return f != NULL && !buffer->ordered && fence_then(f, &buffer->put_off);
}

// More than any op looks at before it is computed.
enum { KNOWN_BYTES = 4096 };

void buffer_know(emlx_buffer *buffer, const void *contents) {
    if (buffer->data != NULL || buffer->size == 0 || buffer->size > KNOWN_BYTES) return;
    buffer->known = mem_alloc(buffer->size);
    if (buffer->known != NULL) memcpy(buffer->known, contents, buffer->size);
}

void buffer_forget(emlx_buffer *buffer) {
    mem_free(buffer->known, buffer->size);
    buffer->known = NULL;
}

static void destroy(emlx_buffer *buffer) {
    if (buffer->known != NULL) buffer_forget(buffer);
    buffer->destroy(buffer);
}

// Called once more by each fence that it has to wait for.
static void end_buffer(emlx_buffer *buffer) {
    buffer->put_off.run = go_on;
    if (waits_for(buffer, buffer->writer) || waits_for(buffer, buffer->readers)) return;
    fence *writer = buffer->writer, *readers = buffer->readers;
    destroy(buffer);
    fence_release(writer);
    fence_release(readers);
}

void buffer_release(emlx_buffer *buffer) {
    if (buffer == NULL) return;
    // Acquire and release: all uses by all holders come before the end.
    if (atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel) != 1) return;
    if (buffer->writer == NULL && buffer->readers == NULL)
        destroy(buffer);
    else
        end_buffer(buffer);
}

bool buffer_exclusive(const emlx_buffer *buffer) {
    // Others that held it may have made it unwritable before they let go.
    return atomic_load_explicit(&((emlx_buffer *)buffer)->references, memory_order_acquire) == 1 &&
           buffer->writable;
}
