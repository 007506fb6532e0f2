// SPDX-License-Identifier: Apache-2.0
// pool.c - worker threads that run queued jobs and help with parallel loops.
//
// One lock guards the queue, the list of running loops and who sleeps. A loop's record lives on
// its caller's stack: a helper may touch it only between joining it, under the lock, and leaving
// it, under the lock, and the caller returns only when nobody is between the two.
// Memory comes from calloc here, because this part lies below src/memory.
#include "threads/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#include "base/error.h"
#include "threads/cancel.h"
#include "threads/clock.h"
#include "threads/mutex.h"
#include "threads/pace.h"
#include "threads/threads.h"

// Kernels and LAPACK keep tiles and small arrays on the stack; some systems' default is 512 KB.
#define STACK_SIZE ((size_t)8 << 20)
// How long to look for work before going to sleep: what a wake-up takes where cores have gone to
// sleep as well, as between two products of a model that is asked for one token.
#define SPIN_NS ((int64_t)60000)
// A job that others wait for goes on for this long before it is their turn.
#define SLICE_NS ((int64_t)4000000)
// One that can be left and begun again elsewhere gives way before it would have to stand still.
#define SHORT_SLICE_NS (SLICE_NS / 2)
// Threads of the shared pool besides the workers: one for small jobs, and so many, started when
// they are needed, for jobs to stand still in. No more jobs than there are threads are begun.
#define SPARES 14
// A queue that has not moved for this long gets relief; for a while after that, small jobs at once.
#define SMALL_PATIENCE_NS ((int64_t)2000000)
#define PATIENCE_NS ((int64_t)20000000)
#define WARM_NS ((int64_t)50000000)
// So many jobs more than there are workers run at the same time, where jobs do not take turns.
#define EXTRA 2
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
    int64_t pace;          // of its indices, as is expected; guarded by the lock
    int64_t begun, steps;  // when others were told, and how many indices the caller ran since
    bool shared;           // others know of it
    int room;              // how many helpers may still join; guarded by the lock
    atomic_int helpers;    // inside now; changed under the lock
    pthread_cond_t left;   // signalled when the last helper leaves
} pool_loop;

typedef enum job_size { ANY_SIZE, SMALL, SIZES } job_size;

typedef struct job_queue {
    pool_job *first, *last;
    int64_t moved; // when a job was last taken, or added to an empty queue
    int64_t patience;
    pthread_cond_t late; // who sees to it that this queue moves waits here
    int watching;        // how many do
} job_queue;

// A job that stands still, on its thread's stack. It waits in the queue like one that has not been
// begun, but `run` is NULL.
typedef struct still_job {
    pool_job entry;
    bool resumed;
    pthread_cond_t go;
} still_job;

struct thread_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    atomic_uint news; // changes with every job, loop and stop, so that spinning needs no lock
    job_queue queues[SIZES];
    uint64_t submitted;
    atomic_int queued; // jobs in both queues, begun or not; changed under the lock
    int64_t warm;      // until then small jobs get relief at once
    pool_loop *first_loop, *last_loop;
    atomic_int idle; // workers that look for work, asleep or not; changed under the lock
    int sleeping;
    int wakings;     // of these, those that are to look for work,
    int spinning;    // workers that look for news and have not been told any,
    int coming;      // and all that were told or woken and have not looked for work since
    atomic_int busy; // active threads that run a job; changed under the lock
    int active;      // threads that work or look for work, as many as workers where jobs take turns
    int spares;      // threads that wait to become active,
    int grants;      // and how many of them may
    bool stopping;
    bool abandoned; // nobody joins the workers: the last one to end frees the pool
    int running;    // threads that have not ended, of all kinds
    int references; // guarded by shared_lock
    int threads;    // workers
    int started;    // threads of all kinds
    int most;       // of these
    int nice;       // theirs, or -1: as it is
    pthread_t ids[];
};

// Guards `shared` and every pool's count of references.
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static thread_pool *shared;
// The pool that the running thread works for, or NULL.
static _Thread_local thread_pool *own_pool;
// Of an active thread: when the job it runs went on, or 0: it takes no turns, as it helps with a
// loop of somebody who waits for it.
static _Thread_local int64_t turn_began;

// Set once, when the process ends.
static atomic_bool exiting;

static void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Whoever looks for news finds them. Under the lock.
static void tell_spinning(thread_pool *pool) {
    atomic_fetch_add_explicit(&pool->news, 1, memory_order_release);
    pool->coming += pool->spinning;
    pool->spinning = 0;
}

// How many more may help with loops, two at most: each that comes calls two others, so that many
// cores start in a few wake-ups' time. No more than what is left to do is worth waking up for.
static int loops_want(const thread_pool *pool) {
    int64_t wanted = 0;
    for (const pool_loop *loop = pool->first_loop; loop != NULL && wanted < 2; loop = loop->next) {
        int64_t taken = atomic_load_explicit(&loop->taken, memory_order_relaxed);
        int64_t rest = taken < loop->count ? loop->count - taken : 0;
        int64_t worth = pace_worth(loop->pace, rest);
        wanted += worth < loop->room ? worth : loop->room;
    }
    return wanted < 2 ? (int)wanted : 2;
}

// Sees to it that enough workers look for work: those that do already, then sleepers. Under the
// lock.
static void wake(thread_pool *pool) {
    tell_spinning(pool);
    int wanted = atomic_load_explicit(&pool->queued, memory_order_relaxed) + loops_want(pool);
    while (pool->coming < wanted && pool->wakings < pool->sleeping) {
        pool->wakings++;
        pool->coming++;
        pthread_cond_signal(&pool->work);
    }
}

static void wake_all(thread_pool *pool) {
    tell_spinning(pool);
    pthread_cond_broadcast(&pool->work);
    for (int i = 0; i < SIZES; i++) pthread_cond_broadcast(&pool->queues[i].late);
    for (pool_job *job = pool->queues[ANY_SIZE].first; job != NULL; job = job->next)
        if (job->run == NULL) pthread_cond_signal(&((still_job *)job)->go);
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

// A few rounds of waiting; false from that time on.
static bool spin_until(int64_t time) {
    for (int i = 0; i < 8; i++) spin_pause();
    return clock_now() < time;
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

static job_queue *queue_add(thread_pool *pool, pool_job *job) {
    job_queue *queue = &pool->queues[job->small ? SMALL : ANY_SIZE];
    job->next = NULL;
    job->number = pool->submitted++;
    if (queue->last == NULL) {
        queue->first = job;
        queue->moved = clock_now();
    } else {
        queue->last->next = job;
    }
    queue->last = job;
    atomic_fetch_add_explicit(&pool->queued, 1, memory_order_relaxed);
    return queue;
}

void pool_submit(thread_pool *pool, pool_job *job) {
    mutex_lock(&pool->lock);
    job_queue *queue = queue_add(pool, job);
    wake(pool);
    int queued = atomic_load_explicit(&pool->queued, memory_order_relaxed);
    bool late = queued > atomic_load_explicit(&pool->idle, memory_order_relaxed);
    if (late && queue->watching > 0) pthread_cond_signal(&queue->late);
    mutex_unlock(&pool->lock);
}

// Turns -----------------------------------------------------------------------------------------
//
// As many threads are active as there are workers. A job that has had its slice hands its thread's
// place to what waits for longest: a job that stands still, on whose thread it goes on, or one that
// has not been begun, for which there is a spare thread. Then it stands still itself.

static bool spare_start(thread_pool *pool);

static void resume(pool_job *job) {
    still_job *still = (still_job *)job;
    still->resumed = true;
    pthread_cond_signal(&still->go);
}

// The job that has stood still for longest, taken out of the queue, or NULL.
static pool_job *still_take(thread_pool *pool) {
    job_queue *queue = &pool->queues[ANY_SIZE];
    pool_job *before = NULL, *job = queue->first;
    for (; job != NULL && job->run != NULL; job = job->next) before = job;
    if (job == NULL || before == NULL) return job == NULL ? NULL : queue_take(pool, queue);
    before->next = job->next;
    if (queue->last == job) queue->last = before;
    atomic_fetch_sub_explicit(&pool->queued, 1, memory_order_relaxed);
    return job;
}

// Hands the calling thread's place on. False where there is nobody who could take it.
static bool place_pass(thread_pool *pool) {
    job_queue *queue = oldest_queue(pool);
    if (queue->first->run == NULL) {
        resume(queue_take(pool, queue));
        return true;
    }
    if (pool->spares > pool->grants || spare_start(pool)) {
        pool->grants++;
        queue->moved = clock_now();
        pthread_cond_signal(&pool->queues[ANY_SIZE].late);
        return true;
    }
    pool_job *still = still_take(pool);
    if (still != NULL) resume(still);
    return still != NULL;
}

static void stand_still(thread_pool *pool) {
    still_job still = {.entry = {.run = NULL}};
    pthread_cond_init(&still.go, NULL);
    queue_add(pool, &still.entry);
    pool->busy--;
    while (!still.resumed) {
        if (atomic_load_explicit(&exiting, memory_order_relaxed)) {
            mutex_unlock(&pool->lock);
            park_if_exiting();
        }
        pthread_cond_wait(&still.go, &pool->lock);
    }
    pool->busy++;
    pthread_cond_destroy(&still.go);
}

// More threads than there are workers are active after relief: one of them only stops.
static bool place_leave(thread_pool *pool) {
    if (atomic_load_explicit(&pool->queued, memory_order_relaxed) == 0) return false;
    if (atomic_load_explicit(&pool->idle, memory_order_relaxed) > 0) return false;
    if (pool->active <= pool->threads) return place_pass(pool);
    pool->active--;
    return true;
}

// Whether the running job has had a slice, and others wait.
static bool slice_over(const thread_pool *pool, int64_t slice) {
    if (atomic_load_explicit(&pool->queued, memory_order_relaxed) == 0) return false;
    return own_pool == pool && turn_began != 0 && clock_now() - turn_began >= slice;
}

bool pool_due(const thread_pool *pool) {
    return slice_over(pool, SHORT_SLICE_NS) &&
           atomic_load_explicit(&pool->idle, memory_order_relaxed) == 0;
}

void pool_turn(thread_pool *pool) {
    if (!slice_over(pool, SLICE_NS)) return;
    mutex_lock(&pool->lock);
    if (place_leave(pool)) stand_still(pool);
    mutex_unlock(&pool->lock);
    turn_began = clock_now();
}

// Loops -----------------------------------------------------------------------------------------

static bool loop_end(pool_loop *loop) {
    atomic_store_explicit(&loop->cancelled, true, memory_order_relaxed);
    atomic_store_explicit(&loop->taken, loop->count, memory_order_relaxed);
    return true;
}

// Runs the next index. False when all are given out.
static bool loop_step(pool_loop *loop) {
    park_if_exiting();
    int64_t index = atomic_fetch_add_explicit(&loop->taken, 1, memory_order_relaxed);
    if (index >= loop->count) return false;
    if (cancel_raised(loop->cancel)) return loop_end(loop);
    loop->body(loop->context, index);
    return true;
}

static void loop_link(thread_pool *pool, pool_loop *loop) {
    loop->previous = pool->last_loop;
    if (pool->last_loop == NULL)
        pool->first_loop = loop;
    else
        pool->last_loop->next = loop;
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
        wake(pool);
        return loop;
    }
    return NULL;
}

// Helps until the loop's indices are given out or a job is queued. False where there were none.
// Called and left under the lock.
static bool loop_help(thread_pool *pool, pool_loop *loop) {
    bool helped = false;
    mutex_unlock(&pool->lock);
    turn_began = 0;
    while (atomic_load_explicit(&pool->queued, memory_order_relaxed) == 0 && loop_step(loop))
        helped = true;
    mutex_lock(&pool->lock);
    loop->room++;
    if (atomic_fetch_sub_explicit(&loop->helpers, 1, memory_order_release) == 1) {
        pthread_cond_signal(&loop->left);
    }
    return helped;
}

// Waits until no helper is inside the loop, whose indices are all given out.
static void loop_finish(thread_pool *pool, pool_loop *loop) {
    int64_t until = clock_now() + SPIN_NS;
    while (atomic_load_explicit(&loop->helpers, memory_order_relaxed) != 0 && spin_until(until))
        continue;
    mutex_lock(&pool->lock);
    loop_unlink(pool, loop);
    while (atomic_load_explicit(&loop->helpers, memory_order_acquire) != 0) {
        pthread_cond_wait(&loop->left, &pool->lock);
    }
    mutex_unlock(&pool->lock);
}

// Lets workers help, once there are any without a job: as long as all have one a loop takes no
// lock.
static void loop_share(thread_pool *pool, pool_loop *loop) {
    int64_t rest = loop->count - atomic_load_explicit(&loop->taken, memory_order_relaxed);
    int64_t most = pool->threads - 1 < rest - 1 ? pool->threads - 1 : rest - 1;
    if (loop->shared || most < 1) return;
    if (atomic_load_explicit(&pool->busy, memory_order_relaxed) >= pool->threads) return;
    loop->shared = true;
    loop->room = (int)most;
    loop->pace = pace_of(loop->body);
    loop->begun = clock_now();
    pthread_cond_init(&loop->left, NULL);
    mutex_lock(&pool->lock);
    loop_link(pool, loop);
    wake(pool);
    mutex_unlock(&pool->lock);
}

static int64_t loop_pace(const pool_loop *loop) {
    return (clock_now() - loop->begun) / loop->steps;
}

// After an index of the caller's of a shared loop, looks at times whether they take longer than was
// expected, so that more helpers are worth waking up.
static void loop_look(thread_pool *pool, pool_loop *loop) {
    int64_t steps = ++loop->steps;
    if (loop->pace == 0 || (steps & (steps - 1)) != 0) return;
    int64_t pace = loop_pace(loop);
    if (pace / 2 <= loop->pace) return;
    mutex_lock(&pool->lock);
    loop->pace = pace;
    wake(pool);
    mutex_unlock(&pool->lock);
}

// What is one piece there is nothing to share of.
static bool run_one(thread_pool *pool, const emlx_cancel *cancel, pool_body body, void *context) {
    pool_turn(pool);
    park_if_exiting();
    if (cancel_raised(cancel)) return false;
    body(context, 0);
    return true;
}

bool pool_for_unless(thread_pool *pool, const emlx_cancel *cancel, int64_t count, pool_body body,
                     void *context) {
    if (count == 1) return run_one(pool, cancel, body, context);
    pool_loop loop = {.body = body, .context = context, .cancel = cancel, .count = count};
    for (bool more = true; more;) {
        loop_share(pool, &loop);
        pool_turn(pool);
        more = loop_step(&loop);
        if (more && loop.shared) loop_look(pool, &loop);
    }
    if (loop.shared) {
        if (loop.steps > 0) pace_note(body, loop_pace(&loop));
        loop_finish(pool, &loop);
        pthread_cond_destroy(&loop.left);
    }
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

// Looks for news for a while, as work often comes right after work. Not all workers do: whoever
// gives them work has a core. True: there are some. Called and left under the lock.
static bool worker_look(thread_pool *pool, unsigned seen) {
    if (pool->spinning + 1 >= pool->threads) return false;
    pool->spinning++;
    mutex_unlock(&pool->lock);
    int64_t until = clock_now() + SPIN_NS;
    while (atomic_load_explicit(&pool->news, memory_order_relaxed) == seen && spin_until(until))
        continue;
    mutex_lock(&pool->lock);
    bool told = atomic_load_explicit(&pool->news, memory_order_relaxed) != seen;
    pool->spinning -= !told;
    pool->coming -= told;
    return told;
}

static void worker_sleep(thread_pool *pool) {
    pool->sleeping++;
    while (pool->wakings == 0 && !pool->stopping &&
           !atomic_load_explicit(&exiting, memory_order_relaxed))
        pthread_cond_wait(&pool->work, &pool->lock);
    bool woken = pool->wakings > 0;
    pool->wakings -= woken;
    pool->coming -= woken;
    pool->sleeping--;
}

// Waits for work. Who had some looks for more first; who came and found none is one too many.
// Called and left under the lock.
static void worker_wait(thread_pool *pool, bool worked) {
    unsigned seen = atomic_load_explicit(&pool->news, memory_order_relaxed);
    pool->idle++;
    if (!worked || !worker_look(pool, seen)) worker_sleep(pool);
    pool->idle--;
}

// Called and left under the lock. Small jobs are over before it is anybody's turn.
static void run_unlocked(thread_pool *pool, pool_job *job, int64_t now) {
    mutex_unlock(&pool->lock);
    park_if_exiting();
    turn_began = now;
    job->run(job);
    mutex_lock(&pool->lock);
}

// Under the lock, which is left.
static void unlock_and_park(thread_pool *pool) {
    mutex_unlock(&pool->lock);
    park_if_exiting();
}

// Runs jobs and helps with loops for as long as the thread is active: until there are more of these
// than workers, until it gives way to a job that stood still, or until the pool stops and its queue
// is empty. Under the lock.
static void worker_loop(thread_pool *pool) {
    bool worked = false;
    do {
        pool_job *job = job_take(pool);
        if (job != NULL && job->run == NULL) {
            resume(job);
            return;
        }
        if (job != NULL) {
            pool->busy++;
            run_unlocked(pool, job, clock_now());
            pool->busy--;
            worked = true;
            continue;
        }
        pool_loop *loop = loop_join(pool);
        if (loop != NULL) {
            worked = loop_help(pool, loop);
        } else if (pool->stopping) {
            break;
        } else if (atomic_load_explicit(&exiting, memory_order_relaxed)) {
            unlock_and_park(pool);
        } else {
            worker_wait(pool, worked);
            worked = false;
        }
    } while (pool->active <= pool->threads);
    pool->active--;
}

// Relief ----------------------------------------------------------------------------------------

// Until when to leave the queue to others, or 0: no longer.
static int64_t relief_time(const thread_pool *pool, const job_queue *queue) {
    int64_t now = clock_now(), due = queue->moved + queue->patience;
    bool warm = queue == &pool->queues[SMALL] && now < pool->warm;
    return warm || now >= due ? 0 : due;
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

// Takes a small job that is late, and sees to it that somebody watches those behind it.
static pool_job *relief_take(thread_pool *pool, job_queue *queue) {
    int64_t now = clock_now();
    if (now >= pool->warm) pool->warm = now + WARM_NS;
    pool_job *job = queue_take(pool, queue);
    if (queue->first != NULL && queue->watching > 0) pthread_cond_signal(&queue->late);
    return job;
}

// Takes late small jobs until the pool stops; what is then left is for the workers. Under the lock.
static void relief_loop(thread_pool *pool) {
    job_queue *queue = &pool->queues[SMALL];
    while (!pool->stopping) {
        if (atomic_load_explicit(&exiting, memory_order_relaxed)) unlock_and_park(pool);
        int64_t time = queue->first == NULL ? 0 : relief_time(pool, queue);
        if (queue->first == NULL || time > 0)
            relief_wait(pool, queue, time);
        else
            run_unlocked(pool, relief_take(pool, queue), 0);
    }
}

// Where no job of those that run has made room for a while, as they do not ask, or wait for one
// that stands still, another goes on besides. True: the calling thread is active, to begin one.
static bool relieve(thread_pool *pool, job_queue *queue) {
    queue->moved = clock_now();
    if (queue->first->run != NULL) {
        bool room = pool->active < pool->threads + EXTRA;
        pool->active += room;
        return room;
    }
    pool->active++;
    resume(queue_take(pool, queue));
    return false;
}

// Waits to become active. False when the pool stops. Under the lock.
static bool spare_wait(thread_pool *pool) {
    job_queue *queue = &pool->queues[ANY_SIZE];
    bool active = false;
    pool->spares++;
    while (!active && pool->grants == 0 && !pool->stopping) {
        if (atomic_load_explicit(&exiting, memory_order_relaxed)) unlock_and_park(pool);
        int64_t time = queue->first == NULL ? 0 : relief_time(pool, queue);
        if (queue->first == NULL || time > 0)
            relief_wait(pool, queue, time);
        else
            active = relieve(pool, queue);
    }
    pool->spares--;
    if (!active && pool->grants == 0) return false;
    pool->grants -= !active;
    if (pool->spares == 0) (void)spare_start(pool); // somebody has to watch the queue
    return true;
}

// Starting and ending ---------------------------------------------------------------------------

static void thread_begin(thread_pool *pool) {
    own_pool = pool;
#if defined(__linux__)
    if (pool->nice >= 0) setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), pool->nice);
#endif
    mutex_lock(&pool->lock);
}

static void *thread_end(thread_pool *pool) {
    bool last = --pool->running == 0 && pool->abandoned;
    mutex_unlock(&pool->lock);
    if (last) pool_destroy(pool);
    return NULL;
}

static void *spare_main(void *argument) {
    thread_pool *pool = argument;
    thread_begin(pool);
    while (spare_wait(pool)) worker_loop(pool);
    return thread_end(pool);
}

static void *worker_main(void *argument) {
    thread_pool *pool = argument;
    thread_begin(pool);
    do worker_loop(pool);
    while (spare_wait(pool));
    return thread_end(pool);
}

static void *relief_main(void *argument) {
    thread_pool *pool = argument;
    thread_begin(pool);
    relief_loop(pool);
    return thread_end(pool);
}

// Under the lock, which the thread waits for before it does anything. Threads take no signals:
// those are the host program's.
static bool thread_start(thread_pool *pool, void *(*main)(void *)) {
    pthread_attr_t attributes;
    sigset_t all, previous;
    if (pool->started == pool->most) return false;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    bool started = pthread_create(&pool->ids[pool->started], &attributes, main, pool) == 0;
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    pthread_attr_destroy(&attributes);
    pool->started += started;
    pool->running += started;
    return started;
}

static bool spare_start(thread_pool *pool) {
    return !pool->stopping && thread_start(pool, spare_main);
}

static emlx_status pool_start(int threads, int spares, thread_pool **out, emlx_error *err) {
    int most = threads + spares + (spares > 0);
    thread_pool *pool = calloc(1, sizeof *pool + (size_t)most * sizeof *pool->ids);
    if (pool == NULL) {
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    for (int i = 0; i < SIZES; i++) clock_cond_init(&pool->queues[i].late);
    pool->queues[ANY_SIZE].patience = PATIENCE_NS;
    pool->queues[SMALL].patience = SMALL_PATIENCE_NS;
    pool->references = 1;
    pool->nice = threads_nice();
    pool->most = most;
    mutex_lock(&pool->lock);
    while (pool->threads < threads && thread_start(pool, worker_main)) pool->threads++;
    pool->active = pool->threads;
    if (spares > 0 && pool->threads > 0) {
        (void)thread_start(pool, relief_main);
        (void)spare_start(pool); // to see whether the queue moves
    }
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

emlx_status pool_acquire(thread_pool **out, emlx_error *err) {
    emlx_status status = EMLX_OK;
    mutex_lock(&shared_lock);
    if (shared == NULL) {
        status = pool_start(threads_wanted(), SPARES, &shared, err);
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
    mutex_lock(&pool->lock);
    pool->stopping = true;
    pool->abandoned = abandon;
    for (int i = 0; abandon && i < pool->started; i++) pthread_detach(pool->ids[i]);
    wake_all(pool);
    mutex_unlock(&pool->lock);
    if (abandon) return;
    for (int i = 0; i < pool->started; i++) pthread_join(pool->ids[i], NULL);
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
