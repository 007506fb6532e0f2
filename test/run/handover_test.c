// SPDX-License-Identifier: Apache-2.0
// handover_test.c - what a device's engine cannot: done by the host and counted, or an error.
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"
#include "plan/build.h"
#include "program/programs.h"
#include "tensors.h"

static const emlx_shape four = {1, {4}};
static const double values[4] = {0, 1, 4, 9};

static emlx_tensor *root_of(emlx_tensor *t) {
    return apply_to("sqrt", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static uint64_t counted(const char *wanted) {
    const char *op;
    uint64_t count;
    for (size_t i = 0; emlx_device_handover(test_device, i, &op, &count); i++)
        if (strcmp(op, wanted) == 0) return count;
    return 0;
}

// Refused whether or not the same computation was planned before; and it may be tried again.
static void refused_ones_are_errors(void **state) {
    (void)state;
    emlx_error err;
    emlx_tensor *x = tensor_of(EMLX_F32, &four, values);
    for (int turn = 0; turn < 2; turn++) {
        emlx_tensor *y = root_of(x);
        emlx_refuse_handovers(true);
        assert_error(emlx_eval(&y, 1, &err), EMLX_UNSUPPORTED, err, "sqrt: device picky:0");
        if (strstr(err.message, "f32") == NULL) fail_msg("no type in: %s", err.message);
        assert_false(emlx_tensor_ready(y));
        assert_int_equal(counted("sqrt"), turn);
        emlx_refuse_handovers(false);
        double *roots = values_of(y);
        assert_true(roots[0] == 0 && roots[3] == 3);
        assert_int_equal(counted("sqrt"), turn + 1);
        free(roots);
        emlx_tensor_release(y);
    }
    emlx_tensor_release(x);
}

static emlx_block *exponential(void) {
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 1, 4), y;
    emlx_error err;
    assert_ok(emlx_block_apply(b, emlx_op_find("exp"), &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, &y, &err),
              err);
    output(b, NULL, y);
    return b;
}

// A program says so when it is compiled; one that was compiled before goes on.
static void programs_are_refused_when_compiled(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *program, *other;
    emlx_tensor *x = tensor_of(EMLX_F32, &four, values), *y;
    assert_ok(emlx_program_compile(exponential(), test_device, &program, &err), err);
    emlx_refuse_handovers(true);
    assert_error(emlx_program_compile(exponential(), test_device, &other, &err), EMLX_UNSUPPORTED,
                 err, "exp: device picky:0");
    assert_ok(emlx_program_run(program, &x, 1, &y, 1, &err), err);
    emlx_refuse_handovers(false);
    assert_int_equal(counted("exp"), 1);
    emlx_tensor_release(x);
    emlx_tensor_release(y);
    emlx_program_release(program);
}

static emlx_plan *plan_on(emlx_device *device, const double *numbers) {
    emlx_error err;
    emlx_tensor *x, *y;
    planned found;
    assert_ok(
        emlx_tensor_from_data(device, EMLX_F64, &four, numbers, 4 * sizeof *numbers, &x, &err),
        err);
    y = root_of(x);
    plan_request request = {device, &y, 1, &x, 1};
    assert_ok(plan_find(&request, &found, &err), err);
    emlx_plan *plan = plan_retain(found.plan);
    planned_clear(&found);
    emlx_tensor_release(x);
    emlx_tensor_release(y);
    return plan;
}

// What the host is handed is planned as its own work is, and prepared once for both.
static void parts_are_plans_like_others(void **state) {
    (void)state;
    emlx_device *cpu;
    emlx_error err;
    assert_ok(emlx_device_open("cpu", &cpu, &err), err);
    emlx_plan *divided = plan_on(test_device, values), *own = plan_on(cpu, values);
    assert_int_equal(divided->part_count, 1);
    assert_ptr_equal(divided->parts[0].plan, own);
    plan_release(divided);
    plan_release(own);
    emlx_device_release(cpu);
}

static struct {
    unsigned handed;
    uint64_t count;
    char op[32], device[32];
} told;

static void tell(void *context, const emlx_event *event) {
    (void)context;
    if (event->kind != EMLX_EVENT_HANDED_OVER) return;
    told.handed++;
    told.count += event->count;
    (void)snprintf(told.op, sizeof told.op, "%s", event->op);
    (void)snprintf(told.device, sizeof told.device, "%s", event->device);
}

// Each time it is computed, planned before or not; and not what the device computes.
static void observers_are_told(void **state) {
    (void)state;
    emlx_error err;
    emlx_tensor *x = tensor_of(EMLX_F32, &four, values);
    emlx_observe(tell, NULL);
    for (unsigned turn = 1; turn <= 2; turn++) {
        emlx_tensor *y = root_of(x);
        assert_ok(emlx_eval(&y, 1, &err), err);
        assert_int_equal(told.handed, turn);
        assert_int_equal(told.count, turn);
        emlx_tensor_release(y);
    }
    assert_string_equal(told.op, "sqrt");
    assert_string_equal(told.device, "picky:0");
    // What an engine finds only when it runs a kernel.
    uint64_t before = counted("cosh");
    handover_count(test_device, "cosh");
    assert_int_equal(counted("cosh"), before + 1);
    assert_int_equal(told.handed, 3);
    assert_string_equal(told.op, "cosh");
    emlx_observe(NULL, NULL);
    emlx_tensor_release(x);
}

// A device that hands nothing over has nothing to refuse.
static void the_host_is_not_concerned(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *picky = test_device;
    assert_ok(emlx_device_open("cpu", &test_device, &err), err);
    emlx_refuse_handovers(true);
    emlx_tensor *x = tensor_of(EMLX_F32, &four, values), *y = root_of(x);
    assert_ok(emlx_eval(&y, 1, &err), err);
    emlx_refuse_handovers(false);
    assert_false(emlx_device_handover(test_device, 0, NULL, NULL));
    emlx_tensor_release(x);
    emlx_tensor_release(y);
    emlx_device_release(test_device);
    test_device = picky;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_ones_are_errors),
        cmocka_unit_test(programs_are_refused_when_compiled),
        cmocka_unit_test(parts_are_plans_like_others),
        cmocka_unit_test(observers_are_told),
        cmocka_unit_test(the_host_is_not_concerned),
    };
    (void)argc;
    use_test_engine(argv[0], "picky");
    setenv("EMLX_PICKY_ODDS", "1", 1);
    return RUN_ON_CPU("run/handover", tests);
}
