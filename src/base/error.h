// SPDX-License-Identifier: Apache-2.0
// error.h - filling in an emlx_error.
#ifndef EMLX_BASE_ERROR_H
#define EMLX_BASE_ERROR_H

#include "emlx.h"

// Writes code and text into `err` (which may be NULL) and returns the code, so that a failing
// function ends with `return error_set(...)`.
emlx_status error_set(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "prefix: " in front of the message that is there already; returns its code.
emlx_status error_prefix(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Returns from the enclosing function when `call` fails.
#define TRY(call)                                                                                  \
    do {                                                                                           \
        emlx_status try_status_ = (call);                                                          \
        if (try_status_ != EMLX_OK) return try_status_;                                            \
    } while (0)

#endif
