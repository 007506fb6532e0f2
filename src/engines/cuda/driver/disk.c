// SPDX-License-Identifier: Apache-2.0
// disk.c - a folder of compiled kernels: EMLX_CUDA_CACHE, or emlx/cuda in the user's cache folder.
// An empty EMLX_CUDA_CACHE turns it off.
//
// An image holds the kernels of one program. It is a file with a name for each of them (hard
// links), so that a kernel is found by itself. Files are written beside and renamed; the oldest go
// when the folder holds more than it may.
#include "engines/cuda/driver/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/memory.h"

enum { PATH_ROOM = 1024, NAME = 32 };
#define BYTES_MOST ((uint64_t)1 << 30)
#define MAGIC UINT64_C(0x33616475635f786c) // changes with the form of the file

typedef struct file_head {
    uint64_t magic, size, group, quick;
} file_head;

static void mix_word(uint64_t *a, uint64_t *b, uint64_t word) {
    *a = (*a ^ word) * UINT64_C(0xff51afd7ed558ccd);
    *b = (*b ^ word) * UINT64_C(0x9fb21c651e98df25);
    *a ^= *a >> 32;
    *b ^= *b >> 29;
}

// Images have hundreds of kilobytes: they are gone through in words.
disk_key disk_digest(disk_key from, const void *data, size_t size) {
    const char *bytes = data;
    uint64_t a = from.words[0] ^ UINT64_C(0xcbf29ce484222325), b = from.words[1] + 0x9e3779b9;
    uint64_t word, last = 0;
    size_t at = 0;
    for (; at + sizeof word <= size; at += sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        mix_word(&a, &b, word);
    }
    memcpy(&last, bytes + at, size - at);
    mix_word(&a, &b, last);
    mix_word(&a, &b, size);
    return (disk_key){{a, b}};
}

uint64_t disk_group(const void *image, size_t size) {
    return disk_digest((disk_key){{0}}, image, size).words[1];
}

// The folder -------------------------------------------------------------------------------------

static struct {
    pthread_once_t once;
    char path[PATH_ROOM - NAME - 32]; // empty: there is none
} folder = {.once = PTHREAD_ONCE_INIT};

static void make_folders(char *path) {
    for (char *end = strchr(path + 1, '/'); end != NULL; end = strchr(end + 1, '/')) {
        *end = '\0';
        mkdir(path, 0700);
        *end = '/';
    }
    mkdir(path, 0700);
}

static void find_folder(void) {
    const char *given = getenv("EMLX_CUDA_CACHE"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    size_t room = sizeof folder.path;
    int length = 0;
    if (given != NULL)
        length = snprintf(folder.path, room, "%s", given);
    else if (cache != NULL && cache[0] == '/')
        length = snprintf(folder.path, room, "%s/emlx/cuda", cache);
    else if (home != NULL && home[0] == '/')
        length = snprintf(folder.path, room, "%s/.cache/emlx/cuda", home);
    if (length <= 0 || (size_t)length >= room) folder.path[0] = '\0';
    if (folder.path[0] != '\0') make_folders(folder.path);
}

static bool has_folder(void) {
    pthread_once(&folder.once, find_folder);
    return folder.path[0] != '\0';
}

static void path_of(const disk_key *key, char path[PATH_ROOM]) {
    snprintf(path, PATH_ROOM, "%s/%016" PRIx64 "%016" PRIx64, folder.path, key->words[0],
             key->words[1]);
}

// Reading ----------------------------------------------------------------------------------------

static bool read_head(FILE *from, file_head *head) {
    struct stat about;
    if (fread(head, sizeof *head, 1, from) != 1 || fstat(fileno(from), &about) != 0) return false;
    return head->magic == MAGIC && head->size == (uint64_t)about.st_size - sizeof *head;
}

static disk_image about_image(const file_head *head) {
    return (disk_image){head->group, head->quick != 0};
}

static void *read_image(FILE *from, size_t *size, disk_image *about) {
    file_head head;
    void *image = read_head(from, &head) ? mem_alloc(head.size) : NULL;
    if (image == NULL) return NULL;
    if (fread(image, 1, head.size, from) == head.size &&
        disk_group(image, head.size) == head.group) {
        *size = head.size;
        *about = about_image(&head);
        return image;
    }
    mem_free(image, head.size);
    return NULL;
}

static FILE *open_image(const disk_key *key, char path[PATH_ROOM]) {
    if (!has_folder()) return NULL;
    path_of(key, path);
    return fopen(path, "rb");
}

bool disk_find(const disk_key *key, disk_image *about) {
    char path[PATH_ROOM];
    file_head head = {0};
    FILE *from = open_image(key, path);
    if (from == NULL) return false;
    bool there = read_head(from, &head);
    fclose(from);
    if (!there) unlink(path);
    *about = about_image(&head);
    return there;
}

void *disk_read(const disk_key *key, size_t *size, disk_image *about) {
    char path[PATH_ROOM];
    FILE *from = open_image(key, path);
    if (from == NULL) return NULL;
    void *image = read_image(from, size, about);
    fclose(from);
    if (image == NULL) unlink(path);
    return image;
}

// Bounds -----------------------------------------------------------------------------------------

typedef struct kept_file {
    char name[NAME + 1];
    time_t time;
    uint64_t bytes; // of one of its names
} kept_file;

static int compare_age(const void *a, const void *b) {
    const kept_file *x = a, *y = b;
    return (x->time > y->time) - (x->time < y->time);
}

// The files of the folder; their number is what fits into `room`.
static size_t list_files(kept_file *files, size_t room, uint64_t *total) {
    size_t count = 0;
    DIR *directory = opendir(folder.path);
    *total = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        struct stat about;
        if (strlen(entry->d_name) != NAME) continue;
        if (fstatat(dirfd(directory), entry->d_name, &about, 0) != 0) continue;
        uint64_t bytes = (uint64_t)about.st_size / (about.st_nlink > 0 ? about.st_nlink : 1);
        *total += bytes;
        if (count == room) continue;
        memcpy(files[count].name, entry->d_name, NAME + 1);
        files[count].time = about.st_mtime;
        files[count++].bytes = bytes;
    }
    if (directory != NULL) closedir(directory);
    return count;
}

// Removes the oldest until three quarters of what may be there are left.
static void trim(void) {
    enum { ROOM = 1 << 16 };
    kept_file *files = mem_alloc(ROOM * sizeof *files);
    char path[PATH_ROOM];
    uint64_t total;
    if (files == NULL) return;
    size_t count = list_files(files, ROOM, &total);
    if (total > BYTES_MOST) qsort(files, count, sizeof *files, compare_age);
    for (size_t i = 0; i < count && total > BYTES_MOST / 4 * 3; i++) {
        if (i == 0 && total <= BYTES_MOST) break;
        snprintf(path, sizeof path, "%s/%s", folder.path, files[i].name);
        if (unlink(path) == 0) total -= files[i].bytes;
    }
    mem_free(files, ROOM * sizeof *files);
}

// Writing ----------------------------------------------------------------------------------------

static bool write_image(const char *path, const file_head *head, const void *image) {
    FILE *to = fopen(path, "wbx");
    if (to == NULL) return false;
    bool whole =
        fwrite(head, sizeof *head, 1, to) == 1 && fwrite(image, 1, head->size, to) == head->size;
    whole = fclose(to) == 0 && whole;
    if (!whole) unlink(path);
    return whole;
}

// Another name of the image, in place of what has that name now.
static void replace(const char *own, const char *path) {
    char beside[PATH_ROOM + 8];
    snprintf(beside, sizeof beside, "%s-name", own);
    if (link(own, beside) == 0 && rename(beside, path) != 0) unlink(beside);
}

void disk_write(const disk_key *keys, size_t count, const void *image, size_t size, bool quick) {
    static atomic_uint written;
    char own[PATH_ROOM], path[PATH_ROOM];
    if (!has_folder() || count == 0) return;
    unsigned number = atomic_fetch_add(&written, 1);
    if (number % 256 == 0) trim();
    snprintf(own, sizeof own, "%s/new-%ld-%u", folder.path, (long)getpid(), number);
    file_head head = {MAGIC, size, disk_group(image, size), quick};
    if (!write_image(own, &head, image)) return;
    for (size_t i = 0; i < count; i++) {
        path_of(&keys[i], path);
        if (link(own, path) != 0 && !quick) replace(own, path);
    }
    unlink(own);
}
