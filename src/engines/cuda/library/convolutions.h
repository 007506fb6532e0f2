// SPDX-License-Identifier: Apache-2.0
// convolutions.h - convolutions by cuDNN.
#ifndef EMLX_CUDA_CONVOLUTIONS_H
#define EMLX_CUDA_CONVOLUTIONS_H

#include "engines/cuda/launch.h"

// As product_prepare, for convolutions.
emlx_status convolution_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan,
                                const plan_kernel *kernel, emlx_error *err);
void convolution_describe(char *text, size_t size);
void convolution_close(void *handle);

#endif
