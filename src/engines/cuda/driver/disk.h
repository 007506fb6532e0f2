// SPDX-License-Identifier: Apache-2.0
// disk.h - compiled kernels kept between processes. Several processes may use the folder at once;
// what is damaged is as if it were not there; whatever fails here only costs a compilation.
#ifndef EMLX_CUDA_DISK_H
#define EMLX_CUDA_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Of a kernel's text and everything else that its machine code depends on.
typedef struct disk_key {
    uint64_t words[2];
} disk_key;

// What tells an image from others: a digest of its bytes.
uint64_t disk_group(const void *image, size_t size);

// An image: what tells it from others, and whether it was compiled quickly.
typedef struct disk_image {
    uint64_t group;
    bool quick;
} disk_image;

// Whether there is an image that holds a kernel, and which one.
bool disk_find(const disk_key *key, disk_image *about);
// That image, freed by mem_free with *size; NULL when there is none.
void *disk_read(const disk_key *key, size_t *size, disk_image *about);
// Keeps an image under the keys of all its kernels: a quick one where there is none, another in
// place of what is there.
void disk_write(const disk_key *keys, size_t count, const void *image, size_t size, bool quick);

// A digest of some bytes, continued from another one.
disk_key disk_digest(disk_key from, const void *data, size_t size);

#endif
