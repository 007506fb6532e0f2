// SPDX-License-Identifier: Apache-2.0
// entries.h - the arrays and texts of an archive, whatever its format. What reads a format adds to
// the list; what uses it asks by name.
#ifndef EMLX_FILES_ENTRIES_H
#define EMLX_FILES_ENTRIES_H

#include "files/stored.h"
#include "memory/arena.h"
#include "memory/list.h"

typedef struct entry {
    emlx_entry shown;
    stored stored;
    emlx_buffer *data; // that it lies in, referenced
} entry;

typedef struct entry_text {
    const char *key, *text;
} entry_text;

// Names, keys and texts are copies.
typedef struct entry_list {
    LIST(entry) arrays;
    LIST(entry_text) texts;
    arena memory;
} entry_list;

// `length` bytes as a text of the list's; NULL without memory.
char *entries_copy(entry_list *list, const void *bytes, size_t length);
emlx_status entries_add(entry_list *list, const char *name, const stored *stored, emlx_buffer *data,
                        emlx_error *err);
emlx_status entries_add_text(entry_list *list, const char *key, const char *text, emlx_error *err);
// To be called when all are there. Fails with EMLX_FORMAT when two arrays have one name.
emlx_status entries_sort(entry_list *list, emlx_error *err);
const entry *entries_find(const entry_list *list, const char *name);
void entries_clear(entry_list *list);

// Readers add to an empty list, which is to be sorted then.
emlx_status gguf_read(const char *path, entry_list *out, emlx_error *err);
// The index of several safetensors files.
emlx_status shards_read(const char *path, entry_list *out, emlx_error *err);

#endif
