// SPDX-License-Identifier: Apache-2.0
// record.c - a second stream takes what is recorded, so that the first may be busy all the while.
#include "engines/cuda/record.h"

#include "base/error.h"

emlx_status record_begin(gpu_stream *s, emlx_error *err) {
    const gpu *g = s->gpu;
    if (s->recorder == NULL)
        GPU_TRY(g, "cuStreamCreate", cuda.stream_create(&s->recorder, CUDA_STREAM_NON_BLOCKING));
    GPU_TRY(g, "recording", loops.record(s->recorder, CUDA_RECORD_ANYTHING));
    s->records = true;
    return EMLX_OK;
}

emlx_status record_end(gpu_stream *s, cuda_graph *graph, emlx_error *err) {
    s->records = false;
    return gpu_check(s->gpu, loops.record_end(s->recorder, graph), "recording", err);
}
