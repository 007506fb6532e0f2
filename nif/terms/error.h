// SPDX-License-Identifier: Apache-2.0
// error.h - filling in an emlx_error, and passing one on.
#ifndef EMLX_NIF_ERROR_H
#define EMLX_NIF_ERROR_H

#include "emlx.h"

// Returns from the enclosing function when a step fails.
#define TRY(step)                                                                                  \
    do {                                                                                           \
        emlx_status try_status = (step);                                                           \
        if (try_status != EMLX_OK) return try_status;                                              \
    } while (0)

// Sets the error and gives its code, which compilers then see is not EMLX_OK.
#define nif_fail(err, code, ...) (nif_report((err), (code), __VA_ARGS__), (code))
void nif_report(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// "no memory " and what for, as in "for a task".
#define nif_no_memory(err, purpose) nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory %s", (purpose))

#endif
