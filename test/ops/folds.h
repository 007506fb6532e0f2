// SPDX-License-Identifier: Apache-2.0
// folds.h - what sums, products and extremes are, element by element, for tests of windows and of
// running folds.
#ifndef EMLX_TEST_FOLDS_H
#define EMLX_TEST_FOLDS_H

#include "tensors.h"

enum { SUM, PRODUCT, MAX, MIN, KINDS };

enum { FOLD_TYPES = 10 };
extern const emlx_type fold_types[FOLD_TYPES];

// What `a` becomes with another element; integers wrap.
double fold_step(int kind, double a, double x);
uint64_t fold_step_integer(int kind, uint64_t a, int64_t x);

#endif
