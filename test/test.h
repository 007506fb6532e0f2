// SPDX-License-Identifier: Apache-2.0
// test.h - what every C test includes. A test is a file test/PART/NAME_test.c with a `main` that
// ends with `return RUN_TESTS("PART/NAME", tests)`; other .c files below test are helpers linked
// into every one of them.
#ifndef EMLX_TEST_H
#define EMLX_TEST_H

// cmocka wants these first, in this order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "emlx.h"

#define RUN_TESTS(name, tests) cmocka_run_group_tests_name(name, tests, NULL, NULL)

// Fails unless `call` gives EMLX_OK; the failure shows the message that `err` then holds.
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        if ((call) != EMLX_OK) fail_msg("%s: %s", #call, (err).message);                           \
    } while (0)

// Fails unless `call` gives the status and a message that contains `text`.
#define assert_error(call, status, err, text)                                                      \
    do {                                                                                           \
        assert_int_equal((call), (status));                                                        \
        assert_int_equal((err).code, (status));                                                    \
        if (strstr((err).message, (text)) == NULL) {                                               \
            fail_msg("%s: the message '%s' lacks '%s'", #call, (err).message, (text));             \
        }                                                                                          \
    } while (0)

#endif
