// SPDX-License-Identifier: Apache-2.0
// repeat_test.c - programs that are run again with the state they gave: by the command line, and by
// examples/generate.c, as those that generate text are.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "program/programs.h"

static void save_tokens(void) {
    emlx_error err;
    emlx_device *device = cpu();
    const int64_t dims[] = {1, 2};
    emlx_shape shape;
    emlx_tensor *t;
    assert_ok(emlx_shape_make(dims, 2, &shape, &err), err);
    assert_ok(emlx_tensor_from_data(device, EMLX_S32, &shape, (int32_t[]){40, 7}, 8, &t, &err),
              err);
    assert_ok(emlx_npy_save(in_folder("tokens.npy"), t, &err), err);
    emlx_tensor_release(t);
    emlx_device_release(device);
}

// Draws the prompt, a step further each turn; the third turn is the last.
static void save_turns(void) {
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t tokens = input(b, "tokens", EMLX_S32, 2, 1, 2), n = input(b, "state.n", EMLX_S32, 0);
    uint32_t next = op(b, "add", 2, n, int_constant(b, 1));
    output(b, "drawn", op(b, "add", 2, tokens, n));
    output(b, "state.n", next);
    output(b, "state.done", op(b, "greater_equal", 2, next, int_constant(b, 3)));
    assert_ok(emlx_block_save(b, in_folder("turns.safetensors"), &err), err);
    emlx_block_release(b);
}

static void turns_go_on_from_the_last(void **state) {
    (void)state;
    save_tokens();
    save_turns();
    emlx(0, "run turns.safetensors -i tokens=tokens.npy --repeat 99 --until state.done");
    assert_string_equal(printed, "drawn: s32[1, 2]\n[[40, 7]]\nstate.done: u8[]\n0\n"
                                 "drawn: s32[1, 2]\n[[41, 8]]\nstate.done: u8[]\n0\n"
                                 "drawn: s32[1, 2]\n[[42, 9]]\nstate.done: u8[]\n1\n");
    emlx(0, "run turns.safetensors -i tokens=tokens.npy --repeat 2 -o state.n=n.npy");
    assert_string_equal(printed, "");
    emlx(0, "run turns.safetensors -i tokens=tokens.npy -i state.n=n.npy --repeat 1");
    assert_prints("[[42, 9]]");
}

static void mistakes_are_one_line(void **state) {
    (void)state;
    static const struct {
        const char *arguments, *message;
    } cases[] = {
        {"run turns.safetensors -i tokens=tokens.npy", "input state.n is missing"},
        {"run turns.safetensors --repeat 2", "input tokens is missing"},
        {"run turns.safetensors --repeat 0", "--repeat takes a count from 1 on, got \"0\""},
        {"run turns.safetensors --repeat 2x", "--repeat takes a count from 1 on, got \"2x\""},
        {"run turns.safetensors --until state.n", "--until needs --repeat COUNT"},
        {"run turns.safetensors -i tokens=tokens.npy --repeat 2 --until n", "no output \"n\""},
    };
    save_tokens();
    save_turns();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emlx(2, cases[i].arguments);
        assert_line(cases[i].message);
    }
}

static void tokens_are_printed_as_they_come(void **state) {
    (void)state;
    char program[256];
    const char *slash = strrchr(test_cli, '/');
    snprintf(program, sizeof program, "%.*s/examples/generate",
             slash == NULL ? 1 : (int)(slash - test_cli), slash == NULL ? "." : test_cli);
    if (access(program, X_OK) != 0) skip();
    save_tokens();
    save_turns();
    run_command(0, program, "turns.safetensors tokens.npy");
    assert_string_equal(printed, "40 7 41 8 42 9 \n");
    run_command(1, program, "turns.safetensors none.npy");
    assert_line("generate: none.npy: cannot open");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_go_on_from_the_last),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(tokens_are_printed_as_they_come),
    };
    return cmocka_run_group_tests_name("cli/repeat", tests, make_folder, remove_folder);
}
