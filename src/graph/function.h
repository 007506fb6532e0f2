// SPDX-License-Identifier: Apache-2.0
// function.h - functions as attributes of ops. Programs make them; ops look into them, and what ops
// could not write out as scalar steps is a parameter of a `function`. Knows nothing of programs.
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

#endif
