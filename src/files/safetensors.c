// SPDX-License-Identifier: Apache-2.0
// safetensors.c - the container of a program file. A file is the header's length (8 bytes, little
// endian), the header (JSON), and the data, which the entries cover without gap or overlap.
#include "files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/sanitize.h"
#include "base/types.h"
#include "files/file.h"
#include "files/stored.h"
#include "memory/list.h"

// The format's own bound on the header.
#define HEADER_MAX 100000000
#define METADATA "__metadata__"
// Data begins at a multiple of this in the file.
#define ALIGNMENT 64

typedef struct dtype {
    const char *name;
    size_t size;
} dtype;

static const dtype dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
    {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},     {"I32", 4},
    {"F32", 4},  {"U64", 8}, {"I64", 8}, {"F64", 8},     {"C64", 8},
};

// Reading entries --------------------------------------------------------------------------------

static emlx_status read_dtype(const json_t *from, stored *e, emlx_error *err) {
    const char *name = json_string_value(json_object_get(from, "dtype"));
    if (name == NULL) return error_set(err, EMLX_FORMAT, "it has no dtype");
    *e = stored_new(name, 0, 0);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0) *e = stored_new(name, 1, dtypes[i].size);
    return EMLX_OK;
}

static emlx_status read_dims(const json_t *from, stored *e, emlx_error *err) {
    const json_t *shape = json_object_get(from, "shape");
    if (!json_is_array(shape)) return error_set(err, EMLX_FORMAT, "it has no shape");
    for (size_t i = 0; i < json_array_size(shape); i++) {
        const json_t *dim = json_array_get(shape, i);
        int64_t length = json_integer_value(dim);
        if (!json_is_integer(dim) || length < 0)
            return error_set(err, EMLX_FORMAT, "length %zu of its shape is not a count", i);
        stored_axis(e, length);
    }
    return EMLX_OK;
}

static emlx_status read_offsets(const json_t *from, stored *e, emlx_error *err) {
    const json_t *offsets = json_object_get(from, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return error_set(err, EMLX_FORMAT, "it has no data_offsets");
    if (json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return error_set(err, EMLX_FORMAT, "its data_offsets are not a range");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    return EMLX_OK;
}

static emlx_status read_entry(const json_t *from, stored *e, emlx_error *err) {
    if (!json_is_object(from)) return error_set(err, EMLX_FORMAT, "it is not an object");
    TRY(read_dtype(from, e, err));
    TRY(read_dims(from, e, err));
    TRY(read_offsets(from, e, err));
    return stored_check(e, err);
}

// Checking the whole -----------------------------------------------------------------------------

typedef struct range {
    uint64_t begin, end;
} range;

static int compare_ranges(const void *left, const void *right) {
    const range *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static emlx_status check_cover(range *ranges, size_t count, uint64_t size, emlx_error *err) {
    if (count > 0) qsort(ranges, count, sizeof *ranges, compare_ranges);
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].begin != at)
            return error_set(err, EMLX_FORMAT, "the arrays %s at byte %llu of the data",
                             ranges[i].begin > at ? "leave a gap" : "overlap",
                             (unsigned long long)(ranges[i].begin > at ? at : ranges[i].begin));
        at = ranges[i].end;
    }
    if (at == size) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "the arrays need %llu bytes, the file has %llu for them",
                     (unsigned long long)at, (unsigned long long)size);
}

static emlx_status read_ranges(json_t *header, range *ranges, size_t *count, emlx_error *err) {
    const char *name;
    json_t *value;
    *count = 0;
    json_object_foreach(header, name, value) {
        if (strcmp(name, METADATA) == 0) continue;
        stored e;
        emlx_status status = read_entry(value, &e, err);
        if (status != EMLX_OK) return error_prefix(err, status, "array \"%.60s\"", name);
        ranges[(*count)++] = (range){e.begin, e.end};
    }
    return EMLX_OK;
}

static emlx_status check_entries(json_t *header, uint64_t size, emlx_error *err) {
    size_t room = (json_object_size(header) + 1) * sizeof(range), count;
    range *ranges = mem_alloc(room);
    if (ranges == NULL) return error_no_memory(err, "for a program file");
    emlx_status status = read_ranges(header, ranges, &count, err);
    if (status == EMLX_OK) status = check_cover(ranges, count, size, err);
    mem_free(ranges, room);
    return status;
}

static emlx_status check_metadata(safetensors *file, emlx_error *err) {
    const json_t *metadata = json_object_get(file->header.root, METADATA);
    if (metadata != NULL && !json_is_object(metadata))
        return error_set(err, EMLX_FORMAT, METADATA " is not an object");
    const json_t *program = json_object_get(metadata, SAFETENSORS_KEY);
    file->program = json_string_value(program);
    if (program != NULL && file->program == NULL)
        return error_set(err, EMLX_FORMAT, METADATA " " SAFETENSORS_KEY " is not a text");
    return EMLX_OK;
}

// Reading files ----------------------------------------------------------------------------------

static emlx_status parse_header(const char *text, size_t length, json_document *out,
                                emlx_error *err) {
    TRY(json_read(text, length, "the header", out, err));
    if (json_is_object(out->root)) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "the header is not a JSON object");
}

// What else a file may be whose first bytes are no length.
static const struct {
    const char *start, *name;
} others[] = {{"\x93NUMPY", "a .npy file, which holds one array"},
              {"PK", "a zip archive, as .npz files are"},
              {"\x1f\x8b", "a file compressed with gzip"},
              {"GGUF", "a GGUF file"},
              {"{", "a JSON text"}};

static emlx_status bad_length(const uint8_t bytes[8], uint64_t length, uint64_t left,
                              emlx_error *err) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (memcmp(bytes, others[i].start, strlen(others[i].start)) == 0)
            return error_set(err, EMLX_FORMAT, "it is %s, and not a safetensors file",
                             others[i].name);
    if (length > HEADER_MAX)
        return error_set(err, EMLX_FORMAT,
                         "it is not a safetensors file, as it does not begin with the length of a "
                         "header");
    return error_set(err, EMLX_FORMAT, "the header has %llu bytes, of which %llu are there",
                     (unsigned long long)length, (unsigned long long)left);
}

static emlx_status read_header(file_reader *file, json_document *out, emlx_error *err) {
    uint8_t bytes[8];
    TRY(file_read(file, bytes, sizeof bytes, err));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > HEADER_MAX || length > file->left)
        return bad_length(bytes, length, file->left, err);
    char *text = mem_alloc((size_t)length + 1);
    if (text == NULL) return error_no_memory(err, "for a program file");
    emlx_status status = file_read(file, text, (size_t)length, err);
    if (status == EMLX_OK) status = parse_header(text, (size_t)length, out, err);
    mem_free(text, (size_t)length + 1);
    return status;
}

static emlx_status read_archive(file_reader *file, safetensors *out, emlx_error *err) {
    TRY(read_header(file, &out->header, err));
    TRY(check_metadata(out, err));
    TRY(check_entries(out->header.root, file->left, err));
    return file_rest(file, &out->data, err);
}

emlx_status safetensors_read(const char *path, safetensors *out, emlx_error *err) {
    file_reader file;
    TRY(file_open(path, &file, err));
    *out = (safetensors){0};
    emlx_status status = read_archive(&file, out, err);
    file_close(&file);
    if (status != EMLX_OK) safetensors_clear(out);
    return status;
}

void safetensors_clear(safetensors *file) {
    json_clear(&file->header);
    buffer_release(file->data);
    *file = (safetensors){0};
}

static emlx_status list_texts(const safetensors *file, entry_list *out, emlx_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(file->header.root, METADATA), key, value) {
        const char *text = json_string_value(value);
        if (text != NULL) TRY(entries_add_text(out, key, text, err));
    }
    return EMLX_OK;
}

// The header was checked when it was read.
emlx_status safetensors_list(const safetensors *file, bool texts, entry_list *out,
                             emlx_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach(file->header.root, name, value) {
        stored e;
        if (strcmp(name, METADATA) == 0) continue;
        TRY(read_entry(value, &e, err));
        TRY(entries_add(out, name, &e, file->data, err));
    }
    return texts ? list_texts(file, out, err) : EMLX_OK;
}

// Tensors ----------------------------------------------------------------------------------------

emlx_status safetensors_tensor(const safetensors *file, const char *name, emlx_type type,
                               emlx_device *device, emlx_tensor **out, emlx_error *err) {
    const json_t *value = json_object_get(file->header.root, name);
    if (value == NULL || strcmp(name, METADATA) == 0)
        return error_set(err, EMLX_FORMAT, "there is no array \"%.60s\"", name);
    stored e;
    emlx_status status = read_entry(value, &e, err);
    if (status == EMLX_OK) status = stored_tensor(&e, file->data, type, device, out, err);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "array \"%.60s\"", name);
}

// Writing ----------------------------------------------------------------------------------------

typedef struct placed {
    emlx_tensor *tensor;
    size_t index; // its name
    size_t width; // bytes of an element of its dtype
} placed;

static size_t stored_width(emlx_type type) {
    return type_size(type) / (storages[type].pair ? 2 : 1);
}

// Wide elements first: as sizes are multiples of widths, every array is then aligned.
static int compare_widths(const void *left, const void *right) {
    const placed *a = left, *b = right;
    if (a->width != b->width) return a->width > b->width ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static json_t *entry_json(const emlx_tensor *tensor, uint64_t begin) {
    emlx_type type = emlx_tensor_type(tensor);
    const emlx_shape *shape = emlx_tensor_shape(tensor);
    uint64_t end = begin + emlx_tensor_bytes(tensor);
    json_t *dims = json_array();
    int failed = dims == NULL;
    for (int32_t i = 0; i < shape->rank; i++)
        failed |= json_array_append_new(dims, json_integer(shape->dims[i]));
    if (storages[type].pair) failed |= json_array_append_new(dims, json_integer(2));
    if (!failed)
        return json_pack("{s:s, s:o, s:[I, I]}", "dtype", storages[type].format, "shape", dims,
                         "data_offsets", (json_int_t)begin, (json_int_t)end);
    json_decref(dims);
    return NULL;
}

static json_t *header_json(const char *program, const placed *order, size_t count) {
    json_t *header = json_pack("{s:{s:s}}", METADATA, SAFETENSORS_KEY, program);
    uint64_t begin = 0;
    for (size_t i = 0; i < count && header != NULL; i++) {
        char name[24];
        snprintf(name, sizeof name, "t%zu", order[i].index);
        if (json_object_set_new(header, name, entry_json(order[i].tensor, begin)) != 0) {
            json_decref(header);
            return NULL;
        }
        begin += emlx_tensor_bytes(order[i].tensor);
    }
    return header;
}

static emlx_status write_header(file_writer *file, const char *text, emlx_error *err) {
    char spaces[ALIGNMENT];
    memset(spaces, ' ', sizeof spaces);
    size_t length = strlen(text);
    size_t padding = (ALIGNMENT - (8 + length) % ALIGNMENT) % ALIGNMENT;
    if (length + padding > HEADER_MAX)
        return error_set(err, EMLX_UNSUPPORTED, "the program needs a header of %zu bytes, %d fit",
                         length + padding, HEADER_MAX);
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)(length + padding) >> (8 * i));
    TRY(file_write(file, bytes, sizeof bytes, err));
    TRY(file_write(file, text, length, err));
    return file_write(file, spaces, padding, err);
}

static emlx_status write_all(file_writer *file, const char *header, const placed *order,
                             size_t count, emlx_error *err) {
    TRY(write_header(file, header, err));
    for (size_t i = 0; i < count; i++) TRY(file_write_tensor(file, order[i].tensor, err));
    return EMLX_OK;
}

// Called by Jansson with one piece of text after another; leaves room for the final NUL.
static int add_text(const char *piece, size_t size, void *context) {
    json_text *to = context;
    if (!mem_reserve(&to->text, &to->room, to->length, size + 1, 1)) return -1;
    MEMORY_WRITTEN(piece, size);
    memcpy(to->text + to->length, piece, size);
    to->length += size;
    to->text[to->length] = '\0';
    return 0;
}

emlx_status json_text_make(const json_t *json, size_t flags, json_text *out, emlx_error *err) {
    *out = (json_text){0};
    UNSEEN_CALL;
    bool made = json != NULL && json_dump_callback(json, add_text, out, flags) == 0;
    UNSEEN_CALL_END;
    if (made) return EMLX_OK;
    json_text_clear(out);
    return error_no_memory(err, "for a program file");
}

void json_text_clear(json_text *text) { mem_free(text->text, text->room); }

static emlx_status write_file(const char *path, const char *header, const placed *order,
                              size_t count, emlx_error *err) {
    file_writer file;
    TRY(file_create(path, &file, err));
    emlx_status status = write_all(&file, header, order, count, err);
    if (status == EMLX_OK) return file_commit(&file, err);
    file_abandon(&file);
    return status;
}

static emlx_status write_placed(const char *path, const char *program, const placed *order,
                                size_t count, emlx_error *err) {
    json_text text = {0};
    json_t *header = header_json(program, order, count);
    emlx_status status = json_text_make(header, JSON_COMPACT, &text, err);
    json_decref(header);
    if (status != EMLX_OK) return status;
    status = write_file(path, text.text, order, count, err);
    json_text_clear(&text);
    return status;
}

emlx_status safetensors_write(const char *path, const char *program, emlx_tensor *const *tensors,
                              size_t count, emlx_error *err) {
    size_t size = (count + 1) * sizeof(placed);
    placed *order = mem_alloc(size);
    if (order == NULL) return error_no_memory(err, "for a program file");
    for (size_t i = 0; i < count; i++)
        order[i] = (placed){tensors[i], i, stored_width(emlx_tensor_type(tensors[i]))};
    qsort(order, count, sizeof *order, compare_widths);
    emlx_status status = write_placed(path, program, order, count, err);
    mem_free(order, size);
    return status;
}
