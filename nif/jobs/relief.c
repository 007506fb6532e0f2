// SPDX-License-Identifier: Apache-2.0
// relief.c - giving memory back: when processes are to collect their garbage, waiting until what
// they dropped is gone, and computing what keeps far more alive than it will take.
#include <pthread.h>

#include "functions.h"
#include "jobs/jobs.h"
#include "jobs/relief.h"
#include "terms/terms.h"

// Pressure ------------------------------------------------------------------------------------

// The VM sees a handle of a few words, not what it holds, and so would let the garbage of a process
// grow without bound, each result in fresh memory, which takes longer to get than most take to
// compute. Whoever finds that the bytes in use have grown by an eighth, and by so much at least,
// from the least there were since the last such time is asked to collect its garbage.
static const uint64_t least_growth = (uint64_t)64 << 20;
static _Atomic uint64_t pressure_at = (uint64_t)64 << 20;

static uint64_t grown(uint64_t bytes) {
    return bytes + (bytes / 8 > least_growth ? bytes / 8 : least_growth);
}

bool memory_pressure(void) {
    uint64_t held = emlx_memory_held();
    if (grown(held) < atomic_load(&pressure_at)) atomic_store(&pressure_at, grown(held));
    return held > atomic_load(&pressure_at);
}

// What is in use now is no garbage of that process.
static void pressure_reset(void) { atomic_store(&pressure_at, grown(emlx_memory_held())); }

// Pins ----------------------------------------------------------------------------------------

// So many bytes of tensors are dropped before pins are looked at: some of them may be why the
// memory is still there.
static const size_t dropped_most = (size_t)64 << 20;

static pthread_mutex_t pins_lock = PTHREAD_MUTEX_INITIALIZER;
static pin *first_pin, *last_pin;
static _Atomic size_t dropped;
static _Atomic bool any_pins, flush_queued;
// Whoever computes pins holds this, so that others can wait for it.
static pthread_mutex_t flush_lock = PTHREAD_MUTEX_INITIALIZER;

void pin_add(pin *pin, emlx_tensor *tensor) {
    pthread_mutex_lock(&pins_lock);
    pin->tensor = tensor;
    pin->next = NULL;
    pin->previous = last_pin;
    if (last_pin == NULL)
        first_pin = pin;
    else
        last_pin->next = pin;
    last_pin = pin;
    atomic_store(&pin->linked, true);
    atomic_store(&any_pins, true);
    pthread_mutex_unlock(&pins_lock);
}

// Under the lock.
static void pin_unlink(pin *pin) {
    if (pin->previous == NULL)
        first_pin = pin->next;
    else
        pin->previous->next = pin->next;
    if (pin->next == NULL)
        last_pin = pin->previous;
    else
        pin->next->previous = pin->previous;
    atomic_store(&pin->linked, false);
    atomic_store(&any_pins, first_pin != NULL);
}

void pin_remove(pin *pin) {
    if (!atomic_load(&pin->linked)) return;
    pthread_mutex_lock(&pins_lock);
    if (atomic_load(&pin->linked)) pin_unlink(pin);
    pthread_mutex_unlock(&pins_lock);
}

// A reference to the tensor of the oldest pin, which is one no more; NULL without one.
static emlx_tensor *pin_take(void) {
    pthread_mutex_lock(&pins_lock);
    pin *pin = first_pin;
    emlx_tensor *tensor = pin == NULL ? NULL : emlx_tensor_retain(pin->tensor);
    if (pin != NULL) pin_unlink(pin);
    pthread_mutex_unlock(&pins_lock);
    return tensor;
}

// One that fails stays as it was: whoever reads it is told.
static void flush_pins(void) {
    pthread_mutex_lock(&flush_lock);
    for (emlx_tensor *tensor; (tensor = pin_take()) != NULL;) {
        (void)emlx_eval(&tensor, 1, NULL);
        emlx_tensor_release(tensor);
    }
    pthread_mutex_unlock(&flush_lock);
}

static void run_flush(job *job) {
    (void)job;
    atomic_store(&flush_queued, false);
    flush_pins();
}

static void flush_later(void) {
    static job flush = {NULL, run_flush};
    if (!atomic_exchange(&flush_queued, true)) job_start(&flush, JOB_COMPUTES);
}

static size_t most_dropped(void) {
    emlx_memory info;
    emlx_memory_info(&info);
    return info.limit != 0 && info.limit / 8 < dropped_most ? (size_t)(info.limit / 8)
                                                            : dropped_most;
}

void pins_dropped(emlx_tensor *tensor) {
    if (!atomic_load(&any_pins) || !emlx_tensor_ready(tensor)) return;
    size_t bytes = emlx_tensor_bytes(tensor);
    if (atomic_fetch_add(&dropped, bytes) + bytes < most_dropped()) return;
    atomic_store(&dropped, 0);
    flush_later();
}

// Relief --------------------------------------------------------------------------------------

// The VM runs destructors some time after the collection that found their objects dead, in order.
// A process therefore leaves a marker in its garbage. Where that meets its end it leaves another
// one, which comes after all that was found with the first.
typedef struct relief {
    job job;
    ErlNifPid pid;
    ErlNifEnv *env;
    ERL_NIF_TERM reference;
    bool last;  // the marker is the second one
    bool flush; // what is pinned has to be computed before the answer
} relief;

static ErlNifResourceType *marker_type;

static void run_relief(job *job) {
    enum { PATIENCE_NS = 200000000 };
    relief *r = (relief *)job;
    wait_for_ends(PATIENCE_NS);
    if (r->flush)
        flush_pins();
    else if (atomic_load(&any_pins))
        flush_later();
    pressure_reset();
    enif_send(NULL, &r->pid, r->env, enif_make_tuple2(r->env, r->reference, atoms.ok));
    enif_free_env(r->env);
    enif_free(r);
}

static bool marker_leave(relief *r) {
    relief **marker = enif_alloc_resource(marker_type, sizeof *marker);
    if (marker == NULL) return false;
    *marker = r;
    enif_release_resource(marker);
    return true;
}

static void marker_end(ErlNifEnv *env, void *object) {
    (void)env;
    relief *r = *(relief **)object;
    bool last = r->last;
    r->last = true;
    if (last || !marker_leave(r)) job_start(&r->job, JOB_BLOCKS);
}

bool relief_load(ErlNifEnv *env, ErlNifResourceFlags flags) {
    ErlNifResourceTypeInit init = {.dtor = marker_end};
    marker_type = enif_open_resource_type_x(env, "marker", &init, flags, NULL);
    return marker_type != NULL;
}

static relief *relief_new(ErlNifEnv *env, ERL_NIF_TERM reference, bool flush) {
    relief *r = enif_alloc(sizeof *r);
    if (r == NULL) return NULL;
    *r = (relief){.job = {NULL, run_relief}, .env = enif_alloc_env(), .flush = flush};
    if (r->env == NULL) {
        enif_free(r);
        return NULL;
    }
    enif_self(env, &r->pid);
    r->reference = enif_make_copy(r->env, reference);
    return r;
}

// memory_relieve(flush?, reference): the caller is then to collect its garbage, and gets
// {reference, :ok} when what it dropped is gone.
ERL_NIF_TERM nif_memory_relieve(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    if (!enif_is_ref(env, argv[1])) return enif_make_badarg(env);
    relief *r = relief_new(env, argv[1], argv[0] == atoms.yes);
    relief **marker = r == NULL ? NULL : enif_alloc_resource(marker_type, sizeof *marker);
    if (marker == NULL) {
        if (r != NULL) enif_free_env(r->env);
        enif_free(r);
        return atoms.error;
    }
    *marker = r;
    (void)enif_make_resource(env, marker);
    enif_release_resource(marker);
    return atoms.wait;
}
