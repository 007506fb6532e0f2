// SPDX-License-Identifier: Apache-2.0
// error.c - what is said of recorded cases that are wrong.
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

emlx_status cases_error(emlx_error *err, emlx_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    err->fault = EMLX_FAULT_NONE;
    return code;
}
