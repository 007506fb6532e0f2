// SPDX-License-Identifier: Apache-2.0
// program.c - the functions on programs: compile, save, load, ask, run; and on queues.
#include "nif.h"

enum { MAX_PATH = 4096 };

static ERL_NIF_TERM finish(ErlNifEnv *env, emlx_status status, emlx_program *program,
                           emlx_error *err) {
    ERL_NIF_TERM term;
    if (status == EMLX_OK) status = make_program(env, program, &term, err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, err);
}

static ERL_NIF_TERM run_compile(task *task) {
    ErlNifEnv *env = task->to->env;
    emlx_error err;
    emlx_block *block;
    emlx_program *program = NULL;
    emlx_status status = block_read(env, task->term, &block, &err);
    if (status == EMLX_OK)
        status = emlx_program_compile(block, task->device->device, &program, &err);
    return finish(env, status, program, &err);
}

static ERL_NIF_TERM run_save(task *task) {
    ErlNifEnv *env = task->to->env;
    emlx_error err;
    emlx_block *block;
    emlx_status status = block_read(env, task->term, &block, &err);
    if (status == EMLX_OK) {
        status = emlx_block_save(block, task->path, &err);
        emlx_block_release(block);
    }
    return status == EMLX_OK ? atoms.ok : make_error(env, status, &err);
}

static ERL_NIF_TERM run_load(task *task) {
    emlx_error err;
    emlx_program *program = NULL;
    emlx_status status = emlx_program_load(task->path, task->device->device, &program, &err);
    return finish(task->to->env, status, program, &err);
}

// The arguments that a task takes besides its reference; NULL for those it does not.
static ERL_NIF_TERM start_task(ErlNifEnv *env, ERL_NIF_TERM (*run)(task *task),
                               const ERL_NIF_TERM *device_term, const ERL_NIF_TERM *block_term,
                               const ERL_NIF_TERM *path_term, ERL_NIF_TERM reference) {
    emlx_error err;
    emlx_status status = EMLX_OK;
    char path[MAX_PATH] = "";
    device_res *device = NULL;
    task *task = NULL;
    if (device_term != NULL) status = device_get(env, *device_term, &device, &err);
    if (status == EMLX_OK && path_term != NULL)
        status = read_text(env, *path_term, "a path", path, sizeof path, &err);
    if (status == EMLX_OK)
        status = task_new(env, reference, device, block_term == NULL ? atoms.nil : *block_term,
                          path, &task, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    task->run = run;
    task_start(task);
    return atoms.wait;
}

// program_compile(device, block, reference)
ERL_NIF_TERM nif_program_compile(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return start_task(env, run_compile, &argv[0], &argv[1], NULL, argv[2]);
}

// program_save(block, path, reference)
ERL_NIF_TERM nif_program_save(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return start_task(env, run_save, NULL, &argv[0], &argv[1], argv[2]);
}

// program_load(device, path, reference)
ERL_NIF_TERM nif_program_load(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return start_task(env, run_load, &argv[0], NULL, &argv[1], argv[2]);
}

// Asking --------------------------------------------------------------------------------------

static ERL_NIF_TERM make_port(ErlNifEnv *env, const emlx_port *port) {
    ERL_NIF_TERM name = port->name == NULL ? atoms.nil : make_text(env, port->name);
    return enif_make_tuple3(env, name, atoms.types[port->type], make_dims(env, &port->shape));
}

typedef const emlx_port *(*port_at)(const emlx_program *program, size_t index);

static ERL_NIF_TERM make_ports(ErlNifEnv *env, const emlx_program *program, size_t count,
                               port_at at) {
    ERL_NIF_TERM list = enif_make_list(env, 0);
    while (count-- > 0) list = enif_make_list_cell(env, make_port(env, at(program, count)), list);
    return list;
}

// {inputs, outputs, kernels, ops}; a port is {name, type, dims}.
ERL_NIF_TERM nif_program_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_program *program;
    emlx_status status = program_get(env, argv[0], &program, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    ERL_NIF_TERM inputs =
        make_ports(env, program, emlx_program_input_count(program), emlx_program_input);
    ERL_NIF_TERM outputs =
        make_ports(env, program, emlx_program_output_count(program), emlx_program_output);
    return make_ok(env, enif_make_tuple4(env, inputs, outputs,
                                         enif_make_uint64(env, emlx_program_kernel_count(program)),
                                         enif_make_uint64(env, emlx_program_op_count(program))));
}

// Running -------------------------------------------------------------------------------------

// Every output becomes a term or, after a failure, is released.
static ERL_NIF_TERM make_outputs(ErlNifEnv *env, emlx_tensor **outputs, size_t count) {
    ERL_NIF_TERM list = enif_make_list(env, 0);
    emlx_error err;
    emlx_status status = EMLX_OK;
    for (size_t i = count; i-- > 0;) {
        ERL_NIF_TERM term;
        if (status != EMLX_OK) {
            emlx_tensor_release(outputs[i]);
            continue;
        }
        status = make_tensor(env, outputs[i], &term, &err);
        if (status == EMLX_OK) list = enif_make_list_cell(env, term, list);
    }
    return status == EMLX_OK ? make_ok(env, list) : make_error(env, status, &err);
}

// {:call, run, number, tensors}
static ERL_NIF_TERM make_call(ErlNifEnv *env, const emlx_stop *stop) {
    emlx_error err;
    ERL_NIF_TERM run, result = make_outputs(env, stop->tensors, stop->count);
    int arity;
    const ERL_NIF_TERM *parts;
    emlx_status status = make_run(env, stop->run, &run, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    if (!enif_get_tuple(env, result, &arity, &parts) || arity != 2) return result;
    return enif_make_tuple4(env, atoms.call, run, enif_make_uint(env, stop->call), parts[1]);
}

static void stopped(void *context, const emlx_stop *stop) {
    answer *to = context;
    ERL_NIF_TERM result;
    if (stop->status != EMLX_OK)
        result = make_error(to->env, stop->status, stop->err);
    else if (stop->run != NULL)
        result = make_call(to->env, stop);
    else
        result = make_outputs(to->env, stop->tensors, stop->count);
    answer_send(to, result);
}

static emlx_status run(ErlNifEnv *env, const ERL_NIF_TERM argv[], const tensor_list *inputs,
                       emlx_error *err) {
    emlx_program *program;
    answer *to;
    emlx_work work = {0};
    TRY(program_get(env, argv[0], &program, err));
    TRY(queue_get(env, argv[2], &work.queue, err));
    TRY(answer_new(env, argv[3], &to, err));
    work.cancel = &to->cancel;
    emlx_status status =
        emlx_program_start(program, inputs->items, inputs->count, &work, stopped, to, err);
    if (status != EMLX_OK) answer_free(to);
    return status;
}

// Of two processes that answer the same call, one is refused.
static emlx_status resume(ErlNifEnv *env, const ERL_NIF_TERM argv[], const tensor_list *results,
                          emlx_error *err) {
    run_res *res;
    answer *to;
    emlx_work work = {0};
    TRY(run_get(env, argv[0], &res, err));
    TRY(queue_get(env, argv[2], &work.queue, err));
    TRY(answer_new(env, argv[3], &to, err));
    work.cancel = &to->cancel;
    emlx_run *waiting = atomic_exchange(&res->run, NULL);
    emlx_status status = EMLX_INVALID;
    if (waiting == NULL)
        nif_report(err, status, "the run does not wait for an answer any more");
    else
        status = emlx_run_resume(waiting, results->items, results->count, &work, stopped, to, err);
    if (status == EMLX_OK) return EMLX_OK;
    if (waiting != NULL) atomic_store(&res->run, waiting);
    answer_free(to);
    return status;
}

// With the tensors that are the second argument.
static ERL_NIF_TERM with_tensors(ErlNifEnv *env, const ERL_NIF_TERM argv[],
                                 emlx_status (*then)(ErlNifEnv *env, const ERL_NIF_TERM argv[],
                                                     const tensor_list *tensors, emlx_error *err)) {
    emlx_error err;
    tensor_list tensors;
    emlx_status status = tensor_list_get(env, argv[1], &tensors, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    status = then(env, argv, &tensors, &err);
    tensor_list_release(&tensors);
    return status == EMLX_OK ? atoms.wait : make_error(env, status, &err);
}

// program_run(program, inputs, queue or nil, reference): the message's result is {:ok, outputs}, or
// {:call, run, number, operands} where the program calls its host.
ERL_NIF_TERM nif_program_run(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return with_tensors(env, argv, run);
}

// program_resume(run, results, queue or nil, reference): answers the call, and is answered as above
ERL_NIF_TERM nif_program_resume(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return with_tensors(env, argv, resume);
}

// program_drop(run): gives up a run that waits, before its reference is collected.
ERL_NIF_TERM nif_program_drop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    run_res *res;
    emlx_error err;
    emlx_status status = run_get(env, argv[0], &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    emlx_run_release(atomic_exchange(&res->run, NULL));
    return atoms.ok;
}

// Queues --------------------------------------------------------------------------------------

ERL_NIF_TERM nif_queue_new(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    device_res *device;
    emlx_queue *queue;
    ERL_NIF_TERM term;
    emlx_error err;
    emlx_status status = device_get(env, argv[0], &device, &err);
    if (status == EMLX_OK) status = emlx_queue_new(device->device, &queue, &err);
    if (status == EMLX_OK) status = make_queue(env, queue, &term, &err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, &err);
}

static void synced(void *context) { answer_send(context, atoms.ok); }

static emlx_status sync_queue(ErlNifEnv *env, const ERL_NIF_TERM argv[], emlx_error *err) {
    emlx_queue *queue;
    answer *to;
    TRY(queue_get(env, argv[0], &queue, err));
    if (queue == NULL) return nif_fail(err, EMLX_INVALID, "a queue reference was expected");
    TRY(answer_new(env, argv[1], &to, err));
    emlx_status status = emlx_queue_sync(queue, synced, to, err);
    if (status != EMLX_OK) answer_free(to);
    return status;
}

// queue_sync(queue, reference)
ERL_NIF_TERM nif_queue_sync(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    emlx_status status = sync_queue(env, argv, &err);
    return status == EMLX_OK ? atoms.wait : make_error(env, status, &err);
}
