// SPDX-License-Identifier: Apache-2.0
// file.h - reading files whole, and writing them so that nobody sees a half-written one.
#ifndef EMLX_FILES_FILE_H
#define EMLX_FILES_FILE_H

#include "memory/memory.h"

typedef struct file_reader {
    int fd;
    uint64_t size;
    uint64_t left; // bytes not read yet
} file_reader;

// Opens a regular file. On success it must be closed.
emlx_status file_open(const char *path, file_reader *out, emlx_error *err);
// Reads exactly the next `size` bytes; fails with EMLX_FORMAT when the file has fewer.
emlx_status file_read(file_reader *file, void *data, size_t size, emlx_error *err);
// All that is left to read as one buffer: a large file is mapped, so that no memory is taken before
// it is read and none beside the system's own, and is watched, as others may make it shorter.
emlx_status file_rest(file_reader *file, emlx_buffer **out, emlx_error *err);
void file_close(file_reader *file);
// Puts the path, or the end of a long one, in front of a failure's message; returns its code.
emlx_status file_prefix(const char *path, emlx_status status, emlx_error *err);
// The same for a file that is read. What would be a caller's mistake in building
// something is a mistake in the file that it is read from: EMLX_FORMAT.
emlx_status file_blame(const char *path, emlx_status status, emlx_error *err);

typedef struct file_writer {
    int fd;
    bool direct; // into what is there at the path
    char *path, *temporary;
    size_t path_size, temporary_size;
} file_writer;

// Starts a new file beside `path`, or opens what is there: a device, a pipe, a link, or a file that
// cannot be replaced. On success it must be committed or abandoned.
emlx_status file_create(const char *path, file_writer *out, emlx_error *err);
emlx_status file_write(file_writer *file, const void *data, size_t size, emlx_error *err);
// A tensor's dense data, evaluated first.
emlx_status file_write_tensor(file_writer *file, emlx_tensor *tensor, emlx_error *err);
// Puts the file in its place; abandons it on failure.
emlx_status file_commit(file_writer *file, emlx_error *err);
void file_abandon(file_writer *file);

#endif
