// SPDX-License-Identifier: Apache-2.0
// npy_test.c - .npy files: headers as NumPy writes them, and no wrong file does harm.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "files/files.h"
#include "memory/memory.h"
#include "program/programs.h"

// A file of this version, header and data.
static void write_npy(int version, const char *header, const void *data, size_t size) {
    uint8_t bytes[1024] = "\x93NUMPY";
    size_t length = strlen(header), prefix = version == 1 ? 10 : 12;
    bytes[6] = (uint8_t)version;
    bytes[8] = (uint8_t)length;
    bytes[9] = (uint8_t)(length >> 8);
    memcpy(bytes + prefix, header, length);
    memcpy(bytes + prefix + length, data, size);
    write_bytes(bytes, prefix + length + size);
}

static emlx_tensor *load_array(emlx_device *device) {
    emlx_error err;
    emlx_tensor *tensor;
    assert_ok(emlx_npy_load(test_path, device, &tensor, &err), err);
    return tensor;
}

static void headers_of_all_versions(void **state) {
    (void)state;
    static const char *const headers[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
        "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}",
        "{'descr': '=f4', 'fortran_order': False, 'shape': (2L, 3L,)}\n",
    };
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    emlx_device *device = cpu();
    for (int version = 1; version <= 3; version++)
        for (int i = 0; i < 3; i++) {
            write_npy(version, headers[i], data, sizeof data);
            emlx_tensor *tensor = load_array(device);
            assert_f32(tensor, data, 6);
            assert_int_equal(emlx_tensor_shape(tensor)->rank, 2);
            assert_int_equal(emlx_tensor_shape(tensor)->dims[1], 3);
            emlx_tensor_release(tensor);
        }
    emlx_device_release(device);
}

static void big_endian_and_columns(void **state) {
    (void)state;
    static const uint8_t big[24] = {0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3,
                                    0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 1, 0};
    emlx_device *device = cpu();
    write_npy(1, "{'descr': '>i4', 'fortran_order': False, 'shape': (6,), }", big, sizeof big);
    emlx_tensor *tensor = load_array(device);
    assert_s32(tensor, (int32_t[]){1, 2, 3, 4, 5, 256}, 6);
    emlx_tensor_release(tensor);
    write_npy(1, "{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }", big, sizeof big);
    tensor = load_array(device);
    assert_s32(tensor, (int32_t[]){1, 3, 5, 2, 4, 256}, 6);
    assert_int_equal(emlx_tensor_shape(tensor)->dims[0], 2);
    emlx_tensor_release(tensor);
    emlx_device_release(device);
}

static void scalars_and_truth_values(void **state) {
    (void)state;
    emlx_device *device = cpu();
    int32_t seven = 7;
    write_npy(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (), }", &seven, 4);
    emlx_tensor *tensor = load_array(device);
    assert_s32(tensor, &seven, 1);
    assert_int_equal(emlx_tensor_shape(tensor)->rank, 0);
    emlx_tensor_release(tensor);
    write_npy(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", "\1\0\1", 3);
    tensor = load_array(device);
    assert_int_equal(emlx_tensor_type(tensor), EMLX_U8);
    emlx_tensor_release(tensor);
    emlx_device_release(device);
}

// What is saved comes back, as itself or widened to what NumPy has.
static void every_type_comes_back(void **state) {
    (void)state;
    static const emlx_type back[EMLX_TYPE_COUNT] = {
        [EMLX_U2] = EMLX_U8, [EMLX_U4] = EMLX_U8, [EMLX_S2] = EMLX_S8, [EMLX_S4] = EMLX_S8};
    static const uint8_t bytes[96] = {1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1};
    emlx_error err;
    emlx_device *device = cpu();
    emlx_shape shape = {.rank = 3, .dims = {1, 2, 3}};
    for (int type = 0; type < EMLX_TYPE_COUNT; type++) {
        emlx_tensor *tensor, *loaded;
        size_t size = 6 * emlx_type_size((emlx_type)type);
        const void *data;
        assert_ok(
            emlx_tensor_from_data(device, (emlx_type)type, &shape, bytes, size, &tensor, &err),
            err);
        emlx_status status = emlx_npy_save(test_path, tensor, &err);
        emlx_tensor_release(tensor);
        if (type == EMLX_F8_E4M3FN) {
            assert_error(status, EMLX_UNSUPPORTED, err, "f8_e4m3fn");
            continue;
        }
        assert_ok(status, err);
        loaded = load_array(device);
        bool widened = emlx_type_bits((emlx_type)type) < 8;
        assert_int_equal(emlx_tensor_type(loaded), widened ? (int)back[type] : type);
        assert_int_equal(emlx_tensor_shape(loaded)->dims[2], 3);
        assert_ok(emlx_tensor_data(loaded, &data, &err), err);
        assert_memory_equal(data, bytes, size);
        emlx_tensor_release(loaded);
    }
    emlx_device_release(device);
}

// Byte for byte what numpy.save writes.
static void headers_are_numpys(void **state) {
    (void)state;
    static const char expected[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensor = tensor_f32(device, data, 2, 2, 3);
    uint8_t bytes[256];
    assert_ok(emlx_npy_save(test_path, tensor, &err), err);
    assert_int_equal(read_bytes(bytes, sizeof bytes), 128 + 24);
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal(bytes + 10, expected, strlen(expected));
    for (size_t i = 10 + strlen(expected); i < 127; i++) assert_int_equal(bytes[i], ' ');
    assert_int_equal(bytes[127], '\n');
    assert_memory_equal(bytes + 128, data, sizeof data);
    emlx_tensor_release(tensor);
    emlx_device_release(device);
}

static void wrong_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        emlx_status status;
        const char *message;
    } cases[] = {
        {"", EMLX_FORMAT, "not a dictionary"},
        {"{", EMLX_FORMAT, "not a dictionary"},
        {"{}", EMLX_FORMAT, "lacks descr"},
        {"{'descr': '<f4', 'fortran_order': False}", EMLX_FORMAT, "lacks descr"},
        {"{'descr': '<f4', 'descr': '<f4'}", EMLX_FORMAT, "\"descr\" twice"},
        {"{'other': 1}", EMLX_FORMAT, "\"other\""},
        {"{'descr': [('a', '<f4')]}", EMLX_UNSUPPORTED, "structures"},
        {"{'descr': '<f4', 'fortran_order': 0}", EMLX_FORMAT, "neither True nor False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3}", EMLX_FORMAT, "not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", EMLX_FORMAT, "not a count"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", EMLX_FORMAT, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", EMLX_FORMAT,
         "not a count"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}", EMLX_FORMAT,
         ""},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", EMLX_FORMAT, "after its end"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", EMLX_FORMAT,
         "4 bytes of elements, 8 expected"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': "
         "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}",
         EMLX_UNSUPPORTED, "more than 16 axes"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", EMLX_UNSUPPORTED, "'|O'"},
        {"{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", EMLX_UNSUPPORTED, "'<U4'"},
        {"{'descr': '', 'fortran_order': False, 'shape': (1,)}", EMLX_UNSUPPORTED, "''"},
    };
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensor;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_npy(1, cases[i].header, "\0\0\0\0", 4);
        assert_error(emlx_npy_load(test_path, device, &tensor, &err), cases[i].status, err,
                     cases[i].message);
        assert_non_null(strstr(err.message, test_path));
    }
    write_npy(4, "{}", "", 0);
    assert_error(emlx_npy_load(test_path, device, &tensor, &err), EMLX_FORMAT, err, "version 4.0");
    write_bytes("PK\3\4 something else", 20);
    assert_error(emlx_npy_load(test_path, device, &tensor, &err), EMLX_FORMAT, err, "magic");
    assert_error(emlx_npy_load("/nowhere.npy", device, &tensor, &err), EMLX_IO, err,
                 "/nowhere.npy: cannot open");
    emlx_device_release(device);
}

// Every truncation fails; a flipped bit may give another valid file, but never harm.
static void damaged_files_are_survived(void **state) {
    (void)state;
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensor = tensor_f32(device, data, 2, 2, 3);
    uint8_t bytes[256];
    assert_ok(emlx_npy_save(test_path, tensor, &err), err);
    emlx_tensor_release(tensor);
    size_t size = read_bytes(bytes, sizeof bytes);
    for (size_t length = 0; length < size; length++) {
        write_bytes(bytes, length);
        assert_int_equal(emlx_npy_load(test_path, device, &tensor, &err), EMLX_FORMAT);
    }
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(bytes, size);
        if (emlx_npy_load(test_path, device, &tensor, &err) == EMLX_OK) emlx_tensor_release(tensor);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    emlx_device_release(device);
}

static void no_allocation_of_an_array_may_fail_unnoticed(void **state) {
    (void)state;
    static const uint8_t data[24] = {0};
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *tensor = NULL;
    emlx_status status = EMLX_OUT_OF_MEMORY;
    size_t held = mem_held();
    for (size_t n = 1; status != EMLX_OK && n < 100; n++) {
        write_npy(1, "{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }", data, 24);
        mem_fail_from(n);
        status = emlx_npy_load(test_path, device, &tensor, &err);
        mem_fail_from(0);
        if (status != EMLX_OK) assert_int_equal(status, EMLX_OUT_OF_MEMORY);
        if (status == EMLX_OK) emlx_tensor_release(tensor);
        assert_int_equal(mem_held(), held);
    }
    assert_int_equal(status, EMLX_OK);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_all_versions),
        cmocka_unit_test(big_endian_and_columns),
        cmocka_unit_test(scalars_and_truth_values),
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(headers_are_numpys),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(damaged_files_are_survived),
        cmocka_unit_test(no_allocation_of_an_array_may_fail_unnoticed),
    };
    return RUN_WITH_FILE("files/npy", tests);
}
