// SPDX-License-Identifier: Apache-2.0
// bytes.h - the kernels around a library's product of bytes.
#ifndef EMLX_CUDA_BYTES_H
#define EMLX_CUDA_BYTES_H

#include "engines/cuda/text/emit.h"

// An operand as [batch, outer, terms], with the steps between its elements.
typedef struct byte_side {
    int64_t outer, outer_step, terms_step, batch_step;
    int64_t padded; // outer, as the library has it
    bool brought;   // copied into working memory, where terms lie together
    size_t place;
} byte_side;

// The result is [batch, rows, columns], in working memory with padded columns and of s32.
typedef struct byte_product {
    byte_side sides[2];
    emlx_type type; // of the result
    bool direct;    // which is what the library makes
    int64_t batch, terms, padded_terms;
    int digits;    // of an element: 1 where both sides are bytes
    int64_t plane; // results of 32 bits, of which there are as many as digits
    size_t out_place, work_place;
} byte_product;

// Chooses what is brought and where, given the sides' steps.
void byte_product_place(byte_product *b, const plan_kernel *kernel);
// The kernels before it, 'a' and 'c' of the left and right side, and after it, 'b'.
emlx_status code_bytes(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                       const byte_product *b, emlx_error *err);

#endif
