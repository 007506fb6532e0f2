// SPDX-License-Identifier: Apache-2.0
// loops_test.c - loops that a device runs by itself, their state, errors and ends. Needs a device;
// without one the test says that it is skipped.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ending.h"
#include "program/programs.h"
#include "tensors.h"

static emlx_tensor *number(emlx_type type, double value) {
    emlx_shape scalar = {0, {0}};
    return tensor_of(type, &scalar, &value);
}

// while i < n: i, a, b = i + 1, b, a + b; `same` stays, and is added to a third number.
static emlx_program *fibonacci(void) {
    emlx_error err;
    emlx_block *b = new_block(), *blocks[2] = {new_block(), new_block()};
    uint32_t v[6], first;
    for (int which = 0; which < 2; which++) {
        emlx_block *in = blocks[which];
        for (int i = 0; i < 6; i++) v[i] = input(in, NULL, i == 5 ? EMLX_F32 : EMLX_S64, 0);
        if (which == 0) {
            output(in, NULL, op(in, "less", 2, v[0], v[1]));
        } else {
            output(in, NULL, op(in, "add", 2, v[0], v[4]));
            output(in, NULL, v[1]);
            output(in, NULL, v[3]);
            output(in, NULL, op(in, "add", 2, v[2], v[3]));
            output(in, NULL, v[4]);
            output(in, NULL, op(in, "add", 2, v[5], v[5]));
        }
    }
    for (int i = 0; i < 6; i++) v[i] = input(b, NULL, i == 5 ? EMLX_F32 : EMLX_S64, 0);
    assert_ok(emlx_block_while(b, blocks[0], blocks[1], v, 6, &first, &err), err);
    for (uint32_t i = 0; i < 6; i++) output(b, NULL, first + i);
    return compile(b, test_device);
}

// Parts of a state that change places, stay, or double.
static void loops_carry_their_state(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *p = fibonacci();
    static const int turns[] = {0, 1, 7, 8, 9, 10, 80};
    for (int n = 0; n < 7; n++)
        for (int again = 0; again < 2; again++) {
            double start[] = {0, turns[n], 0, 1, 1, 1}, a = 0, b = 1, doubled = 1;
            emlx_tensor *in[6], *out[6];
            for (int i = 0; i < 6; i++) in[i] = number(i == 5 ? EMLX_F32 : EMLX_S64, start[i]);
            for (int t = 0; t < turns[n]; t++) {
                double next = a + b;
                a = b;
                b = next;
                doubled *= 2;
            }
            assert_ok(emlx_program_run(p, in, 6, out, 6, &err), err);
            double expected[] = {turns[n], turns[n], a, b, 1, doubled};
            for (int i = 0; i < 6; i++) {
                double *value = values_of(out[i]);
                if (*value != expected[i])
                    fail_msg("%d turns: part %d is %g, not %g", turns[n], i, *value, expected[i]);
                free(value);
                emlx_tensor_release(in[i]);
                emlx_tensor_release(out[i]);
            }
        }
    emlx_program_release(p);
}

// A loop of so many turns: i = i + 1, and whatever `turn` makes of the two arrays of f32 [side,
// side] in `v`.
typedef void (*turn_fn)(emlx_block *b, const uint32_t v[4], uint32_t next[2]);

static emlx_program *loop_of(emlx_device *device, turn_fn turn, int64_t side) {
    emlx_error err;
    emlx_block *blocks[3] = {new_block(), new_block(), new_block()};
    uint32_t v[4], next[2], first;
    for (int which = 0; which < 3; which++) {
        emlx_block *in = blocks[which];
        for (int i = 0; i < 2; i++) v[i] = input(in, NULL, EMLX_S64, 0);
        for (int i = 2; i < 4; i++) v[i] = input(in, NULL, EMLX_F32, 2, side, side);
        if (which == 0) output(in, NULL, op(in, "less", 2, v[0], v[1]));
        if (which != 1) continue;
        turn(in, v, next);
        output(in, NULL, op(in, "add", 2, v[0], int_constant(in, 1)));
        output(in, NULL, v[1]);
        for (int i = 0; i < 2; i++) output(in, NULL, next[i]);
    }
    assert_ok(emlx_block_while(blocks[2], blocks[0], blocks[1], v, 4, &first, &err), err);
    for (uint32_t i = 0; i < 4; i++) output(blocks[2], NULL, first + i);
    return compile(blocks[2], device);
}

// The arrays after `turns` turns, or the error's text in `message`.
static emlx_status run_loop(emlx_device *device, turn_fn turn, int64_t side, int turns,
                            double *results[2], char message[300]) {
    emlx_error err = {0};
    emlx_device *before = test_device;
    test_device = device;
    emlx_program *p = loop_of(device, turn, side);
    emlx_shape square = {2, {side, side}};
    draw_seed(3);
    emlx_tensor *in[4] = {number(EMLX_S64, 0), number(EMLX_S64, turns),
                          random_tensor(EMLX_F32, &square, -9, 9),
                          random_tensor(EMLX_F32, &square, -9, 9)},
                *out[4];
    emlx_status status = emlx_program_run(p, in, 4, out, 4, &err);
    for (int i = 0; i < 2 && status == EMLX_OK; i++) results[i] = values_of(out[2 + i]);
    for (int i = 0; i < 4; i++) {
        emlx_tensor_release(in[i]);
        if (status == EMLX_OK) emlx_tensor_release(out[i]);
    }
    snprintf(message, 300, "%.299s", err.message);
    emlx_program_release(p);
    test_device = before;
    return status;
}

// The device does as the CPU does, to the bit, errors included.
static void assert_same_loop(turn_fn turn, int64_t side, int turns, emlx_status expected) {
    emlx_device *own = cpu();
    double *there[2], *here[2];
    char texts[2][300];
    assert_int_equal(run_loop(own, turn, side, turns, here, texts[0]), expected);
    for (int again = 0; again < 2; again++) {
        emlx_status status = run_loop(test_device, turn, side, turns, there, texts[1]);
        if (status != expected) fail_msg("status %d: %s", (int)status, texts[1]);
        if (expected != EMLX_OK) assert_string_equal(texts[1], texts[0]);
        for (int i = 0; i < 2 && expected == EMLX_OK; i++) {
            assert_memory_equal(there[i], here[i], (size_t)(side * side) * sizeof(double));
            free(there[i]);
        }
    }
    for (int i = 0; i < 2 && expected == EMLX_OK; i++) free(here[i]);
    emlx_device_release(own);
}

// Both in place; both anew, and changing places; one from the other, by way of their sums.
static void turn_in_place(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    next[0] = op(b, "negate", 1, v[2]);
    next[1] = op(b, "add", 2, v[3], real_constant(b, 1));
}
static void turn_swap(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    next[0] = op(b, "add", 2, v[3], real_constant(b, 1));
    next[1] = op(b, "negate", 1, v[2]);
}
static void turn_places(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    (void)b;
    next[0] = v[3];
    next[1] = v[2];
}
static void turn_sums(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    int64_t first = 0;
    emlx_attr axes = with_ints("axes", &first, 1);
    next[0] = op(b, "subtract", 2, v[3], op_with(b, "sum", &axes, 1, 1, v[2]));
    next[1] = op(b, "min", 2, op(b, "max", 2, v[2], real_constant(b, -50)), real_constant(b, 50));
    next[0] =
        op(b, "min", 2, op(b, "max", 2, next[0], real_constant(b, -50)), real_constant(b, 50));
}
// Each turn is a row further, beyond the last in the end.
static void turn_take(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    emlx_attr axis = with_int("axis", 0);
    next[0] = op(b, "add", 2, v[2], op_with(b, "take", &axis, 1, 2, v[3], v[0]));
    next[1] = v[3];
}
// 100 divided by what is left, which is nothing in turn 40.
static void turn_divide(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    uint32_t left = op(b, "subtract", 2, int_constant(b, 40), v[0]);
    next[0] = op(b, "add", 2, v[2], op(b, "quotient", 2, int_constant(b, 100), left));
    next[1] = v[3];
}
// Large enough for a library's product; whole numbers, so that its order does not matter.
static void turn_product(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_attr attrs[] = {with_ints("contract_left", left, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", right, 1), with_ints("batch_right", NULL, 0)};
    uint32_t sign = op(b, "sign", 1, op_with(b, "dot", attrs, 4, 2, v[2], v[3]));
    next[0] = op(b, "subtract", 2, v[3], sign);
    next[1] = op(b, "negate", 1, sign);
}
// Of numbers that are -1, 0 or 1 after a turn: what is added to the product is one of its operands.
static void turn_joined(emlx_block *b, const uint32_t v[4], uint32_t next[2]) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_attr attrs[] = {with_ints("contract_left", left, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", right, 1), with_ints("batch_right", NULL, 0)};
    next[0] = op(b, "add", 2, op_with(b, "dot", attrs, 4, 2, v[3], v[3]), v[3]);
    next[1] = op(b, "sign", 1, v[2]);
}

static void loops_give_what_the_cpu_gives(void **state) {
    (void)state;
    static const turn_fn turns[] = {turn_in_place, turn_swap, turn_places, turn_sums};
    for (int i = 0; i < 4; i++)
        for (int n = 7; n < 60; n += 17) {
            assert_same_loop(turns[i], 3, n, EMLX_OK);
            assert_same_loop(turns[i], 70, n, EMLX_OK);
        }
    for (int n = 5; n < 40; n += 10) {
        assert_same_loop(turn_take, 64, n, EMLX_OK);
        assert_same_loop(turn_divide, 5, n, EMLX_OK);
        assert_same_loop(turn_product, 5, n, EMLX_OK);
        assert_same_loop(turn_joined, 70, n, EMLX_OK);
    }
    assert_same_loop(turn_product, 256, 30, EMLX_OK);
}

// The loop ends at the turn that is wrong, and says what is.
static void loops_report_errors(void **state) {
    (void)state;
    assert_same_loop(turn_take, 64, 100, EMLX_OUT_OF_BOUNDS);
    assert_same_loop(turn_divide, 5, 100, EMLX_ARITHMETIC);
    assert_same_loop(turn_take, 64, 30, EMLX_OK);
}

static void take_stop(void *context, const emlx_stop *stop) { end_come(context, stop->status); }

// Counts by twos until it meets a number: never, where that is odd. A turn with a choice in it is
// several plans, and the host's to make.
static emlx_program *count_to(emlx_device *device, int64_t end, bool choice) {
    emlx_error err;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_S64, 0), first, n = input(condition, NULL, EMLX_S64, 0);
    output(condition, NULL, op(condition, "not_equal", 2, n, int_constant(condition, end)));
    n = input(body, NULL, EMLX_S64, 0);
    if (choice) {
        emlx_block *blocks[3] = {new_block(), new_block(), new_block()};
        for (int i = 0; i < 3; i++) {
            uint32_t y = input(blocks[i], NULL, EMLX_S64, 0), zero = int_constant(blocks[i], 0);
            output(blocks[i], NULL, op(blocks[i], i == 0 ? "less" : "add", 2, y, zero));
        }
        assert_ok(emlx_block_cond(body, blocks, 1, blocks + 1, 2, &n, 1, &n, &err), err);
    }
    output(body, NULL, op(body, "add", 2, n, int_constant(body, 2)));
    assert_ok(emlx_block_while(b, condition, body, &x, 1, &first, &err), err);
    output(b, "y", first);
    return compile(b, device);
}

// A loop without end goes on on the device until nobody wants it.
static void loops_are_cancelled(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *p = count_to(test_device, 1, false);
    emlx_tensor *in = number(EMLX_S64, 0);
    emlx_cancel flag = {0};
    emlx_work work = {.cancel = &flag};
    ending e = NO_END;
    assert_ok(emlx_program_start(p, &in, 1, &work, take_stop, &e, &err), err);
    usleep(200000);
    assert_false(e.ended);
    emlx_cancel_raise(&flag);
    assert_int_equal(end_wait(&e), EMLX_CANCELLED);
    emlx_tensor_release(in);
    emlx_program_release(p);
}

// Loops beside other work
// --------------------------------------------------------------------------

// A run with an end, in the background or on a thread of its own.
typedef struct runner {
    emlx_program *program;
    emlx_cancel *flag;
    bool here;
    ending end;
    int64_t result;
    pthread_t thread;
} runner;

static void take_result(void *context, const emlx_stop *stop) {
    runner *r = context;
    emlx_error err;
    emlx_status status = stop->status;
    if (status == EMLX_OK)
        status = emlx_tensor_read(stop->tensors[0], 0, &r->result, sizeof r->result, &err);
    for (size_t i = 0; i < stop->count; i++) emlx_tensor_release(stop->tensors[i]);
    end_come(&r->end, status);
}

static void *start_run(void *context) {
    runner *r = context;
    emlx_error err;
    emlx_tensor *zero = number(EMLX_S64, 0);
    emlx_work work = {.cancel = r->flag, .here = r->here};
    emlx_status status = emlx_program_start(r->program, &zero, 1, &work, take_result, r, &err);
    emlx_tensor_release(zero);
    if (status != EMLX_OK) end_come(&r->end, status);
    return NULL;
}

static void begin_run(runner *r, emlx_program *program, emlx_cancel *flag, bool here) {
    *r = (runner){.program = program, .flag = flag, .here = here, .end = NO_END};
    if (here)
        assert_int_equal(pthread_create(&r->thread, NULL, start_run, r), 0);
    else
        start_run(r);
}

static emlx_status end_run(runner *r) {
    emlx_status status = end_wait(&r->end);
    if (r->here) pthread_join(r->thread, NULL);
    return status;
}

// Ops by themselves, a program, loops with an end: at once, and in the background.
static void do_other_work(void) {
    emlx_error err;
    emlx_program *p = count_to(test_device, 3000, false),
                 *by_host = count_to(test_device, 20, true);
    for (int turn = 0; turn < 3; turn++) {
        emlx_shape shape = {1, {1000}};
        emlx_tensor *a = random_tensor(EMLX_F32, &shape, -9, 9), *zero, *out;
        emlx_tensor *sum = apply_two("add", a, a);
        double *values = values_of(sum), *halves = values_of(a);
        for (int i = 0; i < 1000; i++) assert_true(values[i] == 2 * halves[i]);
        free(values);
        free(halves);
        emlx_tensor_release(sum);
        emlx_tensor_release(a);
        for (int which = 0; which < 2; which++) {
            emlx_program *program = which == 0 ? p : by_host;
            zero = number(EMLX_S64, 0);
            assert_ok(emlx_program_run(program, &zero, 1, &out, 1, &err), err);
            double *end = values_of(out);
            assert_true(*end == (which == 0 ? 3000 : 20));
            free(end);
            emlx_tensor_release(zero);
            emlx_tensor_release(out);
            runner r;
            begin_run(&r, program, NULL, false);
            assert_int_equal(end_run(&r), EMLX_OK);
            assert_int_equal(r.result, which == 0 ? 3000 : 20);
        }
    }
    emlx_program_release(p);
    emlx_program_release(by_host);
}

// More loops than a device has streams, and the pool threads.
enum { ENDLESS = 40, OWN_THREADS = 12 };

static void endless_loops_let_others_work(void **state) {
    (void)state;
    static runner runs[ENDLESS];
    for (int form = 0; form < 3; form++) {
        bool here = form == 1, choice = form == 2;
        int count = here ? OWN_THREADS : ENDLESS;
        emlx_cancel flag = {0};
        emlx_program *p = count_to(test_device, 1, choice);
        for (int i = 0; i < count; i++) begin_run(&runs[i], p, &flag, here);
        usleep(50000);
        do_other_work();
        for (int i = 0; i < count; i++) assert_false(runs[i].end.ended);
        emlx_cancel_raise(&flag);
        for (int i = 0; i < count; i++) assert_int_equal(end_run(&runs[i]), EMLX_CANCELLED);
        emlx_program_release(p);
    }
}

// Of many that take turns each makes all of its own.
static void loops_that_give_way_go_on_where_they_were(void **state) {
    (void)state;
    static runner runs[ENDLESS];
    emlx_program *p = count_to(test_device, 40000, false);
    for (int i = 0; i < ENDLESS; i++) begin_run(&runs[i], p, NULL, i < OWN_THREADS);
    for (int i = 0; i < ENDLESS; i++) {
        assert_int_equal(end_run(&runs[i]), EMLX_OK);
        assert_int_equal(runs[i].result, 40000);
    }
    emlx_program_release(p);
}

// A loop on one device keeps nothing from those on another.
static void devices_have_loops_of_their_own(void **state) {
    (void)state;
    static runner runs[2 * ENDLESS];
    emlx_error err;
    emlx_device *second = NULL, *first = test_device;
    if (emlx_device_open("cuda:1", &second, &err) != EMLX_OK) return;
    emlx_program *p[2] = {count_to(first, 1, false), NULL};
    emlx_cancel flag = {0};
    test_device = second;
    p[1] = count_to(second, 1, false);
    for (int i = 0; i < 2 * ENDLESS; i++) {
        test_device = i % 2 == 0 ? first : second;
        begin_run(&runs[i], p[i % 2], &flag, false);
    }
    usleep(50000);
    for (int i = 0; i < 2; i++) {
        test_device = i == 0 ? first : second;
        do_other_work();
    }
    test_device = first;
    emlx_cancel_raise(&flag);
    for (int i = 0; i < 2 * ENDLESS; i++) assert_int_equal(end_run(&runs[i]), EMLX_CANCELLED);
    for (int i = 0; i < 2; i++) emlx_program_release(p[i]);
    emlx_device_release(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_carry_their_state),
        cmocka_unit_test(loops_give_what_the_cpu_gives),
        cmocka_unit_test(loops_report_errors),
        cmocka_unit_test(loops_are_cancelled),
        cmocka_unit_test(endless_loops_let_others_work),
        cmocka_unit_test(loops_that_give_way_go_on_where_they_were),
        cmocka_unit_test(devices_have_loops_of_their_own),
    };
    if (!open_gpu_or_skip("engines/cuda/loops")) return 0;
    int failed = cmocka_run_group_tests_name("engines/cuda/loops", tests, NULL, NULL);
    emlx_device_release(test_device);
    return failed;
}
