// SPDX-License-Identifier: Apache-2.0
// archive.c - files of named arrays for users of the library: which format one is in, and its texts
// and tensors.
#include <string.h>

#include "base/error.h"
#include "files/entries.h"
#include "files/file.h"
#include "files/safetensors.h"

struct emlx_archive {
    const char *format;
    entry_list list;
};

// Formats ----------------------------------------------------------------------------------------

static emlx_status read_safetensors(const char *path, entry_list *out, emlx_error *err) {
    safetensors file;
    TRY(safetensors_read(path, &file, err));
    emlx_status status = safetensors_list(&file, true, out, err);
    safetensors_clear(&file);
    return status;
}

enum { FIRST = 8 };

// The first bytes tell formats apart; what begins with none of these has to be the last one. A text
// has no zeros, which the length that a safetensors file begins with does have.
static const struct {
    const char *start, *name;
    bool text;
    emlx_status (*read)(const char *path, entry_list *out, emlx_error *err);
} formats[] = {
    {"GGUF", "GGUF", false, gguf_read},
    {"{", "safetensors", true, shards_read},
    {"", "safetensors", false, read_safetensors},
};

static emlx_status first_bytes(const char *path, char bytes[FIRST], emlx_error *err) {
    file_reader file;
    TRY(file_open(path, &file, err));
    memset(bytes, 0, FIRST);
    emlx_status status =
        file_read(&file, bytes, file.size < FIRST ? (size_t)file.size : FIRST, err);
    file_close(&file);
    return status;
}

static bool begins(const char bytes[FIRST], const char *start, bool text) {
    if (text && memchr(bytes, 0, FIRST) != NULL) return false;
    return strncmp(bytes, start, strlen(start)) == 0;
}

static emlx_status read_list(const char *path, emlx_archive *archive, emlx_error *err) {
    char bytes[FIRST];
    TRY(first_bytes(path, bytes, err));
    size_t f = 0;
    while (!begins(bytes, formats[f].start, formats[f].text)) f++;
    archive->format = formats[f].name;
    TRY(formats[f].read(path, &archive->list, err));
    return entries_sort(&archive->list, err);
}

emlx_status emlx_archive_open(const char *path, emlx_archive **out, emlx_error *err) {
    REQUIRE(path);
    REQUIRE(out);
    emlx_archive *archive = mem_alloc(sizeof *archive);
    if (archive == NULL) return error_no_memory(err, "for an archive");
    emlx_status status = read_list(path, archive, err);
    if (status == EMLX_OK)
        *out = archive;
    else
        emlx_archive_release(archive);
    return file_blame(path, status, err);
}

void emlx_archive_release(emlx_archive *archive) {
    if (archive == NULL) return;
    entries_clear(&archive->list);
    mem_free(archive, sizeof *archive);
}

// What it has ------------------------------------------------------------------------------------

const char *emlx_archive_format(const emlx_archive *archive) {
    return archive == NULL ? "?" : archive->format;
}

const emlx_entry *emlx_archive_entry(const emlx_archive *archive, size_t index) {
    if (archive == NULL || index >= archive->list.arrays.count) return NULL;
    return &archive->list.arrays.items[index].shown;
}

const char *emlx_archive_key(const emlx_archive *archive, size_t index) {
    if (archive == NULL || index >= archive->list.texts.count) return NULL;
    return archive->list.texts.items[index].key;
}

const char *emlx_archive_text(const emlx_archive *archive, const char *key) {
    if (archive == NULL || key == NULL) return NULL;
    for (size_t i = 0; i < archive->list.texts.count; i++)
        if (strcmp(archive->list.texts.items[i].key, key) == 0)
            return archive->list.texts.items[i].text;
    return NULL;
}

emlx_status emlx_archive_tensor(const emlx_archive *archive, const char *name, emlx_type type,
                                emlx_device *device, emlx_tensor **out, emlx_error *err) {
    REQUIRE(archive);
    REQUIRE(name);
    REQUIRE(device);
    REQUIRE(out);
    if ((unsigned)type > EMLX_TYPE_COUNT)
        return error_set(err, EMLX_INVALID, "array \"%.60s\": %d is no type", name, (int)type);
    const entry *e = entries_find(&archive->list, name);
    if (e == NULL) return error_set(err, EMLX_FORMAT, "there is no array \"%.60s\"", name);
    emlx_status status = stored_tensor(&e->stored, e->data, type, device, out, err);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "array \"%.60s\"", name);
}
