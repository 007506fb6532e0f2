// SPDX-License-Identifier: Apache-2.0
// sums.h - products with what may follow them, in tests: of which some are computed at once.
#ifndef EMLX_TEST_SUMS_H
#define EMLX_TEST_SUMS_H

#include "tensors.h"

typedef struct size {
    int64_t batch, rows, terms, columns; // batch 0: matrices
    bool left, right;                    // lie transposed
} size;

// P is the product, C a tensor of its shape, b a vector along its last axis.
typedef enum form {
    VECTOR,          // P + b
    RESIDUAL,        // P + C
    OPERAND,         // P + left operand
    SLICED,          // P + C, cut out of a longer one
    BOTH,            // (P + C) + b
    BOTH_TURNED,     // C + (P + b)
    SCALED,          // 0.75 P
    SCALED_VECTOR,   // 0.75 P + b
    SCALED_RESIDUAL, // C - 0.75 P
    MINUS,           // P - C
    MINUS_PRODUCT,   // C - P
    FROM_VECTOR,     // b - P
    MINUS_VECTOR,    // P - b
    NEGATED,         // -P
    SLICED_VECTOR,   // P + b, cut out of a longer one at an odd place
    COLUMN,          // P + a number a row
    EACH,            // P + a vector of each of the batch
    NUMBER,          // P + one number, known to the device alone
    TWICE,           // P + b, and P itself
    AFTER,           // (P + b) * C
    FORMS
} form;

extern const char *const form_names[FORMS];

// Whether the library is asked to compute it with the product.
bool form_is_asked(emlx_type type, form f);

typedef struct values {
    emlx_shape shape;
    double *at;
} values;

typedef struct leaves {
    values left, right, residual, vector, column, each, number, longer, long_vector;
} leaves;

// The shape of a result, or of what is as large.
emlx_shape matrix_shape(const size *s, int64_t rows, int64_t columns);
leaves draw_leaves(emlx_type type, const size *s);
void free_leaves(leaves *l);
// A tensor with data, so that nothing of it is left to compute, on test_device.
emlx_tensor *upload(emlx_type type, const values *v);
// The numbers of a form of the product, computed on the device.
double *computed_on(emlx_device *device, emlx_type type, form f, const size *s, const leaves *l);
// The numbers of a result, wherever it was computed.
double *download(emlx_tensor *t);

// The processor, for which tensors are made first.
extern emlx_device *host;

#endif
