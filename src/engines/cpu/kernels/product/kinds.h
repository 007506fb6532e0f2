// SPDX-License-Identifier: Apache-2.0
// kinds.h - the table of a level that multiplies packed weights as whole numbers. The level has a
// type `kind`, what a vector is made into (`prepare`, `vector_bytes`) and `multiply_rows`, all
// inlined, so that each kind has functions of its own.
#ifndef EMLX_CPU_PRODUCT_KINDS_H
#define EMLX_CPU_PRODUCT_KINDS_H

#include "engines/cpu/kernels/tables/packed.h"

#define KIND(name, ...)                                                                            \
    static void name##_prepare(void *to, const float *x, int64_t terms, int64_t group) {           \
        const kind k = {__VA_ARGS__};                                                              \
        prepare(&k, to, x, terms, group);                                                          \
    }                                                                                              \
    static void name##_dot(const packed_rows *rows, int64_t count, const void *const *vectors,     \
                           int vector_count, float *sums, int64_t step) {                          \
        const kind k = {__VA_ARGS__};                                                              \
        multiply_rows(&k, rows, count, vectors, vector_count, sums, step);                         \
    }

#define KIND_ROW(kind, vectors_most)                                                               \
    [PACKED_##kind] = {.reads_scales = true,                                                       \
                       .bytes = vector_bytes,                                                      \
                       .prepare = kind##_prepare,                                                  \
                       .dot = kind##_dot,                                                          \
                       .most = (vectors_most)}
// mxfp8 is not whole numbers, and stays in f32.
#define KIND_ROWS(most)                                                                            \
    KIND_ROW(affine_2, most), KIND_ROW(affine_3, most), KIND_ROW(affine_4, most),                  \
        KIND_ROW(affine_6, most), KIND_ROW(affine_8, most), KIND_ROW(mxfp4, most),                 \
        KIND_ROW(nvfp4, most), KIND_ROW(q4_0, most), KIND_ROW(q8_0, most), KIND_ROW(q4_k, most),   \
        KIND_ROW(q6_k, most)

#endif
