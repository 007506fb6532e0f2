// SPDX-License-Identifier: Apache-2.0
// table_test.c - op calls as a careless host could make them: an error, whatever is missing.
#include <stdio.h>

#include "program/programs.h"

static emlx_device *device;

static void refused(const char *op, emlx_tensor *const *in, size_t count, const emlx_attr *attrs,
                    size_t attr_count, const char *message) {
    emlx_error err;
    emlx_tensor *out = NULL;
    assert_error(emlx_apply(emlx_op_find(op), NULL, in, count, attrs, attr_count, EMLX_TYPE_DEFAULT,
                            &out, &err),
                 EMLX_INVALID, err, message);
    assert_null(out);
}

static void careless_calls_are_refused(void **state) {
    (void)state;
    emlx_tensor *t = scalar_s32(device, 3), *none[2] = {t, NULL}, *missing = NULL;
    emlx_tensor *many[3] = {t, t, t};
    emlx_attr nameless = {.kind = EMLX_ATTR_INTS}, odd = {.name = "axes"};
    emlx_attr wild = {.name = "axes", .kind = EMLX_ATTR_INTS, .count = SIZE_MAX};
    odd.kind = (emlx_attr_kind)77;
    refused("no such op", &t, 1, NULL, 0, "no op given");
    refused("add", none, 2, NULL, 0, "add: operand 1 is missing");
    refused("negate", &missing, 1, NULL, 0, "negate: operand 0 is missing");
    refused("add", many, 1, NULL, 0, "add: 1 operands given, 2 expected");
    refused("add", many, 3, NULL, 0, "add: 3 operands given, 2 expected");
    refused("concatenate", NULL, 0, NULL, 0, "concatenate: 0 operands given, at least 1 expected");
    refused("iota", NULL, 0, NULL, 0, "iota: no device given");
    refused("sum", &t, 1, &nameless, 1, "sum: attribute 0 has no name");
    refused("sum", &t, 1, &odd, 1, "sum: attribute axes must be a list of integers");
    refused("sum", &t, 1, &wild, 1, "sum: attribute axes must be a list of integers");
    emlx_tensor_release(t);
}

// The number of operands that an op takes at most is checked and told.
static void most_operands_are_told(void **state) {
    (void)state;
    enum { ROOM = 64 };
    emlx_tensor *t = scalar_s32(device, 3), *in[ROOM];
    for (size_t i = 0; i < ROOM; i++) in[i] = t;
    const emlx_op *op;
    for (size_t i = 0; (op = emlx_op_at(i)) != NULL; i++) {
        size_t fewest, most;
        char text[80];
        emlx_op_operands(op, &fewest, &most);
        if (most >= ROOM) continue;
        snprintf(text, sizeof text, "%s: %zu operands given, %s%zu expected", emlx_op_name(op),
                 most + 1, fewest == most ? "" : "at most ", most);
        refused(emlx_op_name(op), in, most + 1, NULL, 0, text);
    }
    emlx_tensor_release(t);
}

static int open_device(void **state) {
    (void)state;
    device = cpu();
    return 0;
}

static int close_device(void **state) {
    (void)state;
    emlx_device_release(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(careless_calls_are_refused),
        cmocka_unit_test(most_operands_are_told),
    };
    return cmocka_run_group_tests_name("ops/table", tests, open_device, close_device);
}
