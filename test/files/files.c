// SPDX-License-Identifier: Apache-2.0
// files.c - the one file that a test of files works on.
#include "files/files.h"

#include <stdio.h>
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
