// SPDX-License-Identifier: Apache-2.0
// attrs.h - the attributes of an op call as JSON has them (docs/program-format.md). The command
// line reads those of recorded cases by it, so that it knows of no part of the library but memory.
#ifndef EMLX_FILES_ATTRS_H
#define EMLX_FILES_ATTRS_H

#include <jansson.h>

#include "emlx.h"

typedef struct json_attrs {
    emlx_attr *items; // texts are the JSON's
    size_t count, size;
} json_attrs;

// Reads the block of a function, given as it stands.
typedef emlx_status json_function(void *context, const json_t *from, emlx_function **out,
                                  emlx_error *err);

// Reads all members of an object; `function` may be NULL where there are none. What is read is to
// be freed. Fails with EMLX_FORMAT for what the op does not have.
emlx_status json_attrs_read(const emlx_op *op, const json_t *from, json_function *function,
                            void *context, json_attrs *out, emlx_error *err);
void json_attrs_free(json_attrs *attrs);

// The integers of a list.
emlx_status json_ints(const json_t *from, int64_t *out, emlx_error *err);

#endif
