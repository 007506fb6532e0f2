// SPDX-License-Identifier: Apache-2.0
// account.h - what memory for data holds and may hold: that of the host, or a device's own.
#ifndef EMLX_MEMORY_ACCOUNT_H
#define EMLX_MEMORY_ACCOUNT_H

#include <stdatomic.h>

#include "emlx.h"

typedef struct memory_account memory_account;
struct memory_account {
    _Atomic uint64_t active, peak, cached; // bytes in use, the most that ever were, kept for reuse
    _Atomic uint64_t limit;                // on what is in use and kept together; 0: none
    _Atomic uint64_t cache_limit;          // on what is kept
    // What is in use and kept stays below it, as far as that is possible without an error. 0: none.
    _Atomic uint64_t soft_limit;
    _Atomic uint64_t told; // the peak that observers were told of last
    const char *device;    // whose it is, for them; NULL: the host's
    // Tells observers of a new peak that is higher than the last one by an eighth, and 64 MB; or of
    // bytes that were `refused`. Set by whoever has the observers: an engine in a shared object
    // knows none. NULL: nobody is told.
    void (*tell)(memory_account *account, uint64_t refused);
    // Gives free blocks back until at most `keep` bytes of them remain. NULL: nothing is kept.
    void (*shrink)(memory_account *account, uint64_t keep);
};

static inline uint64_t bytes_less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static inline void account_shrink(memory_account *a, uint64_t keep) {
    if (a->shrink != NULL && atomic_load(&a->cached) > keep) a->shrink(a, keep);
}

// Whether it is higher now.
static inline bool account_raise_peak(memory_account *a) {
    uint64_t now = atomic_load_explicit(&a->active, memory_order_relaxed);
    uint64_t seen = atomic_load_explicit(&a->peak, memory_order_relaxed);
    while (now > seen && !atomic_compare_exchange_weak(&a->peak, &seen, now)) continue;
    return now > seen;
}

static inline void account_give(memory_account *a, size_t size) {
    atomic_fetch_sub(&a->active, size);
}

// Counts bytes as in use. False when that passes the limit even with nothing kept. The peak is left
// to account_took, when the bytes are there.
static inline bool account_take(memory_account *a, size_t size) {
    uint64_t most = atomic_load_explicit(&a->limit, memory_order_relaxed);
    uint64_t soft = atomic_load_explicit(&a->soft_limit, memory_order_relaxed);
    uint64_t now = atomic_fetch_add(&a->active, size) + size;
    if (soft != 0 && now + atomic_load(&a->cached) > soft) account_shrink(a, bytes_less(soft, now));
    if (most == 0 || now + atomic_load(&a->cached) <= most) return true;
    account_shrink(a, bytes_less(most, now));
    if (now <= most) return true;
    account_give(a, size);
    return false;
}

// What `tell` is.
void account_tell(memory_account *a, uint64_t refused);
// What account_take has counted is there.
static inline void account_took(memory_account *a) {
    if (account_raise_peak(a) && a->tell != NULL) a->tell(a, 0);
}
// The error of what account_take refuses, or the system has not got.
emlx_status account_refused(memory_account *a, size_t size, emlx_error *err);

// As the public functions of these names for a device.
void account_info(const memory_account *a, emlx_memory *info);
uint64_t account_set_limit(memory_account *a, uint64_t bytes);
uint64_t account_set_cache_limit(memory_account *a, uint64_t bytes);
void account_reset_peak(memory_account *a);

// The host's memory.
memory_account *account_of_host(void);

#endif
