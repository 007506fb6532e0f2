// SPDX-License-Identifier: Apache-2.0
// heap.c - blocks of device memory. Small ones are cut from slabs, which stay until the heap is
// closed; large ones are allocations of their own.
#include "engines/cuda/driver/heap.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/error.h"
#include "memory/classes.h"
#include "memory/list.h"

#define SLAB ((size_t)8 << 20)
#define SMALL_MOST ((size_t)256 << 10)

// So many blocks are looked at for one that nobody uses any more.
enum { LOOK_MOST = 4 };

typedef struct free_block {
    cuda_address address;
    block_uses uses;
} free_block;

// There is room for those that are given out as well, so that giving one back cannot fail.
typedef struct free_list {
    free_block *blocks;
    size_t count, room, given;
} free_list;

typedef struct slab {
    struct slab *next;
    cuda_address address;
} slab;

struct device_heap {
    memory_account *account;
    pthread_mutex_t lock;
    free_list classes[CLASS_COUNT];
    slab *slabs;
    cuda_address rest; // of the newest slab
    size_t rest_size;
    void (*wait)(void *context);
    void *context;
};

static size_t block_size(uint32_t class_) { return size_class_block(class_, DEVICE_ALIGNMENT); }

static bool is_small_block(size_t block) { return block <= SMALL_MOST; }

uint32_t device_block_class(size_t size) {
    size_t block;
    return size_class(size, DEVICE_ALIGNMENT, &block);
}

bool device_block_alone(uint32_t class_) { return !is_small_block(block_size(class_)); }

// Large blocks go back to the driver, the largest first, until `keep` bytes are kept. Under the
// lock.
static void trim(device_heap *heap, uint64_t keep) {
    bool waited = false;
    for (uint32_t i = CLASS_COUNT; i-- > 0;) {
        free_list *list = &heap->classes[i];
        size_t block = block_size(i);
        while (device_block_alone(i) && list->count > 0 &&
               atomic_load(&heap->account->cached) > keep) {
            if (!waited) heap->wait(heap->context);
            waited = true;
            cuda.free(list->blocks[--list->count].address);
            atomic_fetch_sub(&heap->account->cached, block);
        }
    }
}

void device_heap_shrink(device_heap *heap, uint64_t keep) {
    pthread_mutex_lock(&heap->lock);
    trim(heap, keep);
    pthread_mutex_unlock(&heap->lock);
}

emlx_status device_heap_open(memory_account *account, void (*wait)(void *context), void *context,
                             device_heap **out, emlx_error *err) {
    device_heap *heap = mem_alloc(sizeof *heap);
    if (heap == NULL) return error_no_memory(err, "for a device's heap");
    pthread_mutex_init(&heap->lock, NULL);
    heap->account = account;
    heap->wait = wait;
    heap->context = context;
    *out = heap;
    return EMLX_OK;
}

void device_heap_forget(device_heap *heap) {
    if (heap == NULL) return;
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        mem_free(heap->classes[i].blocks, heap->classes[i].room * sizeof(free_block));
    for (slab *s = heap->slabs, *next; s != NULL; s = next) {
        next = s->next;
        mem_free(s, sizeof *s);
    }
    pthread_mutex_destroy(&heap->lock);
    mem_free(heap, sizeof *heap);
}

void device_heap_close(device_heap *heap) {
    if (heap == NULL) return;
    trim(heap, 0);
    for (slab *s = heap->slabs; s != NULL; s = s->next) cuda.free(s->address);
    device_heap_forget(heap);
}

// Memory from the driver.
static emlx_status driver_take(device_heap *heap, size_t size, cuda_address *address,
                               emlx_error *err) {
    cuda_result result = cuda.allocate(address, size);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        trim(heap, 0);
        result = cuda.allocate(address, size);
    }
    if (result == 0) return EMLX_OK;
    if (result != CUDA_ERROR_OUT_OF_MEMORY) return driver_check(result, "cuMemAlloc", err);
    return error_set(err, EMLX_OUT_OF_MEMORY,
                     "no %zu bytes left on the device; %" PRIu64 " are in use", size,
                     atomic_load(&heap->account->active));
}

static emlx_status cut_slab(device_heap *heap, size_t block, cuda_address *address,
                            emlx_error *err) {
    if (heap->rest_size < block) {
        slab *s = mem_alloc(sizeof *s);
        if (s == NULL) return error_no_memory(err, "for a device's heap");
        emlx_status status = driver_take(heap, SLAB, &s->address, err);
        if (status != EMLX_OK) {
            mem_free(s, sizeof *s);
            return status;
        }
        s->next = heap->slabs;
        heap->slabs = s;
        heap->rest = s->address;
        heap->rest_size = SLAB;
    }
    *address = heap->rest;
    heap->rest += block;
    heap->rest_size -= block;
    return EMLX_OK;
}

// The last one freed, or one close to it that is not in use.
static void take_free(free_list *list, const uint64_t known[STREAM_COUNT], device_block *out) {
    size_t last = list->count - 1, at = last;
    for (size_t i = 0; known != NULL && i < LOOK_MOST && i <= last; i++)
        if (uses_ended(&list->blocks[last - i].uses, known)) {
            at = last - i;
            break;
        }
    out->address = list->blocks[at].address;
    out->uses = list->blocks[at].uses;
    list->blocks[at] = list->blocks[last];
    list->count = last;
}

static emlx_status take_block(device_heap *heap, size_t size, const uint64_t known[STREAM_COUNT],
                              device_block *out, emlx_error *err) {
    free_list *list = &heap->classes[out->size_class];
    if (list->count > 0) {
        take_free(list, known, out);
        atomic_fetch_sub_explicit(&heap->account->cached, size, memory_order_relaxed);
        return EMLX_OK;
    }
    out->uses = (block_uses){{0}};
    if (!mem_reserve(&list->blocks, &list->room, list->count, list->given + 1,
                     sizeof *list->blocks))
        return error_no_memory(err, "for a device's heap");
    return is_small_block(size) ? cut_slab(heap, size, &out->address, err)
                                : driver_take(heap, size, &out->address, err);
}

emlx_status device_heap_take(device_heap *heap, size_t size, const uint64_t known[STREAM_COUNT],
                             device_block *out, emlx_error *err) {
    size_t block;
    if (size > MAX_SIZE) return error_set(err, EMLX_OUT_OF_MEMORY, "no device has %zu bytes", size);
    out->size_class = size_class(size, DEVICE_ALIGNMENT, &block);
    if (!account_take(heap->account, block)) return account_refused(heap->account, block, err);
    pthread_mutex_lock(&heap->lock);
    // Whoever frees may be no thread that is to wait for the device.
    uint64_t most = atomic_load_explicit(&heap->account->cache_limit, memory_order_relaxed);
    if (atomic_load_explicit(&heap->account->cached, memory_order_relaxed) > most)
        trim(heap, most / 2);
    emlx_status status = take_block(heap, block, known, out, err);
    heap->classes[out->size_class].given += status == EMLX_OK;
    pthread_mutex_unlock(&heap->lock);
    if (status != EMLX_OK)
        account_give(heap->account, block);
    else
        account_took(heap->account);
    return status;
}

void device_heap_free(device_heap *heap, const device_block *b) {
    size_t block = block_size(b->size_class);
    free_list *list = &heap->classes[b->size_class];
    pthread_mutex_lock(&heap->lock);
    account_give(heap->account, block);
    list->given--;
    list->blocks[list->count++] = (free_block){b->address, b->uses};
    atomic_fetch_add_explicit(&heap->account->cached, block, memory_order_relaxed);
    pthread_mutex_unlock(&heap->lock);
}
