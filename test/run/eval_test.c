// SPDX-License-Identifier: Apache-2.0
// eval_test.c - evaluation of pending tensors: running out of memory at any point, many threads at
// once, long chains, what is kept and what is let go.
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "engine.h"
#include "graph/lock.h"
#include "memory/memory.h"
#include "plan/cache.h"
#include "tensors.h"
#include "threads/pool.h"

// softmax(x . x) plus a constant: views, products, reductions, shared and fused parts.
static emlx_status try_softmax(emlx_tensor *x, emlx_tensor **out, emlx_error *err) {
    enum { MOST = 16 };
    emlx_tensor *made[MOST];
    int count = 0;
    emlx_status status = EMLX_OK;
    int64_t one = 1, zero = 0, none = 0;
    emlx_attr dot[4] = {with_ints("contract_left", &one, 1), with_ints("contract_right", &zero, 1),
                        with_ints("batch_left", &none, 0), with_ints("batch_right", &none, 0)};
    emlx_attr reduce[2] = {with_ints("axes", &one, 1), with_bool("keep_axes", true)};
    const struct {
        const char *op;
        int a, b;
        const emlx_attr *attrs;
        size_t attr_count;
    } steps[] = {{"dot", -1, -1, dot, 4},     {"reduce_max", 0, -2, reduce, 2},
                 {"subtract", 0, 1, NULL, 0}, {"exp", 2, -2, NULL, 0},
                 {"sum", 3, -2, reduce, 2},   {"divide", 3, 4, NULL, 0},
                 {"add", 5, -1, NULL, 0}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == EMLX_OK; i++) {
        emlx_tensor *in[2] = {steps[i].a < 0 ? x : made[steps[i].a],
                              steps[i].b < 0 ? x : made[steps[i].b]};
        status =
            emlx_apply(emlx_op_find(steps[i].op), test_device, in, steps[i].b == -2 ? 1 : 2,
                       steps[i].attrs, steps[i].attr_count, EMLX_TYPE_DEFAULT, &made[count], err);
        count += status == EMLX_OK;
    }
    if (status == EMLX_OK) status = emlx_eval(&made[count - 1], 1, err);
    if (status == EMLX_OK) *out = emlx_tensor_retain(made[count - 1]);
    for (int i = 0; i < count; i++) emlx_tensor_release(made[i]);
    return status;
}

static void out_of_memory_anywhere(void **unused) {
    (void)unused;
    emlx_shape s = {2, {9, 9}};
    emlx_error err;
    emlx_tensor *x = random_tensor(EMLX_F32, &s, 0, 3), *wanted = NULL, *got = NULL;
    assert_ok(try_softmax(x, &wanted, &err), err);
    double *right = values_of(wanted);
    emlx_status status = EMLX_OUT_OF_MEMORY;
    for (size_t n = 1; status != EMLX_OK; n++) {
        assert_true(n < 2000);
        plan_cache_clear(NULL);
        size_t held = mem_held();
        mem_fail_from(n);
        status = try_softmax(x, &got, &err);
        mem_fail_from(0);
        if (status == EMLX_OK) break;
        assert_int_equal(status, EMLX_OUT_OF_MEMORY);
        plan_cache_clear(NULL);
        assert_int_equal(mem_held(), held);
    }
    double *found = values_of(got);
    assert_memory_equal(right, found, 81 * sizeof *found);
    free(right);
    free(found);
    emlx_tensor_release(x);
    emlx_tensor_release(wanted);
    emlx_tensor_release(got);
}

// A chain is released, and computed, without using the stack for its length.
static void a_long_chain(void **unused) {
    (void)unused;
    enum { LENGTH = 200000 };
    emlx_shape s = {0};
    double one = 1;
    emlx_tensor *x = tensor_of(EMLX_S64, &s, &one), *t = emlx_tensor_retain(x);
    for (int i = 0; i < LENGTH; i++) {
        emlx_tensor *next = apply_two("add", t, x);
        emlx_tensor_release(t);
        t = next;
    }
    assert_int_equal(emlx_tensor_depth(t), LENGTH);
    double *value = values_of(t);
    assert_true(*value == LENGTH + 1);
    assert_int_equal(emlx_tensor_depth(t), 0);
    free(value);
    emlx_tensor_release(t);
    t = emlx_tensor_retain(x);
    for (int i = 0; i < LENGTH; i++) {
        emlx_tensor *next = apply_two("add", t, x);
        emlx_tensor_release(t);
        t = next;
    }
    emlx_tensor_release(t);
    emlx_tensor_release(x);
}

// Threads that share parts of one graph -------------------------------------------------------

enum { THREADS = 8, TENSORS = 64 };

static emlx_tensor *shared[TENSORS];

static void *evaluate_shared(void *context) {
    size_t start = (size_t)context;
    for (size_t i = 0; i < TENSORS; i++) {
        emlx_error err;
        emlx_tensor *t = shared[(start * 11 + i * 7) % TENSORS];
        if (emlx_eval(&t, 1, &err) != EMLX_OK) return &shared[0];
    }
    return NULL;
}

static void threads_share_a_graph(void **unused) {
    (void)unused;
    emlx_shape s = {1, {1000}};
    for (int round = 0; round < 20; round++) {
        emlx_tensor *x = random_tensor(EMLX_S32, &s, 0, 9);
        double *in = values_of(x);
        shared[0] = apply_two("add", x, x);
        for (int i = 1; i < TENSORS; i++)
            shared[i] = apply_two("add", shared[i - 1], shared[i / 2]);
        pthread_t threads[THREADS];
        for (size_t t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, evaluate_shared, (void *)t), 0);
        for (size_t t = 0; t < THREADS; t++) {
            void *failed;
            pthread_join(threads[t], &failed);
            assert_null(failed);
        }
        double factor[TENSORS] = {2};
        for (int i = 1; i < TENSORS; i++) factor[i] = factor[i - 1] + factor[i / 2];
        for (int i = 0; i < TENSORS; i++) {
            double *v = values_of(shared[i]);
            for (int k = 0; k < 1000; k += 37)
                assert_true(v[k] == (double)(int32_t)(int64_t)(in[k] * factor[i]));
            free(v);
            emlx_tensor_release(shared[i]);
        }
        free(in);
        emlx_tensor_release(x);
    }
}

// Results that are asked for twice, that read one pending node in one way, and one that the others
// are made of: each is there afterwards, and right.
static void many_results_of_one_node(void **unused) {
    (void)unused;
    enum { COUNT = 5000 };
    emlx_shape s = {1, {3}};
    emlx_error err;
    emlx_tensor *x = random_tensor(EMLX_F32, &s, 0, 9), *shared = apply_two("multiply", x, x);
    emlx_tensor **wanted = malloc((2 * COUNT + 1) * sizeof(emlx_tensor *));
    assert_non_null(wanted);
    for (size_t i = 0; i < COUNT; i++) {
        emlx_tensor *number = tensor_of(EMLX_F32, &(emlx_shape){0}, &(double){(double)i});
        emlx_tensor *sum = apply_two("add", shared, number);
        wanted[i] = wanted[2 * COUNT - i] = apply_to("sum", &sum, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(number);
        emlx_tensor_release(sum);
    }
    wanted[COUNT] = shared;
    assert_ok(emlx_eval(wanted, 2 * COUNT + 1, &err), err);
    double *squares = values_of(shared);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(emlx_tensor_ready(wanted[i]));
        double *sum = values_of(wanted[i]);
        assert_true(sum[0] == squares[0] + squares[1] + squares[2] + 3.0 * (double)i);
        free(sum);
        emlx_tensor_release(wanted[i]);
    }
    free(squares);
    free(wanted);
    emlx_tensor_release(x);
    emlx_tensor_release(shared);
}

// The answer comes once, also when nobody holds the tensor any more.
typedef struct answer {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int count;
    emlx_status status;
} answer;

static void take_answer(void *context, emlx_status status, const emlx_error *err) {
    (void)err;
    answer *a = context;
    pthread_mutex_lock(&a->lock);
    a->count++;
    a->status = status;
    pthread_cond_signal(&a->came);
    pthread_mutex_unlock(&a->lock);
}

static void queued_evaluations_answer(void **unused) {
    (void)unused;
    answer a = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, EMLX_INTERNAL};
    emlx_shape s = {1, {100}};
    emlx_error err;
    enum { JOBS = 1000 };
    for (int i = 0; i < JOBS; i++) {
        emlx_tensor *x = random_tensor(EMLX_F32, &s, 0, 9), *t = apply_two("multiply", x, x);
        assert_ok(emlx_eval_async(&t, 1, NULL, take_answer, &a, &err), err);
        emlx_tensor_release(x);
        emlx_tensor_release(t);
    }
    pthread_mutex_lock(&a.lock);
    while (a.count < JOBS) pthread_cond_wait(&a.came, &a.lock);
    pthread_mutex_unlock(&a.lock);
    assert_int_equal(a.status, EMLX_OK);
}

typedef struct blocker {
    pool_job job;
    pthread_mutex_t *lock;
} blocker;

// Done when the test lets go of the lock.
static void block(pool_job *job) {
    blocker *b = (blocker *)job;
    pthread_mutex_lock(b->lock);
    pthread_mutex_unlock(b->lock);
}

// Whether an evaluation is short cannot be found out while the graph is locked. It must not wait
// behind long ones for that reason.
static void short_ones_overtake_when_the_graph_is_locked(void **unused) {
    (void)unused;
    enum { LONG = 100 };
    static blocker blockers[LONG];
    static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
    answer a = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, EMLX_INTERNAL};
    emlx_shape s = {1, {100000}};
    emlx_error err;
    struct timespec until;
    int waited = 0;
    emlx_tensor *x = random_tensor(EMLX_F32, &s, 0, 9), *t = apply_two("multiply", x, x);
    pthread_mutex_lock(&busy);
    for (int i = 0; i < LONG; i++) {
        blockers[i] = (blocker){.job.run = block, .lock = &busy};
        pool_submit(test_device->pool, &blockers[i].job);
    }
    graph_lock();
    emlx_status status = emlx_eval_async(&t, 1, NULL, take_answer, &a, &err);
    graph_unlock();
    assert_ok(status, err);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&a.lock);
    while (a.count == 0 && waited == 0) waited = pthread_cond_timedwait(&a.came, &a.lock, &until);
    pthread_mutex_unlock(&a.lock);
    pthread_mutex_unlock(&busy);
    assert_int_equal(waited, 0);
    assert_int_equal(a.status, EMLX_OK);
    emlx_tensor_release(x);
    emlx_tensor_release(t);
}

// Somebody who holds the graph's lock until told to let go, or for as long as nobody would wait.
typedef struct holder {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool holds, enough, late;
} holder;

static void *hold_graph(void *context) {
    holder *h = context;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    graph_lock();
    pthread_mutex_lock(&h->lock);
    h->holds = true;
    pthread_cond_broadcast(&h->changed);
    while (!h->enough && !h->late)
        h->late = pthread_cond_timedwait(&h->changed, &h->lock, &until) != 0;
    pthread_mutex_unlock(&h->lock);
    graph_unlock();
    return NULL;
}

static void hold(holder *h) {
    *h = (holder){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_create(&h->thread, NULL, hold_graph, h);
    pthread_mutex_lock(&h->lock);
    while (!h->holds) pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

// Whether nobody has waited for it.
static bool let_go(holder *h) {
    pthread_mutex_lock(&h->lock);
    h->enough = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    return !h->late;
}

static emlx_tensor *upside_down(emlx_tensor *x) {
    int64_t axis = 0;
    emlx_attr axes = with_ints("axes", &axis, 1);
    return apply_to("reverse", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT);
}

// Ops of every kind are appended, on what is pending, views among it, while the graph is locked.
static void appending_waits_for_nobody(void **unused) {
    (void)unused;
    emlx_shape s = {1, {9}};
    emlx_tensor *x = random_tensor(EMLX_F32, &s, 0, 9), *sum = apply_two("add", x, x);
    emlx_tensor *turned = upside_down(sum);
    holder h;
    hold(&h);
    emlx_tensor *back = upside_down(turned), *added = apply_two("add", back, turned);
    assert_true(let_go(&h));
    double *in = values_of(x), *out = values_of(added);
    for (int i = 0; i < 9; i++) assert_true(out[i] == 2 * in[i] + 2 * in[8 - i]);
    free(in);
    free(out);
    emlx_tensor *all[] = {x, sum, turned, back, added};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) emlx_tensor_release(all[i]);
}

// A device on which somebody locks the graph while a kernel runs.
static holder during_kernel;

static emlx_status run_while_held(emlx_device *device, void *stream, const plan_call *call,
                                  fence **end, emlx_error *err) {
    hold(&during_kernel);
    return cpu_engine.submit(device, stream, call, end, err);
}

static emlx_status no_kernel(emlx_device *device, void *stream, const plan_call *call, fence **end,
                             emlx_error *err) {
    (void)device, (void)stream, (void)call, (void)end;
    return error_set(err, EMLX_INTERNAL, "this was computed before");
}

// A brief evaluation does not wait to hand its results over: that is done as soon as can be.
static void brief_ones_wait_for_nobody(void **unused) {
    (void)unused;
    if (!test_device->ops->immediate) skip(); // nothing is brief there
    engine_ops ops = cpu_engine;
    ops.submit = run_while_held;
    emlx_device device = *test_device;
    device.ops = &ops;
    float data[3] = {1, 2, 3}, twice[3];
    emlx_shape s = {1, {3}};
    emlx_tensor *x, *sum;
    emlx_error err;
    bool done = true;
    assert_ok(emlx_tensor_from_data(&device, EMLX_F32, &s, data, sizeof data, &x, &err), err);
    sum = apply_two("add", x, x);
    assert_ok(emlx_eval_brief(&sum, 1, &done, &err), err);
    assert_false(done);
    assert_true(let_go(&during_kernel));
    // What was computed is there without computing it again.
    ops.submit = no_kernel;
    assert_ok(emlx_tensor_read(sum, 0, twice, sizeof twice, &err), err);
    for (int i = 0; i < 3; i++) assert_true(twice[i] == 2 * data[i]);
    emlx_tensor_release(x);
    emlx_tensor_release(sum);
    plan_cache_clear(&device);
}

// A result that was only read on the way is not held by the graph.
static void finished_parts_are_let_go(void **unused) {
    (void)unused;
    emlx_shape s = {1, {250000}};
    emlx_memory before, after;
    emlx_tensor *t = random_tensor(EMLX_F32, &s, 0, 9);
    emlx_memory_info(&before);
    for (int i = 0; i < 50; i++) {
        emlx_error err;
        emlx_tensor *next = apply_two("add", t, t);
        emlx_tensor_release(t);
        t = next;
        assert_ok(emlx_eval(&t, 1, &err), err);
    }
    emlx_memory_info(&after);
    assert_int_equal(after.active, before.active);
    emlx_tensor_release(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_of_memory_anywhere),
        cmocka_unit_test(a_long_chain),
        cmocka_unit_test(many_results_of_one_node),
        cmocka_unit_test(threads_share_a_graph),
        cmocka_unit_test(queued_evaluations_answer),
        cmocka_unit_test(short_ones_overtake_when_the_graph_is_locked),
        cmocka_unit_test(appending_waits_for_nobody),
        cmocka_unit_test(brief_ones_wait_for_nobody),
        cmocka_unit_test(finished_parts_are_let_go),
    };
    return RUN_ON_CPU("run/eval", tests);
}
