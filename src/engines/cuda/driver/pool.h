// SPDX-License-Identifier: Apache-2.0
// pool.h - a device's memory: blocks by size class, kept for reuse when they are freed.
//
// Memory is taken and freed in the order of the device's stream: a block that is freed when the
// work that reads it has been queued may be given out at once, as work on it is queued behind.
#ifndef EMLX_CUDA_POOL_H
#define EMLX_CUDA_POOL_H

#include "engines/cuda/driver/driver.h"

enum { DEVICE_ALIGNMENT = 256 };

typedef struct device_pool device_pool;

typedef struct device_memory {
    uint64_t active, cached, peak, limit; // bytes of blocks in use, and of those kept
} device_memory;

emlx_status device_pool_open(device_pool **out, emlx_error *err);
// Gives everything back; nothing is in use any more.
void device_pool_close(device_pool *pool);

// Sets *size_class for the call that frees it. Fails with EMLX_OUT_OF_MEMORY when there is none
// left after what is kept has gone back, or past the limit.
emlx_status device_pool_take(device_pool *pool, size_t size, cuda_address *address,
                             uint32_t *size_class, emlx_error *err);
void device_pool_free(device_pool *pool, cuda_address address, uint32_t size_class);
// Gives back what is kept.
void device_pool_trim(device_pool *pool);
device_memory device_pool_memory(device_pool *pool);
void device_pool_limit(device_pool *pool, uint64_t bytes); // 0: none

#endif
