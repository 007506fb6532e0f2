// SPDX-License-Identifier: Apache-2.0
// fuzz_test.c - the readers of program and array files against damaged files. The damage is random
// but the same in every run; EMLX_FUZZ_ROUNDS asks for more of it. Nothing is expected but a clean
// answer, so this is worth most in a build with sanitizers.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "files/files.h"
#include "memory/memory.h"
#include "program/programs.h"

enum { ROOM = 1 << 16 };

static uint64_t seed = 1;

static size_t pick(size_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % below;
}

// Damage -----------------------------------------------------------------------------------------

// Puts `count` bytes in place of `old` ones; returns the new size, or the old one if it is full.
static size_t replace(uint8_t *data, size_t size, size_t at, size_t old, const void *bytes,
                      size_t count) {
    uint8_t copy[256];
    if (count > sizeof copy || size - old + count > ROOM) return size;
    memcpy(copy, bytes, count);
    memmove(data + at + count, data + at + old, size - at - old);
    memcpy(data + at, copy, count);
    return size - old + count;
}

static size_t change_number(uint8_t *data, size_t size) {
    static const char *const numbers[] = {
        "0",          "1",          "2",   "7",    "-1",  "64",   "255",
        "2147483648", "4294967295", "1e9", "null", "[1]", "true", "9223372036854775807",
    };
    size_t at = pick(size), digits = 0;
    while (at < size && (data[at] < '0' || data[at] > '9')) at++;
    while (at + digits < size && data[at + digits] >= '0' && data[at + digits] <= '9') digits++;
    const char *number = numbers[pick(sizeof numbers / sizeof *numbers)];
    return digits == 0 ? size : replace(data, size, at, digits, number, strlen(number));
}

static size_t damage(uint8_t *data, size_t size) {
    size_t at = pick(size), length = 1 + pick(24);
    if (length > size - at) length = size - at;
    switch (pick(5)) {
    case 0: data[at] = (uint8_t)pick(256); return size;
    case 1: return replace(data, size, at, length, "", 0);
    case 2: return replace(data, size, pick(size), 0, data + at, length);
    case 3: return replace(data, size, at, 1, &"{}[]\",:\\x"[pick(9)], 1);
    default: return change_number(data, size);
    }
}

// Makes the first eight bytes say how long the header is, assuming the data kept its size.
static void repair_header(uint8_t *data, size_t size, size_t tail) {
    uint64_t length = size - 8 - tail;
    if (size < 8 + tail) return;
    for (int i = 0; i < 8; i++) data[i] = (uint8_t)(length >> (8 * i));
}

static size_t rounds(void) {
    const char *text = getenv("EMLX_FUZZ_ROUNDS");
    return text == NULL ? 3000 : (size_t)strtoul(text, NULL, 10);
}

// Readers ----------------------------------------------------------------------------------------

static void program_files(void **state) {
    (void)state;
    static uint8_t original[ROOM], data[ROOM];
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *literal = tensor_f32(device, (float[]){1, 2, 3}, 1, 3);
    emlx_block *b = sample_block(literal);
    assert_ok(emlx_block_save(b, test_path, &err), err);
    emlx_block_release(b);
    emlx_tensor_release(literal);
    size_t size = read_bytes(original, ROOM), accepted = 0;
    for (size_t round = 0; round < rounds(); round++) {
        memcpy(data, original, size);
        size_t now = size;
        for (size_t i = 1 + pick(4); i > 0 && now > 0; i--) now = damage(data, now);
        if (pick(8) != 0) repair_header(data, now, 12);
        write_bytes(data, now);
        emlx_program *program;
        if (emlx_program_load(test_path, device, &program, &err) != EMLX_OK) continue;
        accepted++;
        emlx_program_release(program);
    }
    // Damage that always shows at once would test the first check only.
    assert_true(rounds() < 1000 || accepted > 0);
    emlx_device_release(device);
}

static void array_files(void **state) {
    (void)state;
    static uint8_t original[ROOM], data[ROOM];
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensor = tensor_f32(device, (float[]){1, 2, 3, 4, 5, 6}, 2, 2, 3);
    assert_ok(emlx_npy_save(test_path, tensor, &err), err);
    emlx_tensor_release(tensor);
    size_t size = read_bytes(original, ROOM);
    for (size_t round = 0; round < rounds(); round++) {
        memcpy(data, original, size);
        size_t now = size;
        for (size_t i = 1 + pick(4); i > 0 && now > 0; i--) now = damage(data, now);
        write_bytes(data, now);
        if (emlx_npy_load(test_path, device, &tensor, &err) == EMLX_OK) emlx_tensor_release(tensor);
    }
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_files),
        cmocka_unit_test(array_files),
    };
    return RUN_WITH_FILE("files/fuzz", tests);
}
