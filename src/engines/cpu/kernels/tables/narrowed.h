// SPDX-License-Identifier: Apache-2.0
// narrowed.h - functions whose results are rounded to bf16 or f16, by way of f32.
#ifndef EMLX_CPU_TABLES_NARROWED_H
#define EMLX_CPU_TABLES_NARROWED_H

#include "engines/cpu/kernels/kernels.h"

// What a plan has computed in f64 and rounded once. f32 has the same results, being rounded
// correctly itself, but for those that lie in the middle of two numbers of the narrower type.
typedef struct narrowed_fn {
    tile_fn widen; // what the function is of to f32, a copy where it is f32
    tile_fn in_f32, in_f64;
    tile_fn round; // from f32 to the result's type
    emlx_type type;
    uint8_t from_size, size; // bytes of an element that is read, and that is written
} narrowed_fn;

// Finds the parts of function `op` of `from`, which is exact in f32, rounded to `type`; false where
// there are none.
bool narrowed_find(const cpu_kernels *kernels, uint8_t op, emlx_type from, emlx_type type,
                   narrowed_fn *out);
// The elements do not overlap.
void narrowed_apply(const narrowed_fn *n, char *to, const char *from, size_t count);

#endif
