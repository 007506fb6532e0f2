// SPDX-License-Identifier: Apache-2.0
// call_test.c - programs that call their host: order, results, wrong answers, runs given up or
// cancelled, queues, and running out of memory anywhere.
#include <pthread.h>
#include <unistd.h>

#include "memory/memory.h"
#include "program/programs.h"

// Waiting for a stop -----------------------------------------------------------------------------

enum { MOST = 4 };

typedef struct stop_box {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    bool full;
    emlx_stop stop;
    emlx_tensor *tensors[MOST];
    emlx_error err;
} stop_box;

#define EMPTY_BOX                                                                                  \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER }

static void fill_box(void *context, const emlx_stop *stop) {
    stop_box *box = context;
    pthread_mutex_lock(&box->lock);
    box->stop = *stop;
    box->err = *stop->err;
    for (size_t i = 0; i < stop->count && i < MOST; i++) box->tensors[i] = stop->tensors[i];
    box->full = true;
    pthread_cond_signal(&box->filled);
    pthread_mutex_unlock(&box->lock);
}

static void wait_box(stop_box *box) {
    pthread_mutex_lock(&box->lock);
    while (!box->full) pthread_cond_wait(&box->filled, &box->lock);
    box->full = false;
    pthread_mutex_unlock(&box->lock);
}

static void release_tensors(stop_box *box) {
    for (size_t i = 0; i < box->stop.count; i++) emlx_tensor_release(box->tensors[i]);
    box->stop.count = 0;
}

static int32_t number_in(emlx_tensor *t) {
    int32_t value = -1;
    emlx_error err;
    assert_ok(emlx_tensor_read(t, 0, &value, sizeof value, &err), err);
    return value;
}

// The array of a stop's tensors goes after its callback, on the other thread.
static bool settles(size_t held) {
    for (int i = 0; i < 5000 && mem_held() != held; i++) usleep(1000);
    return mem_held() == held;
}

static size_t settled(void) {
    size_t held = mem_held();
    for (usleep(5000); mem_held() != held; usleep(5000)) held = mem_held();
    return held;
}

// Programs ---------------------------------------------------------------------------------------

static uint32_t call(emlx_block *b, uint32_t which, uint32_t operand, bool result) {
    emlx_error err;
    emlx_port port = {.type = EMLX_S32};
    uint32_t first;
    assert_ok(emlx_block_call(b, which, &operand, 1, &port, result, &first, &err), err);
    return first;
}

static emlx_block *half(int take, uint32_t which) {
    emlx_block *b = new_block();
    uint32_t x = input(b, NULL, EMLX_S32, 0);
    uint32_t y = take ? call(b, which, op(b, "multiply", 2, x, int_constant(b, 2)), true) : x;
    output(b, NULL, y);
    return b;
}

static emlx_block *predicate(void) {
    emlx_block *b = new_block();
    uint32_t x = input(b, NULL, EMLX_S32, 0);
    output(b, NULL, op(b, "greater", 2, x, int_constant(b, 100)));
    return b;
}

// The body of: call 1 with i; t = t + 1; if t > 100, t = what call 2 gives for 2 * t; i = i - 1
static emlx_block *loop_body(void) {
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t i = input(b, NULL, EMLX_S32, 0), t = input(b, NULL, EMLX_S32, 0), first;
    call(b, 1, i, false);
    uint32_t next = op(b, "add", 2, t, int_constant(b, 1));
    emlx_block *when = predicate(), *branches[] = {half(1, 2), half(0, 0)};
    assert_ok(emlx_block_cond(b, &when, 1, branches, 2, &next, 1, &first, &err), err);
    output(b, NULL, op(b, "subtract", 2, i, int_constant(b, 1)));
    output(b, NULL, first);
    return b;
}

static emlx_block *loop_condition(void) {
    emlx_block *b = new_block();
    uint32_t i = input(b, NULL, EMLX_S32, 0);
    input(b, NULL, EMLX_S32, 0);
    output(b, NULL, op(b, "greater", 2, i, int_constant(b, 0)));
    return b;
}

// Calls 0 with n + 1, loops n times, and calls 3 with the sum, which nothing depends on.
static emlx_block *calling_block(void) {
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t n = input(b, "n", EMLX_S32, 0), t = input(b, "t", EMLX_S32, 0), first;
    uint32_t start = call(b, 0, op(b, "add", 2, n, int_constant(b, 1)), true);
    uint32_t state[] = {n, op(b, "add", 2, t, start)};
    assert_ok(emlx_block_while(b, loop_condition(), loop_body(), state, 2, &first, &err), err);
    call(b, 3, op(b, "add", 2, first + 1, n), false);
    output(b, "t", first + 1);
    return b;
}

// What the host of these tests gives.
static int32_t host(uint32_t which, int32_t value) { return which == 2 ? value - 90 : value * 10; }

// The same in plain C; returns the result and fills the log with the calls.
static int32_t plain(int32_t n, int32_t t, int32_t (*log)[2], int *calls) {
    *calls = 0;
#define LOG(which, value) (log[*calls][0] = (which), log[*calls][1] = (value), ++*calls)
    LOG(0, n + 1);
    t += host(0, n + 1);
    for (int32_t i = n; i > 0; i--) {
        LOG(1, i);
        t++;
        if (t > 100) {
            LOG(2, 2 * t);
            t = host(2, 2 * t);
        }
    }
    LOG(3, t + n);
#undef LOG
    return t;
}

// Answers the call that the box holds; `work` may be NULL.
static void answer(emlx_device *device, stop_box *box, const emlx_work *work) {
    emlx_error err;
    bool result = box->stop.call == 0 || box->stop.call == 2;
    emlx_tensor *given = scalar_s32(device, host(box->stop.call, number_in(box->tensors[0])));
    release_tensors(box);
    assert_ok(emlx_run_resume(box->stop.run, &given, result, work, fill_box, box, &err), err);
    emlx_tensor_release(given);
}

static void start(emlx_program *program, emlx_device *device, int32_t n, int32_t t,
                  const emlx_work *work, stop_box *box) {
    emlx_error err;
    emlx_tensor *inputs[] = {scalar_s32(device, n), scalar_s32(device, t)};
    assert_ok(emlx_program_start(program, inputs, 2, work, fill_box, box, &err), err);
    emlx_tensor_release(inputs[0]);
    emlx_tensor_release(inputs[1]);
}

// Tests ------------------------------------------------------------------------------------------

static void run_and_compare(emlx_program *program, emlx_device *device, int32_t n, int32_t t,
                            const emlx_work *work) {
    stop_box box = EMPTY_BOX;
    int32_t log[200][2] = {{0}};
    int calls, seen = 0;
    int32_t expected = plain(n, t, log, &calls);
    start(program, device, n, t, work, &box);
    for (wait_box(&box); box.stop.run != NULL; wait_box(&box), seen++) {
        assert_true(seen < calls);
        assert_int_equal(box.stop.call, log[seen][0]);
        assert_int_equal(number_in(box.tensors[0]), log[seen][1]);
        answer(device, &box, work);
    }
    assert_ok(box.stop.status, box.err);
    assert_int_equal(seen, calls);
    assert_int_equal(number_in(box.tensors[0]), expected);
    release_tensors(&box);
}

static void calls_are_made_in_order(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = compile(calling_block(), device);
    for (int32_t n = 0; n < 6; n++) run_and_compare(program, device, n, 20 * n, NULL);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void a_wrong_answer_is_refused(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program = compile(calling_block(), device);
    stop_box box = EMPTY_BOX;
    start(program, device, 0, 0, NULL, &box);
    wait_box(&box);
    emlx_tensor *wrong = tensor_f32(device, (float[]){1, 2}, 1, 2);
    assert_error(emlx_run_resume(box.stop.run, &wrong, 1, NULL, fill_box, &box, &err), EMLX_INVALID,
                 err, "result 0 of a call is f32 {2}, s32 {} expected");
    assert_error(emlx_run_resume(box.stop.run, &wrong, 0, NULL, fill_box, &box, &err), EMLX_INVALID,
                 err, "0 results of a call given, 1 expected");
    emlx_tensor_release(wrong);
    answer(device, &box, NULL);
    wait_box(&box);
    assert_int_equal(box.stop.call, 3);
    answer(device, &box, NULL);
    wait_box(&box);
    assert_ok(box.stop.status, box.err);
    release_tensors(&box);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void a_waiting_run_can_be_given_up(void **state) {
    (void)state;
    size_t held = settled();
    emlx_device *device = cpu();
    emlx_program *program = compile(calling_block(), device);
    stop_box box = EMPTY_BOX;
    start(program, device, 3, 0, NULL, &box);
    wait_box(&box);
    answer(device, &box, NULL);
    wait_box(&box);
    assert_int_equal(box.stop.call, 1);
    release_tensors(&box);
    emlx_run_release(box.stop.run);
    emlx_program_release(program);
    emlx_device_release(device);
    assert_true(settles(held));
}

static void only_a_host_can_run_it(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = calling_block();
    assert_error(emlx_block_save(b, "/tmp/emlx_call_test.safetensors", &err), EMLX_UNSUPPORTED, err,
                 "calls its host");
    emlx_program *program = compile(b, device);
    emlx_tensor *inputs[] = {scalar_s32(device, 1), scalar_s32(device, 1)}, *out;
    assert_error(emlx_program_run(program, inputs, 2, &out, 1, &err), EMLX_UNSUPPORTED, err,
                 "emlx_program_start");
    emlx_tensor_release(inputs[0]);
    emlx_tensor_release(inputs[1]);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void calls_are_checked(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t x = input(b, NULL, EMLX_S32, 0), missing = x + 1, first;
    emlx_port port = {.type = EMLX_TYPE_COUNT};
    assert_error(emlx_block_call(b, 0, &missing, 1, NULL, 0, &first, &err), EMLX_INVALID, err,
                 "call: operand 0 is value 1");
    assert_error(emlx_block_call(b, 0, &x, 1, &port, 1, &first, &err), EMLX_INVALID, err,
                 "result 0 has no such type");
    port = (emlx_port){.type = EMLX_F32, .shape = {.rank = EMLX_MAX_RANK + 1}};
    assert_int_equal(emlx_block_call(b, 0, &x, 1, &port, 1, &first, &err), EMLX_INVALID);
    emlx_block_release(b);
}

// A loop that counts by twos until it meets a number: never, where that is odd.
static emlx_program *count_to(emlx_device *device, int32_t end) {
    emlx_error err;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_S32, 0), first;
    uint32_t n = input(condition, NULL, EMLX_S32, 0);
    output(condition, NULL, op(condition, "not_equal", 2, n, int_constant(condition, end)));
    uint32_t y = input(body, NULL, EMLX_S32, 0);
    output(body, NULL, op(body, "add", 2, y, int_constant(body, 2)));
    assert_ok(emlx_block_while(b, condition, body, &x, 1, &first, &err), err);
    output(b, "y", first);
    return compile(b, device);
}

static void a_loop_can_be_cancelled(void **state) {
    (void)state;
    emlx_error err;
    size_t held = settled();
    emlx_device *device = cpu();
    emlx_program *program = count_to(device, 1);
    emlx_tensor *x = scalar_s32(device, 0);
    emlx_cancel cancel = {0};
    stop_box box = EMPTY_BOX;
    assert_ok(
        emlx_program_start(program, &x, 1, &(emlx_work){.cancel = &cancel}, fill_box, &box, &err),
        err);
    usleep(2000);
    emlx_cancel_raise(&cancel);
    wait_box(&box);
    assert_int_equal(box.stop.status, EMLX_CANCELLED);
    assert_null(box.stop.run);
    emlx_tensor_release(x);
    emlx_program_release(program);
    emlx_device_release(device);
    assert_true(settles(held));
}

// More loops than a pool ever has threads, none of which ends by itself; one is in a queue.
enum { ENDLESS = 100 };

static void endless_loops_let_other_loops_end(void **state) {
    (void)state;
    emlx_error err;
    size_t held = settled();
    emlx_device *device = cpu();
    emlx_program *endless = count_to(device, 1), *ending = count_to(device, 1000);
    emlx_tensor *x = scalar_s32(device, 0);
    emlx_cancel cancel = {0};
    emlx_queue *queue;
    assert_ok(emlx_queue_new(device, &queue, &err), err);
    stop_box end = EMPTY_BOX, boxes[ENDLESS];
    for (int i = 0; i < ENDLESS; i++) {
        boxes[i] = (stop_box)EMPTY_BOX;
        emlx_work work = {.cancel = &cancel, .queue = i == 0 ? queue : NULL};
        assert_ok(emlx_program_start(endless, &x, 1, &work, fill_box, &boxes[i], &err), err);
    }
    assert_ok(emlx_program_start(ending, &x, 1, NULL, fill_box, &end, &err), err);
    wait_box(&end);
    assert_ok(end.stop.status, end.err);
    assert_int_equal(number_in(end.tensors[0]), 1000);
    release_tensors(&end);
    emlx_cancel_raise(&cancel);
    for (int i = 0; i < ENDLESS; i++) {
        wait_box(&boxes[i]);
        assert_int_equal(boxes[i].stop.status, EMLX_CANCELLED);
    }
    emlx_queue_release(queue);
    emlx_tensor_release(x);
    emlx_program_release(endless);
    emlx_program_release(ending);
    emlx_device_release(device);
    assert_true(settles(held));
}

// Queues -----------------------------------------------------------------------------------------

typedef struct order {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int next, wrong, done;
} order;

typedef struct queued {
    order *order;
    int place;
} queued;

static void note_end(void *context, emlx_status status, const emlx_error *err) {
    (void)err;
    queued *q = context;
    pthread_mutex_lock(&q->order->lock);
    q->order->wrong += status != EMLX_OK || q->order->next != q->place;
    q->order->next++;
    pthread_mutex_unlock(&q->order->lock);
}

static void note_sync(void *context) {
    order *o = context;
    pthread_mutex_lock(&o->lock);
    o->done = o->next;
    pthread_cond_signal(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

// Sums of arrays that get shorter: done side by side, the last would end first.
static void queued_work_is_done_in_order(void **state) {
    (void)state;
    enum { COUNT = 50 };
    emlx_error err;
    emlx_device *device = cpu();
    emlx_queue *queue;
    assert_ok(emlx_queue_new(device, &queue, &err), err);
    emlx_work work = {.queue = queue};
    order o = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .done = -1};
    queued places[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int64_t length = (COUNT - i) * 20000;
        emlx_attr attrs[] = {
            {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = &length, .count = 1}};
        emlx_tensor *iota, *sum;
        assert_ok(
            emlx_apply(emlx_op_find("iota"), device, NULL, 0, attrs, 1, EMLX_F32, &iota, &err),
            err);
        assert_ok(
            emlx_apply(emlx_op_find("sum"), NULL, &iota, 1, NULL, 0, EMLX_TYPE_DEFAULT, &sum, &err),
            err);
        places[i] = (queued){&o, i};
        assert_ok(emlx_eval_async(&sum, 1, &work, note_end, &places[i], &err), err);
        emlx_tensor_release(iota);
        emlx_tensor_release(sum);
    }
    assert_ok(emlx_queue_sync(queue, note_sync, &o, &err), err);
    emlx_queue_release(queue);
    pthread_mutex_lock(&o.lock);
    while (o.done < 0) pthread_cond_wait(&o.changed, &o.lock);
    pthread_mutex_unlock(&o.lock);
    assert_int_equal(o.wrong, 0);
    assert_int_equal(o.done, COUNT);
    emlx_device_release(device);
}

static void runs_with_calls_may_be_queued(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_queue *queue;
    assert_ok(emlx_queue_new(device, &queue, &err), err);
    emlx_program *program = compile(calling_block(), device);
    for (int32_t n = 0; n < 4; n++)
        run_and_compare(program, device, n, 50, &(emlx_work){.queue = queue});
    emlx_program_release(program);
    emlx_queue_release(queue);
    emlx_device_release(device);
}

// Memory -----------------------------------------------------------------------------------------

// One attempt, in which every call is answered by its operand; a failed run must have been given
// up.
static emlx_status attempt(emlx_device *device, emlx_tensor *n, emlx_error *err) {
    stop_box box = EMPTY_BOX;
    emlx_block *b;
    emlx_program *program;
    emlx_tensor *inputs[] = {n};
    emlx_port port = {.type = EMLX_S32};
    uint32_t x, first;
    emlx_status status = emlx_block_new(&b, err);
    if (status != EMLX_OK) return status;
    status = emlx_block_input(b, "x", EMLX_S32, &(emlx_shape){0}, &x, err);
    if (status == EMLX_OK) status = emlx_block_call(b, 5, &x, 1, &port, 1, &first, err);
    if (status == EMLX_OK) status = emlx_block_output(b, "y", first, err);
    if (status != EMLX_OK) {
        emlx_block_release(b);
        return status;
    }
    status = emlx_program_compile(b, device, &program, err);
    if (status != EMLX_OK) return status;
    status = emlx_program_start(program, inputs, 1, NULL, fill_box, &box, err);
    emlx_program_release(program);
    if (status != EMLX_OK) return status;
    wait_box(&box);
    if (box.stop.status == EMLX_OK && box.stop.run != NULL) {
        // The box may be filled again at any time from here on.
        emlx_run *run = box.stop.run;
        emlx_tensor *operand = box.tensors[0];
        status = emlx_run_resume(run, &operand, 1, NULL, fill_box, &box, err);
        emlx_tensor_release(operand);
        if (status != EMLX_OK) {
            emlx_run_release(run);
            return status;
        }
        wait_box(&box);
    }
    *err = box.err;
    if (box.stop.status == EMLX_OK) assert_int_equal(number_in(box.tensors[0]), 7);
    release_tensors(&box);
    return box.stop.status;
}

static void no_allocation_may_fail_unnoticed(void **state) {
    (void)state;
    emlx_error err;
    size_t held = settled();
    emlx_status status = EMLX_OUT_OF_MEMORY;
    for (size_t n = 1; status != EMLX_OK && n < 500; n++) {
        emlx_device *device = cpu();
        emlx_tensor *x = scalar_s32(device, 7);
        mem_fail_from(n);
        status = attempt(device, x, &err);
        mem_fail_from(0);
        if (status != EMLX_OK && status != EMLX_OUT_OF_MEMORY)
            fail_msg("allocation %zu: %s", n, err.message);
        emlx_tensor_release(x);
        emlx_device_release(device);
        if (!settles(held)) fail_msg("allocation %zu: memory was lost", n);
    }
    assert_int_equal(status, EMLX_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_made_in_order),
        cmocka_unit_test(a_wrong_answer_is_refused),
        cmocka_unit_test(a_waiting_run_can_be_given_up),
        cmocka_unit_test(only_a_host_can_run_it),
        cmocka_unit_test(calls_are_checked),
        cmocka_unit_test(a_loop_can_be_cancelled),
        cmocka_unit_test(endless_loops_let_other_loops_end),
        cmocka_unit_test(queued_work_is_done_in_order),
        cmocka_unit_test(runs_with_calls_may_be_queued),
        cmocka_unit_test(no_allocation_may_fail_unnoticed),
    };
    return RUN_TESTS("run/call", tests);
}
