// SPDX-License-Identifier: Apache-2.0
// programs.h - building small programs in tests, tersely. Every helper fails the test on an error.
#ifndef EMLX_TEST_PROGRAMS_H
#define EMLX_TEST_PROGRAMS_H

#include "test.h"

emlx_block *new_block(void);
// A value that is an input; `rank` lengths follow.
uint32_t input(emlx_block *b, const char *name, emlx_type type, int rank, ...);
// op(b, "add", 2, x, y): an op without attributes.
uint32_t op(emlx_block *b, const char *name, int operands, ...);
// The same with attributes.
uint32_t op_with(emlx_block *b, const char *name, const emlx_attr *attrs, size_t attr_count,
                 int operands, ...);
// A scalar constant of s32 or f32.
uint32_t int_constant(emlx_block *b, int64_t value);
uint32_t real_constant(emlx_block *b, double value);
// A fold of all elements with a function of f32 scalars, which is taken over.
uint32_t fold_all(emlx_block *b, uint32_t value, uint32_t start, emlx_block *function);
// The sum of all elements.
uint32_t sum_all(emlx_block *b, uint32_t value);
void output(emlx_block *b, const char *name, uint32_t value);

emlx_device *cpu(void);
emlx_tensor *tensor_f32(emlx_device *device, const float *data, int rank, ...);
emlx_tensor *scalar_s32(emlx_device *device, int32_t value);
void assert_f32(emlx_tensor *tensor, const float *expected, size_t count);
void assert_s32(emlx_tensor *tensor, const int32_t *expected, size_t count);
emlx_program *compile(emlx_block *b, emlx_device *device);

// A program with everything in it. Inputs x f32{2, 3} and n s32; outputs
//   loop: x plus n * (n - 1) / 2, counted up by a loop within a loop
//   choice: by the sum of x: above 10, x * 2; above 0, x + the literal; else -x
//   same: x itself; n: the literal plus n, twice under two names; exp: exp of x, used on both sides
//   of the control flow; folded: x folded from 1 with e - acc, or e + acc where both are equal,
//   chosen by a cond
// `literal` is f32{3}.
emlx_block *sample_block(emlx_tensor *literal);
// Adds the outputs of the sample for x and n, computed plainly.
void assert_sample(emlx_program *program, emlx_device *device, const float x[6], int32_t n,
                   const float literal[3]);

#endif
