// SPDX-License-Identifier: Apache-2.0
// report.h - errors that kernels find: each of a piece of work has words of its own to report in,
// which are read when all of it is queued.
#ifndef EMLX_CUDA_REPORT_H
#define EMLX_CUDA_REPORT_H

#include "engine.h"
#include "engines/cuda/stream.h"

// The kernel that is queued next may report; with `checks` in its first launches only, behind which
// `report_checked` is called.
emlx_status report_begin(gpu_stream *s, const kernel_call *call, bool checks, emlx_error *err);
emlx_status report_checked(gpu_stream *s, emlx_error *err);
// The addresses of its words, on the device.
int64_t report_claim(const gpu_stream *s);
int64_t report_place(const gpu_stream *s);
// Waits for the kernels of the piece that may report, and gives the first error.
emlx_status report_read(gpu_stream *s, emlx_error *err);
// The first error that there is, where they have been waited for and may be run again.
emlx_status report_look(gpu_stream *s, emlx_error *err);

#endif
