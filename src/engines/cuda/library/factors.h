// SPDX-License-Identifier: Apache-2.0
// factors.h - factors of large matrices by cuSOLVER.
#ifndef EMLX_CUDA_FACTORS_H
#define EMLX_CUDA_FACTORS_H

#include "engines/cuda/launch.h"

// As product_prepare, for routines of linear algebra.
emlx_status factors_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan, const plan_kernel *kernel,
                            emlx_error *err);
void factors_describe(char *text, size_t size);
void factors_close(void *handle);

#endif
