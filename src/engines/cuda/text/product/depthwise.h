// SPDX-License-Identifier: Apache-2.0
// depthwise.h - convolutions with a filter a channel, whose channels lie last: libraries have slow
// ways for them.
#ifndef EMLX_CUDA_DEPTHWISE_H
#define EMLX_CUDA_DEPTHWISE_H

#include "engines/cuda/text/emit.h"

// Whether the kernel, a convolution, is one that depthwise.cu is for.
bool depthwise_suits(const emlx_plan *plan, const plan_kernel *kernel);
void emit_depthwise(emitter *e);

#endif
