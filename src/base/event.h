// SPDX-License-Identifier: Apache-2.0
// event.h - telling the host what happens in the library. Where nobody observes it costs one look.
#ifndef EMLX_BASE_EVENT_H
#define EMLX_BASE_EVENT_H

#include <stdatomic.h>

#include "emlx.h"

extern atomic_bool event_observed;

static inline bool event_wanted(void) {
    return atomic_load_explicit(&event_observed, memory_order_relaxed);
}

// The time that an event began, in nanoseconds; 0 where nobody observes.
uint64_t event_begin(void);
void event_give(emlx_event event, uint64_t begun);
// Gives an event to the observer; one that began at `begun` with how long it has taken, unless it
// began before anybody observed. The caller holds no lock.
static inline void event_send(emlx_event event, uint64_t begun) {
    if (event_wanted()) event_give(event, begun);
}

#endif
