// SPDX-License-Identifier: Apache-2.0
// heap.h - a device's memory: blocks by size class, kept for reuse when they are freed.
//
// A free block may still be in use by work that is queued: with it goes what it was used for last
// on each stream, and whoever takes it has its own work wait for that on the device.
#ifndef EMLX_CUDA_HEAP_H
#define EMLX_CUDA_HEAP_H

#include "engines/cuda/driver/driver.h"
#include "memory/account.h"

enum { DEVICE_ALIGNMENT = 256, STREAM_COUNT = 8 };

// Pieces of work are numbered by stream, from 1 on (stream.h). The last on each that uses a block.
typedef struct block_uses {
    uint64_t last[STREAM_COUNT];
} block_uses;

// Nothing to wait for: every use is of a piece that `known` has for its stream.
static inline bool uses_ended(const block_uses *uses, const uint64_t known[STREAM_COUNT]) {
    for (int i = 0; i < STREAM_COUNT; i++)
        if (uses->last[i] > known[i]) return false;
    return true;
}

typedef struct device_block {
    cuda_address address;
    uint32_t size_class;
    block_uses uses;
} device_block;

typedef struct device_heap device_heap;

// `wait` returns when all that is queued on the device has ended: it is called before memory goes
// back to the driver, under the heap's lock.
emlx_status device_heap_open(memory_account *account, void (*wait)(void *context), void *context,
                             device_heap **out, emlx_error *err);
// Gives everything back; nothing is in use any more.
void device_heap_close(device_heap *heap);
// The same where the memory is gone already, with its context.
void device_heap_forget(device_heap *heap);

// A block for `size` bytes, if possible one whose uses `known` (or NULL) has all of. Fails with
// EMLX_OUT_OF_MEMORY when there is none left after what is kept has gone back, or past the limit.
emlx_status device_heap_take(device_heap *heap, size_t size, const uint64_t known[STREAM_COUNT],
                             device_block *block, emlx_error *err);
void device_heap_free(device_heap *heap, const device_block *block);
// Gives free blocks back to the driver until at most `keep` bytes of them are kept.
void device_heap_shrink(device_heap *heap, uint64_t keep);
uint32_t device_block_class(size_t size);
// Whether blocks of this class are allocations of their own.
bool device_block_alone(uint32_t size_class);

#endif
