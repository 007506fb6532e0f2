// SPDX-License-Identifier: Apache-2.0
// answer.c - answers by message, and tasks that end with one.
#include "jobs/answer.h"

#include <string.h>

#include "jobs/jobs.h"
#include "resources.h"
#include "terms/error.h"

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

static void run_task(job *job) {
    task *t = (task *)job;
    answer *to = t->to;
    ERL_NIF_TERM result = t->run(t);
    if (t->device != NULL) enif_release_resource(t->device);
    enif_free(t);
    answer_send(to, result);
}

emlx_status task_new(ErlNifEnv *env, ERL_NIF_TERM reference, device_res *device, ERL_NIF_TERM term,
                     const char *path, task **out, emlx_error *err) {
    size_t size = strlen(path) + 1;
    task *task = enif_alloc(sizeof *task + size);
    if (task == NULL) return nif_no_memory(err, "for a task");
    emlx_status status = answer_new(env, reference, &task->to, err);
    if (status != EMLX_OK) {
        enif_free(task);
        return status;
    }
    task->job = (job){NULL, run_task};
    task->device = device;
    if (device != NULL) enif_keep_resource(device);
    task->term = enif_make_copy(task->to->env, term);
    memcpy(task->path, path, size);
    *out = task;
    return EMLX_OK;
}

void task_start(task *task, job_kind kind) { job_start(&task->job, kind); }
