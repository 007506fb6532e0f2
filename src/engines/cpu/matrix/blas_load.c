// SPDX-License-Identifier: Apache-2.0
// blas_load.c - finds OpenBLAS and its functions, and keeps it to one thread from the start: our
// own pool divides the work.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engines/cpu/matrix/blas.h"
#include "memory/room.h"

blas_functions blas;

// Where it was when this library was built, for systems that do not look there by themselves.
#if !defined(OPENBLAS_FOLDER)
#define OPENBLAS_FOLDER ""
#endif

static const char *const names[] = {
#if defined(__APPLE__)
    OPENBLAS_FOLDER "/libopenblas.0.dylib",
    OPENBLAS_FOLDER "/libopenblas.dylib",
    "libopenblas.0.dylib",
    "libopenblas.dylib",
#else
    "libopenblas.so.0",
    OPENBLAS_FOLDER "/libopenblas.so.0",
    "libopenblas.so",
    OPENBLAS_FOLDER "/libopenblas.so",
#endif
};

enum { NAME_COUNT = sizeof names / sizeof *names };

// What it takes for each product that is going on; where there is no room for it, it looks for room
// for ever.
#define BUFFER_SIZE ((size_t)32 << 20)

// Functions --------------------------------------------------------------------------------------

static const blas_symbol cblas_symbols[] = {
#define XX(name) {#name, &blas.call_##name},
    BLAS_MAP(XX)
#undef XX
        {NULL, NULL}};

static const blas_symbol *const symbol_lists[] = {
    cblas_symbols, linalg_symbols_f32, linalg_symbols_f64, linalg_symbols_c64, linalg_symbols_c128};

static emlx_status find_symbols(void *library, emlx_error *err) {
    for (size_t l = 0; l < sizeof symbol_lists / sizeof *symbol_lists; l++) {
        for (const blas_symbol *s = symbol_lists[l]; s->name != NULL; s++) {
            void *address = dlsym(library, s->name);
            if (address == NULL)
                return error_set(
                    err, EMLX_UNSUPPORTED,
                    "the OpenBLAS of this system has no function %s: one with LAPACK, of "
                    "version 0.3 or later, is needed",
                    s->name);
            memcpy(s->slot, &address, sizeof address);
        }
    }
    return EMLX_OK;
}

// The library ------------------------------------------------------------------------------------

// It reads the number of threads from the environment, which is left as it was.
static void *open_with_one_thread(void) {
    static const char variable[] = "OPENBLAS_NUM_THREADS";
    const char *value = getenv(variable);
    char *before = value == NULL ? NULL : strdup(value);
    void *library = NULL;
    if (value != NULL && before == NULL) return NULL;
    setenv(variable, "1", 1);
    for (int i = 0; i < NAME_COUNT && library == NULL; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (before != NULL)
        setenv(variable, before, 1);
    else
        unsetenv(variable);
    free(before); // made by strdup
    return library;
}

static emlx_status load_library(emlx_error *err) {
    if (!system_has_room(BUFFER_SIZE))
        return error_set(
            err, EMLX_OUT_OF_MEMORY,
            "no room for OpenBLAS, which takes %zu MB for each thread: more address space "
            "is needed (ulimit -v)",
            BUFFER_SIZE >> 20);
    void *library = open_with_one_thread();
    if (library == NULL) {
        const char *reason = dlerror();
        dlopen(names[0], RTLD_NOW | RTLD_LOCAL);
        const char *first = dlerror();
        if (first != NULL) reason = first;
        return error_set(err, EMLX_UNSUPPORTED,
                         "cannot load OpenBLAS, which products and linear algebra need: %.300s",
                         reason == NULL ? "no memory" : reason);
    }
    TRY(find_symbols(library, err));
    openblas_set_num_threads(1);
    return EMLX_OK;
}

emlx_status blas_load(emlx_error *err) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool loaded;
    pthread_mutex_lock(&lock);
    emlx_status status = loaded ? EMLX_OK : load_library(err);
    loaded = status == EMLX_OK;
    pthread_mutex_unlock(&lock);
    return status;
}
