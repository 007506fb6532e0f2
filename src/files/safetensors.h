// SPDX-License-Identifier: Apache-2.0
// safetensors.h - the container of a program file: named arrays, and one text among its metadata.
// Knows nothing of programs.
#ifndef EMLX_FILES_SAFETENSORS_H
#define EMLX_FILES_SAFETENSORS_H

#include "files/entries.h"
#include "files/json.h"
#include "memory/memory.h"

// The metadata key that holds a program.
#define SAFETENSORS_KEY "emlx"

// An open file: its header, and all of its data in one buffer. Every entry has been checked.
typedef struct safetensors {
    json_document header;
    const char *program; // the text under SAFETENSORS_KEY, or NULL
    emlx_buffer *data;
} safetensors;

emlx_status safetensors_read(const char *path, safetensors *out, emlx_error *err);
void safetensors_clear(safetensors *file);
// Adds its arrays, and its texts where they are asked for, to a list.
emlx_status safetensors_list(const safetensors *file, bool texts, entry_list *out, emlx_error *err);
// The entry of that name as a tensor of `type`, which must be stored the way we store it. Without
// a copy where the device allows it.
emlx_status safetensors_tensor(const safetensors *file, const char *name, emlx_type type,
                               emlx_device *device, emlx_tensor **out, emlx_error *err);

// JSON as text that ends with a NUL, and the bytes allocated for it.
typedef struct json_text {
    char *text;
    size_t length, room;
} json_text;

// Fails with EMLX_OUT_OF_MEMORY when `json` is NULL, as its maker did.
emlx_status json_text_make(const json_t *json, size_t flags, json_text *out, emlx_error *err);
void json_text_clear(json_text *text);

// Writes the tensors under the names "t0", "t1", ... and the program's text.
emlx_status safetensors_write(const char *path, const char *program, emlx_tensor *const *tensors,
                              size_t count, emlx_error *err);

#endif
