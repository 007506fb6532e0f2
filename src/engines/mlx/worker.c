// SPDX-License-Identifier: Apache-2.0
// worker.c - the one thread that makes a device's calls of MLX.
#include "engines/mlx/worker.h"

#include <pthread.h>

#include "base/error.h"
#include "memory/memory.h"

struct mlx_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    mlx_job *first, **last;
    bool ending;
};

static mlx_job *take_job(mlx_worker *w) {
    pthread_mutex_lock(&w->lock);
    while (w->first == NULL && !w->ending) pthread_cond_wait(&w->changed, &w->lock);
    mlx_job *job = w->first;
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
        *out = w;
        return EMLX_OK;
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w, sizeof *w);
    return error_set(err, EMLX_OUT_OF_MEMORY, "no thread to be had for MLX");
}

void worker_stop(mlx_worker *w) {
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
