// SPDX-License-Identifier: Apache-2.0
// fence.h - the end of work that goes on elsewhere, as a value: signalled once, with the error if
// the work failed. NULL, wherever a fence is passed around, is work that has ended well.
//
// A fence counts the parts that it waits for: its own, and those of fences that it follows. Once
// the last has ended it is signalled, and what was left with it is called, in order, on the thread
// that ended it. Nothing but fence_wait blocks.
#ifndef EMLX_MEMORY_FENCE_H
#define EMLX_MEMORY_FENCE_H

#include <stdatomic.h>

#include "emlx.h"

typedef struct fence fence;

// The error of work that was built on results which others failed to make. Theirs is not its own:
// it is to be started over, and then meets the error itself. It counts before any other.
#define STATUS_AGAIN ((emlx_status)0x100)

// Left with a fence to be called when it is signalled; embedded in the caller's own structure.
typedef struct fence_waiter {
    struct fence_waiter *next;
    void (*run)(struct fence_waiter *waiter, const fence *ended);
} fence_waiter;

// Embedded by whoever needs more in it, as an engine its event.
struct fence {
    atomic_int references;
    atomic_int left;                 // parts that have not ended
    atomic_int failed, again;        // a part has failed; one of them with STATUS_AGAIN
    _Atomic(fence_waiter *) waiters; // the last to come first
    void (*settle)(fence *f);        // or NULL: done before anybody hears that it has ended
    void (*destroy)(fence *f);       // frees it
    const void *device, *stream;     // where the work was queued, or NULL; compared, no more
    emlx_error error;
};

// A part of one fence that is the end of another.
typedef struct fence_link {
    fence_waiter waiter;
    fence *follower;
    bool others;
} fence_link;

// A fence of one part, which ends with fence_arrive. It holds a reference on itself until it is
// signalled, and the caller has one. fence_init is for those that are embedded: all but `settle`,
// `device` and `stream` is set.
emlx_status fence_new(fence **out, emlx_error *err);
void fence_init(fence *f, void (*destroy)(fence *f));
fence *fence_retain(fence *f);
void fence_release(fence *f);

// Ends a part; `err` is NULL if it ended well. The error of the first that failed is kept.
void fence_arrive(fence *f, const emlx_error *err);
// Makes the end of `on` a part of `f`, which has not been signalled. The link lives until then. If
// `on` fails so does `f`: with STATUS_AGAIN if it was `others`' work, else with the same error.
void fence_follow(fence *f, fence *on, bool others, fence_link *link);

// A fence that follows both; NULL where there is no memory for it.
fence *fence_both(fence *first, fence *second);

bool fence_signalled(const fence *f);
// Of one that is signalled.
emlx_status fence_status(const fence *f, emlx_error *err);
// False if it is signalled already: then the waiter is not taken. The caller's reference may end
// before the waiter is called.
bool fence_then(fence *f, fence_waiter *waiter);
// Blocks the thread until it is signalled, and gives its status.
emlx_status fence_wait(fence *f, emlx_error *err);

#endif
