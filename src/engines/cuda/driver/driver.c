// SPDX-License-Identifier: Apache-2.0
// driver.c - opens the CUDA driver, and words its errors.
#include "engines/cuda/driver/driver.h"

#include <pthread.h>

#include "base/error.h"

cuda_driver cuda;

// The functions as a list: the structure is nothing but pointers to functions.
_Static_assert(sizeof(cuda_driver) % sizeof(void *) == 0, "cuda_driver holds pointers only");

LIBRARY(library, cuda, CUDA_DRIVER, "NVIDIA's driver", "libcuda.so.1");

static struct {
    pthread_mutex_t lock;
    bool done;
    int version;
    emlx_error error; // its code is EMLX_OK when all went well
} opened = {.lock = PTHREAD_MUTEX_INITIALIZER};

static emlx_status open_once(emlx_error *err) {
    TRY(library_open(&library, err));
    CUDA_TRY("cuInit", cuda.init(0));
    CUDA_TRY("cuDriverGetVersion", cuda.driver_version(&opened.version));
    return EMLX_OK;
}

emlx_status driver_open(emlx_error *err) {
    pthread_mutex_lock(&opened.lock);
    if (!opened.done) opened.error.code = open_once(&opened.error);
    opened.done = true;
    pthread_mutex_unlock(&opened.lock);
    if (opened.error.code != EMLX_OK && err != NULL) *err = opened.error;
    return opened.error.code;
}

int driver_version(void) { return opened.version; }

emlx_status driver_check(cuda_result result, const char *what, emlx_error *err) {
    const char *text = NULL;
    if (result == 0) return EMLX_OK;
    if (cuda.error_text != NULL) cuda.error_text(result, &text);
    emlx_status code = result == CUDA_ERROR_OUT_OF_MEMORY ? EMLX_OUT_OF_MEMORY : EMLX_UNSUPPORTED;
    return error_set(err, code, "%s: %s (CUDA error %d)", what, text == NULL ? "failed" : text,
                     result);
}

// Addresses, instructions and watchdogs: the driver's 700 and what is like it.
bool driver_is_fatal(cuda_result result) {
    return result == 700 || result == 702 || (result >= 714 && result <= 719) || result == 710;
}
