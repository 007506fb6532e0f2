// SPDX-License-Identifier: Apache-2.0
// account.c - asking how much data there is, and limiting it.
#include "memory/account.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/event.h"
#include "memory/memory.h"

void account_tell(memory_account *a, uint64_t refused) {
    if (!event_wanted()) return;
    uint64_t now = atomic_load(&a->active), before = atomic_load(&a->told);
    uint64_t enough = before / 8 > (uint64_t)64 << 20 ? before / 8 : (uint64_t)64 << 20;
    bool grown = refused == 0 && now >= before + enough &&
                 atomic_compare_exchange_strong(&a->told, &before, now);
    if (!grown && refused == 0) return;
    event_send(
        (emlx_event){
            .kind = EMLX_EVENT_MEMORY, .device = a->device, .bytes = now, .refused = refused},
        0);
}

emlx_status account_refused(memory_account *a, size_t size, emlx_error *err) {
    emlx_memory now;
    char text[40] = "none";
    account_info(a, &now);
    if (a->tell != NULL) a->tell(a, size);
    if (now.limit != 0) (void)snprintf(text, sizeof text, "%" PRIu64 " bytes", now.limit);
    return error_set(err, EMLX_OUT_OF_MEMORY,
                     "no memory for %zu bytes: tensors hold %" PRIu64 ", the limit is %s", size,
                     now.active, text);
}

void account_info(const memory_account *a, emlx_memory *info) {
    info->active = atomic_load(&a->active);
    info->peak = atomic_load(&a->peak);
    info->cached = atomic_load(&a->cached);
    info->limit = atomic_load(&a->limit);
}

uint64_t account_set_limit(memory_account *a, uint64_t bytes) {
    uint64_t previous = atomic_exchange(&a->limit, bytes);
    if (bytes != 0) account_shrink(a, bytes_less(bytes, atomic_load(&a->active)));
    return previous;
}

uint64_t account_set_cache_limit(memory_account *a, uint64_t bytes) {
    uint64_t previous = atomic_exchange(&a->cache_limit, bytes);
    account_shrink(a, bytes);
    return previous;
}

void account_reset_peak(memory_account *a) {
    uint64_t now = atomic_load(&a->active);
    atomic_store(&a->peak, now);
    atomic_store(&a->told, now);
}
