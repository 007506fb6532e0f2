// SPDX-License-Identifier: Apache-2.0
// memory.h - all memory of the library: small structures, and the buffers that hold elements.
// Both are counted, and both can be made to fail for tests.
#ifndef EMLX_MEMORY_MEMORY_H
#define EMLX_MEMORY_MEMORY_H

#include "emlx.h"
#include "memory/fence.h"

// Structures ----------------------------------------------------------------------------------

// Zeroed memory, or NULL. Freed with the same size. Large ones count as data.
void *mem_alloc(size_t size);
// The same with whatever was there before, for those who set every byte that they use.
void *mem_alloc_unset(size_t size);
void mem_free(void *pointer, size_t size);
// A larger (or equal) block with the old contents and zeroes behind them; NULL leaves the old one.
void *mem_grow(void *pointer, size_t old_size, size_t new_size);

// For tests: bytes held now, and making every allocation from the n-th on fail (0: none).
size_t mem_held(void);
void mem_fail_from(size_t n);

// Data ----------------------------------------------------------------------------------------

#define BUFFER_ALIGNMENT 64

// 64-byte aligned memory, of what was freed or new. Contents are arbitrary.
// Fails with EMLX_OUT_OF_MEMORY past the limit. Size 0 gives a valid pointer.
emlx_status data_alloc(size_t size, void **out, emlx_error *err);
void data_free(void *pointer, size_t size);
// Counts bytes that somebody else allocates; false past the limit.
bool data_reserve(size_t size);
void data_unreserve(size_t size);

// What an engine's own allocator keeps for reuse: bytes, a bound of them, giving all of it back.
// Added once, for good.
typedef struct memory_cache {
    uint64_t (*kept)(void);
    void (*limit)(uint64_t bytes);
    void (*clear)(void);
} memory_cache;

void memory_add_cache(const memory_cache *cache);

// A counted block of memory of a device. Host buffers are made here; an engine with its own memory
// embeds this structure, calls buffer_init and sets the rest.
//
// Work that is queued somewhere may still write or read it: the buffer knows the fence of its
// writer, and one of its readers that ends when all have. Where there are no such fences nothing is
// waited for; the last release waits for them by leaving the destruction with them.
typedef struct emlx_buffer emlx_buffer;

// What can be lost: memory below which somebody may take away a file. `check` fails where it has
// happened. It is looked at before work that reads the memory; in the middle of work nothing helps.
typedef struct buffer_guard buffer_guard;
struct buffer_guard {
    emlx_status (*check)(const buffer_guard *guard, emlx_error *err);
};

struct emlx_buffer {
    _Atomic int64_t references;
    size_t size;
    void *data;   // host address, or NULL when the host cannot read it
    void *handle; // what the engine calls it
    void *owner;  // what `destroy` needs
    void (*destroy)(emlx_buffer *buffer);
    bool writable;             // false for memory that somebody else owns or shares
    bool ordered;              // `destroy` itself heeds the fences, so it need not be put off
    const buffer_guard *guard; // of memory that can be lost, or NULL; held by what is released last
    void *known;               // a copy of its contents on the host, made by buffer_know, or NULL
    fence *writer, *readers;   // read and set by the functions below
    fence_waiter put_off;      // the destruction, while it waits
};

emlx_status buffer_new(size_t size, emlx_buffer **out, emlx_error *err);
// Borrows `data` until the last reference ends; then calls release(context).
emlx_status buffer_wrap(const void *data, size_t size, void (*release)(void *), void *context,
                        emlx_buffer **out, emlx_error *err);
emlx_buffer *buffer_retain(emlx_buffer *buffer);
// Whether its memory is still there.
static inline emlx_status buffer_check(const emlx_buffer *buffer, emlx_error *err) {
    return buffer->guard == NULL ? EMLX_OK : buffer->guard->check(buffer->guard, err);
}
// The same of several; one that guards many is asked once.
emlx_status buffers_check(emlx_buffer *const *buffers, size_t count, emlx_error *err);
// Keeps a copy of what was put into a buffer of a device, where that is little: ops then know such
// values whatever the device. Without memory for it they do not.
void buffer_know(emlx_buffer *buffer, const void *contents);
// To be called before it is overwritten.
void buffer_forget(emlx_buffer *buffer);
// Where the host can look at the contents, or NULL.
static inline const void *buffer_seen(const emlx_buffer *buffer) {
    return buffer->data != NULL ? buffer->data : buffer->known;
}
void buffer_release(emlx_buffer *buffer);
// Whether the caller holds the only reference and may overwrite it.
bool buffer_exclusive(const emlx_buffer *buffer);

// One reference, all else empty.
void buffer_init(emlx_buffer *buffer, size_t size, void (*destroy)(emlx_buffer *buffer));
// Work that ends with the fence (not NULL) writes or reads the buffer.
void buffer_written_by(emlx_buffer *buffer, fence *end);
void buffer_read_by(emlx_buffer *buffer, fence *end);
// The fence of the writer, referenced; NULL if it was never written by queued work.
fence *buffer_writer(emlx_buffer *buffer);
// Whether work queued on the stream now may overwrite it: what still uses it has ended or is queued
// there as well.
bool buffer_reusable(emlx_buffer *buffer, const void *stream);

#endif
