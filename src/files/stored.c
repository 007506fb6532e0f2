// SPDX-License-Identifier: Apache-2.0
// stored.c - an array as it lies in a file, of whatever format, and how it becomes a tensor.
#include "files/stored.h"

#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "graph/graph.h"

const storage storages[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = {"U8", false},      [EMLX_U4] = {"U8", false},
    [EMLX_U8] = {"U8", false},      [EMLX_U16] = {"U16", false},
    [EMLX_U32] = {"U32", false},    [EMLX_U64] = {"U64", false},
    [EMLX_S2] = {"I8", false},      [EMLX_S4] = {"I8", false},
    [EMLX_S8] = {"I8", false},      [EMLX_S16] = {"I16", false},
    [EMLX_S32] = {"I32", false},    [EMLX_S64] = {"I64", false},
    [EMLX_F8] = {"F8_E5M2", false}, [EMLX_F8_E4M3FN] = {"F8_E4M3", false},
    [EMLX_BF16] = {"BF16", false},  [EMLX_F16] = {"F16", false},
    [EMLX_F32] = {"F32", false},    [EMLX_F64] = {"F64", false},
    [EMLX_C64] = {"F32", true},     [EMLX_C128] = {"F64", true},
};

// What becomes of formats that no type of ours is stored as. Truth values and bare exponents are
// bytes; a complex number lies as ours does.
static const struct {
    const char *format;
    emlx_type type;
} others[] = {{"BOOL", EMLX_U8}, {"F8_E8M0", EMLX_U8}, {"C64", EMLX_C64}};

static emlx_type type_of_format(const char *format) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i].format, format) == 0) return others[i].type;
    for (int type = 0; type < EMLX_TYPE_COUNT; type++) {
        const storage *how = &storages[type];
        if (type_table[type].bits >= 8 && !how->pair && strcmp(how->format, format) == 0)
            return (emlx_type)type;
    }
    return EMLX_TYPE_COUNT;
}

emlx_type stored_type(const stored *s) {
    if (s->values == 0 || s->rank > EMLX_MAX_RANK) return EMLX_TYPE_COUNT;
    return s->values > 1 ? EMLX_U8 : type_of_format(s->format);
}

emlx_shape stored_shape(const stored *s) {
    emlx_shape shape = {.rank = -1};
    if (s->rank > EMLX_MAX_RANK) return shape;
    shape.rank = (int32_t)s->rank;
    memcpy(shape.dims, s->dims, s->rank * sizeof *s->dims);
    return shape;
}

stored stored_new(const char *format, size_t values, size_t bytes) {
    return (stored){.format = format, .values = values, .bytes = bytes, .count = 1};
}

void stored_axis(stored *s, int64_t length) {
    if (s->rank <= EMLX_MAX_RANK) s->dims[s->rank] = length;
    s->rank++;
    if (__builtin_mul_overflow(s->count, (uint64_t)length, &s->count)) s->count = UINT64_MAX;
}

bool stored_bytes(const stored *s, uint64_t *bytes) {
    return !__builtin_mul_overflow(s->count / s->values, (uint64_t)s->bytes, bytes);
}

emlx_status stored_check(const stored *s, emlx_error *err) {
    uint64_t size, there = s->end - s->begin;
    if (s->values == 0) return EMLX_OK;
    if (s->values > 1 && (s->rank == 0 || s->dims[s->rank - 1] % (int64_t)s->values != 0))
        return error_set(err, EMLX_FORMAT, "its last axis is not a multiple of %zu, as %s needs",
                         s->values, s->format);
    bool fits = stored_bytes(s, &size);
    if (fits && size == there) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "its data_offsets span %llu bytes, its shape needs %s%llu",
                     (unsigned long long)there, fits ? "" : "more than ",
                     (unsigned long long)(fits ? size : UINT64_MAX));
}

// Values that a type of 2 or 4 bits cannot have would not behave like any of its values.
static emlx_status check_narrow(emlx_type type, const uint8_t *data, size_t size, emlx_error *err) {
    unsigned bits = type_table[type].bits;
    if (bits >= 8) return EMLX_OK;
    int low = type_class_of(type) == CLASS_SIGNED ? -(1 << (bits - 1)) : 0;
    int high = low + (1 << bits) - 1;
    for (size_t i = 0; i < size; i++) {
        int value = low < 0 ? (int8_t)data[i] : data[i];
        if (value < low || value > high)
            return error_set(err, EMLX_FORMAT, "element %zu is %d, not a %s", i, value,
                             emlx_type_name(type));
    }
    return EMLX_OK;
}

// The shape of the tensor that it is as its own type: of packed blocks, the bytes of rows.
static emlx_status own_shape(const stored *s, emlx_shape *shape, emlx_error *err) {
    int64_t dims[EMLX_MAX_RANK + 1];
    memcpy(dims, s->dims, sizeof dims);
    int64_t *row = s->values > 1 ? &dims[s->rank - 1] : NULL;
    // Beside an axis of length 0 it may be of any length.
    if (row != NULL && __builtin_mul_overflow(*row / (int64_t)s->values, (int64_t)s->bytes, row))
        return error_set(err, EMLX_FORMAT, "its rows have more bytes than can be counted");
    return emlx_shape_make(dims, s->rank, shape, err);
}

// The same as another type that is stored in this way.
static emlx_status shape_as(const stored *s, emlx_type type, emlx_shape *shape, emlx_error *err) {
    const storage *how = &storages[type];
    if (strcmp(s->format, how->format) != 0)
        return error_set(err, EMLX_FORMAT, "its dtype is %s, %s expected for %s", s->format,
                         how->format, emlx_type_name(type));
    if (how->pair && (s->rank == 0 || s->dims[s->rank - 1] != 2))
        return error_set(err, EMLX_FORMAT, "its last axis is not of length 2, as %s needs",
                         emlx_type_name(type));
    return emlx_shape_make(s->dims, s->rank - how->pair, shape, err);
}

static emlx_status tensor_shape(const stored *s, emlx_type *type, emlx_shape *shape,
                                emlx_error *err) {
    if (s->values == 0)
        return error_set(err, EMLX_FORMAT, "its dtype \"%.40s\" is unknown", s->format);
    if (s->rank > EMLX_MAX_RANK + 1)
        return error_set(err, EMLX_FORMAT, "it has %zu axes, %d at most expected", s->rank,
                         EMLX_MAX_RANK);
    if (*type != EMLX_TYPE_DEFAULT) return shape_as(s, *type, shape, err);
    *type = s->values > 1 ? EMLX_U8 : type_of_format(s->format);
    return own_shape(s, shape, err);
}

static void release_data(void *context) { buffer_release(context); }

emlx_status stored_tensor(const stored *s, emlx_buffer *data, emlx_type type, emlx_device *device,
                          emlx_tensor **out, emlx_error *err) {
    emlx_shape shape;
    TRY(buffer_check(data, err));
    TRY(tensor_shape(s, &type, &shape, err));
    const uint8_t *bytes = (const uint8_t *)data->data + s->begin;
    size_t size = (size_t)(s->end - s->begin);
    TRY(check_narrow(type, bytes, size, err));
    TRY(emlx_tensor_from_memory(device, type, &shape, bytes, size, release_data,
                                buffer_retain(data), out, err));
    emlx_buffer *own = node_buffer(*out);
    if (own->data == bytes) own->guard = data->guard;
    return EMLX_OK;
}
