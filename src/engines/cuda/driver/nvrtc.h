// SPDX-License-Identifier: Apache-2.0
// nvrtc.h - NVIDIA's run-time compiler: CUDA C++ to machine code, in this process.
#ifndef EMLX_CUDA_NVRTC_H
#define EMLX_CUDA_NVRTC_H

#include <stddef.h>

#include "emlx.h"

// Opens the compiler, once for the process.
emlx_status nvrtc_open(emlx_error *err);
// 1000 * major + 10 * minor, 0 when it is not open.
int nvrtc_version(void);
const char *nvrtc_path(void);

// How well it compiles: so that machine code is quick, or that it is there quickly.
typedef enum nvrtc_effort { NVRTC_FULL, NVRTC_QUICK } nvrtc_effort;
// Whether it has both.
bool nvrtc_is_quick(void);

// Compiles a program of so many kernels for sm_<architecture>. *image is freed by mem_free with
// *size. Results do not depend on the effort.
emlx_status nvrtc_compile(const char *source, uint32_t kernels, nvrtc_effort effort,
                          int architecture, bool f32_in_double, void **image, size_t *size,
                          emlx_error *err);

#endif
