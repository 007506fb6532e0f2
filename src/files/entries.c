// SPDX-License-Identifier: Apache-2.0
// entries.c - the arrays and texts of an archive, whatever its format.
#include "files/entries.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

char *entries_copy(entry_list *list, const void *bytes, size_t length) {
    char *text = arena_alloc(&list->memory, length + 1);
    if (text != NULL) memcpy(text, bytes, length);
    return text;
}

emlx_status entries_add(entry_list *list, const char *name, const stored *s, emlx_buffer *data,
                        emlx_error *err) {
    const char *own = entries_copy(list, name, strlen(name));
    const char *format = entries_copy(list, s->format, strlen(s->format));
    if (own == NULL || format == NULL || !list_reserve(&list->arrays, 1))
        return error_no_memory(err, "for the list of arrays");
    entry *e = &list->arrays.items[list->arrays.count++];
    *e = (entry){.stored = *s, .data = buffer_retain(data)};
    e->stored.format = format;
    e->shown = (emlx_entry){.name = own,
                            .format = format,
                            .type = stored_type(s),
                            .shape = stored_shape(s),
                            .block_values = s->values,
                            .block_bytes = s->bytes,
                            .bytes = s->end - s->begin};
    return EMLX_OK;
}

emlx_status entries_add_text(entry_list *list, const char *key, const char *text, emlx_error *err) {
    entry_text t = {entries_copy(list, key, strlen(key)), entries_copy(list, text, strlen(text))};
    if (t.key == NULL || t.text == NULL || !list_reserve(&list->texts, 1))
        return error_no_memory(err, "for the list of arrays");
    list->texts.items[list->texts.count++] = t;
    return EMLX_OK;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(((const entry *)left)->shown.name, ((const entry *)right)->shown.name);
}

emlx_status entries_sort(entry_list *list, emlx_error *err) {
    entry *arrays = list->arrays.items;
    size_t count = list->arrays.count;
    if (count > 0) qsort(arrays, count, sizeof *arrays, compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(&arrays[i - 1], &arrays[i]) == 0)
            return error_set(err, EMLX_FORMAT, "there are two arrays \"%.60s\"",
                             arrays[i].shown.name);
    return EMLX_OK;
}

const entry *entries_find(const entry_list *list, const char *name) {
    const entry wanted = {.shown = {.name = name}};
    if (list->arrays.count == 0) return NULL;
    return bsearch(&wanted, list->arrays.items, list->arrays.count, sizeof wanted, compare_names);
}

void entries_clear(entry_list *list) {
    for (size_t i = 0; i < list->arrays.count; i++) buffer_release(list->arrays.items[i].data);
    list_free(&list->arrays);
    list_free(&list->texts);
    arena_clear(&list->memory);
    *list = (entry_list){0};
}
