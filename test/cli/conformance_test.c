// SPDX-License-Identifier: Apache-2.0
// conformance_test.c - `emlx conformance` on small folders of cases, right and wrong ones.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"

static void conformance(int expected, const char *options) {
    char arguments[512];
    snprintf(arguments, sizeof arguments, "conformance . %s", options);
    emlx(expected, arguments);
}

// Files ------------------------------------------------------------------------------------------

static uint32_t crc(const uint8_t *data, size_t size) {
    uint32_t sum = ~0u;
    for (size_t i = 0; i < size; i++) {
        sum ^= data[i];
        for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >> 1 ^ 0xedb88320 : sum >> 1;
    }
    return ~sum;
}

static FILE *create(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    return file;
}

static uint8_t bytes[8192];
static size_t size;

static void put_file(size_t written, uint32_t sum) {
    FILE *file = create("a.safetensors");
    assert_int_equal(fwrite(bytes, 1, written, file), written);
    fclose(file);
    file = create("MANIFEST");
    fprintf(file, "%08x %zu a.safetensors\n", sum, size);
    fclose(file);
}

// "x" and "y", f32 {2} each.
static float data[] = {1, 2, 2, 4};

// `cases` is the list, with its quotes escaped.
static void make_file(const char *cases) {
    int length = snprintf((char *)bytes + 8, sizeof bytes - 8 - sizeof data,
                          "{\"__metadata__\":{\"conformance\":\"{\\\"version\\\":1,"
                          "\\\"cases\\\":[%s]}\"},"
                          "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                          "\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                          cases);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8 + length, data, sizeof data);
    size = 8 + (size_t)length + sizeof data;
    put_file(size, crc(bytes, size));
}

#define Q "\\\""
#define CLASS(op, class, inputs, outputs)                                                          \
    "{" Q "op" Q ":" Q op Q "," Q "type" Q ":" Q "f32" Q "," Q "class" Q ":" Q class Q             \
        "," Q "inputs" Q ":[" inputs "]," Q "outputs" Q ":[" outputs "]}"
#define CASE(op, inputs, outputs) CLASS(op, "exact", inputs, outputs)
#define X "[" Q "x" Q "," Q "f32" Q "]"
#define Y "[" Q "y" Q "," Q "f32" Q "]"

// Tests ------------------------------------------------------------------------------------------

static void right_cases_pass(void **state) {
    (void)state;
    make_file(CASE("add", X "," X, Y) "," CASE("subtract", Y "," X, X));
    conformance(0, "");
    assert_prints("\n2 passed, 0 failed\n");
    conformance(0, "--threads 1 --digest --coverage --slowest 1");
    assert_prints("digest: ");
    assert_prints("\nadd ");
    assert_prints(" ms  a.safetensors, case ");
    conformance(2, "--threads 0");
    assert_line("0 is not a number that --threads takes");
    conformance(2, "--only other");
    assert_line("no cases in files named like other");
}

static void wrong_results_are_shown(void **state) {
    (void)state;
    make_file(CASE("multiply", X "," X, Y) "," CASE("add", X "," X, Y));
    conformance(1, "");
    assert_prints("multiply (a.safetensors, case 0, from nowhere): f32[2], f32[2] as f32\n"
                  "  output 0, element 0 is 1.0\n  expected 2.0\n");
    assert_prints("\n1 passed, 1 failed\n");
}

static void errors_and_shapes_are_compared(void **state) {
    (void)state;
    make_file(CASE("dot", X "," X, Y) "," CASE("reduce_max", X, Y));
    conformance(1, "");
    assert_prints("  failed: dot: ");
    assert_prints("  output 0 is f32[], expected f32[2]\n");
    assert_prints("\n0 passed, 2 failed\n");
}

// One element may be off by a last place, two of two may not, and none by two places.
static void last_places_are_counted(void **state) {
    (void)state;
    data[2] = 0x1.000002p+1f;
    make_file(CLASS("add", "elementwise", X "," X, Y));
    conformance(0, "");
    assert_prints("last places of f32: 1 of 2 elements differ\n1 passed, 0 failed\n");
    data[3] = 0x1.000002p+2f;
    make_file(CLASS("add", "elementwise", X "," X, Y));
    conformance(1, "");
    assert_prints("2 of 2 elements differ, one of 10,000 expected at most\n0 passed, 1 failed\n");
    data[2] = 0x1.000004p+1f;
    data[3] = 4;
    make_file(CLASS("add", "elementwise", X "," X, Y));
    conformance(1, "");
    assert_prints("element 0 is 2.0\n");
    make_file(CLASS("add", "dot", X "," X, Y));
    conformance(0, "");
    data[2] = 2.0001f;
    make_file(CLASS("add", "dot", X "," X, Y));
    conformance(1, "");
    data[2] = 2;
}

static void bad_files_give_one_line(void **state) {
    (void)state;
    make_file(CASE("add", X "," X, Y));
    uint32_t sum = crc(bytes, size);
    put_file(size - 1, sum);
    conformance(2, "");
    assert_line("a.safetensors: it has ");
    for (size_t i = 0; i < size; i += 7) {
        bytes[i] ^= 16;
        put_file(size, sum);
        bytes[i] ^= 16;
        conformance(2, "");
        assert_line("a.safetensors: its sum is ");
    }
    make_file(CASE("frobnicate", X, Y));
    conformance(2, "");
    assert_line("a.safetensors: case 0: unknown op \"frobnicate\"");
    make_file(CASE("add", "[" Q "z" Q "," Q "f32" Q "]", Y));
    conformance(2, "");
    assert_line("a.safetensors: case 0: there is no array \"z\"");
    make_file(CASE("add", X "," X, ""));
    conformance(2, "");
    assert_line("a.safetensors: case 0: 0 outputs, 1 expected");
    make_file("{" Q "op" Q ":" Q "reduce" Q "," Q "class" Q ":" Q "exact" Q "," Q "attrs" Q ":{" Q
              "function" Q ":{}}," Q "inputs" Q ":[" X "]," Q "outputs" Q ":[" X "]}");
    conformance(2, "");
    assert_line("a.safetensors: case 0: attribute function: not there outside of programs");
    make_file("7");
    conformance(2, "");
    assert_line("a.safetensors: case 0: its class of tolerance is missing or unknown");
}

// Whatever is changed behind a right sum: an error or a failure, but never a crash.
static void flipped_bits_behind_the_sum(void **state) {
    (void)state;
    make_file(CASE("add", X "," X, Y));
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= (uint8_t)(1 << i % 8);
        put_file(size, crc(bytes, size));
        bytes[i] ^= (uint8_t)(1 << i % 8);
        char command[256];
        snprintf(command, sizeof command, "'%s' conformance '%s' --threads 1 >/dev/null 2>&1",
                 test_cli, test_folder);
        int status = system(command);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_cases_pass),
        cmocka_unit_test(wrong_results_are_shown),
        cmocka_unit_test(errors_and_shapes_are_compared),
        cmocka_unit_test(last_places_are_counted),
        cmocka_unit_test(bad_files_give_one_line),
        cmocka_unit_test(flipped_bits_behind_the_sum),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
