// SPDX-License-Identifier: Apache-2.0
// host.c - the host's memory, for engines whose buffers lie there.
#include <string.h>

#include "engine.h"

emlx_status host_allocate(emlx_device *device, size_t size, emlx_buffer **out, emlx_error *err) {
    (void)device;
    return buffer_new(size, out, err);
}

emlx_status host_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                        emlx_error *err) {
    (void)device, (void)err;
    memcpy(to->data, from, size);
    return EMLX_OK;
}

emlx_status host_download(emlx_device *device, const emlx_buffer *from, size_t offset, void *to,
                          size_t size, emlx_error *err) {
    (void)device, (void)err;
    memcpy(to, (const char *)from->data + offset, size);
    return EMLX_OK;
}
