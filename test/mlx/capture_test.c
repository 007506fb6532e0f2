// SPDX-License-Identifier: Apache-2.0
// capture_test.c - frame captures: they are of MLX's GPU where that is Metal, and refused elsewhere
// in a sentence. MLX is the adapter of plain loops, whose captures are files that say when they
// begin and end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensors.h"

static emlx_device *opened(const char *name) {
    emlx_error err;
    emlx_device *device;
    assert_ok(emlx_device_open(name, &device, &err), err);
    return device;
}

static void refused(const char *name, const char *sentence) {
    emlx_error err;
    emlx_device *device = opened(name);
    assert_error(emlx_device_capture_start(device, "none.gputrace", &err), EMLX_UNSUPPORTED, err,
                 sentence);
    assert_error(emlx_device_capture_stop(device, &err), EMLX_UNSUPPORTED, err, sentence);
    assert_int_equal(access("none.gputrace", F_OK), -1);
    emlx_device_release(device);
}

static void what_is_not_metal_is_refused(void **state) {
    (void)state;
    refused("cpu", "frame captures are Metal's");
    refused("mlx-cpu", "not on Metal");
    setenv("EMLX_PLAIN_APART", "1", 1);
    refused("mlx", "not on Metal");
    unsetenv("EMLX_PLAIN_APART");
}

static void captures_begin_and_end(void **state) {
    emlx_error err;
    char path[] = "/tmp/emlx_capture_XXXXXX", text[32] = "";
    (void)state;
    emlx_device *device = opened("mlx");
    close(mkstemp(path));
    assert_error(emlx_device_capture_stop(device, &err), EMLX_INTERNAL, err, "MTL_CAPTURE_ENABLED");
    assert_ok(emlx_device_capture_start(device, path, &err), err);
    assert_error(emlx_device_capture_start(device, path, &err), EMLX_INTERNAL, err, "one already");
    assert_ok(emlx_device_capture_stop(device, &err), err);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    unlink(path);
    assert_string_equal(text, "begins\nends\n");
    assert_error(emlx_device_capture_start(device, NULL, &err), EMLX_INVALID, err, "");
    assert_error(emlx_device_capture_start(NULL, path, &err), EMLX_INVALID, err, "");
    emlx_device_release(device);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_metal_is_refused),
        cmocka_unit_test(captures_begin_and_end),
    };
    unsetenv("EMLX_MLX_ADAPTER");
    use_plain_mlx(argc > 0 ? argv[0] : "");
    return RUN_TESTS("mlx/capture", tests);
}
