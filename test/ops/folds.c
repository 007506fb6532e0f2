// SPDX-License-Identifier: Apache-2.0
// folds.c - folds by their definition.
#include "ops/folds.h"

#include <math.h>

const emlx_type fold_types[FOLD_TYPES] = {EMLX_U8,  EMLX_U16, EMLX_U64,  EMLX_S8,  EMLX_S32,
                                          EMLX_S64, EMLX_F16, EMLX_BF16, EMLX_F32, EMLX_F64};

double fold_step(int kind, double a, double x) {
    if (kind == SUM) return a + x;
    if (kind == PRODUCT) return a * x;
    if (isnan(a) || isnan(x)) return NAN;
    return kind == MAX ? (x > a ? x : a) : (x < a ? x : a);
}

uint64_t fold_step_integer(int kind, uint64_t a, int64_t x) {
    if (kind == SUM) return a + (uint64_t)x;
    if (kind == PRODUCT) return a * (uint64_t)x;
    return (uint64_t)((kind == MAX) == (x > (int64_t)a) ? x : (int64_t)a);
}
