// SPDX-License-Identifier: Apache-2.0
// background.c - a thread that is started with its first job and stays as long as the process.
#include "engines/cuda/driver/background.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more, ended;
    background_job *first, **end;
    const void *running; // whose job
    bool started, over;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .more = PTHREAD_COND_INITIALIZER,
         .ended = PTHREAD_COND_INITIALIZER,
         .end = &all.first};

static void *work(void *context) {
    (void)context;
    pthread_mutex_lock(&all.lock);
    while (!all.over) {
        background_job *job = all.first;
        if (job == NULL) {
            pthread_cond_wait(&all.more, &all.lock);
            continue;
        }
        all.first = job->next;
        if (all.first == NULL) all.end = &all.first;
        all.running = job->owner;
        pthread_mutex_unlock(&all.lock);
        job->run(job, true);
        pthread_mutex_lock(&all.lock);
        all.running = NULL;
        pthread_cond_broadcast(&all.ended);
    }
    pthread_mutex_unlock(&all.lock);
    while (true) pause();
    return NULL;
}

// At the end of the process libraries take themselves down: what has begun is waited for before
// they do, and nothing else begins.
static void finish(void) {
    pthread_mutex_lock(&all.lock);
    all.over = true;
    while (all.running != NULL) pthread_cond_wait(&all.ended, &all.lock);
    pthread_mutex_unlock(&all.lock);
}

// Under the lock. The thread takes no signals: those are the host program's.
static bool start(void) {
    pthread_t id;
    sigset_t every, previous;
    if (all.started) return true;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &previous);
    all.started = pthread_create(&id, NULL, work, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (all.started) {
        pthread_detach(id);
        atexit(finish);
    }
    return all.started;
}

void background_submit(background_job *job) {
    pthread_mutex_lock(&all.lock);
    bool taken = !all.over && start();
    if (taken) {
        job->next = NULL;
        *all.end = job;
        all.end = &job->next;
        pthread_cond_signal(&all.more);
    }
    pthread_mutex_unlock(&all.lock);
    if (!taken) job->run(job, false);
}

void background_drop(const void *owner) {
    background_job *dropped = NULL;
    pthread_mutex_lock(&all.lock);
    background_job **at = &all.first;
    while (*at != NULL) {
        background_job *job = *at;
        if (job->owner != owner) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->next = dropped;
        dropped = job;
    }
    all.end = at;
    while (all.running == owner) pthread_cond_wait(&all.ended, &all.lock);
    pthread_mutex_unlock(&all.lock);
    for (background_job *next; dropped != NULL; dropped = next) {
        next = dropped->next;
        dropped->run(dropped, false);
    }
}
