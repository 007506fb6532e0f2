// SPDX-License-Identifier: Apache-2.0
// archive_test.c - any safetensors file as an archive: arrays, texts, and what is refused.
#include <stdio.h>
#include <unistd.h>

#include "program/programs.h"

static char path[64];

// "a": u8 {1, 2, 3, 0}; "z": c64 {1 + 2i}; one text.
static void write_archive(void) {
    static const char header[] =
        "{\"__metadata__\":{\"note\":\"hello\"},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[8,12]}}";
    static const float z[] = {1, 2};
    static const uint8_t a[] = {1, 2, 3, 0};
    uint64_t length = sizeof header - 1;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&length, 1, sizeof length, file);
    fwrite(header, 1, sizeof header - 1, file);
    fwrite(z, 1, sizeof z, file);
    fwrite(a, 1, sizeof a, file);
    fclose(file);
}

static emlx_archive *open_archive(void) {
    emlx_error err;
    emlx_archive *archive = NULL;
    snprintf(path, sizeof path, "/tmp/emlx-archive-test-%ld", (long)getpid());
    write_archive();
    assert_ok(emlx_archive_open(path, &archive, &err), err);
    unlink(path);
    return archive;
}

static void reads_arrays_and_texts(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_archive *archive = open_archive();
    emlx_tensor *a, *narrow, *z;
    assert_string_equal(emlx_archive_text(archive, "note"), "hello");
    assert_null(emlx_archive_text(archive, "other"));
    assert_ok(emlx_archive_tensor(archive, "a", EMLX_U8, device, &a, &err), err);
    assert_ok(emlx_archive_tensor(archive, "a", EMLX_U2, device, &narrow, &err), err);
    assert_ok(emlx_archive_tensor(archive, "z", EMLX_C64, device, &z, &err), err);
    assert_string_equal(emlx_archive_format(archive), "safetensors");
    assert_string_equal(emlx_archive_key(archive, 0), "note");
    assert_null(emlx_archive_key(archive, 1));
    // In the order of their names, as what they are stored as.
    const emlx_entry *first = emlx_archive_entry(archive, 0), *second;
    second = emlx_archive_entry(archive, 1);
    assert_string_equal(first->name, "a");
    assert_int_equal(first->type, EMLX_U8);
    assert_int_equal(first->bytes, 4);
    assert_string_equal(second->format, "F32");
    assert_int_equal(second->shape.dims[1], 2);
    assert_null(emlx_archive_entry(archive, 2));
    emlx_archive_release(archive);

    // Tensors outlive the archive.
    uint8_t elements[4];
    assert_ok(emlx_tensor_read(a, 0, elements, sizeof elements, &err), err);
    assert_memory_equal(elements, ((uint8_t[]){1, 2, 3, 0}), 4);
    assert_int_equal(emlx_tensor_shape(a)->rank, 2);
    assert_int_equal(emlx_tensor_type(narrow), EMLX_U2);
    assert_int_equal(emlx_tensor_shape(z)->rank, 1);
    emlx_tensor_release(a);
    emlx_tensor_release(narrow);
    emlx_tensor_release(z);
    emlx_device_release(device);
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_archive *archive = open_archive(), *none;
    emlx_tensor *t;
    assert_int_equal(emlx_archive_tensor(archive, "b", EMLX_U8, device, &t, &err), EMLX_FORMAT);
    assert_string_equal(err.message, "there is no array \"b\"");
    assert_int_equal(emlx_archive_tensor(archive, "a", EMLX_S8, device, &t, &err), EMLX_FORMAT);
    assert_string_equal(err.message, "array \"a\": its dtype is U8, I8 expected for s8");
    assert_int_equal(emlx_archive_tensor(archive, "a", EMLX_TYPE_DEFAULT + 1, device, &t, &err),
                     EMLX_INVALID);
    assert_int_equal(emlx_archive_open("/nowhere", &none, &err), EMLX_IO);
    emlx_archive_release(archive);
    emlx_archive_release(NULL);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_arrays_and_texts),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
