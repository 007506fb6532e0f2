// SPDX-License-Identifier: Apache-2.0
// error_test.c - status texts, messages and prefixes.
#include "base/error.h"

#include "test.h"

static void every_status_has_a_text(void **state) {
    (void)state;
#define XX(name, text) assert_string_equal(emlx_status_text(EMLX_##name), text);
    EMLX_STATUS_MAP(XX)
#undef XX
    assert_string_equal(emlx_status_text((emlx_status)1000), "unknown status");
}

static void sets_and_prefixes(void **state) {
    (void)state;
    emlx_error err;
    assert_error(error_set(&err, EMLX_INVALID, "rank %d", 3), EMLX_INVALID, err, "rank 3");
    assert_error(error_prefix(&err, EMLX_INVALID, "op %s", "dot"), EMLX_INVALID, err,
                 "op dot: rank 3");
    assert_int_equal(error_set(NULL, EMLX_IO, "nowhere"), EMLX_IO);
    assert_int_equal(error_prefix(NULL, EMLX_IO, "nowhere"), EMLX_IO);
}

static void long_messages_are_cut(void **state) {
    (void)state;
    emlx_error err;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    error_set(&err, EMLX_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    error_prefix(&err, EMLX_INVALID, "%s", text);
    assert_true(strlen(err.message) < sizeof err.message);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_text),
        cmocka_unit_test(sets_and_prefixes),
        cmocka_unit_test(long_messages_are_cut),
    };
    return RUN_TESTS("base/error", tests);
}
