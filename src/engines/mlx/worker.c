// SPDX-License-Identifier: Apache-2.0
// worker.c - the one thread that makes a device's calls of MLX.
#include "engines/mlx/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "memory/memory.h"

struct mlx_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    mlx_job *first, **last;
    bool ending;
    bool busy;        // with a job
    mlx_worker *next; // of all there are
};

// The end of the process --------------------------------------------------------------------------

// MLX's own data ends with the process, and nothing may be running in it then: a thread finishes
// its list, which at worst is waited for so long, and takes no other.
#define LONGEST_WAIT 10

static struct {
    pthread_mutex_t lock;
    mlx_worker *first;
    bool watched;
    atomic_bool over;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void rest(mlx_worker *w, const struct timespec *until) {
    pthread_mutex_lock(&w->lock);
    while (w->busy && pthread_cond_timedwait(&w->changed, &w->lock, until) == 0) continue;
    pthread_mutex_unlock(&w->lock);
}

static void rest_all(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LONGEST_WAIT;
    atomic_store(&all.over, true);
    pthread_mutex_lock(&all.lock);
    for (mlx_worker *w = all.first; w != NULL; w = w->next) rest(w, &until);
    pthread_mutex_unlock(&all.lock);
}

void worker_watch_exit(void) {
    pthread_mutex_lock(&all.lock);
    bool watched = all.watched;
    all.watched = true;
    pthread_mutex_unlock(&all.lock);
    if (!watched) atexit(rest_all);
}

static void list_worker(mlx_worker *w) {
    pthread_mutex_lock(&all.lock);
    w->next = all.first;
    all.first = w;
    pthread_mutex_unlock(&all.lock);
}

static void unlist_worker(const mlx_worker *w) {
    pthread_mutex_lock(&all.lock);
    mlx_worker **at = &all.first;
    while (*at != w) at = &(*at)->next;
    *at = w->next;
    pthread_mutex_unlock(&all.lock);
}

// Jobs --------------------------------------------------------------------------------------------

static mlx_job *take_job(mlx_worker *w) {
    pthread_mutex_lock(&w->lock);
    if (w->busy) pthread_cond_broadcast(&w->changed);
    w->busy = false;
    while ((w->first == NULL || atomic_load(&all.over)) && !w->ending)
        pthread_cond_wait(&w->changed, &w->lock);
    mlx_job *job = w->first;
    w->busy = job != NULL;
    if (job != NULL) w->first = job->next;
    if (w->first == NULL) w->last = &w->first;
    pthread_mutex_unlock(&w->lock);
    return job;
}

static void *do_lists(void *context) {
    mlx_job *job;
    while ((job = take_job(context)) != NULL) job->run(job);
    return NULL;
}

emlx_status worker_start(mlx_worker **out, emlx_error *err) {
    mlx_worker *w = mem_alloc(sizeof *w);
    if (w == NULL) return error_no_memory(err, "for MLX's thread");
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    if (pthread_create(&w->thread, NULL, do_lists, w) == 0) {
        list_worker(w);
        *out = w;
        return EMLX_OK;
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w, sizeof *w);
    return error_set(err, EMLX_OUT_OF_MEMORY, "no thread to be had for MLX");
}

void worker_stop(mlx_worker *w) {
    unlist_worker(w);
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w, sizeof *w);
}

void worker_post(mlx_worker *w, mlx_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&w->lock);
    *w->last = job;
    w->last = &job->next;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

// Waiting for a job -------------------------------------------------------------------------------

typedef struct waited_job {
    mlx_job job;
    void (*run)(void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waited_job;

static void run_waited(mlx_job *job) {
    waited_job *j = (waited_job *)job;
    j->run(j->context);
    pthread_mutex_lock(&j->lock);
    j->done = true;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

void worker_do(mlx_worker *w, void (*run)(void *), void *context) {
    waited_job j = {.job = {.run = run_waited}, .run = run, .context = context};
    pthread_mutex_init(&j.lock, NULL);
    pthread_cond_init(&j.changed, NULL);
    worker_post(w, &j.job);
    pthread_mutex_lock(&j.lock);
    while (!j.done) pthread_cond_wait(&j.changed, &j.lock);
    pthread_mutex_unlock(&j.lock);
    pthread_cond_destroy(&j.changed);
    pthread_mutex_destroy(&j.lock);
}
