// SPDX-License-Identifier: Apache-2.0
// function.h - functions as attributes of ops. Programs make them; ops look into them, and engines
// call those that ops could not write out as scalar steps. Knows nothing of programs.
#ifndef EMLX_GRAPH_FUNCTION_H
#define EMLX_GRAPH_FUNCTION_H

#include "graph/graph.h"

// Immutable but for what `call` keeps; shared between threads.
struct emlx_function {
    atomic_int references;
    size_t input_count;
    emlx_tensor *const *inputs; // the nodes that stand for its arguments
    emlx_tensor *output;        // what it gives for them
    const emlx_block *block;    // what it was made of
    // Runs it on arrays in host memory, which have the types and shapes of the nodes.
    emlx_status (*call)(emlx_function *function, const void *const *inputs, void *output,
                        emlx_error *err);
    void (*destroy)(emlx_function *function);
};

// A tensor that holds the function: the operand from which an engine takes it.
emlx_status function_node(emlx_function *function, emlx_device *device, emlx_tensor **out,
                          emlx_error *err);
// The function in such a tensor's data.
static inline emlx_function *function_held(const void *data) { return (emlx_function *)data; }

#endif
