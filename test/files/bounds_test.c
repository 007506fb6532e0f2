// SPDX-License-Identifier: Apache-2.0
// bounds_test.c - what a file makes of memory and of the stack is bounded, and counted.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/files.h"
#include "memory/memory.h"
#include "program/programs.h"

enum { LIMIT = 200000000 };

// A file whose header is this text, `times` copies of another, and the rest.
static void write_repeated(const char *start, const char *part, size_t times, const char *end) {
    size_t size = strlen(start) + strlen(part) * times + strlen(end);
    char *text = malloc(size + 9);
    assert_non_null(text);
    for (int i = 0; i < 8; i++) text[i] = (char)((uint64_t)size >> (8 * i));
    char *at = text + 8 + sprintf(text + 8, "%s", start);
    for (size_t i = 0; i < times; i++, at += strlen(part)) memcpy(at, part, strlen(part));
    memcpy(at, end, strlen(end) + 1);
    write_bytes(text, size + 8);
    free(text);
}

// Each of these becomes many times its size.
static void large_headers_pass_no_limit(void **state) {
    (void)state;
    static const char *const parts[] = {"1,", "[],", "{},", "\"\","};
    emlx_error err;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        write_repeated("{\"__metadata__\":{},\"a\":[", parts[i], 20490000, "1]}");
        size_t held = mem_held();
        emlx_memory_set_limit(LIMIT);
        emlx_memory_reset_peak();
        emlx_status status = load_program(&err);
        emlx_memory_set_limit(0);
        emlx_memory info;
        emlx_memory_info(&info);
        assert_error(status, EMLX_OUT_OF_MEMORY, err, "no memory");
        assert_true(info.peak <= LIMIT);
        assert_int_equal(mem_held(), held);
    }
}

static void what_a_header_takes_is_counted(void **state) {
    (void)state;
    emlx_error err;
    write_repeated("{\"__metadata__\":{},\"a\":[", "1,", 1000000, "1]}");
    size_t held = mem_held();
    emlx_memory_reset_peak();
    assert_error(load_program(&err), EMLX_FORMAT, err, "not an object");
    emlx_memory info;
    emlx_memory_info(&info);
    assert_true(info.peak > 30000000);
    assert_int_equal(mem_held(), held);
}

static void nesting_is_bounded(void **state) {
    (void)state;
    emlx_error err;
    write_repeated("{\"a\":", "[", 100000, "");
    assert_error(load_program(&err), EMLX_FORMAT, err, "nests more than");
    write_repeated("{\"a\":", "[", 2049, "");
    assert_error(load_program(&err), EMLX_FORMAT, err, "nests more than");
    write_repeated("{\"a\":\"", "[", 2049, "\"}");
    assert_error(load_program(&err), EMLX_FORMAT, err, "not an object");
    write_repeated("{\"a\":\"\\\"", "[", 2049, "\"}");
    assert_error(load_program(&err), EMLX_FORMAT, err, "not an object");
}

// A program may ask for what would take much to prepare, and have no use for it.
static void nothing_is_done_for_no_elements(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_attr length = {.name = "length", .kind = EMLX_ATTR_INT};
    length.value = (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = 134217729};
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, (int64_t)0, (int64_t)134217729);
    output(b, NULL, op_with(b, "fft", &length, 1, 1, x));
    emlx_program *program = compile(b, device);
    emlx_shape shape = {2, {0, 134217729}};
    emlx_tensor *in, *out;
    assert_ok(emlx_tensor_from_data(device, EMLX_F32, &shape, NULL, 0, &in, &err), err);
    emlx_memory_reset_peak();
    assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
    assert_int_equal(emlx_tensor_bytes(out), 0);
    emlx_memory info;
    emlx_memory_info(&info);
    assert_true(info.peak < 1000000);
    emlx_tensor_release(in);
    emlx_tensor_release(out);
    emlx_program_release(program);
    emlx_device_release(device);
}

// What it depends on is not computed either: here a division by zero would be found.
static void nothing_below_no_elements_is_done(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    int32_t numbers[4] = {1, 0, 2, 3};
    int64_t starts[1] = {2}, lengths[1] = {0};
    emlx_attr slice[2] = {{.name = "starts", .kind = EMLX_ATTR_INTS, .ints = starts, .count = 1},
                          {.name = "lengths", .kind = EMLX_ATTR_INTS, .ints = lengths, .count = 1}};
    emlx_shape shape = {1, {4}};
    emlx_tensor *x, *divisor, *quotient, *none, *sum;
    assert_ok(emlx_tensor_from_data(device, EMLX_S32, &shape, numbers, 16, &x, &err), err);
    assert_ok(emlx_apply(emlx_op_find("negate"), device, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT,
                         &divisor, &err),
              err);
    emlx_tensor *pair[2] = {x, divisor};
    assert_ok(emlx_apply(emlx_op_find("quotient"), device, pair, 2, NULL, 0, EMLX_TYPE_DEFAULT,
                         &quotient, &err),
              err);
    assert_ok(emlx_apply(emlx_op_find("slice"), device, &quotient, 1, slice, 2, EMLX_TYPE_DEFAULT,
                         &none, &err),
              err);
    assert_ok(emlx_eval(&none, 1, &err), err);
    assert_ok(emlx_apply(emlx_op_find("sum"), device, &none, 1, NULL, 0, EMLX_S32, &sum, &err),
              err);
    assert_s32(sum, (int32_t[]){0}, 1);
    assert_error(emlx_eval(&quotient, 1, &err), EMLX_ARITHMETIC, err, "quotient");
    emlx_tensor *all[] = {x, divisor, quotient, none, sum};
    for (int i = 0; i < 5; i++) emlx_tensor_release(all[i]);
    emlx_device_release(device);
}

static emlx_tensor *long_transform(emlx_device *device, int64_t length) {
    emlx_error err;
    emlx_tensor *x, *y;
    emlx_attr shape = {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = &length, .count = 1};
    assert_ok(emlx_apply(emlx_op_find("iota"), device, NULL, 0, &shape, 1, EMLX_F32, &x, &err),
              err);
    assert_ok(emlx_apply(emlx_op_find("fft"), device, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, &y, &err),
              err);
    emlx_tensor_release(x);
    return y;
}

// Of a length with a large prime factor: the tables alone take more than that.
static void scratch_memory_passes_no_limit(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *y = long_transform(device, 4194301);
    size_t held = mem_held();
    emlx_memory_set_limit(LIMIT);
    emlx_memory_reset_peak();
    emlx_status status = emlx_eval(&y, 1, &err);
    emlx_memory_set_limit(0);
    emlx_memory info;
    emlx_memory_info(&info);
    assert_error(status, EMLX_OUT_OF_MEMORY, err, "no memory");
    assert_true(info.peak <= LIMIT);
    assert_true(mem_held() <= held + 4194301 * 5); // the numbers to transform may stay
    emlx_tensor_release(y);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_headers_pass_no_limit),
        cmocka_unit_test(what_a_header_takes_is_counted),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(nothing_is_done_for_no_elements),
        cmocka_unit_test(nothing_below_no_elements_is_done),
        cmocka_unit_test(scratch_memory_passes_no_limit),
    };
    return RUN_WITH_FILE("files/bounds", tests);
}
