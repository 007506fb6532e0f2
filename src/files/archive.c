// SPDX-License-Identifier: Apache-2.0
// archive.c - any safetensors file for users of the library: its texts and its arrays.
#include "base/error.h"
#include "files/file.h"
#include "files/safetensors.h"

struct emlx_archive {
    safetensors file;
};

static emlx_status read_archive(const char *path, emlx_archive **out, emlx_error *err) {
    emlx_archive *archive = mem_alloc(sizeof *archive);
    if (archive == NULL) return error_no_memory(err, "for an archive");
    emlx_status status = safetensors_read(path, &archive->file, err);
    if (status == EMLX_OK)
        *out = archive;
    else
        mem_free(archive, sizeof *archive);
    return status;
}

emlx_status emlx_archive_open(const char *path, emlx_archive **out, emlx_error *err) {
    REQUIRE(path);
    REQUIRE(out);
    return file_blame(path, read_archive(path, out, err), err);
}

void emlx_archive_release(emlx_archive *archive) {
    if (archive == NULL) return;
    safetensors_clear(&archive->file);
    mem_free(archive, sizeof *archive);
}

const char *emlx_archive_text(const emlx_archive *archive, const char *key) {
    return archive == NULL || key == NULL ? NULL : safetensors_text(&archive->file, key);
}

emlx_status emlx_archive_tensor(const emlx_archive *archive, const char *name, emlx_type type,
                                emlx_device *device, emlx_tensor **out, emlx_error *err) {
    REQUIRE(archive);
    REQUIRE(name);
    REQUIRE(device);
    REQUIRE(out);
    if (type >= EMLX_TYPE_COUNT)
        return error_set(err, EMLX_INVALID, "array \"%.60s\": %d is no type", name, (int)type);
    return safetensors_tensor(&archive->file, name, type, device, out, err);
}
