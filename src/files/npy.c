// SPDX-License-Identifier: Apache-2.0
// npy.c - NumPy's .npy files: a magic number, a version, the length of a header, the header (a
// Python dictionary of descr, fortran_order and shape), and the elements.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "files/file.h"
#include "memory/memory.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_SIZE 6
#define HEADER_MAX ((size_t)1 << 20)
#define DESCR_MAX 64
// The elements begin at a multiple of this.
#define ALIGNMENT 64

// NumPy's code of an element, without its byte order. The first row of a type is how it is
// written; narrow integers are widened, types NumPy lacks are bare bytes.
typedef struct npy_code {
    const char *code;
    emlx_type type;
    bool read; // whether the code means that type when it is read
} npy_code;

static const npy_code codes[] = {
    {"u1", EMLX_U8, true},    {"u2", EMLX_U16, true}, {"u4", EMLX_U32, true},
    {"u8", EMLX_U64, true},   {"i1", EMLX_S8, true},  {"i2", EMLX_S16, true},
    {"i4", EMLX_S32, true},   {"i8", EMLX_S64, true}, {"f2", EMLX_F16, true},
    {"f4", EMLX_F32, true},   {"f8", EMLX_F64, true}, {"c8", EMLX_C64, true},
    {"c16", EMLX_C128, true}, {"b1", EMLX_U8, true},  {"V2", EMLX_BF16, true},
    {"V1", EMLX_F8, true},    {"u1", EMLX_U2, false}, {"u1", EMLX_U4, false},
    {"i1", EMLX_S2, false},   {"i1", EMLX_S4, false},
};

typedef struct npy_header {
    char descr[DESCR_MAX];
    emlx_type type;
    bool swapped; // the elements are big endian
    bool columns; // the first axis is the innermost one
    int64_t dims[EMLX_MAX_RANK];
    size_t rank;
} npy_header;

// The header's dictionary ------------------------------------------------------------------------

// A position in text that ends with a NUL.
typedef struct cursor {
    const char *at;
} cursor;

static void skip_space(cursor *c) { c->at += strspn(c->at, " \t\r\n"); }

static bool accept(cursor *c, const char *text) {
    skip_space(c);
    size_t length = strlen(text);
    if (strncmp(c->at, text, length) != 0) return false;
    c->at += length;
    return true;
}

static bool read_string(cursor *c, char *out, size_t size) {
    skip_space(c);
    char quote = *c->at;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(c->at + 1, quote);
    size_t length = end == NULL ? size : (size_t)(end - c->at) - 1;
    if (length >= size) return false;
    memcpy(out, c->at + 1, length);
    out[length] = '\0';
    c->at = end + 1;
    return true;
}

static emlx_status read_descr(cursor *c, npy_header *h, emlx_error *err) {
    if (read_string(c, h->descr, sizeof h->descr)) return EMLX_OK;
    skip_space(c);
    return error_set(err, EMLX_UNSUPPORTED,
                     "its elements are %s, a number type such as '<f4' expected",
                     *c->at == '[' ? "structures" : "not described by a text");
}

static emlx_status read_order(cursor *c, npy_header *h, emlx_error *err) {
    h->columns = accept(c, "True");
    if (h->columns || accept(c, "False")) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "fortran_order is neither True nor False");
}

static emlx_status read_length(cursor *c, npy_header *h, emlx_error *err) {
    skip_space(c);
    int64_t length = 0;
    size_t digits = strspn(c->at, "0123456789");
    bool fits = digits > 0;
    for (size_t i = 0; i < digits && fits; i++)
        fits = !__builtin_mul_overflow(length, 10, &length) &&
               !__builtin_add_overflow(length, c->at[i] - '0', &length);
    if (!fits) return error_set(err, EMLX_FORMAT, "a length in its shape is not a count");
    if (h->rank == EMLX_MAX_RANK)
        return error_set(err, EMLX_UNSUPPORTED, "it has more than %d axes", EMLX_MAX_RANK);
    c->at += digits;
    accept(c, "L"); // Python 2 wrote long integers so
    h->dims[h->rank++] = length;
    return EMLX_OK;
}

static emlx_status read_shape(cursor *c, npy_header *h, emlx_error *err) {
    if (!accept(c, "(")) return error_set(err, EMLX_FORMAT, "its shape is not a tuple");
    h->rank = 0;
    while (!accept(c, ")")) {
        TRY(read_length(c, h, err));
        if (!accept(c, ",") && *c->at != ')')
            return error_set(err, EMLX_FORMAT, "its shape is not a tuple of lengths");
    }
    return EMLX_OK;
}

static const struct {
    const char *key;
    emlx_status (*read)(cursor *c, npy_header *h, emlx_error *err);
} members[] = {{"descr", read_descr}, {"fortran_order", read_order}, {"shape", read_shape}};

enum { MEMBER_COUNT = sizeof members / sizeof *members };

static emlx_status read_member(cursor *c, npy_header *h, unsigned *seen, emlx_error *err) {
    char key[DESCR_MAX];
    if (!read_string(c, key, sizeof key) || !accept(c, ":"))
        return error_set(err, EMLX_FORMAT, "its header is not a dictionary");
    for (unsigned i = 0; i < MEMBER_COUNT; i++) {
        if (strcmp(members[i].key, key) != 0 || (*seen >> i & 1)) continue;
        *seen |= 1u << i;
        return members[i].read(c, h, err);
    }
    return error_set(err, EMLX_FORMAT, "its header has \"%.40s\" twice or in vain", key);
}

static emlx_status read_dictionary(const char *text, npy_header *h, emlx_error *err) {
    cursor c = {text};
    unsigned seen = 0;
    if (!accept(&c, "{")) return error_set(err, EMLX_FORMAT, "its header is not a dictionary");
    while (!accept(&c, "}")) {
        TRY(read_member(&c, h, &seen, err));
        skip_space(&c);
        if (!accept(&c, ",") && *c.at != '}')
            return error_set(err, EMLX_FORMAT, "its header is not a dictionary");
    }
    skip_space(&c);
    if (*c.at != '\0') return error_set(err, EMLX_FORMAT, "its header goes on after its end");
    if (seen != (1u << MEMBER_COUNT) - 1)
        return error_set(err, EMLX_FORMAT, "its header lacks descr, fortran_order or shape");
    return EMLX_OK;
}

static emlx_status read_code(npy_header *h, emlx_error *err) {
    const char *code = h->descr + (strchr("<>=|", h->descr[0]) != NULL && h->descr[0] != '\0');
    h->swapped = h->descr[0] == '>';
    if (strcmp(code, "?") == 0) code = "b1";
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (!codes[i].read || strcmp(codes[i].code, code) != 0) continue;
        h->type = codes[i].type;
        return EMLX_OK;
    }
    return error_set(err, EMLX_UNSUPPORTED,
                     "its elements are '%s', a number type such as '<f4' expected", h->descr);
}

// Reading ----------------------------------------------------------------------------------------

// Reads up to the header's text: its length has 2 bytes in version 1, 4 in the later ones.
static emlx_status read_prefix(file_reader *file, size_t *length, emlx_error *err) {
    uint8_t start[MAGIC_SIZE + 2], bytes[4] = {0};
    if (file->size < sizeof start)
        return error_set(err, EMLX_FORMAT, "not a .npy file: %llu bytes",
                         (unsigned long long)file->size);
    TRY(file_read(file, start, sizeof start, err));
    if (memcmp(start, MAGIC, MAGIC_SIZE) != 0)
        return error_set(err, EMLX_FORMAT, "not a .npy file: no magic number");
    if (start[6] < 1 || start[6] > 3 || start[7] != 0)
        return error_set(err, EMLX_FORMAT, "version %d.%d of .npy, 1.0 to 3.0 expected", start[6],
                         start[7]);
    TRY(file_read(file, bytes, start[6] == 1 ? 2 : 4, err));
    *length = bytes[0] | bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    if (*length <= HEADER_MAX) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "its header has %zu bytes, %zu at most expected", *length,
                     HEADER_MAX);
}

static emlx_status read_header(file_reader *file, npy_header *h, emlx_error *err) {
    size_t length = 0;
    TRY(read_prefix(file, &length, err));
    char *text = mem_alloc(length + 1);
    if (text == NULL) return error_no_memory(err, "for a .npy header");
    emlx_status status = file_read(file, text, length, err);
    if (status == EMLX_OK && strlen(text) != length)
        status = error_set(err, EMLX_FORMAT, "its header has a zero byte");
    if (status == EMLX_OK) status = read_dictionary(text, h, err);
    if (status == EMLX_OK) status = read_code(h, err);
    mem_free(text, length + 1);
    return status;
}

static void swap_bytes(uint8_t *data, size_t size, size_t width) {
    for (size_t at = 0; at + width <= size; at += width)
        for (size_t i = 0; i < width / 2; i++) {
            uint8_t byte = data[at + i];
            data[at + i] = data[at + width - 1 - i];
            data[at + width - 1 - i] = byte;
        }
}

static void release_data(void *context) { buffer_release(context); }

static emlx_status read_elements(file_reader *file, const npy_header *h, const emlx_shape *shape,
                                 emlx_device *device, emlx_tensor **out, emlx_error *err) {
    size_t width = type_size(h->type), size = (size_t)emlx_shape_count(shape) * width;
    if (size != file->left)
        return error_set(err, EMLX_FORMAT, "it has %llu bytes of elements, %zu expected",
                         (unsigned long long)file->left, size);
    emlx_buffer *buffer;
    TRY(buffer_new(size, &buffer, err));
    emlx_status status = file_read(file, buffer->data, size, err);
    if (status != EMLX_OK) {
        buffer_release(buffer);
        return status;
    }
    if (h->swapped) swap_bytes(buffer->data, size, type_is_complex(h->type) ? width / 2 : width);
    return emlx_tensor_from_memory(device, h->type, shape, buffer->data, size, release_data, buffer,
                                   out, err);
}

// Elements in column order are those of the reversed shape in row order.
static emlx_status read_columns(file_reader *file, const npy_header *h, emlx_device *device,
                                emlx_tensor **out, emlx_error *err) {
    int64_t dims[EMLX_MAX_RANK], axes[EMLX_MAX_RANK];
    emlx_shape shape;
    for (size_t i = 0; i < h->rank; i++) {
        dims[i] = h->dims[h->rank - 1 - i];
        axes[i] = (int64_t)(h->rank - 1 - i);
    }
    TRY(emlx_shape_make(dims, h->rank, &shape, err));
    emlx_tensor *stored;
    TRY(read_elements(file, h, &shape, device, &stored, err));
    emlx_attr attr = {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = axes, .count = h->rank};
    emlx_status status = emlx_apply(emlx_op_find("transpose"), device, &stored, 1, &attr, 1,
                                    EMLX_TYPE_DEFAULT, out, err);
    emlx_tensor_release(stored);
    return status;
}

static emlx_status read_array(file_reader *file, emlx_device *device, emlx_tensor **out,
                              emlx_error *err) {
    npy_header h = {0};
    emlx_shape shape;
    TRY(read_header(file, &h, err));
    if (h.columns && h.rank > 1) return read_columns(file, &h, device, out, err);
    TRY(emlx_shape_make(h.dims, h.rank, &shape, err));
    return read_elements(file, &h, &shape, device, out, err);
}

emlx_status emlx_npy_load(const char *path, emlx_device *device, emlx_tensor **out,
                          emlx_error *err) {
    REQUIRE(path);
    REQUIRE(device);
    REQUIRE(out);
    file_reader file;
    emlx_status status = file_open(path, &file, err);
    if (status == EMLX_OK) {
        status = read_array(&file, device, out, err);
        file_close(&file);
    }
    return file_blame(path, status, err);
}

// Writing ----------------------------------------------------------------------------------------

static const char *code_of(emlx_type type) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].type == type) return codes[i].code;
    return NULL;
}

static size_t print_dims(const emlx_shape *shape, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "(");
    for (int32_t i = 0; i < shape->rank; i++)
        used += (size_t)snprintf(text + used, size - used, i == 0 ? "%lld," : " %lld,",
                                 (long long)shape->dims[i]);
    // Only a tuple of one keeps the comma behind its last length.
    if (shape->rank > 1) used--;
    return used + (size_t)snprintf(text + used, size - used, ")");
}

static emlx_status write_npy_header(file_writer *file, emlx_type type, const emlx_shape *shape,
                                    emlx_error *err) {
    char text[640] = MAGIC "\x01";
    size_t fixed = MAGIC_SIZE + 4, used = fixed;
    const char *code = code_of(type);
    if (code == NULL)
        return error_set(err, EMLX_UNSUPPORTED, ".npy has no place for %s; cast it to f16 first",
                         emlx_type_name(type));
    const char *order = type_size(type) == 1 ? "|" : "<";
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "{'descr': '%s%s', 'fortran_order': False, 'shape': ", order, code);
    used += print_dims(shape, text + used, sizeof text - used);
    used += (size_t)snprintf(text + used, sizeof text - used, ", }");
    size_t end = (used + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(text + used, ' ', end - used);
    text[end - 1] = '\n';
    text[fixed - 2] = (char)((end - fixed) & 0xff);
    text[fixed - 1] = (char)((end - fixed) >> 8);
    return file_write(file, text, end, err);
}

static emlx_status save(const char *path, emlx_tensor *tensor, emlx_error *err) {
    file_writer file;
    TRY(emlx_eval(&tensor, 1, err));
    TRY(file_create(path, &file, err));
    emlx_status status =
        write_npy_header(&file, emlx_tensor_type(tensor), emlx_tensor_shape(tensor), err);
    if (status == EMLX_OK) status = file_write_tensor(&file, tensor, err);
    if (status == EMLX_OK) return file_commit(&file, err);
    file_abandon(&file);
    return status;
}

emlx_status emlx_npy_save(const char *path, emlx_tensor *tensor, emlx_error *err) {
    REQUIRE(path);
    REQUIRE(tensor);
    emlx_status status = save(path, tensor, err);
    return file_prefix(path, status, err);
}
