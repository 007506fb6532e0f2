// SPDX-License-Identifier: Apache-2.0
// function.c - counting functions.
#include "graph/function.h"

emlx_function *emlx_function_retain(emlx_function *function) {
    if (function != NULL) atomic_fetch_add_explicit(&function->references, 1, memory_order_relaxed);
    return function;
}

void emlx_function_release(emlx_function *function) {
    if (function == NULL) return;
    if (atomic_fetch_sub_explicit(&function->references, 1, memory_order_acq_rel) == 1)
        function->destroy(function);
}
