// SPDX-License-Identifier: Apache-2.0
// pool.c - worker threads that run queued jobs and help with parallel loops.
//
// One lock guards the queue, the list of running loops and who sleeps. A loop's record lives on
// its caller's stack: a helper may touch it only between joining it, under the lock, and leaving
// it, under the lock, and the caller returns only when nobody is between the two.
//
// Memory comes from calloc here, because this part lies below src/memory.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // sched_getaffinity
#endif
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#include "base/cancel.h"
#include "base/cgroup.h"
#include "base/error.h"
#include "base/mutex.h"

#define MAX_THREADS 1024
#define MAX_NICE 19
// Kernels and LAPACK keep tiles and small arrays on the stack; some systems' default is 512 KB.
#define STACK_SIZE ((size_t)8 << 20)
// Rounds of looking for work before going to sleep: a few microseconds, less than a wake-up costs.
#define SPINS 100
// Relief workers of the shared pool. The first takes only small jobs. More of them would share the
// cores among more long jobs, but make the host program's own threads wait for their turn.
#define RELIEF 3
// A queue that has not moved for this long gets relief; for a while after that, at once.
#define PATIENCE_NS ((int64_t)2000000)
#define WARM_NS ((int64_t)50000000)
// How long the end of the process waits for a worker that is in the middle of something.
#define EXIT_SECONDS 2

typedef struct pool_loop {
    struct pool_loop *next, *previous;
    pool_body body;
    void *context;
    const emlx_cancel *cancel; // may be NULL
    int64_t count;
    _Atomic int64_t taken; // indices below it are given out
    atomic_bool cancelled; // indices were left out
    int room;              // how many helpers may still join; guarded by the lock
    atomic_int helpers;    // inside now; changed under the lock
    pthread_cond_t left;   // signalled when the last helper leaves
} pool_loop;

typedef enum job_size { ANY_SIZE, SMALL, SIZES } job_size;

typedef struct job_queue {
    pool_job *first, *last;
    int64_t moved;       // when a job was last taken, or added to an empty queue
    pthread_cond_t late; // relief workers for this queue wait here
    int watching;        // how many do
} job_queue;

struct thread_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    atomic_uint news; // changes with every job, loop and stop, so that spinning needs no lock
    job_queue queues[SIZES];
    uint64_t submitted;
    atomic_int queued; // jobs in both queues; changed under the lock
    int64_t warm;      // until then relief is given at once
    pool_loop *first_loop, *last_loop;
    int idle; // workers that look for work, asleep or not
    int sleeping;
    bool stopping;
    bool abandoned; // nobody joins the workers: the last one to end frees the pool
    int running;    // workers that have not ended, of both kinds
    int references; // guarded by shared_lock
    int threads;
    int relief;
    pthread_t ids[]; // of the workers, then of the relief
};

// Guards `shared` and every pool's count of references.
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static thread_pool *shared;
// The pool that the running thread works for, or NULL.
static _Thread_local thread_pool *own_pool;

// Set once, when the process ends.
static atomic_bool exiting;

static void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Wakes up to `wanted` sleepers. Under the lock.
static void wake(thread_pool *pool, int wanted) {
    atomic_fetch_add_explicit(&pool->news, 1, memory_order_release);
    for (int i = 0; i < wanted && i < pool->sleeping; i++) pthread_cond_signal(&pool->work);
}

static void wake_all(thread_pool *pool) {
    atomic_fetch_add_explicit(&pool->news, 1, memory_order_release);
    pthread_cond_broadcast(&pool->work);
    for (int i = 0; i < SIZES; i++) pthread_cond_broadcast(&pool->queues[i].late);
}

// At the end of the process a worker stays where it is, for ever: libraries that it would call take
// themselves down, and what a job would answer has nobody to hear it.
static void park_if_exiting(void) {
    thread_pool *pool = own_pool;
    if (pool == NULL || !atomic_load_explicit(&exiting, memory_order_relaxed)) return;
    mutex_lock(&pool->lock);
    pool->running--;
    pthread_cond_broadcast(&pool->work);
    mutex_unlock(&pool->lock);
    for (;;) pause();
}

// Jobs ------------------------------------------------------------------------------------------

// The clock of the condition variables, where that can be chosen.
#if defined(__APPLE__)
#define POOL_CLOCK CLOCK_REALTIME
static void late_init(pthread_cond_t *late) { pthread_cond_init(late, NULL); }
#else
#define POOL_CLOCK CLOCK_MONOTONIC
static void late_init(pthread_cond_t *late) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, POOL_CLOCK);
    pthread_cond_init(late, &attributes);
    pthread_condattr_destroy(&attributes);
}
#endif

static int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(POOL_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static pool_job *queue_take(thread_pool *pool, job_queue *queue) {
    pool_job *job = queue->first;
    queue->first = job->next;
    if (queue->first == NULL) queue->last = NULL;
    queue->moved = clock_now();
    atomic_fetch_sub_explicit(&pool->queued, 1, memory_order_relaxed);
    return job;
}

// The queue with the oldest job, or NULL.
static job_queue *oldest_queue(thread_pool *pool) {
    job_queue *any = &pool->queues[ANY_SIZE], *small = &pool->queues[SMALL];
    if (any->first == NULL) return small->first == NULL ? NULL : small;
    return small->first != NULL && small->first->number < any->first->number ? small : any;
}

static pool_job *job_take(thread_pool *pool) {
    job_queue *queue = oldest_queue(pool);
    return queue == NULL ? NULL : queue_take(pool, queue);
}

void pool_submit(thread_pool *pool, pool_job *job) {
    job->next = NULL;
    mutex_lock(&pool->lock);
    job_queue *queue = &pool->queues[job->small ? SMALL : ANY_SIZE];
    job->number = pool->submitted++;
    if (queue->last == NULL) {
        queue->first = job;
        queue->moved = clock_now();
    } else {
        queue->last->next = job;
    }
    queue->last = job;
    int queued = atomic_fetch_add_explicit(&pool->queued, 1, memory_order_relaxed) + 1;
    wake(pool, 1);
    if (queued > pool->idle && queue->watching > 0) pthread_cond_signal(&queue->late);
    mutex_unlock(&pool->lock);
}

// Loops -----------------------------------------------------------------------------------------

// Runs indices until all are given out or, given a pool, until a job is queued there.
static void loop_run(pool_loop *loop, thread_pool *pool) {
    for (;;) {
        park_if_exiting();
        if (pool != NULL && atomic_load_explicit(&pool->queued, memory_order_relaxed) > 0) return;
        int64_t index = atomic_fetch_add_explicit(&loop->taken, 1, memory_order_relaxed);
        if (index >= loop->count) return;
        if (cancel_raised(loop->cancel)) {
            atomic_store_explicit(&loop->cancelled, true, memory_order_relaxed);
            atomic_store_explicit(&loop->taken, loop->count, memory_order_relaxed);
            return;
        }
        loop->body(loop->context, index);
    }
}

static void loop_link(thread_pool *pool, pool_loop *loop) {
    loop->previous = pool->last_loop;
    if (pool->last_loop == NULL) {
        pool->first_loop = loop;
    } else {
        pool->last_loop->next = loop;
    }
    pool->last_loop = loop;
}

static void loop_unlink(thread_pool *pool, pool_loop *loop) {
    if (loop->previous == NULL) {
        pool->first_loop = loop->next;
    } else {
        loop->previous->next = loop->next;
    }
    if (loop->next == NULL) {
        pool->last_loop = loop->previous;
    } else {
        loop->next->previous = loop->previous;
    }
}

// Joins the oldest loop that has work left and room. Under the lock.
static pool_loop *loop_join(thread_pool *pool) {
    for (pool_loop *loop = pool->first_loop; loop != NULL; loop = loop->next) {
        int64_t taken = atomic_load_explicit(&loop->taken, memory_order_relaxed);
        if (loop->room == 0 || taken >= loop->count) continue;
        loop->room--;
        atomic_fetch_add_explicit(&loop->helpers, 1, memory_order_relaxed);
        // Each helper wakes two more, so that many cores start in a few wake-ups' time.
        int64_t rest = loop->count - taken - 1;
        wake(pool, rest < 2 || loop->room < 2 ? (rest > 0 && loop->room > 0) : 2);
        return loop;
    }
    return NULL;
}

// Helps until the loop's indices are given out or a job is queued. Called and left under the lock.
static void loop_help(thread_pool *pool, pool_loop *loop) {
    mutex_unlock(&pool->lock);
    loop_run(loop, pool);
    mutex_lock(&pool->lock);
    loop->room++;
    if (atomic_fetch_sub_explicit(&loop->helpers, 1, memory_order_release) == 1) {
        pthread_cond_signal(&loop->left);
    }
}

// Waits until no helper is inside the loop, whose indices are all given out.
static void loop_finish(thread_pool *pool, pool_loop *loop) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&loop->helpers, memory_order_relaxed) == 0) break;
        spin_pause();
    }
    mutex_lock(&pool->lock);
    loop_unlink(pool, loop);
    while (atomic_load_explicit(&loop->helpers, memory_order_acquire) != 0) {
        pthread_cond_wait(&loop->left, &pool->lock);
    }
    mutex_unlock(&pool->lock);
}

// Runs the loop with the help of idle workers.
static void loop_share(thread_pool *pool, pool_loop *loop) {
    int64_t most = pool->threads - 1 < loop->count - 1 ? pool->threads - 1 : loop->count - 1;
    loop->room = (int)most;
    pthread_cond_init(&loop->left, NULL);
    mutex_lock(&pool->lock);
    loop_link(pool, loop);
    wake(pool, most < 2 ? (int)most : 2);
    mutex_unlock(&pool->lock);
    loop_run(loop, NULL);
    loop_finish(pool, loop);
    pthread_cond_destroy(&loop->left);
}

bool pool_for_unless(thread_pool *pool, const emlx_cancel *cancel, int64_t count, pool_body body,
                     void *context) {
    pool_loop loop = {.body = body, .context = context, .cancel = cancel, .count = count};
    if (count < 2 || pool->threads < 2)
        loop_run(&loop, NULL);
    else
        loop_share(pool, &loop);
    return !atomic_load_explicit(&loop.cancelled, memory_order_relaxed);
}

void pool_for(thread_pool *pool, int64_t count, pool_body body, void *context) {
    (void)pool_for_unless(pool, NULL, count, body, context);
}

// Workers ---------------------------------------------------------------------------------------

static void pool_destroy(thread_pool *pool) {
    for (int i = 0; i < SIZES; i++) pthread_cond_destroy(&pool->queues[i].late);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

// Waits for news: spinning a little first, as work often comes right after work.
// Called and left under the lock.
static void worker_wait(thread_pool *pool) {
    unsigned seen = atomic_load_explicit(&pool->news, memory_order_relaxed);
    pool->idle++;
    mutex_unlock(&pool->lock);
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->news, memory_order_relaxed) != seen) break;
        spin_pause();
    }
    mutex_lock(&pool->lock);
    if (atomic_load_explicit(&pool->news, memory_order_relaxed) == seen) {
        pool->sleeping++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->sleeping--;
    }
    pool->idle--;
}

// Called and left under the lock.
static void run_unlocked(thread_pool *pool, pool_job *job) {
    mutex_unlock(&pool->lock);
    park_if_exiting();
    job->run(job);
    mutex_lock(&pool->lock);
}

// Runs jobs and helps with loops until the pool stops and its queue is empty. Under the lock.
static void worker_loop(thread_pool *pool) {
    for (;;) {
        pool_job *job = job_take(pool);
        if (job != NULL) {
            run_unlocked(pool, job);
            continue;
        }
        pool_loop *loop = loop_join(pool);
        if (loop != NULL) {
            loop_help(pool, loop);
        } else if (pool->stopping) {
            return;
        } else if (atomic_load_explicit(&exiting, memory_order_relaxed)) {
            mutex_unlock(&pool->lock);
            park_if_exiting();
        } else {
            worker_wait(pool);
        }
    }
}

// Relief ----------------------------------------------------------------------------------------

// Until when to leave the queue to the workers, or 0: no longer.
static int64_t relief_time(const thread_pool *pool, const job_queue *queue) {
    int64_t now = clock_now(), due = queue->moved + PATIENCE_NS;
    return now < pool->warm || now >= due ? 0 : due;
}

// Waits for a job, or with one there until `time`. Under the lock.
static void relief_wait(thread_pool *pool, job_queue *queue, int64_t time) {
    queue->watching++;
    if (time == 0) {
        pthread_cond_wait(&queue->late, &pool->lock);
    } else {
        struct timespec until = {time / 1000000000, time % 1000000000};
        pthread_cond_timedwait(&queue->late, &pool->lock, &until);
    }
    queue->watching--;
}

// Takes a job that is late, and sees to it that somebody watches those behind it.
static pool_job *relief_take(thread_pool *pool, job_queue *queue) {
    int64_t now = clock_now();
    if (now >= pool->warm) pool->warm = now + WARM_NS;
    pool_job *job = queue_take(pool, queue);
    if (queue->first != NULL && queue->watching > 0) pthread_cond_signal(&queue->late);
    return job;
}

// Takes late jobs until the pool stops; what is then left is for the workers. Under the lock.
static void relief_loop(thread_pool *pool, job_queue *queue) {
    while (!pool->stopping) {
        if (atomic_load_explicit(&exiting, memory_order_relaxed)) {
            mutex_unlock(&pool->lock);
            park_if_exiting();
        }
        int64_t time = queue->first == NULL ? 0 : relief_time(pool, queue);
        if (queue->first == NULL || time > 0)
            relief_wait(pool, queue, time);
        else
            run_unlocked(pool, relief_take(pool, queue));
    }
}

// Starting and ending ---------------------------------------------------------------------------

// How far workers step back behind other threads of the process.
static atomic_int yielding;

void emlx_threads_yield(int steps) { atomic_store(&yielding, steps); }

// A whole number of the environment between `least` and `most`, else `otherwise`.
static int setting(const char *name, int least, int most, int otherwise) {
    const char *text = getenv(name);
    char *end = NULL;
    long value = text == NULL ? 0 : strtol(text, &end, 10);
    bool valid = end != NULL && end != text && *end == '\0' && value >= least && value <= most;
    return valid ? (int)value : otherwise;
}

static void step_back(void) {
#if defined(__linux__)
    int steps = setting("EMLX_NICE", 0, MAX_NICE, atomic_load(&yielding));
    id_t self = (id_t)syscall(SYS_gettid);
    if (steps > 0) setpriority(PRIO_PROCESS, self, getpriority(PRIO_PROCESS, self) + steps);
#endif
}

// A thread finds out by itself which of the pool's it is.
static int own_index(const thread_pool *pool) {
    int index = 0;
    while (!pthread_equal(pool->ids[index], pthread_self())) index++;
    return index;
}

static void *worker_main(void *argument) {
    thread_pool *pool = argument;
    own_pool = pool;
    step_back();
    mutex_lock(&pool->lock);
    int relief = own_index(pool) - pool->threads;
    if (relief < 0)
        worker_loop(pool);
    else
        relief_loop(pool, &pool->queues[relief == 0 ? SMALL : ANY_SIZE]);
    bool last = --pool->running == 0 && pool->abandoned;
    mutex_unlock(&pool->lock);
    if (last) pool_destroy(pool);
    return NULL;
}

// Starts workers until there are `wanted` or the system has no more; returns how many.
// They take no signals: those are the host program's.
static int start_workers(thread_pool *pool, int wanted) {
    pthread_attr_t attributes;
    sigset_t all, previous;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    int started = 0;
    while (started < wanted &&
           pthread_create(&pool->ids[started], &attributes, worker_main, pool) == 0) {
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

static emlx_status pool_start(int threads, int relief, thread_pool **out, emlx_error *err) {
    size_t most = (size_t)threads + (size_t)relief;
    thread_pool *pool = calloc(1, sizeof *pool + most * sizeof *pool->ids);
    if (pool == NULL) {
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    for (int i = 0; i < SIZES; i++) late_init(&pool->queues[i].late);
    pool->references = 1;
    // The workers wait for the lock, and so for the counts, before they do anything.
    mutex_lock(&pool->lock);
    pool->running = start_workers(pool, threads + relief);
    pool->threads = pool->running < threads ? pool->running : threads;
    pool->relief = pool->running - pool->threads;
    mutex_unlock(&pool->lock);
    if (pool->threads == 0) {
        pool_destroy(pool);
        return error_set(err, EMLX_OUT_OF_MEMORY, "the system starts no thread, %d were wanted",
                         threads);
    }
    *out = pool;
    return EMLX_OK;
}

emlx_status pool_new(int threads, thread_pool **out, emlx_error *err) {
    if (threads < 1 || threads > MAX_THREADS) {
        return error_set(err, EMLX_INVALID, "thread pool of %d threads, expected 1 to %d", threads,
                         MAX_THREADS);
    }
    return pool_start(threads, 0, out, err);
}

// Cores that this process may use.
static int core_count(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
    int quota = cgroup_cores(&cgroup_own);
    if (quota > 0 && quota < cores) cores = quota;
    return cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (int)cores;
}

static int wanted_threads(void) {
    return setting("EMLX_NUM_THREADS", 1, MAX_THREADS, core_count());
}

emlx_status pool_acquire(thread_pool **out, emlx_error *err) {
    emlx_status status = EMLX_OK;
    mutex_lock(&shared_lock);
    if (shared == NULL) {
        status = pool_start(wanted_threads(), RELIEF, &shared, err);
    } else {
        shared->references++;
    }
    if (status == EMLX_OK) *out = shared;
    mutex_unlock(&shared_lock);
    return status;
}

// Ends the workers once the queue is empty. A worker cannot wait for itself, nor for others that
// may be waiting for its job: then the threads are left to end alone.
static void pool_stop(thread_pool *pool) {
    bool abandon = own_pool == pool;
    int threads = pool->threads + pool->relief;
    for (int i = 0; abandon && i < threads; i++) pthread_detach(pool->ids[i]);
    mutex_lock(&pool->lock);
    pool->stopping = true;
    pool->abandoned = abandon;
    wake_all(pool);
    mutex_unlock(&pool->lock);
    if (abandon) return;
    for (int i = 0; i < threads; i++) pthread_join(pool->ids[i], NULL);
    pool_destroy(pool);
}

void pool_release(thread_pool *pool) {
    if (pool == NULL) return;
    mutex_lock(&shared_lock);
    bool last = --pool->references == 0;
    if (last && shared == pool) shared = NULL;
    mutex_unlock(&shared_lock);
    if (last) pool_stop(pool);
}

// Runs before the destructors of the libraries that this one uses. BLAS frees its buffers in its
// own, and a worker that is multiplying at that moment would crash the process as it exits.
__attribute__((destructor)) static void park_workers(void) {
    mutex_lock(&shared_lock);
    thread_pool *pool = shared;
    mutex_unlock(&shared_lock);
    if (pool == NULL || own_pool == pool) return;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += EXIT_SECONDS;
    atomic_store(&exiting, true);
    mutex_lock(&pool->lock);
    wake_all(pool);
    int late = 0;
    while (pool->running > 0 && late == 0)
        late = pthread_cond_timedwait(&pool->work, &pool->lock, &limit);
    mutex_unlock(&pool->lock);
}

int pool_threads(const thread_pool *pool) { return pool->threads; }
