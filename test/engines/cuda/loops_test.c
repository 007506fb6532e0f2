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

// A loop without end goes on on the device until nobody wants it.
static void loops_are_cancelled(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_S64, 0), first;
    output(condition, NULL,
           op(condition, "greater_equal", 2, input(condition, NULL, EMLX_S64, 0),
              int_constant(condition, 0)));
    output(body, NULL, op(body, "add", 2, input(body, NULL, EMLX_S64, 0), int_constant(body, 1)));
    assert_ok(emlx_block_while(b, condition, body, &x, 1, &first, &err), err);
    output(b, "y", first);
    emlx_program *p = compile(b, test_device);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_carry_their_state),
        cmocka_unit_test(loops_give_what_the_cpu_gives),
        cmocka_unit_test(loops_report_errors),
        cmocka_unit_test(loops_are_cancelled),
    };
    if (!open_gpu_or_skip("engines/cuda/loops")) return 0;
    int failed = cmocka_run_group_tests_name("engines/cuda/loops", tests, NULL, NULL);
    emlx_device_release(test_device);
    return failed;
}
