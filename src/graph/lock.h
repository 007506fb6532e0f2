// SPDX-License-Identifier: Apache-2.0
// lock.h - walking and changing the graph, which several threads share.
#ifndef EMLX_GRAPH_LOCK_H
#define EMLX_GRAPH_LOCK_H

#include <pthread.h>

#include "graph/graph.h"

// Held while reading the operands of a pending node that others may be computing, and while
// changing `job`, `evaluations`, promises or the operand list of any.
void graph_lock(void);
// False where somebody else has held it for some microseconds: for threads that must not wait.
bool graph_try_lock(void);
void graph_unlock(void);
// Releases the lock until graph_changed is called.
void graph_wait(void);
void graph_changed(void);

// What a node lets go once it has its data.
typedef struct given_up {
    emlx_tensor **inputs; // where the node keeps them
    uint32_t count;
    emlx_function *function;
} given_up;

// Under the lock: gives a pending node its data (one more reference on the buffer). What it gives
// up is handed to the caller, who releases it once the lock is off, and while the node is there.
void node_publish(emlx_tensor *t, emlx_buffer *buffer, given_up *out);
void given_up_release(const given_up *g);
// Under the lock: work is queued that fills the buffer, and tells by the fence when the node has
// been given its data; and taking that back (the fence's reference goes to the caller).
void node_promise(emlx_tensor *t, emlx_buffer *buffer, fence *settles);
fence *node_unpromise(emlx_tensor *t);

#endif
