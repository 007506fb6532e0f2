// SPDX-License-Identifier: Apache-2.0
// product.h - products of matrices, and of a matrix and a vector.
#ifndef EMLX_CPU_TABLES_PRODUCT_H
#define EMLX_CPU_TABLES_PRODUCT_H

#include "engines/cpu/kernels/tables/elements.h"

// Products of a matrix, whose elements are read where they are, and a vector. Both add to `sums`.
typedef struct vector_fns {
    emlx_type sum; // of the sums and of the vector
    // sums[l] += sum over t of matrix[l * step + t] * x[t]
    void (*across)(const void *matrix, int64_t step, size_t lines, const void *x, size_t terms,
                   void *sums);
    // sums[c] += sum over l of matrix[l * step + c] * x[l]
    void (*down)(const void *matrix, int64_t step, size_t lines, const void *x, size_t columns,
                 void *sums);
} vector_fns;

// How a side of a matrix product is packed: in panels of `lines` lines whose terms lie in groups.
// Term t of line l of a panel is at (t / group * lines + l) * group + t % group.
typedef struct panel_form {
    int32_t lines, group;
    // Packs a panel of at most `lines` lines. One of the steps is 1 where it is to be quick. What
    // is missing, up to whole panels and groups, becomes 0.
    void (*pack)(void *panel, const void *side, int64_t line_step, int64_t term_step, size_t lines,
                 size_t terms);
} panel_form;

// The inner loop of products of matrices.
typedef struct product_fns {
    emlx_type packed; // elements of panels, to which operands convert without loss
    emlx_type sum;
    panel_form left, right;
    int64_t terms; // of panels that are worked on at a time, a multiple of both groups
    // sums[i * step + j], for all lines i of a left panel and j of a right one, becomes or, with
    // `add`, grows by the sum over t of left[i][t] * right[j][t]. `terms` are whole groups.
    void (*tile)(int64_t terms, const void *left, const void *right, void *sums, int64_t step,
                 bool add);
    // The same for any number of lines of a left side whose terms lie side by side, where they are:
    // `line` elements apart. NULL where terms lie in groups.
    void (*lines)(int64_t terms, const void *left, int64_t line, int64_t lines, const void *right,
                  void *sums, int64_t step, bool add);
    // Whether there is an element that the tiles take for 0, as a dot instruction does numbers
    // below the normal ones: then the product goes elsewhere. NULL where there are none such.
    bool (*flushes)(const void *panel, size_t count);
    // Around the tiles of a task; NULL where nothing is to be done.
    void (*enter)(void);
    void (*leave)(void);
} product_fns;

// Products are found by the type that they are computed in; behind those are they whose sums, of 32
// bits, are wider than what is multiplied: halves with signs, and bytes, by whether the left side
// and the right one have signs. `tile` is NULL where a level has none.
enum { PRODUCT_HALVES = EMLX_TYPE_COUNT, PRODUCT_BYTES, PRODUCT_COUNT = PRODUCT_BYTES + 4 };

// Of the levels that have dot instructions.
#define CPU_LEVEL(...)
#define CPU_DOTS(name, ...) extern const product_fns name##_product_table[PRODUCT_COUNT];
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
#undef CPU_DOTS

#ifdef LEVEL
extern const vector_fns KERNEL(vector, table)[EMLX_TYPE_COUNT];
extern const product_fns KERNEL(product, table)[PRODUCT_COUNT];
#endif

#endif
