// SPDX-License-Identifier: Apache-2.0
// file.c - reading files whole, and writing them so that nobody sees a half-written one.
//
// What is written goes into a new file beside the old one, which takes its place once all is there.
// Where that cannot be (a folder that must not be written to, a file that something is mounted on)
// or would change more than the contents (other names, the owner), it goes into the old one.
#include "files/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#if defined(__linux__)
#include <sys/xattr.h>
#endif
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

// Where a new file may not be made beside a file, that file itself may still be written to.
static bool is_refusal(int error) {
    return error == EACCES || error == EPERM || error == EROFS || error == ENAMETOOLONG;
}

// Opens a file that was not there before, beside the path.
static int open_beside(file_writer *file, mode_t mode) {
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        snprintf(file->temporary, file->temporary_size, "%s.%ld.%u.part", file->path,
                 (long)getpid(), attempt);
        int fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

static int open_direct(file_writer *file) {
    file->direct = true;
    return open(file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

// Standard output may be a file that the shell has opened, a part of which is written already, and
// may be something that cannot be opened again. Only links lead there.
static int open_standard(file_writer *file, const struct stat *to) {
    struct stat own;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fstat(fd, &own) != 0 || own.st_dev != to->st_dev || own.st_ino != to->st_ino) continue;
        if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) continue;
        file->direct = true;
        return fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    return open_direct(file);
}

// Lists of who may do what with it, besides its mode, do not go over to another file.
static bool has_access_list(const char *path) {
#if defined(__linux__)
    return getxattr(path, "system.posix_acl_access", NULL, 0) > 0;
#else
    (void)path;
    return false;
#endif
}

// The new file gets the mode and the owner of the old one. False where that cannot be.
static bool keep_owner(int fd, const struct stat *old) {
    struct stat own;
    if (fstat(fd, &own) != 0) return false;
    bool same = own.st_uid == old->st_uid && own.st_gid == old->st_gid;
    if (!same && fchown(fd, old->st_uid, old->st_gid) != 0) return false;
    return fchmod(fd, old->st_mode & 07777) == 0;
}

// A file that has other names, or an owner that a new one cannot have, is written to in its place.
static int open_replacement(file_writer *file, const struct stat *old) {
    if (old->st_nlink > 1 || has_access_list(file->path)) return open_direct(file);
    int fd = open_beside(file, S_IRUSR | S_IWUSR);
    if (fd < 0) return is_refusal(errno) ? open_direct(file) : -1;
    if (keep_owner(fd, old)) return fd;
    close(fd);
    unlink(file->temporary);
    return open_direct(file);
}

// What is there and is no file but a device, a pipe or a link is written to, not replaced.
static int open_place(file_writer *file) {
    struct stat info, to;
    if (lstat(file->path, &info) != 0) {
        int fd = open_beside(file, 0666);
        return fd < 0 && is_refusal(errno) ? open_direct(file) : fd;
    }
    if (S_ISREG(info.st_mode)) return open_replacement(file, &info);
    bool leads = S_ISLNK(info.st_mode) && stat(file->path, &to) == 0;
    return leads ? open_standard(file, &to) : open_direct(file);
}

emlx_status file_create(const char *path, file_writer *out, emlx_error *err) {
    size_t length = strlen(path);
    *out = (file_writer){.fd = -1, .path_size = length + 1, .temporary_size = length + 40};
    out->path = mem_alloc(out->path_size);
    out->temporary = mem_alloc(out->temporary_size);
    if (out->path == NULL || out->temporary == NULL) {
        writer_free(out);
        return error_no_memory(err, "for writing a file");
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
    if (chunk == NULL) return error_no_memory(err, "for writing a file");
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

// A file that something is mounted on, or that only its owner may replace, keeps its place: what is
// complete beside it is copied into it.
static bool copy_into_place(const file_writer *file) {
    char chunk[16384];
    ssize_t count = -1;
    int from = open(file->temporary, O_RDONLY | O_CLOEXEC);
    int to = open(file->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    emlx_status status = EMLX_OK;
    file_writer place = {.fd = to};
    while (from >= 0 && to >= 0 && status == EMLX_OK &&
           (count = read(from, chunk, sizeof chunk)) > 0)
        status = file_write(&place, chunk, (size_t)count, NULL);
    bool done = count == 0 && status == EMLX_OK && fsync(to) == 0;
    int error = errno;
    if (from >= 0) close(from);
    if (to >= 0) done &= close(to) == 0;
    if (done) unlink(file->temporary);
    errno = error;
    return done;
}

static bool put_in_place(const file_writer *file) {
    struct stat info;
    if (file->direct || rename(file->temporary, file->path) == 0) return true;
    int error = errno;
    if (lstat(file->path, &info) == 0 && S_ISREG(info.st_mode)) return copy_into_place(file);
    errno = error;
    return false;
}

emlx_status file_commit(file_writer *file, emlx_error *err) {
    // The data must be on disk before the name is, or a crash could leave an empty file.
    bool written = file->direct || fsync(file->fd) == 0;
    written &= close(file->fd) == 0;
    file->fd = -1;
    if (written && put_in_place(file)) {
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
