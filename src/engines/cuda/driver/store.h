// SPDX-License-Identifier: Apache-2.0
// store.h - compiled kernels of one device, found by their text: in memory, on disk, or compiled.
#ifndef EMLX_CUDA_STORE_H
#define EMLX_CUDA_STORE_H

#include "engines/cuda/driver/driver.h"
#include "engines/cuda/text/code.h"
#include "threads/pool.h"

enum { FUNCTIONS_MOST = 8 };

// A kernel that is ready. Stays until its store is closed.
typedef struct stored_kernel {
    struct stored_kernel *next;
    uint64_t key[2];
    char suffixes[FUNCTIONS_MOST];
    _Atomic(cuda_function) functions[FUNCTIONS_MOST]; // better ones come while they are used
} stored_kernel;

typedef struct kernel_store kernel_store;

// Machine code is loaded into `context`, which is the current one; where that is NULL kernels are
// only compiled, as on a machine without a device, and that some time later, many in one program.
emlx_status store_open(int architecture, bool f32_in_double, cuda_context context,
                       kernel_store **out, emlx_error *err);
// From here on nothing goes on in the background that uses the context.
void store_settle(kernel_store *store);
// `alive`: whether the context is into which it loaded.
void store_close(kernel_store *store, bool alive);

// Makes the kernels of `count` codes ready, those that are new in one program, or in a few at once
// on the pool's threads. What the compiler would take long for it compiles quickly, and better in
// the background, where the kernels are then exchanged. Codes without a launch have none. The
// context is the current one.
emlx_status store_get(kernel_store *store, thread_pool *pool, const kernel_code *codes,
                      uint32_t count, stored_kernel **kernels, emlx_error *err);

// Compiles what waits for it, where nothing is loaded.
emlx_status store_finish(kernel_store *store, thread_pool *pool, emlx_error *err);

typedef struct store_counts {
    uint64_t kernels, compiled, programs, read; // read: from disk
    double seconds;                             // spent compiling
} store_counts;
store_counts store_count(kernel_store *store);

#endif
