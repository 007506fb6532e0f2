// SPDX-License-Identifier: Apache-2.0
// gguf.c - a GGUF file for tests, written into memory.
#include "files/gguf.h"

#include <string.h>

static void put(gguf_file *f, const void *bytes, size_t size) {
    memcpy(f->bytes + f->size, bytes, size);
    f->size += size;
}

static void put_number(gguf_file *f, uint64_t number, size_t size) {
    for (size_t i = 0; i < size; i++) f->bytes[f->size++] = (uint8_t)(number >> (8 * i));
}

static void put_text(gguf_file *f, const char *text) {
    put_number(f, strlen(text), 8);
    put(f, text, strlen(text));
}

static void put_pair(gguf_file *f, const char *key, unsigned kind) {
    put_text(f, key);
    put_number(f, kind, 4);
}

static void put_metadata(gguf_file *f) {
    const float real = 0.5f;
    const double wide = -0.25;
    put_pair(f, "byte", 0), put_number(f, 200, 1);
    put_pair(f, "small", 3), put_number(f, (uint16_t)-7, 2);
    put_pair(f, "real", 6), put(f, &real, 4);
    put_pair(f, "wide", 12), put(f, &wide, 8);
    put_pair(f, "truth", 7), put_number(f, 1, 1);
    put_pair(f, "text", 8), put_text(f, "hello");
    put_pair(f, "list", 9), put_number(f, 8, 4), put_number(f, 2, 8);
    put_text(f, "a"), put_text(f, "bc");
    put_pair(f, "general.alignment", 4), put_number(f, 64, 4);
}

gguf_file gguf_make(void) {
    gguf_file f = {.size = 0};
    const float one[] = {1, 2, 3};
    put(&f, "GGUF", 4);
    f.version = f.size, put_number(&f, 3, 4);
    f.arrays = f.size, put_number(&f, 2, 8);
    put_number(&f, 8, 8);
    put_metadata(&f);
    put_text(&f, "rows"), put_number(&f, 2, 4), put_number(&f, 32, 8), put_number(&f, 2, 8);
    f.type = f.size, put_number(&f, 8, 4);
    f.offset = f.size, put_number(&f, 64, 8);
    put_text(&f, "one"), put_number(&f, 1, 4), put_number(&f, 3, 8);
    put_number(&f, 0, 4), put_number(&f, 0, 8);
    f.size = f.data = (f.size + 63) / 64 * 64;
    put(&f, one, sizeof one);
    f.size = f.data + 64;
    for (unsigned i = 0; i < 68; i++) put_number(&f, i, 1);
    return f;
}
