// SPDX-License-Identifier: Apache-2.0
// cli_test.c - the command line, as a user calls it: output, messages and exit status.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"
#include "program/programs.h"

// y = x * 2 + n, and the largest x.
static void save_program(void) {
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), n = input(b, "n", EMLX_S32, 0);
    output(b, "y", op(b, "add", 2, op(b, "multiply", 2, x, real_constant(b, 2)), n));
    output(b, "most", op(b, "reduce_max", 1, x));
    assert_ok(emlx_block_save(b, in_folder("program.safetensors"), &err), err);
    emlx_block_release(b);
}

static void save_inputs(void) {
    static const float x[6] = {1, 2.5f, 3, 4, 0.1f, -6};
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensors[] = {tensor_f32(device, x, 2, 2, 3), scalar_s32(device, 10)};
    assert_ok(emlx_npy_save(in_folder("x.npy"), tensors[0], &err), err);
    assert_ok(emlx_npy_save(in_folder("n.npy"), tensors[1], &err), err);
    emlx_tensor_release(tensors[0]);
    emlx_tensor_release(tensors[1]);
    emlx_device_release(device);
}

static void help_and_version(void **state) {
    (void)state;
    emlx(0, "--help");
    assert_prints("emlx run FILE");
    emlx(0, "run -h");
    assert_line("usage: emlx run FILE");
    emlx(0, "run --help");
    assert_line("usage: emlx run FILE");
    emlx(0, "--version");
    assert_line("emlx " EMLX_VERSION);
    emlx(2, "");
    assert_line("no command given");
    emlx(2, "frobnicate");
    assert_line("emlx: unknown command \"frobnicate\"");
}

static void info_tells_what_there_is(void **state) {
    (void)state;
    emlx(0, "info");
    assert_prints("emlx " EMLX_VERSION "\n");
    assert_prints("device cpu: ");
    save_program();
    emlx(0, "info program.safetensors");
    assert_prints("input 0 x: f32[2, 3]\n");
    assert_prints("input 1 n: s32[]\n");
    assert_prints("output 0 y: f32[2, 3]\n");
    assert_prints("ops: 4\n");
    assert_prints("kernels: ");
    emlx(2, "info nothing.safetensors");
    assert_line("emlx info: nothing.safetensors: cannot open: No such file or directory");
    emlx(2, "info a b");
    assert_line("one file expected, got 2");
}

static void write_weights(const char *header) {
    uint64_t length = strlen(header);
    FILE *file = fopen(in_folder("weights.safetensors"), "wb");
    assert_non_null(file);
    fwrite(&length, 1, 8, file);
    fwrite(header, 1, length, file);
    fputc(1, file);
    assert_int_equal(fclose(file), 0);
}

// What a file calls its arrays and says of them may have line breaks and worse.
static void info_of_weights_is_a_line_each(void **state) {
    (void)state;
    write_weights("{\"__metadata__\":{\"a\\nb\":\"\\u001b[31m\\r\\u009b\"},"
                  "\"new\\nline\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
    emlx(0, "info weights.safetensors");
    assert_string_equal(printed, "safetensors file\narrays: 1\nbytes of data: 1\n"
                                 "text a?b: ?[31m???\narray new?line: u8[1]\n");
    char header[512], text[100] = "";
    memset(text, '-', 79);
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"long\":\"%s\\u00e9\"},"
             "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
             text);
    write_weights(header);
    emlx(0, "info weights.safetensors");
    snprintf(header, sizeof header, "text long: %s\narray x", text);
    assert_prints(header);
}

static void ops_are_listed(void **state) {
    (void)state;
    emlx(0, "ops");
    assert_prints("constant 0 0 shape:ints value:number\n");
    assert_prints("\nadd 2 2\n");
    assert_prints("\nsum 1 1 axes:ints? keep_axes:bool?\n");
    assert_prints("\nconcatenate 1 * axis:int\n");
    emlx(2, "ops more");
    assert_line("no arguments expected");
}

static void programs_run(void **state) {
    (void)state;
    save_program();
    save_inputs();
    emlx(0, "run program.safetensors --input x=x.npy --input n=n.npy");
    assert_string_equal(printed, "y: f32[2, 3]\n[[12.0, 15.0, 16.0],\n [18.0, 10.2, -2.0]]\n"
                                 "most: f32[]\n4.0\n");
    emlx(0, "run --device=cpu -i 0=x.npy -i 1=n.npy -o y=y.npy -o 1=most.npy program.safetensors");
    assert_string_equal(printed, "");
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *y;
    assert_ok(emlx_npy_load(in_folder("y.npy"), device, &y, &err), err);
    assert_f32(y, (float[]){12, 15, 16, 18, 10.2f, -2}, 6);
    emlx_tensor_release(y);
    emlx_device_release(device);
    assert_int_equal(access(in_folder("most.npy"), F_OK), 0);
}

static void mistakes_are_one_line(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *arguments, *message;
    } cases[] = {
        {2, "run", "emlx run: one program file expected, got 0"},
        {2, "run a b", "one program file expected, got 2"},
        {2, "run --frobnicate a", "unknown option --frobnicate"},
        {2, "run a --input", "option --input needs an argument"},
        {2, "run a --input x", "\"x\" is not of the form NAME=FILE.npy"},
        {2, "run none.safetensors", "none.safetensors: cannot open"},
        {2, "run x.npy", "x.npy: it is a .npy file, which holds one array, and not a safetensors"},
        {2, "info x.npy", "x.npy: it is a .npy file"},
        {2, "run program.safetensors --device gpu", "there is no device \"gpu\""},
        {2, "run program.safetensors", "input x is missing: give --input x=FILE.npy"},
        {2, "run program.safetensors -i z=x.npy", "no input \"z\"; it has: x, n"},
        {2, "run program.safetensors -i x=x.npy -i 0=x.npy", "input \"0\" is given twice"},
        {2, "run program.safetensors -i x=none.npy", "none.npy: cannot open"},
        {2, "run program.safetensors -i x=program.safetensors", "not a .npy file"},
        {2, "run program.safetensors -i x=n.npy",
         "input x: n.npy holds s32[], but the program expects f32[2, 3]"},
        {2, "run program.safetensors -i x=x.npy -i n=n.npy -o z=z.npy",
         "no output \"z\"; it has: y, most"},
        {2, "run program.safetensors -i x=x.npy -i n=n.npy -o y=none/y.npy",
         "none/y.npy: cannot write: No such file or directory"},
        {2, "run program.safetensors -o y=.", ".: cannot write: a folder"},
        {2, "run program.safetensors -o y=y.npy -o most=y.npy", "y.npy is given for two outputs"},
        {2, "run -x a", "unknown option -x"},
        {2, "run --device=cpu -xy", "unknown option -x"},
        {2, "run -xi a", "unknown option -x"},
        {2, "run a -i", "option -i needs an argument"},
        {2, "info -x", "unknown option -x"},
        {2, "conformance --digest=3 .", "unknown option --digest=3"},
        {2, "run 'a\nb'", "a?b: cannot open"},
        {2, "run program.safetensors -i 'a\nb=x'", "no input \"a?b\""},
    };
    save_program();
    save_inputs();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emlx(cases[i].status, cases[i].arguments);
        assert_line(cases[i].message);
    }
}

static void a_full_disk_is_noticed(void **state) {
    (void)state;
    save_program();
    save_inputs();
    if (access("/dev/full", W_OK) != 0) skip();
    emlx(1, "ops >/dev/full");
    assert_line("cannot write the output");
    emlx(1, "run program.safetensors -i x=x.npy -i n=n.npy -o y=/dev/full");
    assert_line("/dev/full: cannot write: No space left on device");
    emlx(1, "ops >/dev/full"); // which is still what it was
}

static void streams_may_be_closed(void **state) {
    (void)state;
    save_program();
    save_inputs();
    emlx(1, "ops >&-");
    assert_line("cannot write the output");
    emlx(0, "run program.safetensors -i x=x.npy -i n=n.npy <&-");
    assert_prints("most: f32[]\n4.0\n");
    emlx(0, "run program.safetensors -i x=x.npy -i n=n.npy -o most=m.npy <&- >&- 2>&-");
    emlx(0, "run program.safetensors -i x=x.npy -i n=n.npy -o most=/dev/stdout | wc -c");
    assert_string_equal(printed, "132\n");
}

// Large results are shortened, and numbers are as short as their type allows.
static void results_are_readable(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t value;
    emlx_attr shape = {
        .name = "shape", .kind = EMLX_ATTR_INTS, .ints = (int64_t[]){40, 50}, .count = 2};
    assert_ok(emlx_block_apply(b, emlx_op_find("iota"), NULL, 0, &shape, 1, EMLX_S32, &value, &err),
              err);
    output(b, "many", value);
    uint32_t third = op(b, "divide", 2, int_constant(b, 1), int_constant(b, 3));
    output(b, "third", third);
    output(b, "log", op(b, "log", 1, int_constant(b, 0)));
    assert_ok(emlx_block_save(b, in_folder("numbers.safetensors"), &err), err);
    emlx_block_release(b);
    emlx(0, "run numbers.safetensors");
    assert_prints("many: s32[40, 50]\n[[0, 1, 2, ..., 47, 48, 49],\n [50, 51, 52, ...");
    assert_prints("1997, 1998, 1999]]\n");
    assert_prints("third: f32[]\n0.33333334\n");
    assert_prints("log: f32[]\n-inf\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(info_tells_what_there_is),
        cmocka_unit_test(ops_are_listed),
        cmocka_unit_test(programs_run),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(a_full_disk_is_noticed),
        cmocka_unit_test(results_are_readable),
        cmocka_unit_test(streams_may_be_closed),
        cmocka_unit_test(info_of_weights_is_a_line_each),
    };
    return cmocka_run_group_tests_name("cli/cli", tests, make_folder, remove_folder);
}
