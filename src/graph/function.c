// SPDX-License-Identifier: Apache-2.0
// function.c - counting functions, and handing them to engines.
#include "graph/function.h"

#include "base/error.h"

emlx_function *emlx_function_retain(emlx_function *function) {
    if (function != NULL) atomic_fetch_add_explicit(&function->references, 1, memory_order_relaxed);
    return function;
}

void emlx_function_release(emlx_function *function) {
    if (function == NULL) return;
    if (atomic_fetch_sub_explicit(&function->references, 1, memory_order_acq_rel) == 1)
        function->destroy(function);
}

static void release(void *function) { emlx_function_release(function); }

// The buffer borrows the function's memory and keeps it alive, so that a plan, which takes data
// from whoever runs it, needs to know nothing of functions.
emlx_status function_node(emlx_function *function, emlx_device *device, emlx_tensor **out,
                          emlx_error *err) {
    emlx_shape scalar = {0};
    emlx_buffer *buffer;
    TRY(buffer_wrap(function, 1, release, function, &buffer, err));
    emlx_function_retain(function);
    emlx_status status = node_from_buffer(device, EMLX_U8, &scalar, buffer, out, err);
    if (status != EMLX_OK) buffer_release(buffer);
    return status;
}
