// SPDX-License-Identifier: Apache-2.0
// pool.c - blocks of device memory. Small ones are cut from slabs, which stay until the pool is
// closed; large ones are allocations of their own.
#include "engines/cuda/driver/pool.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/error.h"
#include "memory/classes.h"
#include "memory/list.h"

#define SLAB ((size_t)8 << 20)
#define SMALL_MOST ((size_t)256 << 10)

typedef struct free_list {
    cuda_address *blocks;
    size_t count, room;
} free_list;

typedef struct slab {
    struct slab *next;
    cuda_address address;
} slab;

struct device_pool {
    pthread_mutex_t lock;
    free_list classes[CLASS_COUNT];
    slab *slabs;
    cuda_address rest; // of the newest slab
    size_t rest_size;
    device_memory memory;
};

emlx_status device_pool_open(device_pool **out, emlx_error *err) {
    device_pool *pool = mem_alloc(sizeof *pool);
    if (pool == NULL) return error_no_memory(err, "for a device's pool");
    pthread_mutex_init(&pool->lock, NULL);
    *out = pool;
    return EMLX_OK;
}

static bool is_small_block(size_t block) { return block <= SMALL_MOST; }

// Large blocks go back to the driver. Under the lock.
static void trim(device_pool *pool) {
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        free_list *list = &pool->classes[i];
        size_t block = size_class_block(i, DEVICE_ALIGNMENT);
        if (is_small_block(block)) continue;
        for (uint32_t n = 0; n < list->count; n++) cuda.free(list->blocks[n]);
        pool->memory.cached -= block * list->count;
        list->count = 0;
    }
}

void device_pool_trim(device_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    trim(pool);
    pthread_mutex_unlock(&pool->lock);
}

void device_pool_close(device_pool *pool) {
    if (pool == NULL) return;
    trim(pool);
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        mem_free(pool->classes[i].blocks, pool->classes[i].room * sizeof(cuda_address));
    for (slab *s = pool->slabs, *next; s != NULL; s = next) {
        next = s->next;
        cuda.free(s->address);
        mem_free(s, sizeof *s);
    }
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool, sizeof *pool);
}

// Memory from the driver, which waits for the device where blocks have to go back first.
static emlx_status driver_take(device_pool *pool, size_t size, cuda_address *address,
                               emlx_error *err) {
    cuda_result result = cuda.allocate(address, size);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        trim(pool);
        result = cuda.allocate(address, size);
    }
    if (result == 0) return EMLX_OK;
    if (result != CUDA_ERROR_OUT_OF_MEMORY) return driver_check(result, "cuMemAlloc", err);
    return error_set(err, EMLX_OUT_OF_MEMORY,
                     "no %zu bytes left on the device; %" PRIu64 " are in use", size,
                     pool->memory.active);
}

static emlx_status cut_slab(device_pool *pool, size_t block, cuda_address *address,
                            emlx_error *err) {
    if (pool->rest_size < block) {
        slab *s = mem_alloc(sizeof *s);
        if (s == NULL) return error_no_memory(err, "for a device's pool");
        emlx_status status = driver_take(pool, SLAB, &s->address, err);
        if (status != EMLX_OK) {
            mem_free(s, sizeof *s);
            return status;
        }
        s->next = pool->slabs;
        pool->slabs = s;
        pool->rest = s->address;
        pool->rest_size = SLAB;
    }
    *address = pool->rest;
    pool->rest += block;
    pool->rest_size -= block;
    return EMLX_OK;
}

static emlx_status take_block(device_pool *pool, unsigned class_, size_t block,
                              cuda_address *address, emlx_error *err) {
    free_list *list = &pool->classes[class_];
    device_memory *m = &pool->memory;
    if (m->limit > 0 && m->active + block > m->limit)
        return error_set(err, EMLX_OUT_OF_MEMORY,
                         "%zu bytes more would pass the device's limit of %" PRIu64, block,
                         m->limit);
    if (list->count > 0) {
        *address = list->blocks[--list->count];
        m->cached -= block;
    } else if (is_small_block(block)) {
        TRY(cut_slab(pool, block, address, err));
    } else {
        TRY(driver_take(pool, block, address, err));
    }
    m->active += block;
    if (m->active > m->peak) m->peak = m->active;
    return EMLX_OK;
}

emlx_status device_pool_take(device_pool *pool, size_t size, cuda_address *address,
                             uint32_t *size_class_, emlx_error *err) {
    size_t block;
    if (size > MAX_SIZE) return error_set(err, EMLX_OUT_OF_MEMORY, "no device has %zu bytes", size);
    *size_class_ = size_class(size, DEVICE_ALIGNMENT, &block);
    pthread_mutex_lock(&pool->lock);
    emlx_status status = take_block(pool, *size_class_, block, address, err);
    pthread_mutex_unlock(&pool->lock);
    return status;
}

void device_pool_free(device_pool *pool, cuda_address address, uint32_t class_) {
    size_t block = size_class_block(class_, DEVICE_ALIGNMENT);
    pthread_mutex_lock(&pool->lock);
    free_list *list = &pool->classes[class_];
    pool->memory.active -= block;
    if (mem_reserve(&list->blocks, &list->room, list->count, 1, sizeof *list->blocks)) {
        list->blocks[list->count++] = address;
        pool->memory.cached += block;
    } else if (!is_small_block(block)) {
        cuda.free(address);
    }
    pthread_mutex_unlock(&pool->lock);
}

device_memory device_pool_memory(device_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    device_memory memory = pool->memory;
    pthread_mutex_unlock(&pool->lock);
    return memory;
}

void device_pool_limit(device_pool *pool, uint64_t bytes) {
    pthread_mutex_lock(&pool->lock);
    pool->memory.limit = bytes;
    pthread_mutex_unlock(&pool->lock);
}
