// SPDX-License-Identifier: Apache-2.0
// failing.c - allocations that fail because a test wants them to.
#include "memory/failing.h"

#include <stdatomic.h>

// Allocations still to succeed, plus one; 0 when none is to fail.
static atomic_size_t fail_countdown;

bool mem_should_fail(void) {
    size_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left > 1) {
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) return false;
    }
    return left == 1;
}

void mem_fail_from(size_t n) { atomic_store(&fail_countdown, n); }
