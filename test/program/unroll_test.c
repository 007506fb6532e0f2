// SPDX-License-Identifier: Apache-2.0
// unroll_test.c - loops whose turns are known become the ops of their turns; others stay.
#include "memory/memory.h"
#include "program/program.h"
#include "program/programs.h"

// Adds: while i < turns: x += i of f32, i += 1. From `start`; gives x after it.
static uint32_t count_up(emlx_block *b, uint32_t start, int64_t turns, uint32_t x) {
    emlx_error err;
    emlx_block *condition = new_block(), *body = new_block();
    uint32_t i = input(condition, NULL, EMLX_S32, 0), first;
    input(condition, NULL, EMLX_F32, 1, 3);
    output(condition, NULL, op(condition, "less", 2, i, int_constant(condition, turns)));
    i = input(body, NULL, EMLX_S32, 0);
    uint32_t acc = input(body, NULL, EMLX_F32, 1, 3);
    output(body, NULL, op(body, "add", 2, i, int_constant(body, 1)));
    output(body, NULL, op(body, "add", 2, acc, i));
    assert_ok(emlx_block_while(b, condition, body, (uint32_t[]){start, x}, 2, &first, &err), err);
    return first + 1;
}

static const float data[3] = {1, 2, 3};

static void assert_sums(emlx_program *program, emlx_device *device, float more) {
    emlx_error err;
    emlx_tensor *in = tensor_f32(device, data, 1, 3), *out;
    assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
    assert_f32(out, (float[]){data[0] + more, data[1] + more, data[2] + more}, 3);
    emlx_tensor_release(in);
    emlx_tensor_release(out);
}

static emlx_block *counting_block(int64_t start, int64_t turns) {
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 1, 3);
    output(b, "y", count_up(b, int_constant(b, start), turns, x));
    return b;
}

static void few_turns_are_one_kernel(void **state) {
    (void)state;
    emlx_device *device = cpu();
    const struct {
        int64_t start, turns;
        size_t steps;
        float more;
    } cases[] = {{0, 4, 1, 6}, {2, 4, 1, 5}, {4, 4, 0, 0}, {0, 31, 1, 465}, {0, 1000, 2, 499500}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        emlx_program *program = compile(counting_block(cases[c].start, cases[c].turns), device);
        // A loop has a step for its state and one for itself.
        assert_int_equal(program->main->steps.count, cases[c].steps);
        if (cases[c].steps == 1) assert_int_equal(emlx_program_kernel_count(program), 1);
        assert_sums(program, device, cases[c].more);
        emlx_program_release(program);
    }
    emlx_device_release(device);
}

// A loop within one of two turns, and one within a loop whose turns only the run knows.
static void loops_within_loops(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    for (int known = 0; known < 2; known++) {
        emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
        uint32_t x = input(b, "x", EMLX_F32, 1, 3), first, limit;
        uint32_t start = known ? int_constant(b, 0) : op(b, "argmin", 1, x);
        emlx_type type;
        emlx_block_shape(b, start, &type);
        limit =
            op(condition, "less", 2, input(condition, NULL, type, 0), int_constant(condition, 2));
        input(condition, NULL, EMLX_F32, 1, 3);
        output(condition, NULL, limit);
        uint32_t i = input(body, NULL, type, 0);
        uint32_t acc = input(body, NULL, EMLX_F32, 1, 3);
        output(body, NULL, op(body, "add", 2, i, int_constant(body, 1)));
        output(body, NULL, count_up(body, int_constant(body, 0), 3, acc));
        uint32_t initial[] = {start, x};
        assert_ok(emlx_block_while(b, condition, body, initial, 2, &first, &err), err);
        output(b, "y", first + 1);
        emlx_program *program = compile(b, device);
        const code *main = program->main;
        assert_int_equal(main->steps.count, known ? 1 : 2);
        if (!known) assert_int_equal(main->steps.items[1].blocks[1]->steps.count, 1);
        assert_sums(program, device, 6);
        emlx_program_release(program);
    }
    emlx_device_release(device);
}

// Whether there is memory decides what a program is made of, not what it computes.
static void no_allocation_may_fail_unnoticed(void **state) {
    (void)state;
    emlx_error err;
    size_t held = mem_held();
    emlx_status status = EMLX_OUT_OF_MEMORY;
    for (size_t n = 1; status != EMLX_OK && n < 2000; n++) {
        emlx_device *device = cpu();
        emlx_block *b = counting_block(1, 5);
        emlx_program *program = NULL;
        mem_fail_from(n);
        status = emlx_program_compile(b, device, &program, &err);
        mem_fail_from(0);
        if (status != EMLX_OK && status != EMLX_OUT_OF_MEMORY)
            fail_msg("allocation %zu: %s", n, err.message);
        if (status == EMLX_OK) assert_sums(program, device, 10);
        emlx_program_release(program);
        emlx_device_release(device);
        if (mem_held() != held) fail_msg("allocation %zu: memory was lost", n);
    }
    assert_int_equal(status, EMLX_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_turns_are_one_kernel),
        cmocka_unit_test(loops_within_loops),
        cmocka_unit_test(no_allocation_may_fail_unnoticed),
    };
    return cmocka_run_group_tests_name("unroll", tests, NULL, NULL);
}
