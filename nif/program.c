// SPDX-License-Identifier: Apache-2.0
// program.c - the functions on programs: compile, save, load, ask, run.
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
    emlx_status status = block_read(env, task->term, 0, &block, &err);
    if (status == EMLX_OK)
        status = emlx_program_compile(block, task->device->device, &program, &err);
    return finish(env, status, program, &err);
}

static ERL_NIF_TERM run_save(task *task) {
    ErlNifEnv *env = task->to->env;
    emlx_error err;
    emlx_block *block;
    emlx_status status = block_read(env, task->term, 0, &block, &err);
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

static void run_done(void *context, emlx_status status, emlx_tensor **outputs, size_t count,
                     const emlx_error *err) {
    answer *to = context;
    answer_send(to, status == EMLX_OK ? make_outputs(to->env, outputs, count)
                                      : make_error(to->env, status, err));
}

static emlx_status run(ErlNifEnv *env, const ERL_NIF_TERM argv[], const tensor_list *inputs,
                       emlx_error *err) {
    emlx_program *program;
    answer *to;
    TRY(program_get(env, argv[0], &program, err));
    TRY(answer_new(env, argv[2], &to, err));
    emlx_status status =
        emlx_program_run_async(program, inputs->items, inputs->count, run_done, to, err);
    if (status != EMLX_OK) answer_free(to);
    return status;
}

// program_run(program, inputs, reference)
ERL_NIF_TERM nif_program_run(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    tensor_list inputs;
    emlx_status status = tensor_list_get(env, argv[1], &inputs, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    status = run(env, argv, &inputs, &err);
    tensor_list_release(&inputs);
    return status == EMLX_OK ? atoms.wait : make_error(env, status, &err);
}
