// SPDX-License-Identifier: Apache-2.0
// exit_test.c - a process may end at any moment, also while the library computes for it; on the
// device that EMLX_TEST_DEVICE names.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tensors.h"

static void multiply_and_exit(int delay) {
    emlx_device *device;
    emlx_error err;
    emlx_shape s = {2, {900, 900}};
    emlx_tensor *t, *out;
    float *data = calloc(900 * 900, sizeof *data);
    int64_t one = 1, zero = 0, none = 0;
    emlx_attr attrs[4] = {with_ints("contract_left", &one, 1),
                          with_ints("contract_right", &zero, 1), with_ints("batch_left", &none, 0),
                          with_ints("batch_right", &none, 0)};
    const char *name = getenv("EMLX_TEST_DEVICE");
    if (data == NULL || emlx_device_open(name ? name : "cpu", &device, &err) != EMLX_OK) _exit(3);
    if (emlx_tensor_from_data(device, EMLX_F32, &s, data, 900 * 900 * 4, &t, &err) != EMLX_OK)
        _exit(4);
    free(data);
    for (int i = 0; i < 20; i++) {
        emlx_tensor *in[2] = {t, t};
        if (emlx_apply(emlx_op_find("dot"), device, in, 2, attrs, 4, EMLX_TYPE_DEFAULT, &out,
                       &err) != EMLX_OK ||
            emlx_eval_async(&out, 1, NULL, NULL, NULL, &err) != EMLX_OK)
            _exit(5);
    }
    usleep((useconds_t)delay);
    exit(0);
}

static void at_any_moment(void **unused) {
    (void)unused;
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) multiply_and_exit(round * 3000);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_any_moment)};
    return RUN_TESTS("run/exit", tests);
}
