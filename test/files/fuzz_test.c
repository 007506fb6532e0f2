// SPDX-License-Identifier: Apache-2.0
// fuzz_test.c - the readers of programs, arrays and weights against damaged files; what is accepted
// is run, with data of its own, and often cancelled. The damage is random but the same in every
// run; EMLX_FUZZ_ROUNDS asks for more of it, EMLX_FUZZ_SEED for other damage. Nothing is expected
// but a clean answer, or one sentence, so this is worth most in a build with sanitizers.
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "conformance/cases_folder.h"
#include "ending.h"
#include "files/files.h"
#include "files/gguf.h"
#include "memory/memory.h"
#include "program/programs.h"

enum { ROOM = 1 << 16 };

static uint64_t seed = 1;

// A number below `below`, or 0.
static size_t pick(size_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return below == 0 ? 0 : (size_t)(seed >> 33) % below;
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
    // Lengths of zero are what few tests have.
    const size_t count = sizeof numbers / sizeof *numbers;
    const char *number = numbers[pick(3) == 0 ? 0 : pick(count)];
    return digits == 0 ? size : replace(data, size, at, digits, number, strlen(number));
}

// Puts a number where one of GGUF or a header's length may stand.
static size_t change_word(uint8_t *data, size_t size) {
    static const uint64_t numbers[] = {0,          1,          2,        31,        255,
                                       0x7fffffff, 0xffffffff, 1u << 31, INT64_MAX, UINT64_MAX};
    size_t at = pick(size), width = pick(2) == 0 ? 4 : 8;
    uint64_t number = numbers[pick(sizeof numbers / sizeof *numbers)];
    if (pick(4) == 0) number = (uint64_t)1 << pick(64);
    for (size_t i = 0; i < width && at + i < size; i++) data[at + i] = (uint8_t)(number >> (8 * i));
    return size;
}

static size_t damage(uint8_t *data, size_t size) {
    size_t at = pick(size), length = 1 + pick(24);
    if (length > size - at) length = size - at;
    switch (pick(7)) {
    case 0: data[at] = (uint8_t)pick(256); return size;
    case 1: return replace(data, size, at, length, "", 0);
    case 2: return replace(data, size, pick(size), 0, data + at, length);
    case 3: return replace(data, size, at, 1, &"{}[]\",:\\x"[pick(9)], 1);
    case 4: return change_word(data, size);
    case 5: return pick(8) == 0 ? at : size; // the end is missing
    default: return change_number(data, size);
    }
}

// Makes the first eight bytes say how long the header is, assuming the data kept its size.
static void repair_header(uint8_t *data, size_t size, size_t tail) {
    uint64_t length = size - 8 - tail;
    if (size < 8 + tail) return;
    for (int i = 0; i < 8; i++) data[i] = (uint8_t)(length >> (8 * i));
}

static size_t damage_some(uint8_t *data, size_t size, size_t most) {
    for (size_t i = 1 + pick(most); i > 0 && size > 0; i--) size = damage(data, size);
    return size;
}

static size_t rounds(void) {
    const char *text = getenv("EMLX_FUZZ_ROUNDS");
    return text == NULL ? 3000 : (size_t)strtoul(text, NULL, 10);
}

// Running ----------------------------------------------------------------------------------------

// A damaged program may be endless, and may ask for any amount of memory.
enum { INPUT_MOST = 1 << 18, CANCEL_AFTER_MS = 100, END_AFTER_S = 60 };
#define MEMORY_MOST ((uint64_t)256 << 20)

static void ended(void *context, const emlx_stop *stop) {
    for (size_t i = 0; i < stop->count; i++) emlx_tensor_release(stop->tensors[i]);
    emlx_run_release(stop->run);
    end_come(context, stop->status);
}

// Any bytes, but small ones: elements of 2 and 4 bits must be in their range.
static emlx_tensor *input_for(emlx_device *device, const emlx_port *port) {
    emlx_tensor *tensor = NULL;
    size_t size = emlx_type_size(port->type);
    if (emlx_shape_count(&port->shape) > (int64_t)(INPUT_MOST / size)) return NULL;
    size *= (size_t)emlx_shape_count(&port->shape);
    uint8_t *data = calloc(size + 1, 1);
    if (data == NULL) return NULL;
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)pick(2);
    emlx_tensor_from_data(device, port->type, &port->shape, data, size, &tensor, NULL);
    free(data);
    return tensor;
}

static void start_and_cancel(emlx_program *program, emlx_tensor **inputs, size_t count) {
    // It outlives the call, in whose end the other thread may still be.
    static ending e = NO_END;
    e.ended = false;
    emlx_cancel cancel = {0};
    emlx_work work = {.cancel = &cancel};
    size_t when = pick(8);
    if (when == 0) emlx_cancel_raise(&cancel);
    if (emlx_program_start(program, inputs, count, &work, ended, &e, NULL) != EMLX_OK) return;
    if (when == 1) usleep((useconds_t)pick(300));
    if (when == 1 || !end_wait_for(&e, CANCEL_AFTER_MS)) emlx_cancel_raise(&cancel);
    if (!end_wait_for(&e, END_AFTER_S * 1000))
        fail_msg("a cancelled run goes on for %d s", END_AFTER_S);
}

static void run_damaged(emlx_device *device, emlx_program *program) {
    size_t count = emlx_program_input_count(program), made = 0;
    emlx_tensor **inputs = calloc(count + 1, sizeof *inputs);
    while (made < count &&
           (inputs[made] = input_for(device, emlx_program_input(program, made))) != NULL)
        made++;
    if (made == count) start_and_cancel(program, inputs, count);
    while (made > 0) emlx_tensor_release(inputs[--made]);
    free(inputs);
}

// Readers ----------------------------------------------------------------------------------------

// A refusal is one sentence: no tensors, for those who count them.
static size_t check_sentence(const emlx_error *err) {
    assert_true(strlen(err->message) > 0 && text_is_plain(err->message));
    return 0;
}

// Reads a damaged copy of `original` and, if it is a program still, runs that; whether it was.
static bool program_round(emlx_device *device, const uint8_t *original, size_t size) {
    static uint8_t data[ROOM];
    emlx_program *program;
    memcpy(data, original, size);
    size_t now = size;
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) length |= (uint64_t)original[i] << (8 * i);
    size_t tail = size - 8 - (size_t)length;
    now = damage_some(data, now, 4);
    if (pick(8) != 0) repair_header(data, now, tail);
    write_bytes(data, now);
    emlx_error err;
    if (emlx_program_load(test_path, device, &program, &err) != EMLX_OK)
        return check_sentence(&err) > 0;
    run_damaged(device, program);
    emlx_program_release(program);
    return true;
}

// The recorded programs that fit, read into one array after another.
static size_t recorded(uint8_t (**files)[ROOM], size_t **sizes) {
    struct dirent **names;
    int found = scandir(cases_folder, &names, NULL, alphasort);
    size_t count = 0;
    *files = calloc((size_t)found, sizeof **files);
    *sizes = calloc((size_t)found, sizeof **sizes);
    for (int i = 0; i < found; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", cases_folder, names[i]->d_name);
        FILE *file = strncmp(names[i]->d_name, "program-", 8) == 0 ? fopen(path, "rb") : NULL;
        size_t size = file == NULL ? 0 : fread((*files)[count], 1, ROOM, file);
        if (file != NULL) fclose(file);
        if (size > 0 && size < ROOM / 2) (*sizes)[count++] = size;
        free(names[i]);
    }
    free(names);
    return count;
}

static void recorded_programs(void **state) {
    (void)state;
    uint8_t(*files)[ROOM];
    size_t *sizes, accepted = 0, count = recorded(&files, &sizes);
    emlx_device *device = cpu();
    assert_true(count > 100);
    uint64_t limit = emlx_memory_set_limit(MEMORY_MOST);
    for (size_t round = 0; round < rounds(); round++) {
        size_t file = pick(count);
        accepted += program_round(device, files[file], sizes[file]);
    }
    emlx_memory_set_limit(limit);
    assert_true(rounds() < 1000 || accepted > rounds() / 100);
    free(files);
    free(sizes);
    emlx_device_release(device);
}

static void program_files(void **state) {
    (void)state;
    static uint8_t original[ROOM];
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *literal = tensor_f32(device, (float[]){1, 2, 3}, 1, 3);
    emlx_block *b = sample_block(literal);
    assert_ok(emlx_block_save(b, test_path, &err), err);
    emlx_block_release(b);
    emlx_tensor_release(literal);
    size_t size = read_bytes(original, ROOM), accepted = 0;
    for (size_t round = 0; round < rounds(); round++)
        accepted += program_round(device, original, size);
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
        write_bytes(data, damage_some(data, size, 4));
        if (emlx_npy_load(test_path, device, &tensor, &err) == EMLX_OK)
            emlx_tensor_release(tensor);
        else
            check_sentence(&err);
    }
    emlx_device_release(device);
}

// Opens the file and makes a tensor of all that it has; how many there are.
static size_t read_archive(emlx_device *device) {
    emlx_error err;
    emlx_archive *archive;
    const emlx_entry *e;
    size_t made = 0;
    if (emlx_archive_open(test_path, &archive, &err) != EMLX_OK) return check_sentence(&err);
    for (size_t i = 0; (e = emlx_archive_entry(archive, i)) != NULL; i++) {
        emlx_tensor *t;
        const void *data;
        if (emlx_archive_tensor(archive, e->name, EMLX_TYPE_DEFAULT, device, &t, &err) != EMLX_OK) {
            check_sentence(&err);
            continue;
        }
        uint8_t last;
        size_t size = emlx_tensor_bytes(t);
        assert_int_equal(emlx_tensor_data(t, &data, NULL), EMLX_OK);
        if (size > 0) assert_int_equal(emlx_tensor_read(t, size - 1, &last, 1, NULL), EMLX_OK);
        emlx_tensor_release(t);
        made++;
    }
    emlx_archive_release(archive);
    return made;
}

static void gguf_files(void **state) {
    (void)state;
    static uint8_t data[ROOM];
    emlx_device *device = cpu();
    const gguf_file original = gguf_make();
    size_t made = 0;
    for (size_t round = 0; round < rounds(); round++) {
        memcpy(data, original.bytes, original.size);
        write_bytes(data, damage_some(data, original.size, 3));
        made += read_archive(device);
    }
    assert_true(rounds() < 1000 || made > 0);
    emlx_device_release(device);
}

// Arrays of several kinds, one of them of a type that nobody knows. Returns the file's size.
static size_t make_safetensors(uint8_t *data, size_t *header) {
    static const char text[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e9\"},"
        "\"model.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"model.bias\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]},"
        "\"truth\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[30,32]},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[0,4],\"data_offsets\":[32,32]},"
        "\"pair\":{\"dtype\":\"C64\",\"shape\":[1,1],\"data_offsets\":[32,40]},"
        "\"new\":{\"dtype\":\"F4_E9\",\"shape\":[2],\"data_offsets\":[40,41]}}";
    enum { TAIL = 41 };
    *header = sizeof text - 1;
    memcpy(data + 8, text, *header);
    memset(data + 8 + *header, 1, TAIL);
    repair_header(data, 8 + *header + TAIL, TAIL);
    return 8 + *header + TAIL;
}

static void safetensors_files(void **state) {
    (void)state;
    static uint8_t original[ROOM], data[ROOM];
    emlx_device *device = cpu();
    size_t header, size = make_safetensors(original, &header), made = 0;
    write_bytes(original, size);
    assert_int_equal(read_archive(device), 5);
    for (size_t round = 0; round < rounds(); round++) {
        memcpy(data, original, size);
        size_t now = damage_some(data, size, 3);
        if (pick(8) != 0) repair_header(data, now, size - 8 - header);
        write_bytes(data, now);
        made += read_archive(device);
    }
    assert_true(rounds() < 1000 || made > 0);
    emlx_device_release(device);
}

// Damages what the file of that suffix has.
static void damage_file(const char *suffix) {
    static uint8_t data[ROOM];
    char path[128];
    snprintf(path, sizeof path, "%s%s", test_path, suffix);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    size_t size = damage_some(data, fread(data, 1, ROOM, file), 2);
    rewind(file);
    assert_int_equal(ftruncate(fileno(file), 0), 0);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

// Most of the damage is the index's.
static void models_of_several_files(void **state) {
    (void)state;
    emlx_device *device = cpu();
    size_t made = 0;
    for (size_t round = 0; round < rounds(); round++) {
        write_shard(".1", "x", 3);
        write_shard(".2", "y", 5);
        write_index(".1", ".2");
        damage_file(pick(4) == 0 ? (pick(2) == 0 ? ".1" : ".2") : "");
        made += read_archive(device);
    }
    remove_shard(".1");
    remove_shard(".2");
    assert_true(rounds() < 1000 || made > 0);
    emlx_device_release(device);
}

int main(void) {
    const char *other = getenv("EMLX_FUZZ_SEED");
    if (other != NULL) seed = strtoull(other, NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_files),
        cmocka_unit_test(array_files),
        cmocka_unit_test(gguf_files),
        cmocka_unit_test(safetensors_files),
        cmocka_unit_test(models_of_several_files),
        cmocka_unit_test_setup_teardown(recorded_programs, cases_unpack, cases_remove),
    };
    return RUN_WITH_FILE("files/fuzz", tests);
}
