// SPDX-License-Identifier: Apache-2.0
// transform.h - a Fourier transform of lines, and the kernels around a library's.
#ifndef EMLX_CUDA_TRANSFORM_H
#define EMLX_CUDA_TRANSFORM_H

#include "engines/cuda/text/emit.h"

typedef struct transform {
    int64_t lines, length;
    int64_t given, results; // elements of a line in memory, before and after
    int64_t beside;         // lines that lie side by side, element by element
    int64_t half;           // elements that are given; the others mirror them
    int from, to;           // types
    bool inverse;
    double tolerance;
} transform;

transform find_transform(const emlx_plan *plan, const plan_kernel *kernel);

// What a library transforms: dense lines of `in` elements of one type to `out` of another.
typedef struct library_lines {
    int in_type, out_type;
    int64_t in, out;
    bool brought, taken;        // copied into working memory before, out of it afterwards
    size_t in_place, out_place; // where in working memory
} library_lines;

// The kernels before ('a') and after ('b') it; the first words of working memory are theirs.
emlx_status code_around(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                        const transform *t, const library_lines *lines, emlx_error *err);

#endif
