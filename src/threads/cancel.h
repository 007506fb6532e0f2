// SPDX-License-Identifier: Apache-2.0
// cancel.h - looking at the flag that ends work early.
#ifndef EMLX_THREADS_CANCEL_H
#define EMLX_THREADS_CANCEL_H

#include "emlx.h"

// The public struct holds a plain int, as C++ has no _Atomic.
static inline bool cancel_raised(const emlx_cancel *cancel) {
    return cancel != NULL && __atomic_load_n(&cancel->raised, __ATOMIC_RELAXED) != 0;
}

#endif
