// SPDX-License-Identifier: Apache-2.0
// late_test.c - evaluation on a device that works on after it was given something: whose an error
// is, what is built on work that fails or is cancelled, queues, programs that wait, devices by
// number.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/memory.h"
#include "program/block.h"
#include "program/programs.h"
#include "tensors.h"

enum { TIMES = 60 };

static emlx_tensor *scalar(double value) {
    const emlx_shape shape = {0};
    return tensor_of(EMLX_S64, &shape, &value);
}

static emlx_tensor *take(emlx_tensor *from, emlx_tensor *index) {
    emlx_tensor *in[2] = {from, index};
    emlx_attr axis = with_int("axis", 0);
    return apply_to("take", in, 2, &axis, 1, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *twice(emlx_tensor *t) {
    emlx_tensor *in[2] = {t, t};
    return apply_to("add", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
}

// Takes what does not exist, by an index that is computed, so that it fails on the device.
static emlx_tensor *failing(void) {
    const emlx_shape three = {1, {3}};
    const double values[3] = {1, 2, 3};
    emlx_tensor *from = tensor_of(EMLX_S64, &three, values), *half = scalar(50);
    emlx_tensor *index = twice(half), *out = take(from, index);
    emlx_tensor_release(from), emlx_tensor_release(half), emlx_tensor_release(index);
    return out;
}

static void expect(emlx_tensor *t, double wanted) {
    double *values = values_of(t);
    assert_true(values[0] == wanted);
    free(values);
}

// Answers ----------------------------------------------------------------------------------------

typedef struct answer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool there;
    emlx_status status;
} answer;

static void answered(void *context, emlx_status status, const emlx_error *err) {
    (void)err;
    answer *a = context;
    pthread_mutex_lock(&a->lock);
    a->there = true;
    a->status = status;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

static void ask(emlx_tensor *t, const emlx_work *work, answer *a) {
    emlx_error err;
    *a = (answer){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_ok(emlx_eval_async(&t, 1, work, answered, a, &err), err);
}

static emlx_status hear(answer *a) {
    pthread_mutex_lock(&a->lock);
    while (!a->there) pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->status;
}

// Tests ------------------------------------------------------------------------------------------

static void errors_belong_to_their_work(void **state) {
    (void)state;
    for (int i = 0; i < TIMES; i++) {
        answer a, b, c;
        emlx_tensor *bad = failing(), *one = scalar(i), *good = twice(one), *fine = twice(good);
        ask(good, NULL, &a);
        ask(bad, NULL, &b);
        ask(fine, NULL, &c);
        assert_int_equal(hear(&b), EMLX_OUT_OF_BOUNDS);
        assert_int_equal(hear(&a), EMLX_OK);
        assert_int_equal(hear(&c), EMLX_OK);
        expect(fine, 4.0 * i);
        assert_false(emlx_tensor_ready(bad));
        emlx_tensor_release(bad), emlx_tensor_release(one), emlx_tensor_release(good);
        emlx_tensor_release(fine);
    }
}

// It meets the error as its own, and again when it is asked for again.
static void what_is_built_on_failures_fails(void **state) {
    (void)state;
    emlx_error err;
    for (int i = 0; i < TIMES; i++) {
        answer a, b;
        emlx_tensor *bad = failing(), *more = twice(bad);
        ask(bad, NULL, &a);
        ask(more, NULL, &b);
        assert_int_equal(hear(&b), EMLX_OUT_OF_BOUNDS);
        assert_int_equal(hear(&a), EMLX_OUT_OF_BOUNDS);
        assert_error(emlx_eval(&more, 1, &err), EMLX_OUT_OF_BOUNDS, err, "take: index 100");
        emlx_tensor_release(bad), emlx_tensor_release(more);
    }
}

static void others_finish_what_is_cancelled(void **state) {
    (void)state;
    for (int i = 0; i < TIMES; i++) {
        emlx_cancel cancel = {0};
        answer a, b;
        emlx_tensor *one = scalar(i), *two = twice(one), *four = twice(two);
        ask(two, &(emlx_work){.cancel = &cancel}, &a);
        ask(four, NULL, &b);
        emlx_cancel_raise(&cancel);
        assert_int_equal(hear(&b), EMLX_OK);
        emlx_status status = hear(&a);
        assert_true(status == EMLX_OK || status == EMLX_CANCELLED);
        expect(four, 4.0 * i);
        emlx_tensor_release(one), emlx_tensor_release(two), emlx_tensor_release(four);
    }
}

static void synced(void *context) { answered(context, EMLX_OK, NULL); }

static void queues_keep_their_order(void **state) {
    (void)state;
    emlx_queue *queue;
    emlx_error err;
    assert_ok(emlx_queue_new(test_device, &queue, &err), err);
    emlx_tensor *made[TIMES];
    answer answers[TIMES],
        last = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    emlx_tensor *chain = scalar(1);
    for (int i = 0; i < TIMES; i++) {
        emlx_tensor *next = i % 3 == 2 ? failing() : twice(chain);
        made[i] = next;
        ask(next, &(emlx_work){.queue = queue}, &answers[i]);
        if (i % 3 == 2) continue;
        emlx_tensor_release(chain);
        chain = emlx_tensor_retain(next);
    }
    assert_ok(emlx_queue_sync(queue, synced, &last, &err), err);
    hear(&last);
    for (int i = 0; i < TIMES; i++) {
        assert_true(answers[i].there);
        assert_int_equal(answers[i].status, i % 3 == 2 ? EMLX_OUT_OF_BOUNDS : EMLX_OK);
        emlx_tensor_release(made[i]);
    }
    emlx_tensor_release(chain);
    emlx_queue_release(queue);
}

// Work goes through queues of its own device only.
static void queues_are_of_a_device(void **state) {
    (void)state;
    emlx_device *other;
    emlx_queue *queue;
    emlx_error err;
    emlx_tensor *one = scalar(1), *two = twice(one);
    assert_ok(emlx_device_open("late:1", &other, &err), err);
    assert_ok(emlx_queue_new(other, &queue, &err), err);
    assert_ptr_equal(emlx_queue_device(queue), other);
    const emlx_work work = {.queue = queue};
    assert_error(emlx_eval_async(&two, 1, &work, NULL, NULL, &err), EMLX_INVALID, err, "late:1");
    expect(two, 2);
    emlx_tensor_release(one), emlx_tensor_release(two);
    emlx_queue_release(queue);
    emlx_device_release(other);
}

// What is pending is computed first; little data stays known, so that errors come at the call.
static void tensors_move_between_devices(void **state) {
    (void)state;
    const char *names[] = {"late:1", "cpu", "late:0", "cpu", "late:1", "late:0"};
    emlx_device *devices[6];
    emlx_error err;
    emlx_tensor *half = scalar(21), *t = twice(half), *same;
    emlx_tensor_release(half);
    assert_ok(emlx_tensor_copy(t, test_device, &same, &err), err);
    assert_ptr_equal(same, t);
    emlx_tensor_release(same);
    for (int i = 0; i < 6; i++) {
        emlx_tensor *there, *sum;
        assert_ok(emlx_device_open(names[i], &devices[i], &err), err);
        assert_ok(emlx_tensor_copy(t, devices[i], &there, &err), err);
        emlx_tensor_release(t);
        assert_ptr_equal(emlx_tensor_device(there), devices[i]);
        expect(there, 42 << i);
        sum = twice(there);
        emlx_tensor_release(there);
        t = sum;
    }
    emlx_tensor_release(t);
    for (int i = 0; i < 6; i++) emlx_device_release(devices[i]);
}

static void nothing_moves_as_well(void **state) {
    (void)state;
    const emlx_shape none = {2, {0, 3}};
    emlx_device *device;
    emlx_error err;
    emlx_tensor *t = tensor_of(EMLX_F32, &none, NULL), *there;
    assert_ok(emlx_device_open("late:1", &device, &err), err);
    assert_ok(emlx_tensor_copy(t, device, &there, &err), err);
    assert_int_equal(emlx_tensor_bytes(there), 0);
    emlx_tensor *wrong = failing();
    assert_error(emlx_tensor_copy(wrong, device, &there, &err), EMLX_OUT_OF_BOUNDS, err, "take");
    emlx_tensor_release(t), emlx_tensor_release(there), emlx_tensor_release(wrong);
    emlx_device_release(device);
}

static emlx_memory held_by(const emlx_device *device) {
    emlx_memory info;
    emlx_device_memory_info(device, &info);
    return info;
}

// Each device has its own, beside the host's.
static void memory_is_of_a_device(void **state) {
    (void)state;
    const emlx_shape many = {1, {100000}};
    emlx_device *other;
    emlx_error err;
    emlx_memory host, now;
    double *zeros = calloc(100000, sizeof *zeros);
    assert_ok(emlx_device_open("late:1", &other, &err), err);
    emlx_memory_info(&host);
    uint64_t before = held_by(test_device).active;
    emlx_tensor *t = tensor_of(EMLX_F64, &many, zeros), *more = twice(t);
    assert_int_equal(held_by(test_device).active, before + 800000);
    assert_int_equal(held_by(other).active, 0);
    assert_int_equal(emlx_device_memory_set_limit(test_device, before + 1000000), 0);
    assert_error(emlx_eval(&more, 1, &err), EMLX_OUT_OF_MEMORY, err, "the limit is");
    assert_false(emlx_tensor_ready(more));
    emlx_tensor *there;
    assert_ok(emlx_tensor_copy(t, other, &there, &err), err);
    assert_int_equal(held_by(other).active, 800000);
    assert_true(emlx_memory_held() >= before + 1600000);
    assert_int_equal(emlx_device_memory_set_limit(test_device, 0), before + 1000000);
    assert_ok(emlx_eval(&more, 1, &err), err);
    assert_true(held_by(test_device).peak >= before + 1600000);
    emlx_tensor_release(t), emlx_tensor_release(there), emlx_tensor_release(more);
    assert_int_equal(held_by(test_device).active, before);
    emlx_device_memory_reset_peak(test_device);
    assert_int_equal(held_by(test_device).peak, before);
    emlx_memory_info(&now);
    assert_int_equal(now.limit, host.limit);
    assert_int_equal(held_by(NULL).limit, host.limit);
    emlx_device_release(other);
    free(zeros);
}

// What nobody waits for is done all the same, and its memory comes back.
static void nothing_is_held(void **state) {
    (void)state;
    emlx_tensor *one = scalar(1);
    emlx_device *other;
    emlx_error err;
    for (int i = 0; i < TIMES; i++) {
        answer a;
        emlx_tensor *two = twice(one), *four = twice(two);
        ask(four, NULL, &a);
        emlx_tensor_release(two), emlx_tensor_release(four);
        hear(&a);
    }
    emlx_tensor_release(one);
    assert_ok(emlx_device_open("late:1", &other, &err), err);
    assert_string_equal(emlx_device_name(other), "late:1");
    assert_ptr_equal(emlx_device_retain(other), other);
    emlx_device_release(other);
    emlx_device_release(other);
    assert_error(emlx_device_open("late:2", &other, &err), EMLX_UNSUPPORTED, err, "late:1");
}

// Little data that was put there is known, though the host cannot read it: a block says at once
// what is wrong with it, whatever device it is then compiled for.
static void literals_are_known_to_blocks(void **state) {
    (void)state;
    const emlx_shape one = {1, {1}}, five = {1, {5}};
    const double beyond = 7, numbers[5] = {5, 6, 7, 8, 9};
    const int64_t four = 4;
    emlx_error err;
    emlx_block *b = new_block();
    emlx_tensor *index = tensor_of(EMLX_S64, &one, &beyond), *start = scalar(1);
    uint32_t v[3], out;
    v[0] = input(b, "x", EMLX_F32, 1, 5);
    assert_ok(emlx_block_tensor(b, index, &v[1], &err), err);
    emlx_attr axis = with_int("axis", 0), length = with_ints("lengths", &four, 1);
    assert_error(
        emlx_block_apply(b, emlx_op_find("take"), v, 2, &axis, 1, EMLX_TYPE_DEFAULT, &out, &err),
        EMLX_OUT_OF_BOUNDS, err, "index 7");
    // A start that is known is no operand.
    assert_ok(emlx_block_tensor(b, start, &v[1], &err), err);
    assert_ok(
        emlx_block_apply(b, emlx_op_find("slice"), v, 2, &length, 1, EMLX_TYPE_DEFAULT, &out, &err),
        err);
    assert_int_equal(block_symbol(b, out)->input_count, 1);
    assert_null(emlx_tensor_device(block_symbol(b, out)));
    output(b, NULL, out);
    emlx_program *p = compile(b, test_device);
    emlx_tensor *x = tensor_of(EMLX_F32, &five, numbers), *y;
    assert_ok(emlx_program_run(p, &x, 1, &y, 1, &err), err);
    expect(y, 6);
    emlx_tensor_release(x), emlx_tensor_release(y);
    emlx_tensor_release(index), emlx_tensor_release(start);
    emlx_program_release(p);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_belong_to_their_work),
        cmocka_unit_test(what_is_built_on_failures_fails),
        cmocka_unit_test(others_finish_what_is_cancelled),
        cmocka_unit_test(queues_keep_their_order),
        cmocka_unit_test(queues_are_of_a_device),
        cmocka_unit_test(tensors_move_between_devices),
        cmocka_unit_test(memory_is_of_a_device),
        cmocka_unit_test(nothing_moves_as_well),
        cmocka_unit_test(nothing_is_held),
        cmocka_unit_test(literals_are_known_to_blocks),
    };
    (void)argc;
    use_test_engine(argv[0], "late");
    return RUN_ON_CPU("run/late", tests);
}
