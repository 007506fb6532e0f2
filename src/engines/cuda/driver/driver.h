// SPDX-License-Identifier: Apache-2.0
// driver.h - the CUDA driver's functions that we use, with prototypes of our own, and its errors.
#ifndef EMLX_CUDA_DRIVER_H
#define EMLX_CUDA_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "engines/cuda/driver/libraries.h"

typedef int cuda_result; // 0 is success
typedef uint64_t cuda_address;
typedef struct CUctx_st *cuda_context;
typedef struct CUstream_st *cuda_stream;
typedef struct CUmod_st *cuda_module;
typedef struct CUfunc_st *cuda_function;
typedef struct CUevent_st *cuda_event;

// What another process opens memory by.
typedef struct cuda_handle {
    char bytes[64];
} cuda_handle;

enum {
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_UNKNOWN = 999,
    CUDA_STREAM_NON_BLOCKING = 1,
    CUDA_EVENT_BLOCKING = 1,
    CUDA_EVENT_NO_TIMING = 2,
    CUDA_HANDLE_PEERS = 1,
    CUDA_HOST_PORTABLE = 1,
    CUDA_HOST_MAPPED = 2,
    CUDA_ATTRIBUTE_MULTIPROCESSORS = 16,
    CUDA_ATTRIBUTE_SHARED_MOST = 97, // of a block that asks for it
    CUDA_FUNCTION_SHARED = 8,
    CUDA_ATTRIBUTE_MAJOR = 75,
    CUDA_ATTRIBUTE_MINOR = 76
};

// Names with _v2 are those that headers give the plain names since CUDA 4.
#define CUDA_DRIVER(XX)                                                                            \
    XX(init, "cuInit", (unsigned flags))                                                           \
    XX(driver_version, "cuDriverGetVersion", (int *version))                                       \
    XX(device_count, "cuDeviceGetCount", (int *count))                                             \
    XX(device_get, "cuDeviceGet", (int *device, int number))                                       \
    XX(device_name, "cuDeviceGetName", (char *name, int size, int device))                         \
    XX(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))          \
    XX(context_retain, "cuDevicePrimaryCtxRetain", (cuda_context * context, int device))           \
    XX(context_reset, "cuDevicePrimaryCtxReset_v2", (int device))                                  \
    XX(context_set, "cuCtxSetCurrent", (cuda_context context))                                     \
    XX(stream_create, "cuStreamCreate", (cuda_stream * stream, unsigned flags))                    \
    XX(stream_destroy, "cuStreamDestroy_v2", (cuda_stream stream))                                 \
    XX(stream_synchronize, "cuStreamSynchronize", (cuda_stream stream))                            \
    XX(stream_wait, "cuStreamWaitEvent", (cuda_stream stream, cuda_event event, unsigned flags))   \
    XX(event_create, "cuEventCreate", (cuda_event * event, unsigned flags))                        \
    XX(event_destroy, "cuEventDestroy_v2", (cuda_event event))                                     \
    XX(event_record, "cuEventRecord", (cuda_event event, cuda_stream stream))                      \
    XX(event_query, "cuEventQuery", (cuda_event event))                                            \
    XX(event_synchronize, "cuEventSynchronize", (cuda_event event))                                \
    XX(allocate, "cuMemAlloc_v2", (cuda_address * address, size_t size))                           \
    XX(free, "cuMemFree_v2", (cuda_address address))                                               \
    XX(upload, "cuMemcpyHtoDAsync_v2",                                                             \
       (cuda_address to, const void *from, size_t size, cuda_stream stream))                       \
    XX(download, "cuMemcpyDtoHAsync_v2",                                                           \
       (void *to, cuda_address from, size_t size, cuda_stream stream))                             \
    XX(fill, "cuMemsetD8Async",                                                                    \
       (cuda_address to, unsigned char byte, size_t size, cuda_stream stream))                     \
    XX(copy, "cuMemcpyDtoDAsync_v2",                                                               \
       (cuda_address to, cuda_address from, size_t size, cuda_stream stream))                      \
    XX(copy_peer, "cuMemcpyPeerAsync",                                                             \
       (cuda_address to, cuda_context to_context, cuda_address from, cuda_context from_context,    \
        size_t size, cuda_stream stream))                                                          \
    XX(memory_info, "cuMemGetInfo_v2", (size_t * left, size_t * total))                            \
    XX(address_range, "cuMemGetAddressRange_v2",                                                   \
       (cuda_address * base, size_t * size, cuda_address address))                                 \
    XX(handle_get, "cuIpcGetMemHandle", (cuda_handle * handle, cuda_address address))              \
    XX(handle_open, "cuIpcOpenMemHandle_v2",                                                       \
       (cuda_address * address, cuda_handle handle, unsigned flags))                               \
    XX(handle_close, "cuIpcCloseMemHandle", (cuda_address address))                                \
    XX(host_allocate, "cuMemHostAlloc", (void **memory, size_t size, unsigned flags))              \
    XX(host_free, "cuMemFreeHost", (void *memory))                                                 \
    XX(host_address, "cuMemHostGetDevicePointer_v2",                                               \
       (cuda_address * address, void *memory, unsigned flags))                                     \
    XX(module_load, "cuModuleLoadData", (cuda_module * module, const void *image))                 \
    XX(module_unload, "cuModuleUnload", (cuda_module module))                                      \
    XX(module_function, "cuModuleGetFunction",                                                     \
       (cuda_function * function, cuda_module module, const char *name))                           \
    XX(function_set, "cuFuncSetAttribute", (cuda_function function, int attribute, int value))     \
    XX(launch, "cuLaunchKernel",                                                                   \
       (cuda_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,                 \
        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared, cuda_stream stream, \
        void **arguments, void **extra))                                                           \
    XX(error_text, "cuGetErrorString", (cuda_result result, const char **text))

typedef struct cuda_driver {
    CUDA_DRIVER(LIBRARY_FUNCTION)
} cuda_driver;

// Filled in by the first driver_open that succeeds.
extern cuda_driver cuda;

// Opens the driver and initialises it, once for the process; later calls give the same answer.
emlx_status driver_open(emlx_error *err);
int driver_version(void);

// EMLX_OK, or an error that says what failed and why, in the driver's words.
emlx_status driver_check(cuda_result result, const char *what, emlx_error *err);

// Whether the error leaves the context unusable: everything that follows fails with it as well.
bool driver_is_fatal(cuda_result result);

#define CUDA_TRY(what, call) TRY(driver_check(call, what, err))

#endif
