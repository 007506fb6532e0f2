// SPDX-License-Identifier: Apache-2.0
// error_test.c - status texts, messages and prefixes.
#include "base/error.h"

#include "base/text.h"
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

// Prefixes push out what is between the outermost and the cause, never the cause.
static void causes_are_kept(void **state) {
    (void)state;
    emlx_error err;
    error_set(&err, EMLX_INVALID, "the cause");
    for (int i = 0; i < 200; i++) error_prefix(&err, EMLX_INVALID, "\u00e9 %d", i);
    assert_int_equal(strncmp(err.message, "\u00e9 199: ...", strlen("\u00e9 199: ...")), 0);
    assert_non_null(strstr(err.message, ": the cause"));
    assert_true(text_is_plain(err.message));
}

// One line of UTF-8, whatever the names in it.
static void messages_are_one_line(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"a\nb\r\x1b[1m\x7f", "a?b??[1m?"},
        {"\u00e9\u20ac\U0001f600", "\u00e9\u20ac\U0001f600"},
        {"\xff\xfe", "??"},
        {"\xc3", "?"},
        {"\xe2\x82", "??"},
        {"\xc0\x80", "??"},
        {"\xed\xa0\x80", "???"},
        {"\xf4\x90\x80\x80", "????"},
        {"\xc2\x85", "??"},
        {"\xf0\x80\x80\x80", "????"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xc2\xa0", "\xc2\xa0"},
    };
    emlx_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error_set(&err, EMLX_INVALID, "%s", cases[i][0]);
        assert_string_equal(err.message, cases[i][1]);
        error_prefix(&err, EMLX_INVALID, "%s", cases[i][0]);
        assert_int_equal(strncmp(err.message, cases[i][1], strlen(cases[i][1])), 0);
    }
    // Half a character at the cut.
    error_set(&err, EMLX_INVALID, "%.1s\"", "\u00e9");
    assert_string_equal(err.message, "?\"");
}

static void knows_the_cause_behind_names(void **state) {
    (void)state;
    emlx_error err;
    const char cause[] = "index 7 is out of bounds";
    error_fault(&err, EMLX_OUT_OF_BOUNDS, EMLX_FAULT_INDEX, "%s", cause);
    assert_int_equal(err.cause, 0);
    error_prefix(&err, err.code, "take");
    error_prefix(&err, err.code, "%s", "while");
    assert_int_equal(err.fault, EMLX_FAULT_INDEX);
    assert_string_equal(err.message, "while: take: index 7 is out of bounds");
    assert_string_equal(err.message + err.cause, cause);
    // Of a message that is cut in the middle its end is left.
    for (int i = 0; i < 10; i++)
        error_prefix(&err, err.code, "%.100s",
                     "a name that is long enough to fill the message at last");
    assert_string_equal(err.message + err.cause, cause);
    error_set(&err, EMLX_INVALID, "something else");
    assert_int_equal(err.fault, EMLX_FAULT_NONE);
    assert_int_equal(err.cause, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_text), cmocka_unit_test(sets_and_prefixes),
        cmocka_unit_test(long_messages_are_cut),   cmocka_unit_test(causes_are_kept),
        cmocka_unit_test(messages_are_one_line),   cmocka_unit_test(knows_the_cause_behind_names),
    };
    return RUN_TESTS("base/error", tests);
}
