// SPDX-License-Identifier: Apache-2.0
// host.c - the account of the host's memory as the public interface shows it, together with what
// engines' own allocators keep of it.
#include "memory/account.h"
#include "memory/memory.h"

// What engines' own allocators keep counts with it.
enum { CACHES_MAX = 8 };
static _Atomic(const memory_cache *) caches[CACHES_MAX];

void memory_add_cache(const memory_cache *cache) {
    for (int i = 0; i < CACHES_MAX; i++) {
        const memory_cache *none = NULL;
        if (atomic_compare_exchange_strong(&caches[i], &none, cache) || none == cache) return;
    }
}

static const memory_cache *cache_at(int i) {
    return i < CACHES_MAX ? atomic_load(&caches[i]) : NULL;
}

void emlx_memory_info(emlx_memory *info) {
    const memory_cache *c;
    if (info == NULL) return;
    account_info(account_of_host(), info);
    for (int i = 0; (c = cache_at(i)) != NULL; i++) info->cached += c->kept();
}

uint64_t emlx_memory_set_limit(uint64_t bytes) {
    return account_set_limit(account_of_host(), bytes);
}

uint64_t emlx_memory_set_cache_limit(uint64_t bytes) {
    const memory_cache *c;
    uint64_t previous = account_set_cache_limit(account_of_host(), bytes);
    for (int i = 0; (c = cache_at(i)) != NULL; i++) c->limit(bytes);
    return previous;
}

void emlx_memory_clear_cache(void) {
    const memory_cache *c;
    account_shrink(account_of_host(), 0);
    for (int i = 0; (c = cache_at(i)) != NULL; i++) c->clear();
}

void emlx_memory_reset_peak(void) { account_reset_peak(account_of_host()); }
