// SPDX-License-Identifier: Apache-2.0
// shards.c - the index of a model that lies in several safetensors files: a JSON object whose
// "weight_map" says for each array in which of the files beside the index it is.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "files/entries.h"
#include "files/file.h"
#include "files/safetensors.h"

#define INDEX_MAX ((uint64_t)100000000)

static emlx_status read_index(const char *path, json_document *out, emlx_error *err) {
    file_reader file;
    TRY(file_open(path, &file, err));
    size_t size = (size_t)(file.size < INDEX_MAX ? file.size : INDEX_MAX);
    char *text = mem_alloc(size + 1);
    emlx_status status =
        text == NULL ? error_no_memory(err, "for an index") : file_read(&file, text, size, err);
    file_close(&file);
    if (status == EMLX_OK) status = json_read(text, size, "the index", out, err);
    mem_free(text, size + 1);
    return status;
}

// Files lie in the folder of the index: a name that leads elsewhere is refused.
static emlx_status shard_path(const char *index, const char *name, char *out, size_t room,
                              emlx_error *err) {
    const char *slash = strrchr(index, '/');
    int folder = slash == NULL ? 0 : (int)(slash - index) + 1;
    if (*name == '\0' || strchr(name, '/') != NULL || strcmp(name, "..") == 0)
        return error_set(err, EMLX_FORMAT, "\"%.60s\" is not the name of a file beside the index",
                         name);
    if ((size_t)snprintf(out, room, "%.*s%s", folder, index, name) < room) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "the path of \"%.60s\" is too long", name);
}

static emlx_status read_shard(const char *index, const char *name, entry_list *out,
                              emlx_error *err) {
    char path[4096];
    safetensors file;
    TRY(shard_path(index, name, path, sizeof path, err));
    emlx_status status = safetensors_read(path, &file, err);
    if (status != EMLX_OK) return error_prefix(err, status, "%.60s", name);
    status = safetensors_list(&file, false, out, err);
    safetensors_clear(&file);
    return status;
}

// Whether an earlier array is in the same file, so that this has been read.
static bool is_read(const json_t *map, const char *until, const char *file) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value) {
        if (strcmp(name, until) == 0) return false;
        if (strcmp(json_string_value(value), file) == 0) return true;
    }
    return false;
}

static emlx_status read_shards(const char *path, const json_t *map, entry_list *out,
                               emlx_error *err) {
    const char *name, *last = "";
    json_t *value;
    if (!json_is_object(map))
        return error_set(err, EMLX_FORMAT,
                         "it is a JSON text, but not the index of safetensors files: it has no "
                         "\"weight_map\"");
    json_object_foreach((json_t *)map, name, value) {
        const char *file = json_string_value(value);
        if (file == NULL) return error_set(err, EMLX_FORMAT, "array \"%.60s\" has no file", name);
        // Arrays of one file mostly follow each other.
        if (strcmp(file, last) != 0 && !is_read(map, name, file))
            TRY(read_shard(path, file, out, err));
        last = file;
    }
    return EMLX_OK;
}

static emlx_status check_all(const json_t *map, const entry_list *list, emlx_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value) {
        if (entries_find(list, name) == NULL)
            return error_set(err, EMLX_FORMAT, "there is no array \"%.60s\" in %.60s", name,
                             json_string_value(value));
    }
    return EMLX_OK;
}

emlx_status shards_read(const char *path, entry_list *out, emlx_error *err) {
    json_document index;
    TRY(read_index(path, &index, err));
    const json_t *map = json_object_get(index.root, "weight_map");
    emlx_status status = read_shards(path, map, out, err);
    if (status == EMLX_OK) status = entries_sort(out, err);
    if (status == EMLX_OK) status = check_all(map, out, err);
    json_clear(&index);
    return status;
}
