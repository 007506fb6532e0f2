// SPDX-License-Identifier: Apache-2.0
// observe.c - the library's events as messages to one process. They happen on threads of all kinds,
// of which some must not wait and some may not send: threads for what blocks send them.
#include <stdatomic.h>
#include <stdio.h>

#include "functions.h"
#include "jobs/jobs.h"
#include "terms/terms.h"

// More are not kept for a process that does not keep up; they are lost.
enum { MOST_WAITING = 4096 };
static _Atomic int waiting;

typedef struct notice {
    job job;
    emlx_event event;
    ErlNifPid to;
    char device[64], op[64];
} notice;

static const char *const kinds[] = {
    [EMLX_EVENT_COMPILED] = "compiled",       [EMLX_EVENT_EVALUATED] = "evaluated",
    [EMLX_EVENT_HANDED_OVER] = "handed_over", [EMLX_EVENT_MEMORY] = "memory",
    [EMLX_EVENT_EVICTED] = "evicted",
};

static ERL_NIF_TERM text_or_nil(ErlNifEnv *env, const char *text) {
    return *text != '\0' ? make_text(env, text) : atoms.nil;
}

// {:emlx_event, kind, device, op, {count, bytes, refused, nanoseconds}}. A process that is gone is
// told nothing any more.
static void send_notice(job *job) {
    notice *n = (notice *)job;
    const emlx_event *e = &n->event;
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM numbers =
        enif_make_tuple4(env, enif_make_uint64(env, e->count), enif_make_uint64(env, e->bytes),
                         enif_make_uint64(env, e->refused), enif_make_uint64(env, e->nanoseconds));
    ERL_NIF_TERM message = enif_make_tuple5(
        env, enif_make_atom(env, "emlx_event"), enif_make_atom(env, kinds[e->kind]),
        text_or_nil(env, n->device), text_or_nil(env, n->op), numbers);
    enif_send(NULL, &n->to, env, message);
    enif_free_env(env);
    enif_free(n);
    atomic_fetch_sub(&waiting, 1);
}

static void copy_text(char *to, size_t size, const char *text) {
    if (text != NULL) (void)snprintf(to, size, "%s", text);
}

static void tell(void *context, const emlx_event *event) {
    if (atomic_fetch_add(&waiting, 1) >= MOST_WAITING) {
        atomic_fetch_sub(&waiting, 1);
        return;
    }
    notice *n = enif_alloc(sizeof *n);
    if (n == NULL) {
        atomic_fetch_sub(&waiting, 1);
        return;
    }
    *n = (notice){.job = {NULL, send_notice}, .event = *event, .to = *(ErlNifPid *)context};
    copy_text(n->device, sizeof n->device, event->device);
    copy_text(n->op, sizeof n->op, event->op);
    job_start(&n->job, JOB_ENDS);
}

// observe(pid): from now on that process gets the events; anything else: nobody.
ERL_NIF_TERM nif_observe(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    static ErlNifPid listener; // written while nobody is called
    ErlNifPid pid;
    emlx_observe(NULL, NULL);
    if (enif_get_local_pid(env, argv[0], &pid)) {
        listener = pid;
        emlx_observe(tell, &listener);
    }
    return atoms.ok;
}
