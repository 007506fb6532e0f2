// SPDX-License-Identifier: Apache-2.0
// libraries.h - NVIDIA's libraries, opened at run time from wherever a machine has them.
#ifndef EMLX_CUDA_LIBRARIES_H
#define EMLX_CUDA_LIBRARIES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "emlx.h"

// Whether a library has been opened, and with what result.
typedef struct library_state {
    pthread_mutex_t lock;
    bool done;
    emlx_error error;
} library_state;

// A library of whose functions a table is filled in. Libraries are opened once and never closed.
typedef struct cuda_library {
    const char *title;
    const char *names[6]; // of the file, newest first
    const char *const *symbols;
    void **functions; // by symbol
    library_state *state;
} cuda_library;

// LIST(XX) has a library's functions as XX(name, symbol, arguments); all give an int, 0 for
// success. LIST(LIBRARY_FUNCTION) are the members of a structure for them.
#define LIBRARY_FUNCTION(name, symbol, arguments) int(*name) arguments;
#define LIBRARY_SYMBOL(name, symbol, arguments) symbol,
// Defines the library, which fills in such a structure. Names of its file come last.
#define LIBRARY(library, table, LIST, its_title, ...)                                              \
    static const char *const library##_symbols[] = {LIST(LIBRARY_SYMBOL) NULL};                    \
    static library_state library##_found = {.lock = PTHREAD_MUTEX_INITIALIZER};                    \
    static const cuda_library library = {.title = its_title,                                       \
                                         .names = {__VA_ARGS__},                                   \
                                         .symbols = library##_symbols,                             \
                                         .functions = (void **)&table,                             \
                                         .state = &library##_found}

// Opens a library at the first call and finds all its symbols; later calls give the same answer.
// Fails with EMLX_UNSUPPORTED and one sentence that names the library.
emlx_status library_open(const cuda_library *library, emlx_error *err);
// Where a library was found; NULL when it was not opened.
const char *library_path(const cuda_library *library);
// Opens it, and says where it was found, or why not.
void library_describe(const cuda_library *library, char *text, size_t size);

#endif
