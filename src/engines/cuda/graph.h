// SPDX-License-Identifier: Apache-2.0
// graph.h - launches that come again as they were are made as one: a graph, in which only what has
// changed is set anew.
#ifndef EMLX_CUDA_GRAPH_H
#define EMLX_CUDA_GRAPH_H

#include "engines/cuda/driver/graphs.h"
#include "engines/cuda/stream.h"

// The graphs of one form of a plan; NULL where there is no memory, or the driver has none.
graph_list *graph_list_new(const gpu *g);
void graph_list_free(gpu *g, graph_list *list);

// The launch as a part of a graph; `arguments` holds the address of its words.
cuda_kernel_node launch_node(const gpu *g, const queued_launch *l, void **arguments);

// Makes the launches of a stream's list: as a graph where the plan made the same ones before.
emlx_status graph_launch(gpu_stream *s, const queued_launch *launches, size_t count,
                         emlx_error *err);

#endif
