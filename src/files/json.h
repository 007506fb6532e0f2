// SPDX-License-Identifier: Apache-2.0
// json.h - reading JSON from files, within bounds of depth and of memory.
#ifndef EMLX_FILES_JSON_H
#define EMLX_FILES_JSON_H

#include <jansson.h>

#include "emlx.h"

typedef struct json_document {
    json_t *root;
    size_t reserved; // bytes that count as held by it
} json_document;

// Reads text; `what` is what messages call it. Fails with EMLX_FORMAT for text that is no JSON, has
// a key twice or nests too deep, and with EMLX_OUT_OF_MEMORY where what it becomes, many times the
// text, passes the limit. On success it is to be cleared.
emlx_status json_read(const char *text, size_t length, const char *what, json_document *out,
                      emlx_error *err);
void json_clear(json_document *document);

#endif
