// SPDX-License-Identifier: Apache-2.0
// resources.c - devices, tensors, programs, runs and queues as resources. Destructors run on
// schedulers: what may take long, as joining a device's threads, they leave to others.
#include "resources.h"

#include <string.h>

#include "jobs/jobs.h"
#include "jobs/relief.h"
#include "names.h"
#include "terms/error.h"
#include "terms/terms.h"

#define DEALLOCATED 0x80000000u

static ErlNifResourceType *device_type, *tensor_type, *program_type, *run_type, *queue_type;

// Each is a function of an untyped pointer, as end_later takes it.
static void end_program(void *program) { emlx_program_release(program); }
static void end_run(void *run) { emlx_run_release(run); }
static void end_queue(void *queue) { emlx_queue_release(queue); }

static void program_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    end_later(end_program, ((program_res *)object)->program);
}

static void run_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    emlx_run *run = atomic_load(&((run_res *)object)->run);
    if (run != NULL) end_later(end_run, run);
}

static void queue_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    end_later(end_queue, ((queue_res *)object)->queue);
}

// The tensor's memory, if nobody else holds it, goes back to the pool, which is quick.
static void tensor_drop(tensor_res *res) {
    pin_remove(&res->pin);
    pins_dropped(res->tensor);
    emlx_tensor_release(res->tensor);
}

static void tensor_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    tensor_res *res = object;
    names_drop(&res->names, false);
    if (!(atomic_load(&res->users) & DEALLOCATED)) tensor_drop(res);
}

static ErlNifResourceType *open_type(ErlNifEnv *env, const char *name, ErlNifResourceDtor *destroy,
                                     ErlNifResourceFlags flags) {
    ErlNifResourceTypeInit init = {.dtor = destroy};
    return enif_open_resource_type_x(env, name, &init, flags, NULL);
}

bool resources_open(ErlNifEnv *env, ErlNifResourceFlags flags) {
    // The VM drops tensors, and work that is going on, in any order, and all need their device: one
    // that was opened stays so.
    device_type = open_type(env, "device", NULL, flags);
    tensor_type = open_type(env, "tensor", tensor_destroy, flags);
    program_type = open_type(env, "program", program_destroy, flags);
    run_type = open_type(env, "run", run_destroy, flags);
    queue_type = open_type(env, "queue", queue_destroy, flags);
    return device_type != NULL && tensor_type != NULL && program_type != NULL && run_type != NULL &&
           queue_type != NULL;
}

// Reading -------------------------------------------------------------------------------------

emlx_status device_get(ErlNifEnv *env, ERL_NIF_TERM term, device_res **device, emlx_error *err) {
    void *object;
    if (!enif_get_resource(env, term, device_type, &object))
        return nif_fail(err, EMLX_INVALID, "a device reference was expected");
    *device = object;
    return EMLX_OK;
}

emlx_status program_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_program **program,
                        emlx_error *err) {
    void *object;
    if (!enif_get_resource(env, term, program_type, &object))
        return nif_fail(err, EMLX_INVALID, "a program reference was expected");
    *program = ((program_res *)object)->program;
    return EMLX_OK;
}

emlx_status run_get(ErlNifEnv *env, ERL_NIF_TERM term, run_res **run, emlx_error *err) {
    void *object;
    if (!enif_get_resource(env, term, run_type, &object))
        return nif_fail(err, EMLX_INVALID, "a reference to a waiting run was expected");
    *run = object;
    return EMLX_OK;
}

emlx_status queue_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_queue **queue, emlx_error *err) {
    void *object;
    *queue = NULL;
    if (term == atoms.nil) return EMLX_OK;
    if (!enif_get_resource(env, term, queue_type, &object))
        return nif_fail(err, EMLX_INVALID, "a queue reference or nil was expected");
    *queue = ((queue_res *)object)->queue;
    return EMLX_OK;
}

// Between borrow and give_back the tensor cannot go away, even if another process deallocates it.
static bool borrow(tensor_res *res) {
    uint32_t users = atomic_load(&res->users);
    do {
        if (users & DEALLOCATED) return false;
    } while (!atomic_compare_exchange_weak(&res->users, &users, users + 1));
    return true;
}

static void give_back(tensor_res *res) {
    if (atomic_fetch_sub(&res->users, 1) == DEALLOCATED + 1) tensor_drop(res);
}

// Computing a small result of much that nobody else holds is worth more than waiting for its
// reader.
static void pin_if_large(tensor_res *res) {
    enum { LEAST_PINNED = 65536, LEAST_RATIO = 8 };
    size_t pinned = emlx_tensor_pinned(res->tensor);
    if (pinned >= LEAST_PINNED && pinned / LEAST_RATIO >= emlx_tensor_bytes(res->tensor))
        pin_add(&res->pin, res->tensor);
}

emlx_status tensor_res_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_res **res, emlx_error *err) {
    void *object;
    if (!enif_get_resource(env, term, tensor_type, &object))
        return nif_fail(err, EMLX_INVALID, "a tensor reference was expected");
    *res = object;
    return EMLX_OK;
}

emlx_status tensor_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_tensor **tensor, emlx_error *err) {
    tensor_res *res;
    TRY(tensor_res_get(env, term, &res, err));
    if (!borrow(res)) return nif_fail(err, EMLX_INVALID, "the tensor has been deallocated");
    *tensor = emlx_tensor_retain(res->tensor);
    give_back(res);
    return EMLX_OK;
}

emlx_status tensor_deallocate(ErlNifEnv *env, ERL_NIF_TERM term, bool *first, emlx_error *err) {
    tensor_res *res;
    TRY(tensor_res_get(env, term, &res, err));
    uint32_t before = atomic_fetch_or(&res->users, DEALLOCATED);
    *first = !(before & DEALLOCATED);
    names_drop(&res->names, true);
    if (before == 0) tensor_drop(res);
    return EMLX_OK;
}

// Whether it is {:given, tensor}; then it becomes the tensor.
static bool given_tensor(ErlNifEnv *env, ERL_NIF_TERM *term) {
    int arity;
    const ERL_NIF_TERM *parts;
    if (!enif_get_tuple(env, *term, &arity, &parts) || arity != 2 || parts[0] != atoms.given)
        return false;
    *term = parts[1];
    return true;
}

emlx_status tensor_list_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_list *list, emlx_error *err) {
    unsigned length;
    if (!enif_get_list_length(env, term, &length))
        return nif_fail(err, EMLX_INVALID, "a list of tensor references was expected");
    list->count = 0;
    list->items = list->few;
    if (length > sizeof list->few / sizeof *list->few)
        list->items = enif_alloc(length * sizeof *list->items);
    if (list->items == NULL) return nif_no_memory(err, "for a list of tensors");
    ERL_NIF_TERM head, rest = term;
    bool given = false, first;
    while (enif_get_list_cell(env, rest, &head, &rest)) {
        given = given_tensor(env, &head) || given;
        emlx_status status = tensor_get(env, head, &list->items[list->count], err);
        if (status == EMLX_OK) {
            list->count++;
            continue;
        }
        tensor_list_release(list);
        return status;
    }
    while (given && enif_get_list_cell(env, term, &head, &term))
        if (given_tensor(env, &head)) TRY(tensor_deallocate(env, head, &first, err));
    return EMLX_OK;
}

void tensor_list_release(tensor_list *list) {
    for (size_t i = 0; i < list->count; i++) emlx_tensor_release(list->items[i]);
    if (list->items != list->few) enif_free(list->items);
    list->count = 0;
    list->items = list->few;
}

// Making --------------------------------------------------------------------------------------

static ERL_NIF_TERM hand_over(ErlNifEnv *env, void *object) {
    ERL_NIF_TERM term = enif_make_resource(env, object);
    enif_release_resource(object);
    return term;
}

emlx_status make_device(ErlNifEnv *env, emlx_device *device, ERL_NIF_TERM *term, emlx_error *err) {
    device_res *res = enif_alloc_resource(device_type, sizeof *res);
    if (res == NULL) {
        emlx_device_release(device);
        return nif_no_memory(err, "for a reference");
    }
    res->device = device;
    *term = hand_over(env, res);
    return EMLX_OK;
}

static tensor_res *tensor_res_new(emlx_tensor *tensor, emlx_error *err) {
    tensor_res *res = enif_alloc_resource(tensor_type, sizeof *res);
    if (res == NULL) {
        emlx_tensor_release(tensor);
        nif_report(err, EMLX_OUT_OF_MEMORY, "no memory for a reference");
        return NULL;
    }
    atomic_init(&res->users, 0);
    atomic_init(&res->pin.linked, false);
    atomic_init(&res->names, NULL);
    res->tensor = tensor;
    return res;
}

emlx_status make_tensor(ErlNifEnv *env, emlx_tensor *tensor, ERL_NIF_TERM *term, emlx_error *err) {
    tensor_res *res = tensor_res_new(tensor, err);
    if (res == NULL) return EMLX_OUT_OF_MEMORY;
    pin_if_large(res);
    *term = hand_over(env, res);
    return EMLX_OK;
}

emlx_status make_program(ErlNifEnv *env, emlx_program *program, ERL_NIF_TERM *term,
                         emlx_error *err) {
    program_res *res = enif_alloc_resource(program_type, sizeof *res);
    if (res == NULL) {
        emlx_program_release(program);
        return nif_no_memory(err, "for a reference");
    }
    res->program = program;
    *term = hand_over(env, res);
    return EMLX_OK;
}

emlx_status make_run(ErlNifEnv *env, emlx_run *run, ERL_NIF_TERM *term, emlx_error *err) {
    run_res *res = enif_alloc_resource(run_type, sizeof *res);
    if (res == NULL) {
        emlx_run_release(run);
        return nif_no_memory(err, "for a reference");
    }
    atomic_init(&res->run, run);
    *term = hand_over(env, res);
    return EMLX_OK;
}

emlx_status make_queue(ErlNifEnv *env, emlx_queue *queue, ERL_NIF_TERM *term, emlx_error *err) {
    queue_res *res = enif_alloc_resource(queue_type, sizeof *res);
    if (res == NULL) {
        emlx_queue_release(queue);
        return nif_no_memory(err, "for a reference");
    }
    res->queue = queue;
    *term = hand_over(env, res);
    return EMLX_OK;
}

emlx_status make_alias(ErlNifEnv *env, emlx_tensor *tensor, const void *data, size_t size,
                       ERL_NIF_TERM *term, emlx_error *err) {
    tensor_res *res = tensor_res_new(emlx_tensor_retain(tensor), err);
    if (res == NULL) return EMLX_OUT_OF_MEMORY;
    *term = enif_make_resource_binary(env, res, data, size);
    enif_release_resource(res);
    return EMLX_OK;
}
