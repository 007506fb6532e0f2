// SPDX-License-Identifier: Apache-2.0
// nvrtc.c - opens NVIDIA's run-time compiler and compiles programs with it.
#include "engines/cuda/driver/nvrtc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engines/cuda/driver/libraries.h"
#include "memory/memory.h"

enum { MINIMAL_SINCE = 12040, SPLIT_SINCE = 13000, QUICK_SINCE = 13000, SPLIT_KERNELS = 4 };

typedef struct nvrtc_program_st *nvrtc_program;

#define NVRTC(XX)                                                                                  \
    XX(version, "nvrtcVersion", (int *major, int *minor))                                          \
    XX(create, "nvrtcCreateProgram",                                                               \
       (nvrtc_program * program, const char *source, const char *name, int headers,                \
        const char *const *texts, const char *const *names))                                       \
    XX(compile, "nvrtcCompileProgram",                                                             \
       (nvrtc_program program, int count, const char *const *options))                             \
    XX(log_size, "nvrtcGetProgramLogSize", (nvrtc_program program, size_t * size))                 \
    XX(log, "nvrtcGetProgramLog", (nvrtc_program program, char *text))                             \
    XX(image_size, "nvrtcGetCUBINSize", (nvrtc_program program, size_t * size))                    \
    XX(image, "nvrtcGetCUBIN", (nvrtc_program program, char *image))                               \
    XX(destroy, "nvrtcDestroyProgram", (nvrtc_program * program))

static struct { NVRTC(LIBRARY_FUNCTION) } nvrtc;
LIBRARY(library, nvrtc, NVRTC, "NVIDIA's run-time compiler (NVRTC)", "libnvrtc.so.13",
        "libnvrtc.so.12", "libnvrtc.so");

emlx_status nvrtc_open(emlx_error *err) { return library_open(&library, err); }

int nvrtc_version(void) {
    int major = 0, minor = 0;
    if (library_path(&library) != NULL) nvrtc.version(&major, &minor);
    return 1000 * major + 10 * minor;
}

// EMLX_CUDA_QUICK=0: kernels are compiled well at once.
bool nvrtc_is_quick(void) {
    const char *asked = getenv("EMLX_CUDA_QUICK");
    return nvrtc_version() >= QUICK_SINCE && (asked == NULL || strcmp(asked, "0") != 0);
}

const char *nvrtc_path(void) { return library_path(&library); }

// The compiler's first words are the message.
static emlx_status compile_error(nvrtc_program program, int result, emlx_error *err) {
    size_t size = 0;
    nvrtc.log_size(program, &size);
    char *text = mem_alloc(size + 1);
    if (text != NULL) nvrtc.log(program, text);
    error_set(err, EMLX_INTERNAL, "a generated kernel does not compile (NVRTC error %d): %.400s",
              result, text == NULL ? "" : text);
    mem_free(text, size + 1);
    return EMLX_INTERNAL;
}

static emlx_status take_image(nvrtc_program program, void **image, size_t *size, emlx_error *err) {
    if (nvrtc.image_size(program, size) != 0 || *size == 0)
        return error_set(err, EMLX_INTERNAL, "NVRTC made no machine code");
    *image = mem_alloc(*size);
    if (*image == NULL) return error_no_memory(err, "for a kernel");
    nvrtc.image(program, *image);
    return EMLX_OK;
}

// Products and sums are not contracted: results are to be those of the CPU.
emlx_status nvrtc_compile(const char *source, uint32_t kernels, nvrtc_effort effort,
                          int architecture, bool f32_in_double, void **image, size_t *size,
                          emlx_error *err) {
    char target[48], mode[32];
    nvrtc_program program = NULL;
    TRY(nvrtc_open(err));
    snprintf(target, sizeof target, "--gpu-architecture=sm_%d%s", architecture,
             architecture == 90 ? "a" : ""); // products of groups of warps
    snprintf(mode, sizeof mode, "-DF32_IN_DOUBLE=%d", f32_in_double);
    const char *options[9] = {target, mode, "--fmad=false", "--std=c++17", "-default-device", "-w"};
    int count = 6;
    // What it leaves out is not used, and takes time to read.
    if (nvrtc_version() >= MINIMAL_SINCE) options[count++] = "--minimal";
    if (effort == NVRTC_QUICK) options[count++] = "--Ofast-compile=mid";
    // Machine code of several kernels is made on so many threads.
    if (nvrtc_version() >= SPLIT_SINCE && kernels >= SPLIT_KERNELS)
        options[count++] = "--split-compile=4";
    int result = nvrtc.create(&program, source, "emlx.cu", 0, NULL, NULL);
    if (result != 0) return error_set(err, EMLX_INTERNAL, "NVRTC error %d", result);
    result = nvrtc.compile(program, count, options);
    emlx_status status =
        result != 0 ? compile_error(program, result, err) : take_image(program, image, size, err);
    nvrtc.destroy(&program);
    return status;
}
