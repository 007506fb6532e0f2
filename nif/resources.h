// SPDX-License-Identifier: Apache-2.0
// resources.h - devices, tensors, programs, runs and queues as terms.
#ifndef EMLX_NIF_RESOURCES_H
#define EMLX_NIF_RESOURCES_H

#include <erl_nif.h>
#include <stdatomic.h>

#include "emlx.h"
#include "jobs/relief.h"
#include "names.h"

typedef struct device_res {
    emlx_device *device;
} device_res;

// `users` counts the calls that are reading `tensor` now; its top bit says that the tensor was
// deallocated. Whoever brings it to "deallocated and unused" releases the tensor.
typedef struct tensor_res {
    _Atomic uint32_t users;
    emlx_tensor *tensor;
    pin pin;
    shared_names names; // shared memory that goes with it
} tensor_res;

typedef struct program_res {
    emlx_program *program;
} program_res;

// A run that waits for the results of a call; NULL once somebody has gone on with it.
typedef struct run_res {
    _Atomic(emlx_run *) run;
} run_res;

typedef struct queue_res {
    emlx_queue *queue;
} queue_res;

bool resources_open(ErlNifEnv *env, ErlNifResourceFlags flags);
emlx_status device_get(ErlNifEnv *env, ERL_NIF_TERM term, device_res **device, emlx_error *err);
emlx_status program_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_program **program, emlx_error *err);
emlx_status run_get(ErlNifEnv *env, ERL_NIF_TERM term, run_res **run, emlx_error *err);
// nil gives NULL: no queue.
emlx_status queue_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_queue **queue, emlx_error *err);
// Gives a reference of the caller's; fails for a tensor that was deallocated.
emlx_status tensor_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_tensor **tensor, emlx_error *err);
emlx_status tensor_res_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_res **res, emlx_error *err);
// False when it was deallocated before.
emlx_status tensor_deallocate(ErlNifEnv *env, ERL_NIF_TERM term, bool *first, emlx_error *err);
// These take the reference over, and release it when out of memory.
emlx_status make_device(ErlNifEnv *env, emlx_device *device, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_tensor(ErlNifEnv *env, emlx_tensor *tensor, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_program(ErlNifEnv *env, emlx_program *program, ERL_NIF_TERM *term,
                         emlx_error *err);
emlx_status make_run(ErlNifEnv *env, emlx_run *run, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_queue(ErlNifEnv *env, emlx_queue *queue, ERL_NIF_TERM *term, emlx_error *err);
// A binary that aliases the tensor's data and holds a reference of its own.
emlx_status make_alias(ErlNifEnv *env, emlx_tensor *tensor, const void *data, size_t size,
                       ERL_NIF_TERM *term, emlx_error *err);

// A list of tensors, each a reference of the list's. Those in {:given, tensor} are deallocated.
typedef struct tensor_list {
    emlx_tensor **items;
    size_t count;
    emlx_tensor *few[8];
} tensor_list;

emlx_status tensor_list_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_list *list, emlx_error *err);
void tensor_list_release(tensor_list *list);

#endif
