// SPDX-License-Identifier: Apache-2.0
// answer.h - answers that come later, as messages.
#ifndef EMLX_NIF_ANSWER_H
#define EMLX_NIF_ANSWER_H

#include "jobs/jobs.h"
#include "resources.h"

// Where to send the message {reference, result}. It is a resource that monitors its process: when
// that dies, `cancel` is raised.
typedef struct answer {
    ErlNifPid pid;
    ErlNifEnv *env; // for the result, and for terms that the work needs
    ERL_NIF_TERM reference;
    ErlNifMonitor monitor; // ends with the resource
    emlx_cancel cancel;    // valid until the answer is sent or freed
} answer;

bool answers_open(ErlNifEnv *env, ErlNifResourceFlags flags);
emlx_status answer_new(ErlNifEnv *env, ERL_NIF_TERM reference, answer **out, emlx_error *err);
void answer_free(answer *to);
// Sends a result made in `to->env` and frees `to`. A process that is gone is no error.
void answer_send(answer *to, ERL_NIF_TERM result);

enum { MAX_PATH = 4096 };

// A job whose result is sent as an answer: {:ok, *term}, :ok where `run` leaves that alone, or the
// error that it gives.
typedef struct task task;
typedef emlx_status task_fn(task *task, ERL_NIF_TERM *term, emlx_error *err);
struct task {
    job job;
    answer *to;
    task_fn *run;
    device_res *device; // or NULL; kept
    ERL_NIF_TERM term;  // of to->env
    char path[];
};

// Starts a task with copies of `term` and `path`. `device` may be NULL. Gives :wait, or an error.
ERL_NIF_TERM task_start(ErlNifEnv *env, task_fn *run, job_kind kind, device_res *device,
                        ERL_NIF_TERM term, const char *path, ERL_NIF_TERM reference);
// The same for a device and a path that are given as terms; NULL for what it does not take.
ERL_NIF_TERM task_ask(ErlNifEnv *env, task_fn *run, job_kind kind, const ERL_NIF_TERM *device,
                      ERL_NIF_TERM term, const ERL_NIF_TERM *path, ERL_NIF_TERM reference);

#endif
