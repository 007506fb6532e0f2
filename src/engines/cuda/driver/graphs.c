// SPDX-License-Identifier: Apache-2.0
// graphs.c - finds the driver's functions for graphs, which older ones lack.
#include "engines/cuda/driver/graphs.h"

#include <stdlib.h>
#include <string.h>

cuda_graph_functions graphs;
cuda_loop_functions loops;

LIBRARY(graph_library, graphs, CUDA_GRAPHS, "NVIDIA's driver, with graphs,", "libcuda.so.1");
LIBRARY(loop_library, loops, CUDA_LOOPS, "NVIDIA's driver, with loops in graphs,", "libcuda.so.1");

static bool is_asked(const char *for_) {
    const char *given = getenv("EMLX_CUDA_GRAPHS");
    return given != NULL && strcmp(given, for_) == 0;
}

bool graphs_open(void) { return !is_asked("0") && library_open(&graph_library, NULL) == EMLX_OK; }

bool graphs_at_once(void) { return is_asked("1"); }

bool loops_open(void) { return graphs_open() && library_open(&loop_library, NULL) == EMLX_OK; }
