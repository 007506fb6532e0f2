// SPDX-License-Identifier: Apache-2.0
// gguf.c - reads GGUF files: a version, how many arrays and how much metadata there are, the
// metadata, what the arrays are, and from the next multiple of the alignment their data. All
// numbers are little endian, texts have their length before them, axes are given with the innermost
// first.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "files/entries.h"
#include "files/file.h"

#define ALIGNMENT_KEY "general.alignment"
enum { VERSION_FIRST = 2, VERSION_LAST = 3, DEPTH_MAX = 4 };

typedef struct gguf {
    emlx_buffer *file;
    entry_list *list;
    size_t at; // what is read next
    uint64_t arrays, pairs, alignment;
} gguf;

// Numbers and texts ------------------------------------------------------------------------------

static emlx_status take(gguf *g, uint64_t size, const uint8_t **out, emlx_error *err) {
    if (size > g->file->size - g->at)
        return error_set(err, EMLX_FORMAT, "the file ends at byte %zu, in its header",
                         g->file->size);
    *out = (const uint8_t *)g->file->data + g->at;
    g->at += (size_t)size;
    return EMLX_OK;
}

static emlx_status take_number(gguf *g, size_t size, uint64_t *out, emlx_error *err) {
    const uint8_t *bytes = NULL;
    TRY(take(g, size, &bytes, err));
    *out = 0;
    for (size_t i = size; i > 0; i--) *out = *out << 8 | bytes[i - 1];
    return EMLX_OK;
}

// A text in the list's memory.
static emlx_status take_text(gguf *g, const char **out, emlx_error *err) {
    uint64_t length;
    const uint8_t *bytes = NULL;
    TRY(take_number(g, 8, &length, err));
    TRY(take(g, length, &bytes, err));
    if (memchr(bytes, 0, (size_t)length) != NULL)
        return error_set(err, EMLX_FORMAT, "the text at byte %zu holds a zero",
                         g->at - (size_t)length);
    *out = entries_copy(g->list, bytes, (size_t)length);
    return *out == NULL ? error_no_memory(err, "for the header") : EMLX_OK;
}

// Metadata ---------------------------------------------------------------------------------------

typedef enum value_kind { UNSIGNED, SIGNED, REAL, TRUTH, TEXT, LISTED } value_kind;

static const struct {
    value_kind kind;
    size_t size;
} values[] = {{UNSIGNED, 1}, {SIGNED, 1}, {UNSIGNED, 2}, {SIGNED, 2}, {UNSIGNED, 4},
              {SIGNED, 4},   {REAL, 4},   {TRUTH, 1},    {TEXT, 0},   {LISTED, 0},
              {UNSIGNED, 8}, {SIGNED, 8}, {REAL, 8}};

static emlx_status take_kind(gguf *g, uint64_t *kind, emlx_error *err) {
    TRY(take_number(g, 4, kind, err));
    if (*kind < sizeof values / sizeof *values) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "its value is of the unknown kind %" PRIu64, *kind);
}

static emlx_status skip_value(gguf *g, uint64_t kind, int depth, emlx_error *err);

static emlx_status skip_list(gguf *g, int depth, emlx_error *err) {
    uint64_t kind, count;
    const uint8_t *skipped;
    TRY(take_kind(g, &kind, err));
    TRY(take_number(g, 8, &count, err));
    size_t size = values[kind].size;
    if (depth >= DEPTH_MAX)
        return error_set(err, EMLX_FORMAT, "its lists nest more than %d deep", DEPTH_MAX);
    if (size > 0) return take(g, count > SIZE_MAX / size ? SIZE_MAX : count * size, &skipped, err);
    for (uint64_t i = 0; i < count; i++) TRY(skip_value(g, kind, depth + 1, err));
    return EMLX_OK;
}

static emlx_status skip_value(gguf *g, uint64_t kind, int depth, emlx_error *err) {
    uint64_t length = values[kind].size;
    const uint8_t *skipped;
    if (values[kind].kind == LISTED) return skip_list(g, depth, err);
    if (values[kind].kind == TEXT) TRY(take_number(g, 8, &length, err));
    return take(g, length, &skipped, err);
}

static void print_real(uint64_t bits, size_t size, char *out, size_t room) {
    float narrow;
    double wide;
    uint32_t half = (uint32_t)bits;
    memcpy(&narrow, &half, sizeof narrow);
    memcpy(&wide, &bits, sizeof wide);
    snprintf(out, room, "%.*g", size == 4 ? 9 : 17, size == 4 ? (double)narrow : wide);
}

static void print_number(value_kind kind, uint64_t bits, size_t size, char *out, size_t room) {
    unsigned unused = 64 - 8 * (unsigned)size;
    switch (kind) {
    case SIGNED: snprintf(out, room, "%" PRId64, (int64_t)(bits << unused) >> unused); break;
    case REAL: print_real(bits, size, out, room); break;
    case TRUTH: snprintf(out, room, "%s", bits == 0 ? "false" : "true"); break;
    default: snprintf(out, room, "%" PRIu64, bits); break;
    }
}

static emlx_status set_alignment(gguf *g, uint64_t value, emlx_error *err) {
    if (value == 0 || value > 1 << 30 || (value & (value - 1)) != 0)
        return error_set(err, EMLX_FORMAT, "it is %" PRIu64 ", a power of 2 expected", value);
    g->alignment = value;
    return EMLX_OK;
}

static emlx_status read_value(gguf *g, const char *key, emlx_error *err) {
    uint64_t kind, bits;
    char number[40];
    const char *text = number;
    TRY(take_kind(g, &kind, err));
    size_t size = values[kind].size;
    if (values[kind].kind == LISTED) return skip_list(g, 0, err);
    if (values[kind].kind == TEXT) {
        TRY(take_text(g, &text, err));
    } else {
        TRY(take_number(g, size, &bits, err));
        print_number(values[kind].kind, bits, size, number, sizeof number);
        if (strcmp(key, ALIGNMENT_KEY) == 0) TRY(set_alignment(g, bits, err));
    }
    return entries_add_text(g->list, key, text, err);
}

static emlx_status read_pairs(gguf *g, emlx_error *err) {
    for (uint64_t i = 0; i < g->pairs; i++) {
        const char *key;
        emlx_status status = take_text(g, &key, err);
        if (status != EMLX_OK) return error_prefix(err, status, "metadata %" PRIu64, i);
        status = read_value(g, key, err);
        if (status != EMLX_OK) return error_prefix(err, status, "metadata \"%.60s\"", key);
    }
    return EMLX_OK;
}

// Arrays -----------------------------------------------------------------------------------------

static const struct {
    uint32_t number;
    const char *name;
    size_t values, bytes;
} formats[] = {
#define GGUF(number, name, values, bytes) {number, name, values, bytes},
#include "files/gguf.def"
#undef GGUF
};

static stored stored_as(uint64_t number) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].number == number)
            return stored_new(formats[i].name, formats[i].values, formats[i].bytes);
    return stored_new("?", 0, 0);
}

static emlx_status read_dims(gguf *g, uint64_t dims[EMLX_MAX_RANK], uint64_t *rank,
                             emlx_error *err) {
    TRY(take_number(g, 4, rank, err));
    if (*rank > EMLX_MAX_RANK)
        return error_set(err, EMLX_FORMAT, "it has %" PRIu64 " axes, %d at most expected", *rank,
                         EMLX_MAX_RANK);
    for (uint64_t i = 0; i < *rank; i++) {
        TRY(take_number(g, 8, &dims[i], err));
        if (dims[i] > INT64_MAX)
            return error_set(err, EMLX_FORMAT, "length %" PRIu64 " of its shape is not a count", i);
    }
    return EMLX_OK;
}

static emlx_status read_array(gguf *g, stored *out, emlx_error *err) {
    uint64_t dims[EMLX_MAX_RANK], rank, number, size = 0;
    char unknown[24];
    TRY(read_dims(g, dims, &rank, err));
    TRY(take_number(g, 4, &number, err));
    stored s = stored_as(number);
    if (s.values == 0) {
        snprintf(unknown, sizeof unknown, "type %" PRIu64, number);
        s.format = entries_copy(g->list, unknown, strlen(unknown));
        if (s.format == NULL) return error_no_memory(err, "for the header");
    }
    while (rank > 0) stored_axis(&s, (int64_t)dims[--rank]);
    TRY(take_number(g, 8, &s.begin, err));
    if (s.begin % g->alignment != 0)
        return error_set(err, EMLX_FORMAT,
                         "its data is at byte %" PRIu64 ", a multiple of %" PRIu64 " expected",
                         s.begin, g->alignment);
    bool fits = s.values == 0 || stored_bytes(&s, &size);
    if (!fits || __builtin_add_overflow(s.begin, size, &s.end))
        return error_set(err, EMLX_FORMAT, "its shape needs more bytes than can be counted");
    *out = s;
    return stored_check(out, err);
}

static emlx_status read_arrays(gguf *g, emlx_error *err) {
    for (uint64_t i = 0; i < g->arrays; i++) {
        const char *name;
        stored s;
        emlx_status status = take_text(g, &name, err);
        if (status != EMLX_OK) return error_prefix(err, status, "array %" PRIu64, i);
        status = read_array(g, &s, err);
        if (status != EMLX_OK) return error_prefix(err, status, "array \"%.60s\"", name);
        TRY(entries_add(g->list, name, &s, g->file, err));
    }
    return EMLX_OK;
}

// Data -------------------------------------------------------------------------------------------

static int compare_places(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->stored.begin != b->stored.begin) return a->stored.begin < b->stored.begin ? -1 : 1;
    return a->stored.end < b->stored.end ? -1 : a->stored.end > b->stored.end;
}

// Moves the arrays to where the data is in the file, and looks whether it has room for them.
static emlx_status place_arrays(gguf *g, emlx_error *err) {
    entry *arrays = g->list->arrays.items;
    size_t count = g->list->arrays.count, size = g->file->size;
    uint64_t start = (g->at + g->alignment - 1) / g->alignment * g->alignment, last = 0;
    if (count > 0) qsort(arrays, count, sizeof *arrays, compare_places);
    for (size_t i = 0; i < count; i++) {
        stored *s = &arrays[i].stored;
        if (s->begin < last)
            return error_set(err, EMLX_FORMAT, "array \"%.60s\" overlaps another",
                             arrays[i].shown.name);
        last = s->end;
        if (start > size || s->end > size - start)
            return error_set(err, EMLX_FORMAT,
                             "array \"%.60s\" ends at byte %" PRIu64
                             " of the data, of which the file has %" PRIu64,
                             arrays[i].shown.name, s->end, start > size ? 0 : size - start);
        s->begin += start;
        s->end += start;
    }
    return EMLX_OK;
}

static emlx_status read_version(gguf *g, emlx_error *err) {
    uint64_t version;
    const uint8_t *magic;
    TRY(take(g, 4, &magic, err));
    TRY(take_number(g, 4, &version, err));
    if (version != 0 && (version & 0xffff) == 0)
        return error_set(err, EMLX_FORMAT, "its numbers are big endian, little endian expected");
    if (version < VERSION_FIRST || version > VERSION_LAST)
        return error_set(err, EMLX_FORMAT, "version %" PRIu64 " of GGUF, %d to %d are read here",
                         version, VERSION_FIRST, VERSION_LAST);
    return EMLX_OK;
}

static emlx_status read_all(gguf *g, emlx_error *err) {
    TRY(read_version(g, err));
    TRY(take_number(g, 8, &g->arrays, err));
    TRY(take_number(g, 8, &g->pairs, err));
    TRY(read_pairs(g, err));
    TRY(read_arrays(g, err));
    return place_arrays(g, err);
}

emlx_status gguf_read(const char *path, entry_list *out, emlx_error *err) {
    file_reader file;
    gguf g = {.list = out, .alignment = 32};
    TRY(file_open(path, &file, err));
    emlx_status status = file_rest(&file, &g.file, err);
    file_close(&file);
    if (status != EMLX_OK) return status;
    status = read_all(&g, err);
    buffer_release(g.file);
    return status;
}
