// SPDX-License-Identifier: Apache-2.0
// error.h - filling in an emlx_error.
#ifndef EMLX_BASE_ERROR_H
#define EMLX_BASE_ERROR_H

#include "emlx.h"

// Writes code and text into `err` (which may be NULL) and returns the code, so that a failing
// function ends with `return error_set(...)`.
emlx_status error_set(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// The same for numbers that the op does not take.
emlx_status error_fault(emlx_error *err, emlx_status code, emlx_fault fault, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));

// "no memory " and what for, as in "for a queue" or "to plan".
emlx_status error_no_memory(emlx_error *err, const char *purpose);

// Puts "prefix: " in front of the message that is there already; returns its code.
emlx_status error_prefix(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#if defined(__clang_analyzer__)
// The analyzer looks into one file at a time: here it sees which code comes back.
#define error_set(err, code, ...) (error_set(err, code, __VA_ARGS__), (code))
#define error_fault(err, code, ...) (error_fault(err, code, __VA_ARGS__), (code))
#define error_no_memory(err, what) (error_no_memory(err, what), EMLX_OUT_OF_MEMORY)
#define error_prefix(err, code, ...) (error_prefix(err, code, __VA_ARGS__), (code))
#endif

// Returns from the enclosing function when `call` fails.
#define TRY(call)                                                                                  \
    do {                                                                                           \
        emlx_status try_status_ = (call);                                                          \
        if (try_status_ != EMLX_OK) return try_status_;                                            \
    } while (0)

// Returns from a public function when the caller gave NULL for a pointer that must be there, or for
// one to `count` items.
#define REQUIRE(pointer)                                                                           \
    do {                                                                                           \
        if ((pointer) == NULL)                                                                     \
            return error_set(err, EMLX_INVALID, "%s: %s is NULL", __func__, #pointer);             \
    } while (0)
#define REQUIRE_ITEMS(items, count)                                                                \
    do {                                                                                           \
        if ((count) > 0) REQUIRE(items);                                                           \
    } while (0)

#endif
