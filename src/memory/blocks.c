// SPDX-License-Identifier: Apache-2.0
// blocks.c - the memory that holds elements: aligned blocks, kept for reuse when they are freed.
//
// Sizes are rounded up to classes, each with a list of free blocks. Keeping large blocks matters
// most: fresh pages cost a fault and a clearing each, often more than the kernel that fills them.
// All figures (active, cached, limits) are of rounded sizes, as that is what the process holds.
// Sanitizers see free blocks, and the rounding behind used ones, as memory that is not to be
// touched, and new ones as unset.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sanitize.h"
#include "memory/account.h"
#include "memory/classes.h"
#include "memory/failing.h"
#include "threads/cgroup.h"
#include "threads/mutex.h"

// Size classes ----------------------------------------------------------------------------------

typedef struct free_list {
    void *first;         // free blocks, each pointing to the next; guarded by the class's lock
    atomic_size_t count; // how many; changed under the lock, read without it to choose a class
    atomic_uint used;    // the epoch in which it last gave or got a block
} free_list;

static free_list classes[CLASS_COUNT];

#define LOCK_COUNT 8
static pthread_mutex_t locks[LOCK_COUNT] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                            PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                            PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                            PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

static pthread_mutex_t *class_lock(unsigned index) { return &locks[index % LOCK_COUNT]; }

static unsigned class_of(size_t size, size_t *block) {
    return size_class(size, BUFFER_ALIGNMENT, block);
}

static size_t class_block(unsigned index) { return size_class_block(index, BUFFER_ALIGNMENT); }

// Accounts --------------------------------------------------------------------------------------

static void shrink_cache(memory_account *account, uint64_t keep);

static memory_account host = {.shrink = shrink_cache, .tell = account_tell};
static pthread_once_t once = PTHREAD_ONCE_INIT;

// Bytes that this process may have: the machine's, or what its container leaves to it. 0: unknown.
static uint64_t machine_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    uint64_t most = cgroup_memory(&cgroup_own);
    return most != 0 && (memory == 0 || most < memory) ? most : memory;
}

// Unless told otherwise, at most an eighth of that memory is kept for reuse, and nothing when the
// last eighth is about to be taken.
static void set_defaults(void) {
    uint64_t memory = machine_memory();
    atomic_store(&host.cache_limit, memory == 0 ? (uint64_t)1 << 30 : memory / 8);
    if (memory != 0) atomic_store(&host.soft_limit, memory - memory / 8);
}

memory_account *account_of_host(void) {
    pthread_once(&once, set_defaults);
    return &host;
}

// Advances with every block got from the system: the measure of how long a class was idle.
static atomic_uint epoch;

// System ----------------------------------------------------------------------------------------

// Large blocks ask for large pages: kernels walk through them from end to end, and with small pages
// much of their time goes into finding where each page lies, most of all in virtual machines.
#define LARGE_PAGE ((size_t)2 << 20)

static void *system_alloc(size_t size) {
    void *block = NULL;
    bool large = size >= 2 * LARGE_PAGE;
    if (posix_memalign(&block, large ? LARGE_PAGE : BUFFER_ALIGNMENT, size) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (large) madvise(block, size, MADV_HUGEPAGE); // a wish: it does not matter if it fails
#endif
    atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
    return block;
}

static void system_free(void *block, size_t size) {
    MEMORY_SHOW(block, size);
    free(block);
}

// Free blocks -----------------------------------------------------------------------------------

// Under the class's lock, so that no other change comes between.
static void class_count(free_list *c, size_t change) {
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    atomic_store_explicit(&c->count, count + change, memory_order_relaxed);
}

static void class_push(unsigned index, void *block, size_t size) {
    free_list *c = &classes[index];
    // All but the link, which the leak checker follows.
    MEMORY_HIDE((char *)block + sizeof(void *), size - sizeof(void *));
    mutex_lock(class_lock(index));
    *(void **)block = c->first;
    c->first = block;
    class_count(c, 1);
    mutex_unlock(class_lock(index));
    atomic_store_explicit(&c->used, atomic_load_explicit(&epoch, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_fetch_add(&host.cached, size);
}

// A free block of the class, or NULL.
static void *class_pop(unsigned index, size_t size) {
    free_list *c = &classes[index];
    if (atomic_load_explicit(&c->count, memory_order_relaxed) == 0) return NULL;
    mutex_lock(class_lock(index));
    void *block = c->first;
    if (block != NULL) {
        MEMORY_SHOW(block, size);
        c->first = *(void **)block;
        class_count(c, (size_t)-1);
    }
    mutex_unlock(class_lock(index));
    if (block != NULL) atomic_fetch_sub(&host.cached, size);
    return block;
}

// The class with free blocks that was idle for longest, or CLASS_COUNT.
static unsigned class_idle(void) {
    unsigned now = atomic_load_explicit(&epoch, memory_order_relaxed);
    unsigned longest = 0, found = CLASS_COUNT;
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        if (atomic_load_explicit(&classes[i].count, memory_order_relaxed) == 0) continue;
        unsigned idle = now - atomic_load_explicit(&classes[i].used, memory_order_relaxed);
        if (found != CLASS_COUNT && idle < longest) continue;
        longest = idle;
        found = i;
    }
    return found;
}

// Gives free blocks back to the system until at most `keep` bytes of them remain.
static void shrink_cache(memory_account *account, uint64_t keep) {
    while (atomic_load(&account->cached) > keep) {
        unsigned index = class_idle();
        if (index == CLASS_COUNT) return;
        size_t size = class_block(index);
        void *block = class_pop(index, size);
        if (block != NULL) system_free(block, size);
    }
}

// Allocation ------------------------------------------------------------------------------------

static void *block_get(unsigned index, size_t size) {
    void *block = class_pop(index, size);
    if (!account_take(&host, size)) {
        if (block != NULL) system_free(block, size);
        return NULL;
    }
    if (block == NULL) block = system_alloc(size);
    if (block == NULL) {
        account_shrink(&host, 0);
        block = system_alloc(size);
    }
    if (block == NULL) {
        account_give(&host, size);
    } else {
        account_took(&host);
    }
    return block;
}

emlx_status data_alloc(size_t size, void **out, emlx_error *err) {
    pthread_once(&once, set_defaults);
    if (size > MAX_SIZE || mem_should_fail()) return account_refused(&host, size, err);
    size_t rounded;
    unsigned index = class_of(size, &rounded);
    void *block = block_get(index, rounded);
    if (block == NULL) return account_refused(&host, size, err);
    MEMORY_UNSET(block, rounded);
    MEMORY_HIDE((char *)block + size, rounded - size);
    *out = block;
    return EMLX_OK;
}

void data_free(void *pointer, size_t size) {
    if (pointer == NULL) return;
    size_t rounded;
    unsigned index = class_of(size, &rounded);
    MEMORY_SHOW(pointer, rounded);
    account_give(&host, rounded);
    uint64_t most = atomic_load_explicit(&host.cache_limit, memory_order_relaxed);
    if (rounded > most) {
        system_free(pointer, rounded);
        return;
    }
    if (atomic_load_explicit(&host.cached, memory_order_relaxed) > most - rounded) {
        account_shrink(&host, most - rounded);
    }
    class_push(index, pointer, rounded);
}

bool data_reserve(size_t size) {
    pthread_once(&once, set_defaults);
    if (size > MAX_SIZE || !account_take(&host, size)) return false;
    account_took(&host);
    return true;
}

void data_unreserve(size_t size) { account_give(&host, size); }
