// SPDX-License-Identifier: Apache-2.0
// graphs.c - finds the driver's functions for graphs, which older ones lack.
#include "engines/cuda/driver/graphs.h"

#include <stdlib.h>
#include <string.h>

cuda_graph_functions graphs;
cuda_loop_functions loops;

static const char *const graph_symbols[] = {
#define XX(name, symbol, arguments) symbol,
    CUDA_GRAPHS(XX)
#undef XX
        NULL};

static const char *const loop_symbols[] = {
#define XX(name, symbol, arguments) symbol,
    CUDA_LOOPS(XX)
#undef XX
        NULL};

static library_state graph_state = LIBRARY_STATE, loop_state = LIBRARY_STATE;

static const cuda_library graph_library = {.title = "NVIDIA's driver, with graphs,",
                                           .names = {"libcuda.so.1"},
                                           .symbols = graph_symbols,
                                           .functions = (void **)&graphs,
                                           .state = &graph_state};
static const cuda_library loop_library = {.title = "NVIDIA's driver, with loops in graphs,",
                                          .names = {"libcuda.so.1"},
                                          .symbols = loop_symbols,
                                          .functions = (void **)&loops,
                                          .state = &loop_state};

static bool is_asked(const char *for_) {
    const char *given = getenv("EMLX_CUDA_GRAPHS");
    return given != NULL && strcmp(given, for_) == 0;
}

bool graphs_open(void) { return !is_asked("0") && library_open(&graph_library, NULL) == EMLX_OK; }

bool graphs_at_once(void) { return is_asked("1"); }

bool loops_open(void) { return graphs_open() && library_open(&loop_library, NULL) == EMLX_OK; }
