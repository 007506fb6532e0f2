// SPDX-License-Identifier: Apache-2.0
// copies.h - the kernels around a library's call that bring operands into another order of
// elements, and take the result out of it.
#ifndef EMLX_CUDA_COPIES_H
#define EMLX_CUDA_COPIES_H

#include "engines/cuda/text/emit.h"

// What is written lies dense, axis after axis; `steps` between the elements that are read.
typedef struct tensor_copy {
    char suffix;     // 'a' or 'b': those of one are launched together
    uint32_t access; // of the operand that is read; UINT32_MAX: the result is written
    int64_t offset;  // behind the operand's first element, in elements
    size_t place;    // of the other side, in working memory
    emlx_type type;  // that elements become: their own, or one that has all their numbers
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK], steps[EMLX_MAX_RANK];
} tensor_copy;

emlx_status code_copies(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                        const tensor_copy *copies, int count, emlx_error *err);

#endif
