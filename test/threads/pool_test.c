// SPDX-License-Identifier: Apache-2.0
// pool_test.c - jobs and parallel loops: alone, nested, many at once, and the ends of a pool.
#include "threads/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

static thread_pool *new_pool(int threads) {
    thread_pool *pool;
    emlx_error err;
    assert_ok(pool_new(threads, &pool, &err), err);
    return pool;
}

// A gate that opens after a number of arrivals.
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    int missing;
} gate;

static void gate_init(gate *g, int missing) {
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->opened, NULL);
    g->missing = missing;
}

static void gate_arrive(gate *g) {
    pthread_mutex_lock(&g->lock);
    if (--g->missing == 0) pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->lock);
}

static void gate_wait(gate *g) {
    pthread_mutex_lock(&g->lock);
    while (g->missing > 0) pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

// Loops -----------------------------------------------------------------------------------------

#define MOST 5000

// Each index once: a plain increment also shows ThreadSanitizer a missing order.
static void count_index(void *context, int64_t index) { ((int *)context)[index]++; }

static void check_loop(thread_pool *pool, int64_t count) {
    static _Thread_local int seen[MOST];
    memset(seen, 0, sizeof seen);
    pool_for(pool, count, count_index, seen);
    for (int64_t i = 0; i < MOST; i++) assert_int_equal(seen[i], i < count);
}

static void loops_of_all_lengths(void **state) {
    (void)state;
    static const int64_t counts[] = {0, 1, 2, 3, 7, 64, 1000, MOST};
    for (int threads = 1; threads <= 5; threads++) {
        thread_pool *pool = new_pool(threads);
        assert_int_equal(pool_threads(pool), threads);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) check_loop(pool, counts[i]);
        pool_release(pool);
    }
}

static void many_short_loops(void **state) {
    (void)state;
    thread_pool *pool = new_pool(3);
    int seen[4] = {0};
    for (int i = 0; i < 20000; i++) pool_for(pool, 4, count_index, seen);
    for (int i = 0; i < 4; i++) assert_int_equal(seen[i], 20000);
    pool_release(pool);
}

static void take_half_a_microsecond(void *context, int64_t index) {
    (void)context, (void)index;
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec == begun.tv_sec && now.tv_nsec - begun.tv_nsec < 500);
}

// What is too brief to wake a thread up for wakes none up, however many there are: each would find
// nothing, sleep again, and be counted.
static void short_loops_wake_few(void **state) {
    (void)state;
    enum { LOOPS = 2000 };
    thread_pool *pool = new_pool(64);
    struct rusage before, after;
    for (int i = 0; i < LOOPS / 4; i++) pool_for(pool, 16, take_half_a_microsecond, NULL);
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < LOOPS; i++) pool_for(pool, 16, take_half_a_microsecond, NULL);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_nvcsw - before.ru_nvcsw < LOOPS);
    pool_release(pool);
}

typedef struct raising {
    emlx_cancel cancel;
    atomic_int run;
} raising;

static void raise_at_ten(void *context, int64_t index) {
    raising *r = context;
    (void)index;
    if (atomic_fetch_add(&r->run, 1) == 9) emlx_cancel_raise(&r->cancel);
}

// Indices that others have begun meanwhile are still run.
static void loops_can_be_cancelled(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        thread_pool *pool = new_pool(threads);
        raising r = {{0}, 0}, never = {{0}, 0};
        assert_false(pool_for_unless(pool, &r.cancel, 100000, raise_at_ten, &r));
        assert_in_range(atomic_load(&r.run), 10, 10 + threads);
        assert_true(pool_for_unless(pool, &never.cancel, 9, raise_at_ten, &never));
        assert_int_equal(atomic_load(&never.run), 9);
        assert_true(pool_for_unless(pool, &r.cancel, 0, raise_at_ten, &r));
        pool_release(pool);
    }
}

static void *loop_thread(void *pool) {
    for (int i = 0; i < 50; i++) {
        int seen[40] = {0};
        pool_for(pool, 40, count_index, seen);
        for (int k = 0; k < 40; k++) {
            if (seen[k] != 1) return "an index was not run once";
        }
    }
    return NULL;
}

static void loops_from_many_threads(void **state) {
    (void)state;
    thread_pool *pool = new_pool(3);
    pthread_t ids[8];
    for (int i = 0; i < 8; i++) pthread_create(&ids[i], NULL, loop_thread, pool);
    for (int i = 0; i < 8; i++) {
        void *failure;
        pthread_join(ids[i], &failure);
        assert_null(failure);
    }
    pool_release(pool);
}

typedef struct nested {
    thread_pool *pool;
    int seen[20][20];
} nested;

static void nested_body(void *context, int64_t index) {
    nested *n = context;
    pool_for(n->pool, 20, count_index, n->seen[index]);
}

static void loops_inside_loops(void **state) {
    (void)state;
    nested n = {.pool = new_pool(4)};
    for (int i = 0; i < 50; i++) pool_for(n.pool, 20, nested_body, &n);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 20; k++) assert_int_equal(n.seen[i][k], 50);
    }
    pool_release(n.pool);
}

// All threads of the pool are in the loop at the same time, or this never ends.
static void meet_at_gate(void *context, int64_t index) {
    (void)index;
    gate_arrive(context);
    gate_wait(context);
}

static void loops_use_all_threads(void **state) {
    (void)state;
    thread_pool *pool = new_pool(4);
    for (int i = 0; i < 20; i++) {
        gate g;
        gate_init(&g, 4);
        pool_for(pool, 4, meet_at_gate, &g);
    }
    pool_release(pool);
}

// Jobs ------------------------------------------------------------------------------------------

typedef struct test_job {
    pool_job job;
    thread_pool *pool;
    gate *done;
    int seen[16];
    atomic_int *order;
    int position;
} test_job;

static void run_job(pool_job *job) {
    test_job *t = (test_job *)job;
    t->position = atomic_fetch_add(t->order, 1);
    pool_for(t->pool, 16, count_index, t->seen);
    gate_arrive(t->done);
}

static void check_jobs(int threads, int count) {
    thread_pool *pool = new_pool(threads);
    test_job *jobs = calloc((size_t)count, sizeof *jobs);
    atomic_int order = 0;
    gate done;
    gate_init(&done, count);
    for (int i = 0; i < count; i++) {
        jobs[i] = (test_job){.job.run = run_job, .pool = pool, .done = &done, .order = &order};
        pool_submit(pool, &jobs[i].job);
    }
    gate_wait(&done);
    for (int i = 0; i < count; i++) {
        if (threads == 1) assert_int_equal(jobs[i].position, i);
        for (int k = 0; k < 16; k++) assert_int_equal(jobs[i].seen[k], 1);
    }
    pool_release(pool);
    free(jobs);
}

static void ten_thousand_jobs_with_loops(void **state) {
    (void)state;
    check_jobs(4, 10000);
}

static void one_thread_keeps_the_order(void **state) {
    (void)state;
    check_jobs(1, 1000);
}

// Release waits for jobs that are still queued.
static void queued_jobs_run_before_the_end(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        thread_pool *pool = new_pool(2);
        test_job jobs[50];
        atomic_int order = 0;
        gate done;
        gate_init(&done, 50);
        for (int i = 0; i < 50; i++) {
            jobs[i] = (test_job){.job.run = run_job, .pool = pool, .done = &done, .order = &order};
            pool_submit(pool, &jobs[i].job);
        }
        pool_release(pool);
        assert_int_equal(done.missing, 0);
    }
}

// Relief ----------------------------------------------------------------------------------------

typedef struct held_job {
    pool_job job;
    gate *started, *release, *done; // the first two may be NULL
} held_job;

static void run_held(pool_job *job) {
    held_job *h = (held_job *)job;
    if (h->started != NULL) gate_arrive(h->started);
    if (h->release != NULL) gate_wait(h->release);
    gate_arrive(h->done);
}

// Long jobs take both workers and all relief workers but the one for small jobs.
static void long_jobs_hold_nobody_up(void **state) {
    (void)state;
    enum { TAKEN = 4, LONG = 12, SHORT = 500 };
    emlx_error err;
    thread_pool *pool;
    setenv("EMLX_NUM_THREADS", "2", 1);
    assert_ok(pool_acquire(&pool, &err), err);
    gate started, release, ended, done;
    held_job held[LONG], quick[SHORT];
    gate_init(&started, TAKEN);
    gate_init(&release, 1);
    gate_init(&ended, LONG);
    gate_init(&done, SHORT);
    for (int i = 0; i < LONG; i++) {
        held[i] = (held_job){{.run = run_held}, i < TAKEN ? &started : NULL, &release, &ended};
        pool_submit(pool, &held[i].job);
    }
    gate_wait(&started);
    for (int i = 0; i < SHORT; i++) {
        quick[i] = (held_job){{.run = run_held, .small = true}, NULL, NULL, &done};
        pool_submit(pool, &quick[i].job);
    }
    gate_wait(&done);
    assert_int_equal(ended.missing, LONG);
    gate_arrive(&release);
    gate_wait(&ended);
    pool_release(pool);
}

// Jobs that end when all have begun: with turns as many are under way as there are threads.
typedef struct waiting_job {
    pool_job job;
    thread_pool *pool;
    atomic_int *begun;
    gate *done;
} waiting_job;

enum { WAITING = 10 };

static void wait_for_all(pool_job *job) {
    waiting_job *w = (waiting_job *)job;
    atomic_fetch_add(w->begun, 1);
    while (atomic_load(w->begun) < WAITING) pool_turn(w->pool);
    gate_arrive(w->done);
}

static void one_turn(void *context, int64_t index) {
    (void)index;
    pool_turn(context);
}

static void long_jobs_take_turns(void **state) {
    (void)state;
    emlx_error err;
    thread_pool *pool;
    setenv("EMLX_NUM_THREADS", "2", 1);
    assert_ok(pool_acquire(&pool, &err), err);
    for (int round = 0; round < 5; round++) {
        waiting_job jobs[WAITING];
        atomic_int begun = 0;
        gate done;
        gate_init(&done, WAITING);
        for (int i = 0; i < WAITING; i++) {
            jobs[i] = (waiting_job){{.run = wait_for_all}, pool, &begun, &done};
            pool_submit(pool, &jobs[i].job);
        }
        pool_for(pool, 100, one_turn, pool); // of a thread that is not the pool's
        gate_wait(&done);
    }
    pool_release(pool);
}

// The same in loops, whose helpers leave for jobs and never stand still.
static void turn_until_done(void *context, int64_t index) {
    waiting_job *w = context;
    (void)index;
    pool_turn(w->pool);
}

static void loop_until_all(pool_job *job) {
    waiting_job *w = (waiting_job *)job;
    atomic_fetch_add(w->begun, 1);
    while (atomic_load(w->begun) < WAITING) pool_for(w->pool, 50, turn_until_done, w);
    gate_arrive(w->done);
}

static void loops_take_turns(void **state) {
    (void)state;
    emlx_error err;
    thread_pool *pool;
    setenv("EMLX_NUM_THREADS", "3", 1);
    assert_ok(pool_acquire(&pool, &err), err);
    waiting_job jobs[WAITING];
    atomic_int begun = 0;
    gate done;
    gate_init(&done, WAITING);
    for (int i = 0; i < WAITING; i++) {
        jobs[i] = (waiting_job){{.run = loop_until_all}, pool, &begun, &done};
        pool_submit(pool, &jobs[i].job);
    }
    gate_wait(&done);
    pool_release(pool);
}

enum { LONG_LOOP = 50000 };

typedef struct loop_and_job {
    held_job job;
    thread_pool *pool;
    atomic_int after; // indices begun when the job had run
} loop_and_job;

// The first index queues a job; the others say whether it has run.
static void queue_and_look(void *context, int64_t index) {
    loop_and_job *l = context;
    if (index == 0) pool_submit(l->pool, &l->job.job);
    pthread_mutex_lock(&l->job.done->lock);
    bool ran = l->job.done->missing == 0;
    pthread_mutex_unlock(&l->job.done->lock);
    if (ran)
        atomic_fetch_add(&l->after, 1);
    else
        usleep(100);
}

// One worker is held and the other helps with a loop: only if it leaves that can a job run.
static void helpers_leave_loops_for_jobs(void **state) {
    (void)state;
    thread_pool *pool = new_pool(2);
    gate started, release, ended, done;
    gate_init(&started, 1);
    gate_init(&release, 1);
    gate_init(&ended, 1);
    gate_init(&done, 1);
    held_job held = {{.run = run_held}, &started, &release, &ended};
    pool_submit(pool, &held.job);
    gate_wait(&started);
    loop_and_job l = {.job = {{.run = run_held}, NULL, NULL, &done}, .pool = pool};
    pool_for(pool, LONG_LOOP, queue_and_look, &l);
    assert_true(atomic_load(&l.after) > 0);
    gate_arrive(&release);
    gate_wait(&ended);
    pool_release(pool);
}

// Ends ------------------------------------------------------------------------------------------

typedef struct release_job {
    pool_job job;
    thread_pool *pool;
    atomic_int *left;
} release_job;

static void release_from_worker(pool_job *job) {
    release_job *r = (release_job *)job;
    atomic_int *left = r->left;
    pool_release(r->pool);
    atomic_fetch_sub(left, 1);
}

static void a_worker_may_release_the_pool(void **state) {
    (void)state;
    static release_job jobs[20];
    static atomic_int left;
    atomic_store(&left, 20);
    for (int i = 0; i < 20; i++) {
        jobs[i] = (release_job){{.run = release_from_worker}, new_pool(3), &left};
        pool_submit(jobs[i].pool, &jobs[i].job);
    }
    while (atomic_load(&left) > 0) usleep(1000);
    // The workers end alone; nothing tells when the last one has.
    usleep(50000);
}

static void the_shared_pool_is_counted(void **state) {
    (void)state;
    thread_pool *a, *b;
    emlx_error err;
    setenv("EMLX_NUM_THREADS", "3", 1);
    assert_ok(pool_acquire(&a, &err), err);
    setenv("EMLX_NUM_THREADS", "5", 1);
    assert_ok(pool_acquire(&b, &err), err);
    assert_ptr_equal(a, b);
    assert_int_equal(pool_threads(a), 3);
    pool_release(a);
    check_loop(b, 100);
    pool_release(b);
    assert_ok(pool_acquire(&a, &err), err);
    assert_int_equal(pool_threads(a), 5);
    pool_release(a);
    setenv("EMLX_NUM_THREADS", "many", 1);
    assert_ok(pool_acquire(&a, &err), err);
    assert_true(pool_threads(a) >= 1);
    pool_release(a);
    pool_release(NULL);
}

static void *acquire_thread(void *unused) {
    (void)unused;
    for (int i = 0; i < 50; i++) {
        thread_pool *pool;
        if (pool_acquire(&pool, NULL) != EMLX_OK) return "no pool";
        int seen[8] = {0};
        pool_for(pool, 8, count_index, seen);
        pool_release(pool);
    }
    return NULL;
}

static void the_shared_pool_comes_and_goes(void **state) {
    (void)state;
    setenv("EMLX_NUM_THREADS", "2", 1);
    pthread_t ids[4];
    for (int i = 0; i < 4; i++) pthread_create(&ids[i], NULL, acquire_thread, NULL);
    for (int i = 0; i < 4; i++) {
        void *failure;
        pthread_join(ids[i], &failure);
        assert_null(failure);
    }
}

static void refuses_wrong_counts(void **state) {
    (void)state;
    thread_pool *pool = NULL;
    emlx_error err;
    assert_error(pool_new(0, &pool, &err), EMLX_INVALID, err, "0 threads");
    assert_error(pool_new(100000, &pool, &err), EMLX_INVALID, err, "100000 threads");
    assert_null(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_of_all_lengths),
        cmocka_unit_test(many_short_loops),
        cmocka_unit_test(short_loops_wake_few),
        cmocka_unit_test(loops_can_be_cancelled),
        cmocka_unit_test(loops_from_many_threads),
        cmocka_unit_test(loops_inside_loops),
        cmocka_unit_test(loops_use_all_threads),
        cmocka_unit_test(ten_thousand_jobs_with_loops),
        cmocka_unit_test(one_thread_keeps_the_order),
        cmocka_unit_test(queued_jobs_run_before_the_end),
        cmocka_unit_test(long_jobs_hold_nobody_up),
        cmocka_unit_test(long_jobs_take_turns),
        cmocka_unit_test(loops_take_turns),
        cmocka_unit_test(helpers_leave_loops_for_jobs),
        cmocka_unit_test(a_worker_may_release_the_pool),
        cmocka_unit_test(the_shared_pool_is_counted),
        cmocka_unit_test(the_shared_pool_comes_and_goes),
        cmocka_unit_test(refuses_wrong_counts),
    };
    return RUN_TESTS("threads/pool", tests);
}
