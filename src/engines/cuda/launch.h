// SPDX-License-Identifier: Apache-2.0
// launch.h - kernels of a plan on a device: their words are laid out once, and only addresses and
// constants are filled in for a run.
#ifndef EMLX_CUDA_LAUNCH_H
#define EMLX_CUDA_LAUNCH_H

#include "engine.h"
#include "engines/cuda/stream.h"

typedef struct gpu_kernel gpu_kernel;

// How a kernel is run. Whoever prepares it sets `run`, and what it needs in `code` or `library`.
struct gpu_kernel {
    emlx_status (*run)(gpu *g, const gpu_kernel *k, const kernel_call *call, emlx_error *err);
    kernel_code code;
    stored_kernel *stored;
    void *library;                  // of a library's call: what was chosen for it
    void (*discard)(gpu_kernel *k); // frees `library`; may be NULL
    bool joins;                     // it computes the kernel behind it too,
    bool joined;                    // of which nothing is left to do then
    _Atomic(void *) handed;         // see hand.h
};

// Launches what of a kernel's code ends in `suffix`, with working memory.
emlx_status launch_part(gpu *g, const gpu_kernel *k, const kernel_call *call, cuda_address scratch,
                        char suffix, emlx_error *err);
// Runs a generated kernel.
emlx_status launch_generated(gpu *g, const gpu_kernel *k, const kernel_call *call, emlx_error *err);

#endif
