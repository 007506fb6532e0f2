// SPDX-License-Identifier: Apache-2.0
// share.c - memory of a device by address and by handles of its driver, and devices that are opened
// anew. All of it waits for the device, so that none is done on a scheduler.
#include <string.h>

#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "resources.h"
#include "terms/error.h"
#include "terms/terms.h"

// Out ------------------------------------------------------------------------------------------

static emlx_status run_address(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    emlx_tensor *tensor;
    uint64_t address = 0;
    TRY(tensor_get(env, task->term, &tensor, err));
    emlx_status status = emlx_tensor_address(tensor, &address, err);
    *term = enif_make_tuple2(env, enif_make_uint64(env, address),
                             enif_make_uint64(env, emlx_tensor_bytes(tensor)));
    emlx_tensor_release(tensor);
    return status;
}

// device_address(tensor, reference): the answer is {:ok, {address, bytes}}.
ERL_NIF_TERM nif_device_address(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_address, JOB_BLOCKS, NULL, argv[0], NULL, argv[1]);
}

static emlx_status run_export(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    emlx_tensor *tensor;
    char handle[EMLX_HANDLE_MAX];
    size_t size = 0;
    ERL_NIF_TERM binary;
    TRY(tensor_get(env, task->term, &tensor, err));
    emlx_status status = emlx_tensor_export(tensor, handle, &size, err);
    memcpy(enif_make_new_binary(env, size, &binary), handle, size);
    *term = enif_make_tuple2(env, binary, enif_make_uint64(env, emlx_tensor_bytes(tensor)));
    emlx_tensor_release(tensor);
    return status;
}

// device_export(tensor, reference): the answer is {:ok, {handle, bytes}}.
ERL_NIF_TERM nif_device_export(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_export, JOB_BLOCKS, NULL, argv[0], NULL, argv[1]);
}

// In -------------------------------------------------------------------------------------------

// Of {type, shape, address or handle}.
static emlx_status run_open(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    const ERL_NIF_TERM *parts;
    int arity;
    emlx_type type;
    emlx_shape shape;
    ErlNifUInt64 address;
    ErlNifBinary handle;
    emlx_tensor *tensor;
    if (!enif_get_tuple(env, task->term, &arity, &parts) || arity != 3)
        return nif_fail(err, EMLX_INVALID, "a type, a shape and a place were expected");
    TRY(read_type(env, parts[0], &type, err));
    TRY(read_shape(env, parts[1], &shape, err));
    emlx_device *device = task->device->device;
    if (enif_get_uint64(env, parts[2], &address))
        TRY(emlx_tensor_from_address(device, type, &shape, address, &tensor, err));
    else if (enif_inspect_binary(env, parts[2], &handle))
        TRY(emlx_tensor_import(device, type, &shape, handle.data, handle.size, &tensor, err));
    else
        return nif_fail(err, EMLX_INVALID,
                        "an address must be a non-negative 64-bit integer, a handle a binary");
    return make_tensor(env, tensor, term, err);
}

// device_memory_open(device, {type, shape, address | handle}, reference): {:ok, tensor}.
ERL_NIF_TERM nif_device_memory_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_open, JOB_BLOCKS, &argv[0], argv[1], NULL, argv[2]);
}

// Devices --------------------------------------------------------------------------------------

static emlx_status run_reset(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    (void)term;
    return emlx_device_reset(task->device->device, err);
}

// device_reset(device, reference): the answer is :ok.
ERL_NIF_TERM nif_device_reset(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_reset, JOB_BLOCKS, &argv[0], atoms.nil, NULL, argv[1]);
}

// Whether the host reads its memory.
ERL_NIF_TERM nif_device_host_memory(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    device_res *device;
    emlx_status status = device_get(env, argv[0], &device, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return emlx_device_host_memory(device->device) ? atoms.yes : atoms.no;
}
