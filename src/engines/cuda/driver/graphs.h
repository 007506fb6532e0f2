// SPDX-License-Identifier: Apache-2.0
// graphs.h - the driver's functions for graphs: of CUDA 12, with loops in them from 12.4 on.
#ifndef EMLX_CUDA_GRAPHS_H
#define EMLX_CUDA_GRAPHS_H

#include "engines/cuda/driver/driver.h"

typedef struct CUgraph_st *cuda_graph;
typedef struct CUgraphNode_st *cuda_node;
typedef struct CUgraphExec_st *cuda_graph_exec;
typedef uint64_t cuda_conditional;

// As the driver lays them out.
typedef struct cuda_kernel_node {
    cuda_function function;
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
    void **arguments, **extra;
    void *kernel;
    cuda_context context;
} cuda_kernel_node;

typedef struct cuda_conditional_node {
    int type, reserved[3];
    cuda_conditional handle;
    int kind;
    unsigned count;
    cuda_graph *bodies; // set by the driver
    cuda_context context;
    int64_t rest[26];
} cuda_conditional_node;

_Static_assert(sizeof(cuda_conditional_node) == 256, "as CUgraphNodeParams");

// Three-dimensional, of which we use a line of bytes.
typedef struct cuda_copy_place {
    size_t x, y, z, level;
    int memory;
    const void *host;
    cuda_address device;
    void *array, *reserved;
    size_t pitch, height;
} cuda_copy_place;

typedef struct cuda_copy_node {
    cuda_copy_place from, to;
    size_t width, height, depth;
} cuda_copy_node;

enum { CUDA_NODE_CONDITIONAL = 13, CUDA_CONDITIONAL_WHILE = 1, CUDA_MEMORY_DEVICE = 2 };
enum { CUDA_CONDITIONAL_SET_AT_LAUNCH = 1, CUDA_RECORD_ANYTHING = 2 };

#define CUDA_GRAPHS(XX)                                                                            \
    XX(create, "cuGraphCreate", (cuda_graph * graph, unsigned flags))                              \
    XX(destroy, "cuGraphDestroy", (cuda_graph graph))                                              \
    XX(add_kernel, "cuGraphAddKernelNode_v2",                                                      \
       (cuda_node * node, cuda_graph graph, const cuda_node *after, size_t count,                  \
        const cuda_kernel_node *kernel))                                                           \
    XX(instantiate, "cuGraphInstantiateWithFlags",                                                 \
       (cuda_graph_exec * exec, cuda_graph graph, unsigned long long flags))                       \
    XX(set_kernel, "cuGraphExecKernelNodeSetParams_v2",                                            \
       (cuda_graph_exec exec, cuda_node node, const cuda_kernel_node *kernel))                     \
    XX(launch, "cuGraphLaunch", (cuda_graph_exec exec, cuda_stream stream))                        \
    XX(exec_destroy, "cuGraphExecDestroy", (cuda_graph_exec exec))

// Loops in graphs.
#define CUDA_LOOPS(XX)                                                                             \
    XX(conditional, "cuGraphConditionalHandleCreate",                                              \
       (cuda_conditional * handle, cuda_graph graph, cuda_context context, unsigned value,         \
        unsigned flags))                                                                           \
    XX(add_node, "cuGraphAddNode",                                                                 \
       (cuda_node * node, cuda_graph graph, const cuda_node *after, size_t count, void *params))   \
    XX(add_copy, "cuGraphAddMemcpyNode",                                                           \
       (cuda_node * node, cuda_graph graph, const cuda_node *after, size_t count,                  \
        const cuda_copy_node *copy, cuda_context context))                                         \
    XX(add_child, "cuGraphAddChildGraphNode",                                                      \
       (cuda_node * node, cuda_graph graph, const cuda_node *after, size_t count,                  \
        cuda_graph child))                                                                         \
    XX(record, "cuStreamBeginCapture_v2", (cuda_stream stream, int mode))                          \
    XX(record_end, "cuStreamEndCapture", (cuda_stream stream, cuda_graph * graph))                 \
    XX(fill_words, "cuMemsetD32Async",                                                             \
       (cuda_address to, unsigned word, size_t count, cuda_stream stream))

typedef struct cuda_graph_functions {
    CUDA_GRAPHS(LIBRARY_FUNCTION)
} cuda_graph_functions;

typedef struct cuda_loop_functions {
    CUDA_LOOPS(LIBRARY_FUNCTION)
} cuda_loop_functions;

extern cuda_graph_functions graphs;
extern cuda_loop_functions loops;

// Whether the driver has them. EMLX_CUDA_GRAPHS=0 says that it has none, 1 that whatever is
// launched is to be one, for tests.
bool graphs_open(void);
bool graphs_at_once(void);
bool loops_open(void);

#endif
