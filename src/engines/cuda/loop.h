// SPDX-License-Identifier: Apache-2.0
// loop.h - loops that run on the device, their condition included.
#ifndef EMLX_CUDA_LOOP_H
#define EMLX_CUDA_LOOP_H

#include "engines/cuda/launch.h"

// As `loop` in engine.h, of a plan with these kernels, each of which `turn` runs. The stream's
// piece is the thread's.
emlx_status loop_run(emlx_device *device, gpu_stream *s, const loop_call *call,
                     const gpu_kernel *kernels, const kernel_loop *turn, loop_progress *progress,
                     emlx_error *err);
// Whether it may: the device does all of its kernels.
bool loop_suits(const gpu *g, const loop_call *call, const gpu_kernel *kernels, uint32_t count);

#endif
