// SPDX-License-Identifier: Apache-2.0
// weights_test.c - GGUF files, models in several files, and files that are mapped.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files/files.h"
#include "files/gguf.h"
#include "memory/memory.h"
#include "program/programs.h"

// GGUF -------------------------------------------------------------------------------------------

static void check_text(const emlx_archive *archive, const char *key, const char *expected) {
    assert_non_null(emlx_archive_text(archive, key));
    assert_string_equal(emlx_archive_text(archive, key), expected);
}

static void gguf_arrays_and_texts(void **state) {
    (void)state;
    emlx_error err;
    emlx_archive *archive;
    emlx_device *device = cpu();
    gguf_file f = gguf_make();
    write_bytes(f.bytes, f.size);
    assert_ok(emlx_archive_open(test_path, &archive, &err), err);
    assert_string_equal(emlx_archive_format(archive), "GGUF");
    check_text(archive, "byte", "200");
    check_text(archive, "small", "-7");
    check_text(archive, "real", "0.5");
    check_text(archive, "wide", "-0.25");
    check_text(archive, "truth", "true");
    check_text(archive, "text", "hello");
    assert_null(emlx_archive_text(archive, "list"));

    const emlx_entry *rows = emlx_archive_entry(archive, 1);
    assert_string_equal(rows->name, "rows");
    assert_string_equal(rows->format, "Q8_0");
    assert_int_equal(rows->block_values, 32);
    assert_int_equal(rows->block_bytes, 34);
    assert_int_equal(rows->shape.dims[0], 2);
    assert_int_equal(rows->shape.dims[1], 32);
    emlx_tensor *one, *packed;
    assert_ok(emlx_archive_tensor(archive, "one", EMLX_TYPE_DEFAULT, device, &one, &err), err);
    assert_ok(emlx_archive_tensor(archive, "rows", EMLX_TYPE_DEFAULT, device, &packed, &err), err);
    emlx_archive_release(archive);
    float numbers[3];
    uint8_t bytes[68];
    assert_ok(emlx_tensor_read(one, 0, numbers, sizeof numbers, &err), err);
    assert_memory_equal(numbers, ((float[]){1, 2, 3}), sizeof numbers);
    assert_int_equal(emlx_tensor_type(packed), EMLX_U8);
    assert_int_equal(emlx_tensor_shape(packed)->dims[1], 34);
    assert_ok(emlx_tensor_read(packed, 0, bytes, sizeof bytes, &err), err);
    assert_int_equal(bytes[67], 67);
    emlx_tensor_release(one);
    emlx_tensor_release(packed);
    emlx_device_release(device);
}

static void check_refused(const void *bytes, size_t size, const char *message) {
    emlx_error err;
    emlx_archive *archive;
    write_bytes(bytes, size);
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_FORMAT, err, message);
}

static void wrong_gguf_files(void **state) {
    (void)state;
    const gguf_file good = gguf_make();
    gguf_file f = good;
    f.bytes[f.version] = 4;
    check_refused(f.bytes, f.size, "version 4 of GGUF, 2 to 3 are read here");
    f.bytes[f.version] = 0, f.bytes[f.version + 3] = 3;
    check_refused(f.bytes, f.size, "big endian");
    f = good;
    f.bytes[f.arrays + 7] = 1;
    check_refused(f.bytes, f.size, "array");
    f = good;
    f.bytes[f.offset] = 63;
    check_refused(f.bytes, f.size, "a multiple of 64 expected");
    f.bytes[f.offset] = 0;
    check_refused(f.bytes, f.size, "overlaps another");
    f.bytes[f.offset] = 128;
    check_refused(f.bytes, f.size, "ends at byte 196 of the data, of which the file has 132");
    check_refused(good.bytes, good.size - 1, "ends at byte 132 of the data");
    for (size_t size = 4; size < good.data; size += 3)
        check_refused(good.bytes, size, size < good.data - 64 ? "the file ends" : "");
}

// The file can be opened, but its second array, "rows", is refused. The type that is said of it.
static emlx_type check_rows_refused(const gguf_file *f, const char *message) {
    emlx_error err;
    emlx_archive *archive;
    emlx_tensor *t;
    emlx_device *device = cpu();
    write_bytes(f->bytes, f->size);
    assert_ok(emlx_archive_open(test_path, &archive, &err), err);
    emlx_type type = emlx_archive_entry(archive, 1)->type;
    assert_error(emlx_archive_tensor(archive, "rows", EMLX_TYPE_DEFAULT, device, &t, &err),
                 EMLX_FORMAT, err, message);
    emlx_archive_release(archive);
    emlx_device_release(device);
    return type;
}

// A type that nobody knows stands in the file, and is refused when it is asked for.
static void unknown_types_of_gguf(void **state) {
    (void)state;
    gguf_file f = gguf_make();
    f.bytes[f.type] = 99;
    assert_int_equal(check_rows_refused(&f, "its dtype \"type 99\" is unknown"), EMLX_TYPE_COUNT);
}

// No element, but rows whose bytes cannot be counted.
static void endless_rows_of_gguf(void **state) {
    (void)state;
    gguf_file f = gguf_make();
    f.bytes[f.type - 9] = 0x7f;
    f.bytes[f.type - 8] = 0;
    check_rows_refused(&f, "its rows have more bytes than can be counted");
}

// Several files ----------------------------------------------------------------------------------

static void models_in_several_files(void **state) {
    (void)state;
    emlx_error err;
    emlx_archive *archive;
    emlx_tensor *y;
    emlx_device *device = cpu();
    uint8_t bytes[5];
    write_shard(".1", "x", 3);
    write_shard(".2", "y", 5);
    write_index(".1", ".2");
    assert_ok(emlx_archive_open(test_path, &archive, &err), err);
    assert_string_equal(emlx_archive_entry(archive, 0)->name, "x");
    assert_ok(emlx_archive_tensor(archive, "y", EMLX_U8, device, &y, &err), err);
    emlx_archive_release(archive);
    assert_ok(emlx_tensor_read(y, 0, bytes, 5, &err), err);
    assert_int_equal(bytes[4], 4);
    emlx_tensor_release(y);

    write_index(".1", ".1");
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_FORMAT, err,
                 "there is no array \"y\"");
    write_index(".1", "/../.2");
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_FORMAT, err,
                 "beside the index");
    write_index(".1", ".3");
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_IO, err, ".3: cannot open");
    write_shard(".2", "x", 5);
    write_index(".1", ".2");
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_FORMAT, err,
                 "there are two arrays \"x\"");
    write_bytes("{\"other\": 12}", 13);
    assert_error(emlx_archive_open(test_path, &archive, &err), EMLX_FORMAT, err, "weight_map");
    remove_shard(".1");
    remove_shard(".2");
    emlx_device_release(device);
}

// Mapped files ----------------------------------------------------------------------------------

enum { LARGE = 3 << 20 };

static emlx_tensor *open_large(emlx_device *device) {
    emlx_error err;
    emlx_archive *archive;
    emlx_tensor *t;
    char path[128];
    write_shard(".large", "x", LARGE);
    snprintf(path, sizeof path, "%s.large", test_path);
    emlx_memory before, after;
    emlx_memory_info(&before);
    assert_ok(emlx_archive_open(path, &archive, &err), err);
    assert_ok(emlx_archive_tensor(archive, "x", EMLX_U8, device, &t, &err), err);
    emlx_memory_info(&after);
    assert_true(after.active - before.active < LARGE / 2);
    emlx_archive_release(archive);
    return t;
}

// What is taken over in place elsewhere must be left alone here.
static void mapped_data_is_not_written(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *t = open_large(device), *sum, *operands[2] = {t, t};
    uint8_t byte;
    assert_ok(emlx_apply(emlx_op_find("add"), device, operands, 2, NULL, 0, EMLX_U8, &sum, &err),
              err);
    emlx_tensor_release(t);
    assert_ok(emlx_tensor_read(sum, LARGE - 1, &byte, 1, &err), err);
    assert_int_equal(byte, (uint8_t)(2 * ((LARGE - 1) & 0xff)));
    emlx_tensor_release(sum);
    remove_shard(".large");
    emlx_device_release(device);
}

static void files_that_become_shorter(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *t = open_large(device), *sum, *operands[2] = {t, t};
    const void *data;
    uint8_t byte;
    char path[128];
    snprintf(path, sizeof path, "%s.large", test_path);
    assert_ok(emlx_apply(emlx_op_find("add"), device, operands, 2, NULL, 0, EMLX_U8, &sum, &err),
              err);
    assert_int_equal(truncate(path, 4096), 0);
    assert_error(emlx_eval(&sum, 1, &err), EMLX_IO, err, "has become shorter");
    assert_error(emlx_tensor_read(t, LARGE - 1, &byte, 1, &err), EMLX_IO, err, "shorter");
    assert_error(emlx_tensor_data(t, &data, &err), EMLX_IO, err, "shorter");
    // It may grow again: what failed is as it was.
    assert_int_equal(truncate(path, LARGE + 4096), 0);
    assert_ok(emlx_eval(&sum, 1, &err), err);
    emlx_tensor_release(sum);
    emlx_tensor_release(t);
    remove_shard(".large");
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_rows_of_gguf),      cmocka_unit_test(gguf_arrays_and_texts),
        cmocka_unit_test(wrong_gguf_files),          cmocka_unit_test(unknown_types_of_gguf),
        cmocka_unit_test(models_in_several_files),   cmocka_unit_test(mapped_data_is_not_written),
        cmocka_unit_test(files_that_become_shorter),
    };
    return RUN_WITH_FILE("files/weights", tests);
}
