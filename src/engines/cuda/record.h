// SPDX-License-Identifier: Apache-2.0
// record.h - what is queued becomes a graph rather than being done.
#ifndef EMLX_CUDA_RECORD_H
#define EMLX_CUDA_RECORD_H

#include "engines/cuda/driver/graphs.h"
#include "engines/cuda/stream.h"

// Between the two what is given to the stream's target (stream_target) is recorded.
emlx_status record_begin(gpu_stream *s, emlx_error *err);
emlx_status record_end(gpu_stream *s, cuda_graph *graph, emlx_error *err);

#endif
