// SPDX-License-Identifier: Apache-2.0
// tensors.c - tensors in tests.
#include "tensors.h"

#include <stdio.h>
#include <stdlib.h>

emlx_device *test_device;
static uint64_t draw_state = 1;

int open_test_device(void **state) {
    (void)state;
    const char *name = getenv("EMLX_TEST_DEVICE");
    return emlx_device_open(name != NULL ? name : "cpu", &test_device, NULL) == EMLX_OK ? 0 : -1;
}

bool open_gpu_or_skip(const char *name) {
    emlx_error err;
    bool open = getenv("EMLX_CUDA_REHEARSE") == NULL &&
                emlx_device_open("cuda:0", &test_device, &err) == EMLX_OK;
    if (!open) printf("skipped: %s, as there is no device\n1 skipped\n", name);
    return open;
}

int close_test_device(void **state) {
    (void)state;
    emlx_device_release(test_device);
    return 0;
}

// An engine of test/engines, beside the test program.
static void engine_path(const char *self, const char *engine, char path[1024]) {
    const char *end = strrchr(self, '/');
    int folder = end != NULL ? (int)(end + 1 - self) : 0;
    snprintf(path, 1024, "%.*s../engines/%s.so", folder, self, engine);
}

void use_plain_mlx(const char *self) {
    char path[1024];
    engine_path(self, "mlx_plain", path);
    setenv("EMLX_MLX_ADAPTER", path, 0);
}

void use_test_engine(const char *self, const char *engine) {
    char path[1024];
    engine_path(self, engine, path);
    setenv("EMLX_ENGINES", path, 1);
    setenv("EMLX_TEST_DEVICE", engine, 1);
}

void draw_seed(uint64_t seed) { draw_state = seed * 2654435761u + 1; }

uint32_t draw(uint32_t below) {
    draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(draw_state >> 33) % below;
}

#define ELEMENT_TYPES(XX)                                                                          \
    XX(U8, uint8_t)                                                                                \
    XX(U16, uint16_t)                                                                              \
    XX(U32, uint32_t)                                                                              \
    XX(U64, uint64_t)                                                                              \
    XX(S8, int8_t)                                                                                 \
    XX(S16, int16_t)                                                                               \
    XX(S32, int32_t)                                                                               \
    XX(S64, int64_t)                                                                               \
    XX(F32, float)                                                                                 \
    XX(F64, double)

// The type of an element's parts, and how many of them an array has.
static emlx_type part_of(emlx_type type) {
    return type == EMLX_C64 ? EMLX_F32 : type == EMLX_C128 ? EMLX_F64 : type;
}

// Whether C has the type; tensors of others come and go by way of f64.
static bool has_elements(emlx_type type) {
#define XX(name, ctype) || part_of(type) == EMLX_##name
    return false ELEMENT_TYPES(XX);
#undef XX
}

void evaluate_some(emlx_tensor **const *tensors, int count, uint32_t kept,
                   void (*compare)(const void *context, int which, emlx_tensor *tensor),
                   const void *context) {
    emlx_tensor *roots[3];
    int wanted[3] = {count - 1, (int)draw((uint32_t)count), (int)draw((uint32_t)count)};
    emlx_error err;
    for (int i = 0; i < 3; i++) roots[i] = emlx_tensor_retain(*tensors[wanted[i]]);
    for (int i = 0; i < count; i++) {
        if (kept == 0 || draw(kept) == 0) continue;
        emlx_tensor_release(*tensors[i]);
        *tensors[i] = NULL;
    }
    assert_ok(emlx_eval(roots, 3, &err), err);
    for (int i = 0; i < 3; i++) compare(context, wanted[i], roots[i]);
    for (int i = 0; i < count; i++)
        if (*tensors[i] != NULL) compare(context, i, *tensors[i]);
    for (int i = 0; i < 3; i++) emlx_tensor_release(roots[i]);
}

double element_get(emlx_type type, const void *data, int64_t index) {
    switch (type) {
#define XX(name, ctype)                                                                            \
    case EMLX_##name: return (double)((const ctype *)data)[index];
        ELEMENT_TYPES(XX)
#undef XX
    default: fail_msg("no elements of %s in tests", emlx_type_name(type));
    }
    return 0;
}

void element_set(emlx_type type, void *data, int64_t index, double value) {
    switch (type) {
#define XX(name, ctype)                                                                            \
    case EMLX_##name: ((ctype *)data)[index] = (ctype)value; break;
        ELEMENT_TYPES(XX)
#undef XX
    default: fail_msg("no elements of %s in tests", emlx_type_name(type));
    }
}

int64_t number_count(emlx_type type, const emlx_shape *shape) {
    return emlx_shape_count(shape) * (part_of(type) == type ? 1 : 2);
}

emlx_tensor *as_type(emlx_tensor *t, emlx_type type) {
    return apply_to("as_type", &t, 1, NULL, 0, type);
}

emlx_tensor *tensor_of(emlx_type type, const emlx_shape *shape, const double *values) {
    if (!has_elements(type)) {
        emlx_tensor *wide = tensor_of(EMLX_F64, shape, values), *narrow = as_type(wide, type);
        emlx_tensor_release(wide);
        return narrow;
    }
    int64_t count = number_count(type, shape);
    size_t size = (size_t)emlx_shape_count(shape) * emlx_type_size(type);
    void *data = malloc(size + 1);
    emlx_error err;
    emlx_tensor *t;
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) element_set(part_of(type), data, i, values[i]);
    assert_ok(emlx_tensor_from_data(test_device, type, shape, data, size, &t, &err), err);
    free(data);
    return t;
}

emlx_tensor *random_tensor(emlx_type type, const emlx_shape *shape, int low, int high) {
    int64_t count = number_count(type, shape);
    double *values = malloc(((size_t)count + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
        values[i] = low + (int)draw((uint32_t)(high - low + 1));
        if (type >= EMLX_F8) values[i] += draw(8) / 8.0;
    }
    emlx_tensor *t = tensor_of(type, shape, values);
    free(values);
    return t;
}

void *bytes_of(emlx_tensor *tensor) {
    size_t size = emlx_tensor_bytes(tensor);
    void *data = malloc(size + 1);
    emlx_error err;
    assert_non_null(data);
    assert_ok(emlx_tensor_read(tensor, 0, data, size, &err), err);
    return data;
}

double *values_of(emlx_tensor *tensor) {
    emlx_type type = emlx_tensor_type(tensor);
    int64_t count = number_count(type, emlx_tensor_shape(tensor));
    double *values = malloc(((size_t)count + 1) * sizeof *values);
    assert_non_null(values);
    if (!has_elements(emlx_tensor_type(tensor))) {
        emlx_tensor *wide = as_type(tensor, EMLX_F64);
        free(values);
        values = values_of(wide);
        emlx_tensor_release(wide);
        return values;
    }
    void *data = bytes_of(tensor);
    for (int64_t i = 0; i < count; i++) values[i] = element_get(part_of(type), data, i);
    free(data);
    return values;
}

emlx_attr with_ints(const char *name, const int64_t *values, size_t count) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_INTS, .ints = values, .count = count};
}

emlx_attr with_int(const char *name, int64_t value) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_INT, .value = {.as.s = value}};
}

emlx_attr with_bool(const char *name, bool value) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_BOOL, .value = {.as.s = value}};
}

emlx_attr with_text(const char *name, const char *text) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_TEXT, .text = text};
}

emlx_tensor *apply_to(const char *op, emlx_tensor *const *operands, size_t count,
                      const emlx_attr *attrs, size_t attr_count, emlx_type type) {
    emlx_error err;
    emlx_tensor *out;
    assert_non_null(emlx_op_find(op));
    assert_ok(emlx_apply(emlx_op_find(op), test_device, operands, count, attrs, attr_count, type,
                         &out, &err),
              err);
    return out;
}

void unravel(const emlx_shape *shape, int64_t position, int64_t *index) {
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        index[d] = position % shape->dims[d];
        position /= shape->dims[d];
    }
}

int64_t ravel(const emlx_shape *shape, const int64_t *index) {
    int64_t position = 0;
    for (int32_t d = 0; d < shape->rank; d++) position = position * shape->dims[d] + index[d];
    return position;
}

emlx_tensor *apply_two(const char *op, emlx_tensor *a, emlx_tensor *b) {
    emlx_tensor *in[2] = {a, b};
    return apply_to(op, in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
}
