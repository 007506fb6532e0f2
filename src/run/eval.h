// SPDX-License-Identifier: Apache-2.0
// eval.h - computing pending tensors, in competition with other threads that do the same.
#ifndef EMLX_RUN_EVAL_H
#define EMLX_RUN_EVAL_H

#include "graph/graph.h"
#include "memory/fence.h"

// Both may be NULL: the device's own stream, and no flag. The flag stays valid until the end.
typedef struct eval_how {
    void *stream;
    const emlx_cancel *cancel;
} eval_how;

// Gives the computation of tensors of one device to it. *end: NULL where they are ready, else a
// reference on the fence that ends when they are, or with the error; with STATUS_AGAIN the
// evaluation is to be started over, as others failed to make what it was built on.
emlx_status eval_submit(emlx_tensor *const *tensors, size_t count, const eval_how *how, fence **end,
                        emlx_error *err);
// An evaluation that holds no thread while the device works.
typedef struct eval_state {
    emlx_tensor *const *tensors;
    size_t count;
    eval_how how;
    fence *end; // what it waits for, or NULL
} eval_state;

// Begins the evaluation, or goes on with it once `end` is signalled. It is over when this fails or
// leaves no `end`.
emlx_status eval_go_on(eval_state *e, emlx_error *err);
// As emlx_eval.
emlx_status eval_tensors(emlx_tensor *const *tensors, size_t count, const eval_how *how,
                         emlx_error *err);

#endif
