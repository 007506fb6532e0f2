// SPDX-License-Identifier: Apache-2.0
// jobs.c - threads for what may block (files, compilation, the end of devices), so that no
// scheduler ever waits, and nothing waits for what it has nothing to do with.
#include "jobs/jobs.h"

#include <erl_nif.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

// Jobs of a kind have threads of their own, which are started when there is a job and none is idle.
// A few remain when there is nothing to do.
enum { IDLE_KEPT = 4 };
// Reading a program recurses, as does writing one.
static const size_t stack_size = (size_t)8 << 20;

typedef struct job_pool {
    job *first, *last;
    int most; // threads at the same time; what blocks has as many as there may ever be such jobs
    int threads, idle;
} job_pool;

// Threads wait here as long as the library is mapped, which is always.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled[JOB_KINDS] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
                                           PTHREAD_COND_INITIALIZER};
static job_pool pools[JOB_KINDS] = {
    [JOB_COMPUTES] = {.most = 16}, [JOB_BLOCKS] = {.most = 1024}, [JOB_ENDS] = {.most = 64}};

// The next job, or NULL for a thread that is not needed any more. Under the lock.
static job *job_take(job_kind kind) {
    job_pool *pool = &pools[kind];
    while (pool->first == NULL) {
        if (pool->idle >= IDLE_KEPT) return NULL;
        pool->idle++;
        pthread_cond_wait(&filled[kind], &lock);
        pool->idle--;
    }
    job *job = pool->first;
    pool->first = job->next;
    if (pool->first == NULL) pool->last = NULL;
    return job;
}

static void *do_jobs(void *argument) {
    job_kind kind = (job_kind)((job_pool *)argument - pools);
    pthread_mutex_lock(&lock);
    for (job *job; (job = job_take(kind)) != NULL;) {
        pthread_mutex_unlock(&lock);
        job->run(job);
        pthread_mutex_lock(&lock);
    }
    pools[kind].threads--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

// Threads take no signals: those are the VM's. Under the lock.
static bool thread_start(job_pool *pool) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, previous;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_size);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    bool started = pthread_create(&thread, &attributes, do_jobs, pool) == 0;
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    pthread_attr_destroy(&attributes);
    if (started) pool->threads++;
    return started;
}

// Where the system has no more threads the job waits for one of those there are.
void job_start(job *job, job_kind kind) {
    job_pool *pool = &pools[kind];
    job->next = NULL;
    pthread_mutex_lock(&lock);
    if (pool->last == NULL)
        pool->first = job;
    else
        pool->last->next = job;
    pool->last = job;
    int waiting = 0;
    for (struct job *j = pool->first; j != NULL && waiting <= pool->idle; j = j->next) waiting++;
    if (waiting > pool->idle && pool->threads < pool->most) thread_start(pool);
    pthread_cond_signal(&filled[kind]);
    pthread_mutex_unlock(&lock);
}

// One thread of each kind, so that every job is done some time.
bool jobs_load(void) {
    bool started = true;
    pthread_mutex_lock(&lock);
    for (int kind = 0; kind < JOB_KINDS; kind++)
        if (pools[kind].threads == 0 && !thread_start(&pools[kind])) started = false;
    pthread_mutex_unlock(&lock);
    return started;
}

// Ends ----------------------------------------------------------------------------------------

typedef struct ending {
    job job;
    void (*end)(void *object);
    void *object;
} ending;

static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static int endings; // that have not come yet; guarded by the lock

static void run_ending(job *job) {
    ending *e = (ending *)job;
    e->end(e->object);
    enif_free(e);
    pthread_mutex_lock(&lock);
    if (--endings == 0) pthread_cond_broadcast(&ended);
    pthread_mutex_unlock(&lock);
}

void end_later(void (*end)(void *object), void *object) {
    ending *e = enif_alloc(sizeof *e);
    if (e == NULL) {
        end(object);
        return;
    }
    *e = (ending){{NULL, run_ending}, end, object};
    pthread_mutex_lock(&lock);
    endings++;
    pthread_mutex_unlock(&lock);
    job_start(&e->job, JOB_ENDS);
}

void wait_for_ends(int64_t nanoseconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    nanoseconds += until.tv_nsec;
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&lock);
    while (endings > 0 && pthread_cond_timedwait(&ended, &lock, &until) == 0) continue;
    pthread_mutex_unlock(&lock);
}
