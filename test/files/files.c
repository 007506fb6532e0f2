// SPDX-License-Identifier: Apache-2.0
// files.c - the file that a test of files works on, and those beside it.
#include "files/files.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "program/programs.h"

char test_path[64];

int make_test_path(void **state) {
    (void)state;
    snprintf(test_path, sizeof test_path, "/tmp/emlx-test-%ld.file", (long)getpid());
    return 0;
}

int remove_test_path(void **state) {
    (void)state;
    unlink(test_path);
    return 0;
}

void write_bytes(const void *data, size_t size) {
    FILE *file = fopen(test_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

size_t read_bytes(void *data, size_t room) {
    FILE *file = fopen(test_path, "rb");
    assert_non_null(file);
    size_t size = fread(data, 1, room, file);
    fclose(file);
    return size;
}

emlx_status load_program(emlx_error *err) {
    emlx_device *device = cpu();
    emlx_program *program = NULL;
    emlx_status status = emlx_program_load(test_path, device, &program, err);
    emlx_program_release(program);
    emlx_device_release(device);
    return status;
}

void write_shard(const char *suffix, const char *name, size_t count) {
    char path[128], header[256];
    snprintf(path, sizeof path, "%s%s", test_path, suffix);
    int length = snprintf(header, sizeof header,
                          "{\"%s\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                          name, count, count);
    uint64_t size = (uint64_t)length;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&size, 1, 8, file);
    fwrite(header, 1, (size_t)length, file);
    for (size_t i = 0; i < count; i++) fputc((int)(i & 0xff), file);
    fclose(file);
}

void remove_shard(const char *suffix) {
    char path[128];
    snprintf(path, sizeof path, "%s%s", test_path, suffix);
    unlink(path);
}

void write_index(const char *first, const char *second) {
    char text[512];
    const char *base = strrchr(test_path, '/') + 1;
    int size = snprintf(text, sizeof text,
                        "{\"metadata\":{},\"weight_map\":{\"x\":\"%s%s\",\"y\":\"%s%s\"}}", base,
                        first, base, second);
    write_bytes(text, (size_t)size);
}
