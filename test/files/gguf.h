// SPDX-License-Identifier: Apache-2.0
// gguf.h - a GGUF file for tests, written into memory.
#ifndef TEST_FILES_GGUF_H
#define TEST_FILES_GGUF_H

#include <stddef.h>
#include <stdint.h>

enum { GGUF_ROOM = 1024 };

// Metadata of every kind; "one": f32 {1, 2, 3}, "rows": q8_0 of 2 rows of 32 values. Where the
// version, the number of arrays, the type and the offset of "rows" stand is written down.
typedef struct gguf_file {
    uint8_t bytes[GGUF_ROOM];
    size_t size, version, arrays, type, offset, data;
} gguf_file;

gguf_file gguf_make(void);

#endif
