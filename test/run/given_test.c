// SPDX-License-Identifier: Apache-2.0
// given_test.c - inputs that a run may write results over: that it does where nobody else holds
// them, only there, and that references go in any case.
#include <unistd.h>

#include "memory/memory.h"
#include "program/programs.h"

enum { LENGTH = 64 };

// state + change, and the state in which a run goes on.
static emlx_program *step(emlx_device *device) {
    emlx_block *b = new_block();
    uint32_t state = input(b, "state", EMLX_F32, 1, LENGTH);
    uint32_t change = input(b, "change", EMLX_F32, 0);
    output(b, "state", op(b, "add", 2, state, change));
    return compile(b, device);
}

static emlx_tensor *numbers(emlx_device *device, float first) {
    float values[LENGTH];
    for (int i = 0; i < LENGTH; i++) values[i] = first + (float)i;
    return tensor_f32(device, values, 1, LENGTH);
}

static void assert_numbers(emlx_tensor *t, float first) {
    float expected[LENGTH];
    for (int i = 0; i < LENGTH; i++) expected[i] = first + (float)i;
    assert_f32(t, expected, LENGTH);
}

static const void *address(emlx_tensor *t) {
    const void *data;
    emlx_error err;
    assert_ok(emlx_tensor_data(t, &data, &err), err);
    return data;
}

static emlx_tensor *run_step(emlx_program *program, emlx_tensor *state, emlx_tensor *change) {
    const bool given[] = {true, false};
    emlx_tensor *in[] = {state, change}, *out = NULL;
    emlx_error err;
    assert_ok(emlx_program_run_given(program, in, given, 2, &out, 1, &err), err);
    return out;
}

static void a_step_writes_over_the_one_before(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = step(device);
    float two = 2;
    emlx_tensor *t = numbers(device, 0), *change = tensor_f32(device, &two, 0);
    // The first may be somewhere that nobody writes to.
    t = run_step(program, t, change);
    const void *at = address(t);
    for (int i = 0; i < 5; i++) t = run_step(program, t, change);
    assert_ptr_equal(address(t), at);
    assert_numbers(t, 12);
    emlx_tensor_release(t);
    emlx_tensor_release(change);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void what_others_hold_stays(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = step(device);
    float two = 2;
    emlx_tensor *change = tensor_f32(device, &two, 0);
    emlx_tensor *first = run_step(program, numbers(device, 0), change);
    emlx_tensor *second = run_step(program, emlx_tensor_retain(first), change);
    assert_ptr_not_equal(address(first), address(second));
    assert_numbers(first, 2);
    assert_numbers(second, 4);
    // A result that is waiting to be computed needs it, too.
    emlx_tensor *in[] = {second, change}, *sum = NULL;
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find("add"), device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &sum, &err),
        err);
    emlx_tensor *third = run_step(program, second, change);
    assert_numbers(third, 6);
    assert_numbers(sum, 6);
    emlx_tensor_release(sum);
    emlx_tensor_release(first);
    emlx_tensor_release(third);
    emlx_tensor_release(change);
    emlx_program_release(program);
    emlx_device_release(device);
}

// In the background, and on the caller's thread.

static _Atomic(emlx_tensor *) stopped_with;

static void keep_result(void *context, const emlx_stop *stop) {
    (void)context;
    assert_int_equal(stop->status, EMLX_OK);
    stopped_with = stop->tensors[0];
}

static void started_runs_take_them_as_well(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = step(device);
    const bool given[] = {true, false};
    float two = 2;
    emlx_tensor *change = tensor_f32(device, &two, 0);
    emlx_tensor *t = run_step(program, numbers(device, 0), change);
    const void *at = address(t);
    emlx_error err;
    for (int here = 0; here < 2; here++) {
        emlx_work work = {.here = here == 1, .given = given};
        emlx_tensor *in[] = {t, change};
        stopped_with = NULL;
        assert_ok(emlx_program_start(program, in, 2, &work, keep_result, NULL, &err), err);
        while (stopped_with == NULL) usleep(1000);
        t = stopped_with;
        assert_ptr_equal(address(t), at);
    }
    assert_numbers(t, 6);
    emlx_tensor_release(t);
    emlx_tensor_release(change);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void references_go_where_a_run_fails(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = step(device);
    const bool given[] = {true, true};
    emlx_error err;
    size_t held = mem_held();
    emlx_work work = {.here = true, .given = given};
    for (int i = 0; i < 2; i++) {
        float two = 2;
        emlx_tensor *in[] = {tensor_f32(device, &two, 0), numbers(device, 0)}, *out = NULL;
        emlx_status status =
            i == 0 ? emlx_program_run_given(program, in, given, 2, &out, 1, &err)
                   : emlx_program_start(program, in, 2, &work, keep_result, NULL, &err);
        assert_int_equal(status, EMLX_INVALID);
        assert_int_equal(mem_held(), held);
    }
    emlx_program_release(program);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_writes_over_the_one_before),
        cmocka_unit_test(what_others_hold_stays),
        cmocka_unit_test(started_runs_take_them_as_well),
        cmocka_unit_test(references_go_where_a_run_fails),
    };
    return RUN_TESTS("run/given", tests);
}
