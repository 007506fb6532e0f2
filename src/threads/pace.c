// SPDX-License-Identifier: Apache-2.0
// pace.c - what the bodies of loops took, in a table that forgets. Loops cut their work into tasks
// of about the same length, so that a body has one pace; where it has not, threads are woken up
// that find nothing to do, or fewer than there might be.
#include "threads/pace.h"

#include <stdatomic.h>

// What it takes to wake a thread up: work that is less is done sooner without it.
#define WAKING_NS 25000
#define SLOTS 256

static struct {
    _Atomic(pool_body) body;
    _Atomic int64_t pace;
} seen[SLOTS];

static size_t slot_of(pool_body body) {
    return (size_t)(((uint64_t)(uintptr_t)body * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % SLOTS;
}

int64_t pace_of(pool_body body) {
    size_t slot = slot_of(body);
    if (atomic_load_explicit(&seen[slot].body, memory_order_relaxed) != body) return 0;
    return atomic_load_explicit(&seen[slot].pace, memory_order_relaxed);
}

// A single loop that took far longer was interrupted. Two that write at the same time do no harm:
// it is an estimate.
void pace_note(pool_body body, int64_t nanoseconds) {
    size_t slot = slot_of(body);
    int64_t before = pace_of(body), now = nanoseconds < 1 ? 1 : nanoseconds;
    if (before > 0 && now / 4 > before) now = 4 * before;
    if (before > 0) now = before + (now - before) / 4;
    atomic_store_explicit(&seen[slot].body, body, memory_order_relaxed);
    atomic_store_explicit(&seen[slot].pace, now < 1 ? 1 : now, memory_order_relaxed);
}

int64_t pace_worth(int64_t pace, int64_t rest) {
    return pace == 0 || pace >= WAKING_NS ? rest : pace * rest / WAKING_NS;
}
