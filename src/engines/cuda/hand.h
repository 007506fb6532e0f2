// SPDX-License-Identifier: Apache-2.0
// hand.h - kernels that the GPU does not do, computed by the CPU engine on copies of their
// operands.
#ifndef EMLX_CUDA_HAND_H
#define EMLX_CUDA_HAND_H

#include "engines/cuda/launch.h"

typedef struct handed_kernel handed_kernel;

// Runs one kernel of a plan there. *form is what was prepared for it, made at first use.
emlx_status hand_over(gpu *g, thread_pool *pool, _Atomic(void *) *form, const kernel_call *call,
                      emlx_error *err);
void hand_discard(void *form);

#endif
