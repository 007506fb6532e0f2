// SPDX-License-Identifier: Apache-2.0
// error.c - filling in an emlx_error.
#include "terms/error.h"

#include <stdarg.h>
#include <stdio.h>

void nif_report(emlx_error *err, emlx_status code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    err->code = code;
    err->fault = EMLX_FAULT_NONE;
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
}
