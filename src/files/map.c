// SPDX-License-Identifier: Apache-2.0
// map.c - files as memory. Pages are read when they are used, are shared with everybody who reads
// the file, and are never written.
//
// A file that is replaced, as by a rename, stays as it was for those who have it. One that is
// written to in its place changes below us. Where it becomes shorter, reading what is gone would
// end the process (SIGBUS), and a library sets no signal handlers; so the length is looked at
// before work that reads it. What remains is a file cut in the middle of such work.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "files/file.h"

// Below this reading is as fast, and cannot be disturbed.
#define MAP_LEAST ((uint64_t)1 << 20)
// From this on pages are wanted large.
#define LARGE_LEAST ((size_t)16 << 20)

typedef struct file_map {
    buffer_guard guard;
    int fd;
    void *pages;
    size_t size;
} file_map;

static emlx_status check_length(const buffer_guard *guard, emlx_error *err) {
    const file_map *map = (const file_map *)guard;
    struct stat info;
    if (fstat(map->fd, &info) == 0 && (uint64_t)info.st_size >= map->size) return EMLX_OK;
    return error_set(err, EMLX_IO, "the file of an operand has become shorter: %zu bytes expected",
                     map->size);
}

static void unmap(void *context) {
    file_map *map = context;
    munmap(map->pages, map->size);
    close(map->fd);
    mem_free(map, sizeof *map);
}

// Weights are read from end to end for every token, which large pages make quicker by a tenth. A
// wish: some file systems have such pages, for what they have not read into memory yet.
static void want_large_pages(const file_map *map) {
#ifdef MADV_HUGEPAGE
    if (map->size >= LARGE_LEAST) madvise(map->pages, map->size, MADV_HUGEPAGE);
#else
    (void)map;
#endif
}

// NULL where the system will not.
static file_map *map_whole(const file_reader *file) {
    file_map *map = mem_alloc(sizeof *map);
    if (map == NULL) return NULL;
    *map = (file_map){
        {check_length}, fcntl(file->fd, F_DUPFD_CLOEXEC, 0), MAP_FAILED, (size_t)file->size};
    if (map->fd >= 0) map->pages = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, map->fd, 0);
    if (map->pages != MAP_FAILED) return map;
    if (map->fd >= 0) close(map->fd);
    mem_free(map, sizeof *map);
    return NULL;
}

static emlx_status read_rest(file_reader *file, emlx_buffer **out, emlx_error *err) {
    TRY(buffer_new((size_t)file->left, out, err));
    emlx_status status = file_read(file, (*out)->data, (size_t)file->left, err);
    if (status == EMLX_OK) return EMLX_OK;
    buffer_release(*out);
    *out = NULL;
    return status;
}

emlx_status file_rest(file_reader *file, emlx_buffer **out, emlx_error *err) {
    if (file->size > SIZE_MAX / 2)
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a file of %llu bytes",
                         (unsigned long long)file->size);
    file_map *map = file->left < MAP_LEAST ? NULL : map_whole(file);
    if (map == NULL) return read_rest(file, out, err);
    want_large_pages(map);
    const char *rest = (const char *)map->pages + (file->size - file->left);
    emlx_status status = buffer_wrap(rest, (size_t)file->left, unmap, map, out, err);
    if (status != EMLX_OK)
        unmap(map);
    else
        (*out)->guard = &map->guard;
    return status;
}
