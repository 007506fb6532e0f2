// SPDX-License-Identifier: Apache-2.0
// answer.c - answers by message, and threads for work that may block (files, compilation), so
// that no scheduler ever waits.
#include "nif.h"

#include <string.h>

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
    if (to == NULL) return nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory for an answer");
    to->cancel = (emlx_cancel){0};
    to->env = enif_alloc_env();
    if (to->env == NULL || enif_self(env, &to->pid) == NULL ||
        enif_monitor_process(env, to, &to->pid, &to->monitor) != 0) {
        answer_free(to);
        return nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory for an answer, or no process for it");
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

// Threads -------------------------------------------------------------------------------------

// One slow file should not hold up a compilation, hence more than one thread. They wait for work
// as long as the library is mapped, which is always.
enum { THREADS = 4 };

static ErlNifMutex *queue_mutex;
static ErlNifCond *queue_filled;
static task *queue_first, **queue_last = &queue_first;

static task *queue_take(void) {
    enif_mutex_lock(queue_mutex);
    while (queue_first == NULL) enif_cond_wait(queue_filled, queue_mutex);
    task *task = queue_first;
    queue_first = task->next;
    if (queue_first == NULL) queue_last = &queue_first;
    enif_mutex_unlock(queue_mutex);
    return task;
}

static void task_free(task *task) {
    if (task->device != NULL) enif_release_resource(task->device);
    enif_free(task);
}

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        task *task = queue_take();
        answer *to = task->to;
        ERL_NIF_TERM result = task->run(task);
        task_free(task);
        answer_send(to, result);
    }
    return NULL;
}

bool queue_load(void) {
    if (queue_mutex != NULL) return true;
    queue_filled = enif_cond_create("emlx_queue");
    queue_mutex = enif_mutex_create("emlx_queue");
    if (queue_filled == NULL || queue_mutex == NULL) return false;
    int started = 0;
    for (int i = 0; i < THREADS; i++) {
        ErlNifTid thread;
        if (enif_thread_create("emlx_work", &thread, work, NULL, NULL) == 0) started++;
    }
    return started > 0;
}

emlx_status task_new(ErlNifEnv *env, ERL_NIF_TERM reference, device_res *device, ERL_NIF_TERM term,
                     const char *path, task **out, emlx_error *err) {
    size_t size = strlen(path) + 1;
    task *task = enif_alloc(sizeof *task + size);
    if (task == NULL) return nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory for a task");
    emlx_status status = answer_new(env, reference, &task->to, err);
    if (status != EMLX_OK) {
        enif_free(task);
        return status;
    }
    task->next = NULL;
    task->device = device;
    if (device != NULL) enif_keep_resource(device);
    task->term = enif_make_copy(task->to->env, term);
    memcpy(task->path, path, size);
    *out = task;
    return EMLX_OK;
}

void task_start(task *task) {
    enif_mutex_lock(queue_mutex);
    *queue_last = task;
    queue_last = &task->next;
    enif_cond_signal(queue_filled);
    enif_mutex_unlock(queue_mutex);
}
