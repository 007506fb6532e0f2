// SPDX-License-Identifier: Apache-2.0
// tensor.c - tensors from data and back.
#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engine.h"
#include "run/eval.h"

static emlx_status check_data(const emlx_device *device, emlx_type type, const emlx_shape *shape,
                              const void *data, size_t size, emlx_error *err) {
    char text[SHAPE_TEXT];
    emlx_shape checked;
    if (device == NULL || shape == NULL) return error_set(err, EMLX_INVALID, "no device or shape");
    if (!type_is_valid(type)) return error_set(err, EMLX_INVALID, "no such type");
    TRY(emlx_shape_make(shape->dims, (size_t)shape->rank, &checked, err));
    size_t wanted = (size_t)emlx_shape_count(shape) * type_size(type);
    if (size == wanted && (data != NULL || size == 0)) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "%zu bytes of data for %s%s, which takes %zu", size,
                     emlx_type_name(type), shape_print(shape, text), wanted);
}

emlx_status emlx_tensor_from_data(emlx_device *device, emlx_type type, const emlx_shape *shape,
                                  const void *data, size_t size, emlx_tensor **out,
                                  emlx_error *err) {
    REQUIRE(out);
    TRY(check_data(device, type, shape, data, size, err));
    emlx_buffer *buffer;
    TRY(device->ops->allocate(device, size, &buffer, err));
    emlx_status status = EMLX_OK;
    if (size > 0) status = device->ops->upload(device, buffer, data, size, err);
    if (status == EMLX_OK) buffer_know(buffer, data);
    if (status == EMLX_OK) status = node_from_buffer(device, type, shape, buffer, out, err);
    if (status != EMLX_OK) buffer_release(buffer);
    return status;
}

static bool can_wrap(const emlx_device *device, const void *data, size_t size, size_t element) {
    return device->ops->can_wrap != NULL && device->ops->can_wrap(device, data, size, element);
}

emlx_status emlx_tensor_from_memory(emlx_device *device, emlx_type type, const emlx_shape *shape,
                                    const void *data, size_t size, void (*release)(void *),
                                    void *context, emlx_tensor **out, emlx_error *err) {
    emlx_status status = check_data(device, type, shape, data, size, err);
    if (status == EMLX_OK && out == NULL)
        status = error_set(err, EMLX_INVALID, "emlx_tensor_from_memory: out is NULL");
    bool borrow = status == EMLX_OK && can_wrap(device, data, size, type_size(type));
    emlx_buffer *buffer = NULL;
    if (borrow) {
        status = buffer_wrap(data, size, release, context, &buffer, err);
        if (status == EMLX_OK) {
            status = node_from_buffer(device, type, shape, buffer, out, err);
            if (status != EMLX_OK) buffer_release(buffer);
            return status;
        }
    } else if (status == EMLX_OK) {
        status = emlx_tensor_from_data(device, type, shape, data, size, out, err);
    }
    if (release != NULL) release(context);
    return status;
}

// The data of a tensor, computed.
static emlx_status ready_buffer(emlx_tensor *t, emlx_buffer **buffer, emlx_error *err) {
    if (node_buffer(t) == NULL) TRY(eval_tensors(&t, 1, &(eval_how){0}, err));
    *buffer = node_buffer(t);
    return buffer_check(*buffer, err);
}

emlx_status emlx_tensor_read(emlx_tensor *t, size_t offset, void *data, size_t size,
                             emlx_error *err) {
    REQUIRE(t);
    REQUIRE_ITEMS(data, size);
    emlx_buffer *buffer;
    size_t bytes = emlx_tensor_bytes(t);
    if (offset > bytes || size > bytes - offset)
        return error_set(err, EMLX_INVALID, "bytes %zu to %zu of a tensor of %zu bytes", offset,
                         offset + size, bytes);
    TRY(ready_buffer(t, &buffer, err));
    if (size == 0) return EMLX_OK;
    return t->device->ops->download(t->device, buffer, offset, data, size, err);
}

// Copies to other devices -----------------------------------------------------------------------

// The memory of one device as it is, for another one that can use it.
static void release_buffer(void *buffer) { buffer_release(buffer); }

static emlx_status share(emlx_buffer *from, size_t size, emlx_buffer **out, emlx_error *err) {
    TRY(buffer_wrap(from->data, size, release_buffer, from, out, err));
    buffer_retain(from);
    return EMLX_OK;
}

// By way of host memory, which neither side is.
static emlx_status copy_by_host(const emlx_tensor *t, emlx_device *device, emlx_buffer *to,
                                size_t size, emlx_error *err) {
    void *data;
    TRY(data_alloc(size, &data, err));
    emlx_status status = t->device->ops->download(t->device, node_buffer(t), 0, data, size, err);
    if (status == EMLX_OK) status = device->ops->upload(device, to, data, size, err);
    if (status == EMLX_OK) buffer_know(to, data);
    data_free(data, size);
    return status;
}

static emlx_status copy_data(const emlx_tensor *t, emlx_device *device, emlx_buffer *to,
                             size_t size, emlx_error *err) {
    const engine_ops *ops = device->ops;
    const emlx_buffer *from = node_buffer(t);
    if (size == 0) return EMLX_OK;
    if (to->data != NULL) return t->device->ops->download(t->device, from, 0, to->data, size, err);
    if (ops == t->device->ops && ops->copy != NULL) {
        TRY(ops->copy(device, to, t->device, from, size, err));
    } else if (from->data != NULL) {
        TRY(ops->upload(device, to, from->data, size, err));
    } else {
        return copy_by_host(t, device, to, size, err);
    }
    if (buffer_seen(from) != NULL) buffer_know(to, buffer_seen(from));
    return EMLX_OK;
}

emlx_status emlx_tensor_copy(emlx_tensor *t, emlx_device *device, emlx_tensor **out,
                             emlx_error *err) {
    REQUIRE(t);
    REQUIRE(device);
    REQUIRE(out);
    emlx_buffer *from, *to = NULL;
    size_t size = emlx_tensor_bytes(t);
    if (t->device == device) {
        *out = emlx_tensor_retain(t);
        return EMLX_OK;
    }
    TRY(ready_buffer(t, &from, err));
    bool as_it_is =
        from->data != NULL && size > 0 && can_wrap(device, from->data, size, type_size(t->type));
    emlx_status status =
        as_it_is ? share(from, size, &to, err) : device->ops->allocate(device, size, &to, err);
    if (status != EMLX_OK) return status;
    if (!as_it_is) status = copy_data(t, device, to, size, err);
    if (status == EMLX_OK)
        status = node_from_buffer(device, (emlx_type)t->type, &t->shape, to, out, err);
    if (status != EMLX_OK) buffer_release(to);
    return status;
}

// Memory by address ------------------------------------------------------------------------------

static emlx_status check_addresses(const emlx_device *device, emlx_error *err) {
    if (device->ops->borrow != NULL) return EMLX_OK;
    return error_set(err, EMLX_UNSUPPORTED, "device %s has no memory of its own to share",
                     device->name);
}

static emlx_status from_shared(emlx_device *device, emlx_type type, const emlx_shape *shape,
                               emlx_buffer *buffer, emlx_tensor **out, emlx_error *err) {
    emlx_status status = node_from_buffer(device, type, shape, buffer, out, err);
    if (status != EMLX_OK) buffer_release(buffer);
    return status;
}

// The bytes of data of that type and shape.
static emlx_status shared_size(const emlx_device *device, emlx_type type, const emlx_shape *shape,
                               size_t *size, emlx_error *err) {
    REQUIRE(device);
    REQUIRE(shape);
    *size = type_is_valid(type) ? (size_t)emlx_shape_count(shape) * type_size(type) : 0;
    TRY(check_data(device, type, shape, shape, *size, err));
    return check_addresses(device, err);
}

emlx_status emlx_tensor_address(emlx_tensor *t, uint64_t *address, emlx_error *err) {
    REQUIRE(t);
    REQUIRE(address);
    emlx_buffer *buffer;
    TRY(check_addresses(t->device, err));
    TRY(ready_buffer(t, &buffer, err));
    return t->device->ops->address(t->device, buffer, address, err);
}

emlx_status emlx_tensor_export(emlx_tensor *t, void *handle, size_t *size, emlx_error *err) {
    REQUIRE(t);
    REQUIRE(handle);
    REQUIRE(size);
    emlx_buffer *buffer;
    TRY(check_addresses(t->device, err));
    TRY(ready_buffer(t, &buffer, err));
    return t->device->ops->export(t->device, buffer, handle, size, err);
}

emlx_status emlx_tensor_from_address(emlx_device *device, emlx_type type, const emlx_shape *shape,
                                     uint64_t address, emlx_tensor **out, emlx_error *err) {
    REQUIRE(out);
    emlx_buffer *buffer;
    size_t size;
    TRY(shared_size(device, type, shape, &size, err));
    TRY(device->ops->borrow(device, address, size, &buffer, err));
    return from_shared(device, type, shape, buffer, out, err);
}

emlx_status emlx_tensor_import(emlx_device *device, emlx_type type, const emlx_shape *shape,
                               const void *handle, size_t handle_size, emlx_tensor **out,
                               emlx_error *err) {
    REQUIRE(out);
    REQUIRE(handle);
    emlx_buffer *buffer;
    size_t size;
    TRY(shared_size(device, type, shape, &size, err));
    TRY(device->ops->import(device, handle, handle_size, size, &buffer, err));
    return from_shared(device, type, shape, buffer, out, err);
}

emlx_status emlx_tensor_data(emlx_tensor *t, const void **data, emlx_error *err) {
    REQUIRE(t);
    REQUIRE(data);
    emlx_buffer *buffer;
    TRY(ready_buffer(t, &buffer, err));
    if (buffer->data == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "the host cannot read the memory of device %s",
                         emlx_device_name(t->device));
    *data = buffer->data;
    return EMLX_OK;
}
