// SPDX-License-Identifier: Apache-2.0
// tf32_test.c - products and convolutions of f32 keep all their digits, but where the environment
// allows TF32. Needs a device with cuBLASLt and cuDNN; without one the test says that it is
// skipped.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensors.h"

// TF32 has 10 bits behind the point, and so rounds this to 1.
#define FINE (1 + 0x1p-13)

static emlx_tensor *filled(const emlx_shape *shape, double value) {
    int64_t count = emlx_shape_count(shape);
    double *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = value;
    emlx_tensor *t = tensor_of(EMLX_F32, shape, values);
    free(values);
    return t;
}

// What each element of the result is, of operands filled with FINE and a power of two.
static double result_of(const char *op, emlx_shape left, emlx_shape right, double terms,
                        const emlx_attr *attrs, size_t attr_count) {
    emlx_tensor *in[] = {filled(&left, FINE), filled(&right, 1 / terms)};
    emlx_tensor *t = apply_to(op, in, 2, attrs, attr_count, EMLX_TYPE_DEFAULT);
    double *values = values_of(t), first = values[0];
    int64_t count = number_count(emlx_tensor_type(t), emlx_tensor_shape(t));
    for (int64_t i = 1; i < count; i++) assert_true(values[i] == first);
    free(values);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    emlx_tensor_release(t);
    return first;
}

static double product(void) {
    static const int64_t rows[] = {0}, columns[] = {1};
    emlx_shape matrix = {2, {256, 256}};
    emlx_attr attrs[] = {with_ints("contract_left", columns, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", rows, 1), with_ints("batch_right", NULL, 0)};
    return result_of("dot", matrix, matrix, 256, attrs, 4);
}

static double convolution(void) {
    emlx_shape image = {4, {8, 64, 32, 32}}, filter = {4, {64, 64, 1, 1}};
    return result_of("conv", image, filter, 64, NULL, 0);
}

static void expect(const char *allowed, double each) {
    emlx_error err;
    setenv("EMLX_CUDA_TF32", allowed, 1);
    assert_int_equal(emlx_device_open("cuda:0", &test_device, &err), EMLX_OK);
    assert_true(product() == each);
    assert_true(convolution() == each);
    emlx_device_release(test_device);
}

static void test_tf32_is_asked_for(void **state) {
    (void)state;
    expect("0", FINE);
    expect("1", 1);
    expect("yes", FINE);
}

// Of a library that is missing, or too old, the description says so.
static bool has_libraries(void) {
    char text[4096];
    emlx_device_describe(test_device, text, sizeof text);
    return strstr(text, "products: cuBLASLt") == NULL &&
           strstr(text, "convolutions: cuDNN") == NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tf32_is_asked_for)};
    if (!open_gpu_or_skip("engines/cuda/tf32")) return 0;
    bool there = has_libraries();
    emlx_device_release(test_device);
    if (there) return cmocka_run_group_tests_name("engines/cuda/tf32", tests, NULL, NULL);
    printf("skipped: engines/cuda/tf32, as a library is missing\n1 skipped\n");
    return 0;
}
