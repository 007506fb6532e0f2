// SPDX-License-Identifier: Apache-2.0
// memory.h - all memory of the library: small structures, and the buffers that hold elements.
// Both are counted, and both can be made to fail for tests.
#ifndef EMLX_MEMORY_MEMORY_H
#define EMLX_MEMORY_MEMORY_H

#include "emlx.h"

// Structures ----------------------------------------------------------------------------------

// Zeroed memory, or NULL. Freed with the same size.
void *mem_alloc(size_t size);
void mem_free(void *pointer, size_t size);
// A larger (or equal) block with the old contents and zeroes behind them; NULL leaves the old one.
void *mem_grow(void *pointer, size_t old_size, size_t new_size);

// For tests: bytes held now, and making every allocation from the n-th on fail (0: none).
size_t mem_held(void);
void mem_fail_from(size_t n);

// Data ----------------------------------------------------------------------------------------

#define BUFFER_ALIGNMENT 64

// 64-byte aligned memory from the pool of freed blocks, or new. Contents are arbitrary.
// Fails with EMLX_OUT_OF_MEMORY past the limit. Size 0 gives a valid pointer.
emlx_status pool_alloc(size_t size, void **out, emlx_error *err);
void pool_free(void *pointer, size_t size);

// A counted block of memory of a device. Host buffers are made here; an engine with its own memory
// embeds this structure and sets `destroy`.
typedef struct emlx_buffer emlx_buffer;
struct emlx_buffer {
    _Atomic int64_t references;
    size_t size;
    void *data;   // host address, or NULL when the host cannot read it
    void *handle; // what the engine calls it
    void *owner;  // what `destroy` needs
    void (*destroy)(emlx_buffer *buffer);
    bool writable; // false for memory that somebody else owns
};

emlx_status buffer_new(size_t size, emlx_buffer **out, emlx_error *err);
// Borrows `data` until the last reference ends; then calls release(context).
emlx_status buffer_wrap(const void *data, size_t size, void (*release)(void *), void *context,
                        emlx_buffer **out, emlx_error *err);
emlx_buffer *buffer_retain(emlx_buffer *buffer);
void buffer_release(emlx_buffer *buffer);
// Whether the caller holds the only reference and may overwrite it.
bool buffer_exclusive(const emlx_buffer *buffer);

#endif
