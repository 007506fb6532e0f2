// SPDX-License-Identifier: Apache-2.0
// attrs.h - the attributes of a recorded op call, and what is said of recorded cases that are
// wrong.
#ifndef EMLX_CLI_ATTRS_H
#define EMLX_CLI_ATTRS_H

#include <jansson.h>

#include "emlx.h"

// Sets an error; returns its code.
emlx_status cases_error(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The attributes of an op call, and the integers they point to. Freed by attrs_clear.
typedef struct case_attrs {
    emlx_attr *items;
    int64_t *ints;
    size_t count;
} case_attrs;

emlx_status attrs_read(const emlx_op *op, const json_t *from, case_attrs *out, emlx_error *err);
void attrs_clear(case_attrs *attrs);

#endif
