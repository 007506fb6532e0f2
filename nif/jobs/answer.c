// SPDX-License-Identifier: Apache-2.0
// answer.c - answers by message, and tasks that end with one.
#include "jobs/answer.h"

#include <string.h>

#include "jobs/jobs.h"
#include "resources.h"
#include "terms/error.h"
#include "terms/terms.h"

static ErlNifResourceType *answer_type;

// What nobody waits for any more need not be done.
static void caller_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor) {
    (void)env, (void)pid, (void)monitor;
    emlx_cancel_raise(&((answer *)object)->cancel);
}

bool answers_open(ErlNifEnv *env, ErlNifResourceFlags flags) {
    // No destructor: it would cost each answer a trip through a scheduler.
    ErlNifResourceTypeInit init = {.down = caller_down};
    answer_type = enif_open_resource_type_x(env, "answer", &init, flags, NULL);
    return answer_type != NULL;
}

emlx_status answer_new(ErlNifEnv *env, ERL_NIF_TERM reference, answer **out, emlx_error *err) {
    if (!enif_is_ref(env, reference))
        return nif_fail(err, EMLX_INVALID, "a reference for the answer was expected");
    answer *to = enif_alloc_resource(answer_type, sizeof *to);
    if (to == NULL) return nif_no_memory(err, "for an answer");
    to->cancel = (emlx_cancel){0};
    to->env = enif_alloc_env();
    if (to->env == NULL || enif_self(env, &to->pid) == NULL ||
        enif_monitor_process(env, to, &to->pid, &to->monitor) != 0) {
        answer_free(to);
        return nif_no_memory(err, "for an answer, or no process for it");
    }
    to->reference = enif_make_copy(to->env, reference);
    *out = to;
    return EMLX_OK;
}

void answer_free(answer *to) {
    if (to->env != NULL) enif_free_env(to->env);
    enif_release_resource(to);
}

void answer_send(answer *to, ERL_NIF_TERM result) {
    enif_send(NULL, &to->pid, to->env, enif_make_tuple2(to->env, to->reference, result));
    answer_free(to);
}

// Tasks ---------------------------------------------------------------------------------------

static ERL_NIF_TERM result_of(task *t) {
    emlx_error err;
    ERL_NIF_TERM term = 0;
    emlx_status status = t->run(t, &term, &err);
    if (status != EMLX_OK) return make_error(t->to->env, status, &err);
    return term == 0 ? atoms.ok : make_ok(t->to->env, term);
}

static void run_task(job *job) {
    task *t = (task *)job;
    answer *to = t->to;
    ERL_NIF_TERM result = result_of(t);
    if (t->device != NULL) enif_release_resource(t->device);
    enif_free(t);
    answer_send(to, result);
}

static emlx_status task_new(ErlNifEnv *env, ERL_NIF_TERM reference, const char *path, task **out,
                            emlx_error *err) {
    size_t size = strlen(path) + 1;
    task *task = enif_alloc(sizeof *task + size);
    if (task == NULL) return nif_no_memory(err, "for a task");
    emlx_status status = answer_new(env, reference, &task->to, err);
    if (status != EMLX_OK) {
        enif_free(task);
        return status;
    }
    memcpy(task->path, path, size);
    *out = task;
    return EMLX_OK;
}

ERL_NIF_TERM task_start(ErlNifEnv *env, task_fn *run, job_kind kind, device_res *device,
                        ERL_NIF_TERM term, const char *path, ERL_NIF_TERM reference) {
    emlx_error err;
    task *task;
    emlx_status status = task_new(env, reference, path, &task, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    task->job = (job){NULL, run_task};
    task->run = run;
    task->device = device;
    if (device != NULL) enif_keep_resource(device);
    task->term = enif_make_copy(task->to->env, term);
    job_start(&task->job, kind);
    return atoms.wait;
}

ERL_NIF_TERM task_ask(ErlNifEnv *env, task_fn *run, job_kind kind, const ERL_NIF_TERM *device,
                      ERL_NIF_TERM term, const ERL_NIF_TERM *path, ERL_NIF_TERM reference) {
    emlx_error err;
    device_res *on = NULL;
    char text[MAX_PATH] = "";
    emlx_status status = EMLX_OK;
    if (device != NULL) status = device_get(env, *device, &on, &err);
    if (status == EMLX_OK && path != NULL)
        status = read_text(env, *path, "a path", text, sizeof text, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return task_start(env, run, kind, on, term, text, reference);
}
