// SPDX-License-Identifier: Apache-2.0
// error.c - status texts and filling in an emlx_error.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

// For the analyzer these are macros as well.
#undef error_set
#undef error_fault
#undef error_no_memory
#undef error_prefix

static const char *const status_texts[] = {
#define XX(name, text) [EMLX_##name] = text,
    EMLX_STATUS_MAP(XX)
#undef XX
};

const char *emlx_status_text(emlx_status status) {
    size_t count = sizeof status_texts / sizeof *status_texts;
    return (size_t)status < count ? status_texts[status] : "unknown status";
}

const char *emlx_version(void) { return EMLX_VERSION; }

static void fill_in(emlx_error *err, emlx_status code, emlx_fault fault, const char *format,
                    va_list args) {
    if (err == NULL) return;
    err->code = code;
    err->fault = fault;
    err->cause = 0;
    vsnprintf(err->message, sizeof err->message, format, args);
    text_make_plain(err->message);
}

emlx_status error_set(emlx_error *err, emlx_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill_in(err, code, EMLX_FAULT_NONE, format, args);
    va_end(args);
    return code;
}

emlx_status error_fault(emlx_error *err, emlx_status code, emlx_fault fault, const char *format,
                        ...) {
    va_list args;
    va_start(args, format);
    fill_in(err, code, fault, format, args);
    va_end(args);
    return code;
}

emlx_status error_no_memory(emlx_error *err, const char *purpose) {
    return error_set(err, EMLX_OUT_OF_MEMORY, "no memory %s", purpose);
}

// The end of a text that has to fit in `room` bytes, from the beginning of a character.
static const char *end_of(const char *text, size_t room) {
    size_t length = strlen(text);
    const char *at = length > room ? text + length - room : text;
    while ((*at & 0xc0) == 0x80) at++;
    return at;
}

emlx_status error_prefix(emlx_error *err, emlx_status code, const char *format, ...) {
    if (err == NULL) return code;
    char prefix[128], message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    text_make_plain(prefix);
    memcpy(message, err->message, sizeof message);
    message[sizeof message - 1] = '\0';
    // What does not fit is left out in the middle: the cause stands at the end.
    size_t room = sizeof message - strlen(prefix) - sizeof ": ";
    const char *rest = strlen(message) > room ? end_of(message, room - 3) : message;
    snprintf(err->message, sizeof err->message, "%s: %s%.*s", prefix, rest == message ? "" : "...",
             (int)room, rest);
    // Cut off, the cause is what is left of it.
    size_t end = strlen(message) - (err->cause < strlen(message) ? err->cause : 0);
    size_t length = strlen(err->message);
    err->cause = (uint32_t)(end < length ? length - end : 0);
    return code;
}
