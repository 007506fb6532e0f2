// SPDX-License-Identifier: Apache-2.0
// stored.h - an array as it lies in a file, of whatever format, and how it becomes a tensor.
#ifndef EMLX_FILES_STORED_H
#define EMLX_FILES_STORED_H

#include "memory/memory.h"

// What a tensor cannot be, for its format or its axes, may stand in a file: it is refused when it
// is asked for.
typedef struct stored {
    const char *format;   // as the file calls it: "BF16", "Q4_K"
    size_t values, bytes; // in a block of it: 1 and an element's size where nothing is packed; 0
                          // and 0 of one that is not known
    size_t rank;          // lengths past the room for them are not kept
    int64_t dims[EMLX_MAX_RANK + 1]; // of values; one axis more than a tensor has, for pairs
    uint64_t count;                  // of values, UINT64_MAX where they are more
    uint64_t begin, end;             // in the data of the file
} stored;

// An array of no axes yet, and one axis more for it; lengths are not negative.
stored stored_new(const char *format, size_t values, size_t bytes);
void stored_axis(stored *s, int64_t length);

// How we store a type: the format of that name, and whether an element is a pair along a last axis
// of length 2.
typedef struct storage {
    const char *format;
    bool pair;
} storage;

extern const storage storages[EMLX_TYPE_COUNT];

// The type that an array becomes where nobody asks for one: of its elements, u8 for packed blocks;
// EMLX_TYPE_COUNT where there is none.
emlx_type stored_type(const stored *s);
// The shape of its values, of a rank below 0 where they have more axes than a tensor.
emlx_shape stored_shape(const stored *s);
// The bytes that its shape takes; false where they do not fit.
bool stored_bytes(const stored *s, uint64_t *bytes);
// Whether it spans as many, in whole blocks; otherwise EMLX_FORMAT.
emlx_status stored_check(const stored *s, emlx_error *err);
// As a tensor of `type`, which has to be stored so, or of the type above with EMLX_TYPE_DEFAULT.
// Without a copy where the device allows it and the data is aligned; it then holds `data`.
emlx_status stored_tensor(const stored *s, emlx_buffer *data, emlx_type type, emlx_device *device,
                          emlx_tensor **out, emlx_error *err);

#endif
