// SPDX-License-Identifier: Apache-2.0
// error.h - what is said of recorded cases that are wrong.
#ifndef EMLX_CLI_ERROR_H
#define EMLX_CLI_ERROR_H

#include "emlx.h"

// Sets an error; returns its code.
emlx_status cases_error(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
