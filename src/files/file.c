// SPDX-License-Identifier: Apache-2.0
// file.c - reading files whole, and writing them so that nobody sees a half-written one.
#include "files/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "memory/memory.h"

// Some systems refuse to move more in one call.
#define CHUNK_MAX ((size_t)1 << 30)
#define TENSOR_CHUNK ((size_t)1 << 20)

static emlx_status io_error(emlx_error *err, const char *what) {
    return error_set(err, EMLX_IO, "%s: %s", what, strerror(errno));
}

// Reading ----------------------------------------------------------------------------------------

emlx_status file_open(const char *path, file_reader *out, emlx_error *err) {
    // Opening a pipe must not wait for its other end.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return io_error(err, "cannot open");
    struct stat info;
    if (fstat(fd, &info) != 0) {
        emlx_status status = io_error(err, "cannot read");
        close(fd);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return error_set(err, EMLX_IO, "cannot read: not a regular file");
    }
    *out = (file_reader){fd, (uint64_t)info.st_size, (uint64_t)info.st_size};
    return EMLX_OK;
}

emlx_status file_read(file_reader *file, void *data, size_t size, emlx_error *err) {
    if (size > file->left)
        return error_set(err, EMLX_FORMAT, "the file has %llu bytes, %llu or more expected",
                         (unsigned long long)file->size,
                         (unsigned long long)(file->size - file->left + size));
    for (size_t done = 0; done < size;) {
        size_t chunk = size - done < CHUNK_MAX ? size - done : CHUNK_MAX;
        ssize_t got = read(file->fd, (char *)data + done, chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error(err, "cannot read");
        if (got == 0) return error_set(err, EMLX_IO, "cannot read: the file has become shorter");
        done += (size_t)got;
    }
    file->left -= size;
    return EMLX_OK;
}

void file_close(file_reader *file) { close(file->fd); }

emlx_status file_prefix(const char *path, emlx_status status, emlx_error *err) {
    enum { SHOWN = 100 };
    size_t length = strlen(path);
    if (status == EMLX_OK) return EMLX_OK;
    if (length <= SHOWN) return error_prefix(err, status, "%s", path);
    return error_prefix(err, status, "...%s", path + length - SHOWN);
}

emlx_status file_blame(const char *path, emlx_status status, emlx_error *err) {
    if (status == EMLX_INVALID || status == EMLX_OUT_OF_BOUNDS || status == EMLX_ARITHMETIC)
        status = EMLX_FORMAT;
    if (status != EMLX_OK && err != NULL) err->code = status;
    return file_prefix(path, status, err);
}

// Writing ----------------------------------------------------------------------------------------

static void writer_free(file_writer *file) {
    mem_free(file->path, file->path_size);
    mem_free(file->temporary, file->temporary_size);
}

// Opens a file that was not there before, beside the path.
static int open_beside(file_writer *file) {
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        snprintf(file->temporary, file->temporary_size, "%s.%ld.%u.part", file->path,
                 (long)getpid(), attempt);
        int fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

// What is there and is no file but a device, a pipe or a link is written to, not replaced.
static int open_place(file_writer *file) {
    struct stat info;
    file->direct = lstat(file->path, &info) == 0 && !S_ISREG(info.st_mode);
    if (!file->direct) return open_beside(file);
    return open(file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

emlx_status file_create(const char *path, file_writer *out, emlx_error *err) {
    size_t length = strlen(path);
    *out = (file_writer){.fd = -1, .path_size = length + 1, .temporary_size = length + 40};
    out->path = mem_alloc(out->path_size);
    out->temporary = mem_alloc(out->temporary_size);
    if (out->path == NULL || out->temporary == NULL) {
        writer_free(out);
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for writing a file");
    }
    memcpy(out->path, path, length + 1);
    out->fd = open_place(out);
    if (out->fd >= 0) return EMLX_OK;
    emlx_status status = io_error(err, "cannot write");
    writer_free(out);
    return status;
}

emlx_status file_write(file_writer *file, const void *data, size_t size, emlx_error *err) {
    for (size_t done = 0; done < size;) {
        size_t chunk = size - done < CHUNK_MAX ? size - done : CHUNK_MAX;
        ssize_t put = write(file->fd, (const char *)data + done, chunk);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return io_error(err, "cannot write");
        done += (size_t)put;
    }
    return EMLX_OK;
}

emlx_status file_write_tensor(file_writer *file, emlx_tensor *tensor, emlx_error *err) {
    size_t size = emlx_tensor_bytes(tensor);
    size_t room = size < TENSOR_CHUNK ? size + 1 : TENSOR_CHUNK;
    char *chunk = mem_alloc(room);
    if (chunk == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for writing a file");
    emlx_status status = EMLX_OK;
    for (size_t done = 0; done < size && status == EMLX_OK;) {
        size_t part = size - done < room ? size - done : room;
        status = emlx_tensor_read(tensor, done, chunk, part, err);
        if (status == EMLX_OK) status = file_write(file, chunk, part, err);
        done += part;
    }
    mem_free(chunk, room);
    return status;
}

emlx_status file_commit(file_writer *file, emlx_error *err) {
    // The data must be on disk before the name is, or a crash could leave an empty file.
    bool written = file->direct || fsync(file->fd) == 0;
    written &= close(file->fd) == 0;
    file->fd = -1;
    if (written && (file->direct || rename(file->temporary, file->path) == 0)) {
        writer_free(file);
        return EMLX_OK;
    }
    emlx_status status = io_error(err, "cannot write");
    file_abandon(file);
    return status;
}

void file_abandon(file_writer *file) {
    if (file->fd >= 0) close(file->fd);
    if (!file->direct) unlink(file->temporary);
    writer_free(file);
}
