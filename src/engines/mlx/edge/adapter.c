// SPDX-License-Identifier: Apache-2.0
// adapter.c - finding and opening the shared object that links MLX.
#define _GNU_SOURCE // dladdr
#include "engines/mlx/edge/adapter.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"

#ifdef __APPLE__
#define ADAPTER_NAME "libemlx_mlx.dylib"
#else
#define ADAPTER_NAME "libemlx_mlx.so"
#endif

static struct {
    pthread_mutex_t lock;
    bool asked;
    const mlx_edge *edge;
    char why[400];
} found = {.lock = PTHREAD_MUTEX_INITIALIZER};

// What MLX keeps for reuse ------------------------------------------------------------------------

static uint64_t bytes_kept(void) {
    mlx_memory memory;
    found.edge->memory(&memory);
    return memory.cache;
}
static void limit_kept(uint64_t bytes) { found.edge->set_cache_limit((size_t)bytes); }
static void clear_kept(void) { found.edge->clear_cache(); }
static const memory_cache cache = {bytes_kept, limit_kept, clear_kept};

// The file ----------------------------------------------------------------------------------------

static bool find_adapter(char *path, size_t size) {
    const char *named = getenv("EMLX_MLX_ADAPTER");
    Dl_info here;
    if (named != NULL && *named != '\0') return snprintf(path, size, "%s", named) < (int)size;
    if (dladdr(&found, &here) == 0 || here.dli_fname == NULL) return false;
    const char *slash = strrchr(here.dli_fname, '/');
    int folder = slash != NULL ? (int)(slash + 1 - here.dli_fname) : 0;
    return snprintf(path, size, "%.*s%s", folder, here.dli_fname, ADAPTER_NAME) < (int)size;
}

// MLX would have f32 products of GPUs rounded to 10 bits on the way, where a card is faster so. f32
// is f32 here, unless the user's environment says otherwise; MLX asks for it at its first product.
static const mlx_edge *open_file(const char *path) {
    setenv("MLX_ENABLE_TF32", "0", 0);
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (file == NULL) {
        snprintf(found.why, sizeof found.why, "MLX is not installed (%.300s); `make mlx` brings it",
                 dlerror());
        return NULL;
    }
    // POSIX wants the conversion to be made this way.
    mlx_edge_fn fn;
    *(void **)&fn = dlsym(file, MLX_EDGE_SYMBOL);
    const mlx_edge *edge = fn != NULL ? fn() : NULL;
    if (edge != NULL && edge->version == MLX_EDGE_VERSION) return edge;
    snprintf(found.why, sizeof found.why,
             "%.300s was made for another version of EMLX; `make mlx` makes it anew", path);
    dlclose(file);
    return NULL;
}

const mlx_edge *adapter_open(char *why, size_t size) {
    char path[4096];
    pthread_mutex_lock(&found.lock);
    if (!found.asked) {
        found.asked = true;
        if (find_adapter(path, sizeof path))
            found.edge = open_file(path);
        else
            snprintf(found.why, sizeof found.why, "the adapter of MLX has too long a path");
        if (found.edge != NULL) memory_add_cache(&cache);
    }
    pthread_mutex_unlock(&found.lock);
    if (found.edge == NULL) snprintf(why, size, "%s", found.why);
    return found.edge;
}
