// SPDX-License-Identifier: Apache-2.0
// disk_test.c - the folder of compiled kernels: what is written is found, what is damaged is as if
// it were not there, and is written anew.
#include "engines/cuda/driver/disk.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/memory.h"
#include "test.h"

enum { IMAGE = 1003, KERNELS = 3 };

static char folder[] = "/tmp/emlx_disk_XXXXXX";

static const disk_key keys[KERNELS] = {{{1, 2}}, {{3, 4}}, {{5, 6}}};

static void fill_image(unsigned char image[IMAGE], int seed) {
    for (int i = 0; i < IMAGE; i++) image[i] = (unsigned char)(i * 31 + seed);
}

// Whether a kernel's image is there, and this one.
static bool has_image(const disk_key *key, const unsigned char *image) {
    disk_image found = {0}, read = {1, false};
    size_t size = 0;
    bool there = disk_find(key, &found);
    void *bytes = disk_read(key, &size, &read);
    if (bytes == NULL) return false;
    assert_true(there && found.group == read.group && read.group == disk_group(bytes, size));
    assert_int_equal(found.quick, read.quick);
    bool same = size == IMAGE && memcmp(bytes, image, size) == 0;
    mem_free(bytes, size);
    return same;
}

// Every file of the folder: one byte changed, or cut to that length. All names are one file's.
static void damage_files(long at, bool cut) {
    DIR *directory = opendir(folder);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[300];
        snprintf(path, sizeof path, "%s/%.200s", folder, entry->d_name);
        if (entry->d_name[0] == '.') continue;
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        if (cut) assert_int_equal(ftruncate(fileno(file), at), 0);
        fseek(file, at, SEEK_SET);
        int byte = fgetc(file);
        fseek(file, at, SEEK_SET);
        if (!cut) fputc(byte ^ 0x10, file);
        fclose(file);
        if (!cut) break;
    }
    closedir(directory);
}

static void kernels_share_an_image(void **state) {
    (void)state;
    unsigned char image[IMAGE];
    fill_image(image, 1);
    for (int i = 0; i < KERNELS; i++) assert_false(has_image(&keys[i], image));
    disk_write(keys, KERNELS, image, IMAGE, false);
    for (int i = 0; i < KERNELS; i++) assert_true(has_image(&keys[i], image));
}

// What was compiled quickly is never in place of what was compiled well.
static void better_images_replace_quick_ones(void **state) {
    (void)state;
    static const disk_key own[2] = {{{11, 12}}, {{13, 14}}};
    unsigned char quick[IMAGE], better[IMAGE];
    disk_image about;
    fill_image(quick, 3);
    fill_image(better, 4);
    disk_write(own, 2, quick, IMAGE, true);
    assert_true(has_image(&own[0], quick) && has_image(&own[1], quick));
    assert_true(disk_find(&own[0], &about) && about.quick);
    disk_write(&own[1], 1, better, IMAGE, false);
    disk_write(own, 2, quick, IMAGE, true);
    assert_true(has_image(&own[0], quick) && has_image(&own[1], better));
    disk_write(own, 2, better, IMAGE, false);
    for (int i = 0; i < 2; i++) {
        assert_true(has_image(&own[i], better));
        assert_true(disk_find(&own[i], &about) && !about.quick);
    }
}

// In the head, in the image, cut at any place.
static void damaged_images_are_written_anew(void **state) {
    (void)state;
    static const long places[] = {0, 9, 17, 32, 500, 32 + IMAGE - 1};
    unsigned char image[IMAGE];
    for (int turn = 0; turn < 12; turn++) {
        fill_image(image, turn + 3);
        for (int i = 0; i < KERNELS; i++) {
            char path[100];
            snprintf(path, sizeof path, "%s/%016llx%016llx", folder,
                     (unsigned long long)keys[i].words[0], (unsigned long long)keys[i].words[1]);
            unlink(path);
        }
        disk_write(keys, KERNELS, image, IMAGE, false);
        assert_true(has_image(&keys[0], image));
        damage_files(places[turn / 2], turn % 2 == 1);
        for (int i = 0; i < KERNELS; i++) assert_false(has_image(&keys[i], image));
        disk_write(keys, KERNELS, image, IMAGE, false);
        for (int i = 0; i < KERNELS; i++) assert_true(has_image(&keys[i], image));
    }
}

static void digests_tell_texts_apart(void **state) {
    (void)state;
    char text[40] = {0};
    disk_key seen[600];
    int count = 0;
    for (size_t size = 0; size < 20; size++)
        for (size_t i = 0; i < 20; i++) {
            memset(text, 0, sizeof text);
            if (i < size) text[i] = 1;
            if (i >= size && i > 0) continue;
            seen[count++] = disk_digest((disk_key){{0}}, text, size);
        }
    for (int a = 0; a < count; a++)
        for (int b = 0; b < a; b++) {
            assert_true(seen[a].words[0] != seen[b].words[0]);
            assert_true(seen[a].words[1] != seen[b].words[1]);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_share_an_image),
        cmocka_unit_test(better_images_replace_quick_ones),
        cmocka_unit_test(damaged_images_are_written_anew),
        cmocka_unit_test(digests_tell_texts_apart),
    };
    if (mkdtemp(folder) == NULL) return 1;
    setenv("EMLX_CUDA_CACHE", folder, 1);
    int failed = RUN_TESTS("engines/cuda/disk", tests);
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory != NULL) closedir(directory);
    rmdir(folder);
    return failed;
}
