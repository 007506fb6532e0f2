// SPDX-License-Identifier: Apache-2.0
// tensor.c - the functions on tensors: binaries in and out, applying ops, evaluating.
#include <string.h>

#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "jobs/relief.h"
#include "resources.h"
#include "terms/block.h"
#include "terms/error.h"
#include "terms/terms.h"

enum {
    // Binaries up to this size are copied: keeping one alive costs more than its bytes.
    SMALL_BINARY = 256,
    // Bytes that are copied in some ten microseconds.
    LONG_COPY = 128 * 1024,
    // An un-read chain longer than this is computed in the background, so that it stays bounded.
    FLUSH_DEPTH = 128,
    // Chains computing in the background, over all processes, before callers are asked to wait.
    MAX_FLUSHES = 4
};

static _Atomic int flushes;

// In ------------------------------------------------------------------------------------------

static void release_binary(void *context) { enif_free_env(context); }

// Keeps the caller's binary alive in an environment of its own, for as long as the tensor lives.
static emlx_status alias_binary(emlx_device *device, emlx_type type, const emlx_shape *shape,
                                ERL_NIF_TERM term, emlx_tensor **out, emlx_error *err) {
    ErlNifEnv *keeper = enif_alloc_env();
    ErlNifBinary binary;
    if (keeper == NULL) return nif_no_memory(err, "for an environment");
    if (!enif_inspect_binary(keeper, enif_make_copy(keeper, term), &binary)) {
        enif_free_env(keeper);
        return nif_no_memory(err, "for a binary");
    }
    return emlx_tensor_from_memory(device, type, shape, binary.data, binary.size, release_binary,
                                   keeper, out, err);
}

// Of the arguments the device, type, shape and binary.
static emlx_status from_binary(ErlNifEnv *env, const ERL_NIF_TERM argv[], ERL_NIF_TERM *term,
                               emlx_error *err) {
    device_res *device;
    emlx_type type;
    emlx_shape shape;
    ErlNifBinary binary;
    emlx_tensor *tensor;
    TRY(device_get(env, argv[0], &device, err));
    TRY(read_type(env, argv[1], &type, err));
    TRY(read_shape(env, argv[2], &shape, err));
    if (!enif_inspect_binary(env, argv[3], &binary))
        return nif_fail(err, EMLX_INVALID, "from_binary: the data must be a binary");
    if (binary.size <= SMALL_BINARY)
        TRY(emlx_tensor_from_data(device->device, type, &shape, binary.data, binary.size, &tensor,
                                  err));
    else
        TRY(alias_binary(device->device, type, &shape, argv[3], &tensor, err));
    return make_tensor(env, tensor, term, err);
}

static emlx_status run_from_binary(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *arguments;
    enif_get_tuple(task->to->env, task->term, &arity, &arguments);
    return from_binary(task->to->env, arguments, term, err);
}

// Whether the data is so large that copying it would hold a scheduler, and has to be copied: the
// device has memory of its own, or it does not lie where its elements may, as a part of another
// binary, for example of a file.
static bool is_long_copy(ErlNifEnv *env, const ERL_NIF_TERM argv[]) {
    emlx_error err;
    emlx_type type;
    device_res *device;
    ErlNifBinary binary;
    return device_get(env, argv[0], &device, &err) == EMLX_OK &&
           read_type(env, argv[1], &type, &err) == EMLX_OK &&
           enif_inspect_binary(env, argv[3], &binary) && binary.size > LONG_COPY &&
           (!emlx_device_host_memory(device->device) ||
            (uintptr_t)binary.data % emlx_type_size(type) != 0);
}

// from_binary(device, type, shape, binary, reference): a tensor, or :wait and a message with it.
ERL_NIF_TERM nif_from_binary(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    ERL_NIF_TERM term;
    if (is_long_copy(env, argv)) {
        ERL_NIF_TERM arguments = enif_make_tuple_from_array(env, argv, 4);
        return task_start(env, run_from_binary, JOB_COMPUTES, NULL, arguments, "", argv[4]);
    }
    emlx_status status = from_binary(env, argv, &term, &err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, &err);
}

// Out -----------------------------------------------------------------------------------------

static emlx_status to_binary(ErlNifEnv *env, emlx_tensor *tensor, size_t size, ERL_NIF_TERM *term,
                             emlx_error *err) {
    const void *data;
    TRY(emlx_tensor_data(tensor, &data, err));
    if (size > SMALL_BINARY) return make_alias(env, tensor, data, size, term, err);
    unsigned char *bytes = enif_make_new_binary(env, size, term);
    if (size > 0) memcpy(bytes, data, size);
    return EMLX_OK;
}

// Of memory that the host cannot read: copied by the device, which may take its time.
static emlx_status copy_binary(ErlNifEnv *env, ERL_NIF_TERM tensor_term, size_t size,
                               ERL_NIF_TERM *term, emlx_error *err) {
    emlx_tensor *tensor;
    TRY(tensor_get(env, tensor_term, &tensor, err));
    unsigned char *bytes = enif_make_new_binary(env, size, term);
    emlx_status status = emlx_tensor_read(tensor, 0, bytes, size, err);
    emlx_tensor_release(tensor);
    return status;
}

static emlx_status run_copy(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *arguments;
    ErlNifUInt64 size = 0;
    enif_get_tuple(task->to->env, task->term, &arity, &arguments);
    enif_get_uint64(task->to->env, arguments[1], &size);
    return copy_binary(task->to->env, arguments[0], (size_t)size, term, err);
}

static ERL_NIF_TERM copy_later(ErlNifEnv *env, const ERL_NIF_TERM argv[], size_t size) {
    ERL_NIF_TERM arguments = enif_make_tuple2(env, argv[0], enif_make_uint64(env, size));
    return task_start(env, run_copy, JOB_BLOCKS, NULL, arguments, "", argv[2]);
}

// to_binary(tensor, bytes, reference): the first bytes, or all there are, or :wait and a message
// with them; :pending before it is evaluated.
ERL_NIF_TERM nif_to_binary(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_tensor *tensor;
    ErlNifUInt64 limit = 0;
    ERL_NIF_TERM term;
    emlx_status status = tensor_get(env, argv[0], &tensor, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    size_t bytes = emlx_tensor_bytes(tensor);
    bool valid = enif_get_uint64(env, argv[1], &limit);
    if (limit < bytes) bytes = limit;
    if (!valid)
        term = enif_make_badarg(env);
    else if (!emlx_tensor_ready(tensor))
        term = atoms.pending;
    else if (!emlx_device_host_memory(emlx_tensor_device(tensor)))
        term = copy_later(env, argv, bytes);
    else if ((status = to_binary(env, tensor, bytes, &term, &err)) == EMLX_OK)
        term = make_ok(env, term);
    else
        term = make_error(env, status, &err);
    emlx_tensor_release(tensor);
    return term;
}

ERL_NIF_TERM nif_deallocate(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    bool first;
    emlx_status status = tensor_deallocate(env, argv[0], &first, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return first ? atoms.ok : atoms.already_deallocated;
}

// {type, dims, ready?, depth}
ERL_NIF_TERM nif_tensor_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_tensor *tensor;
    emlx_status status = tensor_get(env, argv[0], &tensor, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    ERL_NIF_TERM info = enif_make_tuple4(env, atoms.types[emlx_tensor_type(tensor)],
                                         make_dims(env, emlx_tensor_shape(tensor)),
                                         emlx_tensor_ready(tensor) ? atoms.yes : atoms.no,
                                         enif_make_uint(env, emlx_tensor_depth(tensor)));
    emlx_tensor_release(tensor);
    return make_ok(env, info);
}

ERL_NIF_TERM nif_tensor_type(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_tensor *tensor;
    emlx_status status = tensor_get(env, argv[0], &tensor, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    ERL_NIF_TERM type = atoms.types[emlx_tensor_type(tensor)];
    emlx_tensor_release(tensor);
    return make_ok(env, type);
}

// Applying ops --------------------------------------------------------------------------------

static void flush_done(void *context, emlx_status status, const emlx_error *err) {
    // A failure is kept by the library and reported when somebody reads the tensor.
    (void)context, (void)status, (void)err;
    atomic_fetch_sub(&flushes, 1);
}

// Starts computing a chain that has become long. False when the caller should wait for it, as
// ops are appended faster than they are computed.
static bool bound_chain(emlx_tensor *tensor) {
    if (emlx_tensor_depth(tensor) <= FLUSH_DEPTH) return true;
    bool start = atomic_fetch_add(&flushes, 1) < MAX_FLUSHES;
    if (start && emlx_eval_async(&tensor, 1, NULL, flush_done, NULL, NULL) == EMLX_OK) return true;
    atomic_fetch_sub(&flushes, 1);
    return start;
}

static emlx_status apply_op(ErlNifEnv *env, const ERL_NIF_TERM argv[], const tensor_list *operands,
                            emlx_tensor **out, size_t *count, emlx_error *err) {
    const nif_op *op;
    device_res *device = NULL;
    attr_list attrs;
    emlx_type type;
    TRY(op_get(env, argv[0], &op, err));
    *count = emlx_op_results(op->op);
    if (argv[1] != atoms.nil) TRY(device_get(env, argv[1], &device, err));
    TRY(read_result_type(env, argv[4], &type, err));
    emlx_status status = read_attrs(env, op, argv[3], 0, &attrs, err);
    if (status == EMLX_OK)
        status = emlx_apply(op->op, device == NULL ? NULL : device->device, operands->items,
                            operands->count, attrs.items, attrs.count, type, out, err);
    attrs_clear(&attrs);
    return status;
}

// One tensor, or a tuple of several. Takes all over, on failure too.
static emlx_status make_results(ErlNifEnv *env, emlx_tensor *const *results, size_t count,
                                ERL_NIF_TERM *term, emlx_error *err) {
    ERL_NIF_TERM terms[EMLX_MAX_RESULTS];
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < count; i++) {
        if (status == EMLX_OK)
            status = make_tensor(env, results[i], &terms[i], err);
        else
            emlx_tensor_release(results[i]);
    }
    if (status != EMLX_OK) return status;
    *term = count == 1 ? terms[0] : enif_make_tuple_from_array(env, terms, (unsigned)count);
    return EMLX_OK;
}

// apply_op(op, device or nil, operands, attributes, type or nil): {:ok, tensor}, or {:busy, tensor}
// when the caller should wait for it before going on. An op of several results gives a tuple.
ERL_NIF_TERM nif_apply(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    tensor_list operands;
    emlx_tensor *out[EMLX_MAX_RESULTS];
    size_t count;
    ERL_NIF_TERM term;
    emlx_status status = tensor_list_get(env, argv[2], &operands, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    status = apply_op(env, argv, &operands, out, &count, &err);
    tensor_list_release(&operands);
    if (status != EMLX_OK) return make_error(env, status, &err);
    bool bounded = bound_chain(out[0]);
    status = make_results(env, out, count, &term, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return enif_make_tuple2(env, bounded ? atoms.ok : atoms.busy, term);
}

// Copying to other devices ---------------------------------------------------------------------

static emlx_status copy_tensor(ErlNifEnv *env, ERL_NIF_TERM term, emlx_device *device,
                               ERL_NIF_TERM *out, emlx_error *err) {
    emlx_tensor *tensor, *copy;
    TRY(tensor_get(env, term, &tensor, err));
    emlx_status status = emlx_tensor_copy(tensor, device, &copy, err);
    emlx_tensor_release(tensor);
    return status == EMLX_OK ? make_tensor(env, copy, out, err) : status;
}

static emlx_status run_tensor_copy(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    return copy_tensor(task->to->env, task->term, task->device->device, term, err);
}

// tensor_copy(tensor, device, reference): {:ok, tensor} where it is there already, else :wait and a
// message with it.
ERL_NIF_TERM nif_tensor_copy(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_tensor *tensor;
    device_res *device;
    ERL_NIF_TERM term;
    emlx_status status = device_get(env, argv[1], &device, &err);
    if (status == EMLX_OK) status = tensor_get(env, argv[0], &tensor, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    bool there = emlx_tensor_device(tensor) == device->device;
    emlx_tensor_release(tensor);
    if (!there) return task_start(env, run_tensor_copy, JOB_BLOCKS, device, argv[0], "", argv[2]);
    status = copy_tensor(env, argv[0], device->device, &term, &err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, &err);
}

// Evaluating ----------------------------------------------------------------------------------

static bool all_ready(const tensor_list *list) {
    for (size_t i = 0; i < list->count; i++)
        if (!emlx_tensor_ready(list->items[i])) return false;
    return true;
}

static void eval_done(void *context, emlx_status status, const emlx_error *err) {
    answer *to = context;
    answer_send(to, status == EMLX_OK ? atoms.ok : make_error(to->env, status, err));
}

// The queue in use is for the work of its own device.
static emlx_status eval(ErlNifEnv *env, const tensor_list *list, ERL_NIF_TERM queue,
                        ERL_NIF_TERM reference, emlx_error *err) {
    answer *to;
    emlx_work work = {0};
    TRY(queue_get(env, queue, &work.queue, err));
    bool others =
        list->count > 0 && emlx_queue_device(work.queue) != emlx_tensor_device(list->items[0]);
    if (others) work.queue = NULL;
    TRY(answer_new(env, reference, &to, err));
    work.cancel = &to->cancel;
    emlx_status status = emlx_eval_async(list->items, list->count, &work, eval_done, to, err);
    if (status != EMLX_OK) answer_free(to);
    return status;
}

// eval(tensors, queue or nil, collected?, reference): :ok when they are ready, else :wait and a
// message; or :pressure.
ERL_NIF_TERM nif_eval(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    tensor_list list;
    emlx_status status = tensor_list_get(env, argv[0], &list, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    bool ready = all_ready(&list);
    if (!ready && argv[2] != atoms.yes && memory_pressure()) {
        tensor_list_release(&list);
        return atoms.pressure;
    }
    if (!ready && argv[1] == atoms.nil) {
        ErlNifTime started = enif_monotonic_time(ERL_NIF_USEC);
        status = emlx_eval_brief(list.items, list.count, &ready, &err);
        account(env, started);
    }
    if (status == EMLX_OK && !ready) status = eval(env, &list, argv[1], argv[3], &err);
    tensor_list_release(&list);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return ready ? atoms.ok : atoms.wait;
}
