// SPDX-License-Identifier: Apache-2.0
// tensors.h - tensors in tests, tersely: a device, data in and out as doubles, ops by name.
// Every helper fails the test on an error.
#ifndef EMLX_TEST_TENSORS_H
#define EMLX_TEST_TENSORS_H

#include "test.h"

// Open while a group made by RUN_ON_CPU runs: the CPU, or what EMLX_TEST_DEVICE names.
extern emlx_device *test_device;
int open_test_device(void **state);
// Makes that an engine of test/engines, beside the test program whose argv[0] is given. To be
// called before the library is.
void use_test_engine(const char *self, const char *engine);
int close_test_device(void **state);
// Opens the first card as test_device; where there is none says that the group is skipped.
bool open_gpu_or_skip(const char *name);
// Has MLX be the adapter of plain loops, unless EMLX_MLX_ADAPTER names another.
void use_plain_mlx(const char *self);
#define RUN_ON_CPU(name, tests)                                                                    \
    cmocka_run_group_tests_name(name, tests, open_test_device, close_test_device)

// Pseudo-random numbers that are the same in every run.
void draw_seed(uint64_t seed);
uint32_t draw(uint32_t below);

// Computes three of `count` tensors at once, the last and any two, and then all that have a handle;
// before that all but one in `kept` lose theirs, unless that is 0. Those without a handle are inner
// nodes: nobody else may ask for them. Each is given to `compare`.
void evaluate_some(emlx_tensor **const *tensors, int count, uint32_t kept,
                   void (*compare)(const void *context, int which, emlx_tensor *tensor),
                   const void *context);

// The number at `index` of an array of `type`, and storing one there; for types that C has.
double element_get(emlx_type type, const void *data, int64_t index);
void element_set(emlx_type type, void *data, int64_t index, double value);

// Numbers in an array: two for each element of a complex one, real part first. The next three take
// and give them in that form.
int64_t number_count(emlx_type type, const emlx_shape *shape);
// A tensor of small whole numbers and, for floats, fractions.
emlx_tensor *random_tensor(emlx_type type, const emlx_shape *shape, int low, int high);
emlx_tensor *tensor_of(emlx_type type, const emlx_shape *shape, const double *values);
emlx_tensor *as_type(emlx_tensor *t, emlx_type type);
// The elements, computed; to be freed.
double *values_of(emlx_tensor *tensor);

// The bytes of the elements, computed; to be freed. The device's memory need not be the host's.
void *bytes_of(emlx_tensor *tensor);

emlx_attr with_ints(const char *name, const int64_t *values, size_t count);
emlx_attr with_int(const char *name, int64_t value);
emlx_attr with_bool(const char *name, bool value);
emlx_attr with_text(const char *name, const char *text);
// op applied to operands; `type` may be EMLX_TYPE_DEFAULT.
emlx_tensor *apply_to(const char *op, emlx_tensor *const *operands, size_t count,
                      const emlx_attr *attrs, size_t attr_count, emlx_type type);
// An op of two operands and no attributes.
emlx_tensor *apply_two(const char *op, emlx_tensor *a, emlx_tensor *b);

// Row-major position of an index, and the index at a position.
void unravel(const emlx_shape *shape, int64_t position, int64_t *index);
int64_t ravel(const emlx_shape *shape, const int64_t *index);

#endif
