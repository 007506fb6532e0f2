// SPDX-License-Identifier: Apache-2.0
// transforms.h - Fourier transforms by cuFFT, where it is and lines are long or many.
#ifndef EMLX_CUDA_TRANSFORMS_H
#define EMLX_CUDA_TRANSFORMS_H

#include "engines/cuda/launch.h"

// Sets k->run if it takes the kernel. What is around the transform is k->code.
emlx_status transform_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan,
                              const plan_kernel *kernel, emlx_error *err);
// Where the library was found, or why it was not.
void transform_describe(char *text, size_t size);

#endif
