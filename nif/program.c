// SPDX-License-Identifier: Apache-2.0
// program.c - the functions on programs: compile, save, load, ask, run; and on queues.
#include <string.h>

#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "jobs/relief.h"
#include "resources.h"
#include "terms/block.h"
#include "terms/error.h"
#include "terms/terms.h"

static emlx_status run_compile(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    emlx_block *block;
    emlx_program *program;
    TRY(block_read(task->to->env, task->term, 0, &block, err));
    TRY(emlx_program_compile(block, task->device->device, &program, err));
    return make_program(task->to->env, program, term, err);
}

static emlx_status run_save(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    (void)term;
    emlx_block *block;
    TRY(block_read(task->to->env, task->term, 0, &block, err));
    emlx_status status = emlx_block_save(block, task->path, err);
    emlx_block_release(block);
    return status;
}

static emlx_status run_load(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    emlx_program *program;
    TRY(emlx_program_load(task->path, task->device->device, &program, err));
    return make_program(task->to->env, program, term, err);
}

// program_compile(device, block, reference)
ERL_NIF_TERM nif_program_compile(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_compile, JOB_COMPUTES, &argv[0], argv[1], NULL, argv[2]);
}

// program_save(block, path, reference)
ERL_NIF_TERM nif_program_save(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_save, JOB_BLOCKS, NULL, argv[0], &argv[1], argv[2]);
}

// program_load(device, path, reference)
ERL_NIF_TERM nif_program_load(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_load, JOB_BLOCKS, &argv[0], atoms.nil, &argv[1], argv[2]);
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

static ERL_NIF_TERM make_stop(ErlNifEnv *env, const emlx_stop *stop) {
    if (stop->status != EMLX_OK) return make_error(env, stop->status, stop->err);
    if (stop->run != NULL) return make_call(env, stop);
    return make_outputs(env, stop->tensors, stop->count);
}

static void stopped_later(void *context, const emlx_stop *stop) {
    answer *to = context;
    answer_send(to, make_stop(to->env, stop));
}

// A run, or the rest of one, to be started by this call of a native function.
typedef struct starting {
    ErlNifEnv *env;
    emlx_program *program; // or NULL: go on with `run`
    emlx_run *run;
    tensor_list *tensors;
    bool *given; // of a program's inputs: references of the list, which are all the run's
    ERL_NIF_TERM queue, reference;
    ERL_NIF_TERM result;
} starting;

static void stopped_here(void *context, const emlx_stop *stop) {
    starting *s = context;
    s->result = make_stop(s->env, stop);
}

// A program takes the list's references over: it then holds inputs alone that are held by no term.
static emlx_status start_as(const starting *s, const emlx_work *work, emlx_stopped stopped,
                            void *context, emlx_error *err) {
    tensor_list *t = s->tensors;
    if (s->program == NULL)
        return emlx_run_resume(s->run, t->items, t->count, work, stopped, context, err);
    emlx_work with = *work;
    with.given = s->given;
    size_t count = t->count;
    t->count = 0;
    return emlx_program_start(s->program, t->items, count, &with, stopped, context, err);
}

// What takes some microseconds is done at once.
static emlx_status start_here(starting *s, emlx_error *err) {
    return start_as(s, &(emlx_work){.here = true}, stopped_here, s, err);
}

static emlx_status start_later(starting *s, emlx_queue *queue, emlx_error *err) {
    answer *to;
    TRY(answer_new(s->env, s->reference, &to, err));
    emlx_work work = {.cancel = &to->cancel, .queue = queue};
    emlx_status status = start_as(s, &work, stopped_later, to, err);
    if (status != EMLX_OK) answer_free(to);
    s->result = atoms.wait;
    return status;
}

// Asking computes inputs that are pending, where that is brief.
static bool is_brief(const starting *s) {
    const tensor_list *t = s->tensors;
    return s->program != NULL ? emlx_program_brief(s->program, t->items, t->count)
                              : emlx_run_brief(s->run, t->items, t->count);
}

static emlx_status start_run(starting *s, emlx_error *err) {
    emlx_queue *queue;
    TRY(queue_get(s->env, s->queue, &queue, err));
    ErlNifTime started = enif_monotonic_time(ERL_NIF_USEC);
    emlx_status status =
        queue == NULL && is_brief(s) ? start_here(s, err) : start_later(s, queue, err);
    account(s->env, started);
    return status;
}

static emlx_status run_program(starting *s, ERL_NIF_TERM program, emlx_error *err) {
    TRY(program_get(s->env, program, &s->program, err));
    s->given = enif_alloc(s->tensors->count + 1);
    if (s->given == NULL) return nif_no_memory(err, "to start a run");
    memset(s->given, true, s->tensors->count + 1);
    emlx_status status = start_run(s, err);
    enif_free(s->given);
    return status;
}

// Of two processes that answer the same call, one is refused.
static emlx_status resume_run(starting *s, ERL_NIF_TERM run, emlx_error *err) {
    run_res *res;
    TRY(run_get(s->env, run, &res, err));
    s->run = atomic_exchange(&res->run, NULL);
    if (s->run == NULL)
        return nif_fail(err, EMLX_INVALID, "the run does not wait for an answer any more");
    emlx_status status = start_run(s, err);
    if (status != EMLX_OK) atomic_store(&res->run, s->run);
    return status;
}

static ERL_NIF_TERM start_call(ErlNifEnv *env, const ERL_NIF_TERM argv[], ERL_NIF_TERM reference,
                               emlx_status (*how)(starting *s, ERL_NIF_TERM what,
                                                  emlx_error *err)) {
    emlx_error err;
    tensor_list tensors;
    emlx_status status = tensor_list_get(env, argv[1], &tensors, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    starting s = {.env = env, .tensors = &tensors, .queue = argv[2], .reference = reference};
    status = how(&s, argv[0], &err);
    tensor_list_release(&tensors);
    return status == EMLX_OK ? s.result : make_error(env, status, &err);
}

// program_run(program, inputs, queue or nil, collected?, reference), an input being a tensor, or
// {:given, tensor}, which is deallocated with the call: {:ok, outputs}, or
// {:call, run, number, operands} where the program calls its host; or :wait and a message with
// that; or :pressure.
ERL_NIF_TERM nif_program_run(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    if (argv[3] != atoms.yes && memory_pressure()) return atoms.pressure;
    return start_call(env, argv, argv[4], run_program);
}

// program_resume(run, results, queue or nil, reference): answers the call, and is answered as above
ERL_NIF_TERM nif_program_resume(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return start_call(env, argv, argv[3], resume_run);
}

static void end_run(void *run) { emlx_run_release(run); }

// program_drop(run): gives up a run that waits, before its reference is collected.
ERL_NIF_TERM nif_program_drop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    run_res *res;
    emlx_error err;
    emlx_status status = run_get(env, argv[0], &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    emlx_run *run = atomic_exchange(&res->run, NULL);
    if (run != NULL) end_later(end_run, run);
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
