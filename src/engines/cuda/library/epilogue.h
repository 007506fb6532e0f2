// SPDX-License-Identifier: Apache-2.0
// epilogue.h - what of a map behind a product cuBLASLt computes at the end of the product: a scale,
// a tensor of the result's shape that is added or subtracted, a vector along the last axes that is
// added. Knows no library.
#ifndef EMLX_CUDA_EPILOGUE_H
#define EMLX_CUDA_EPILOGUE_H

#include "plan/plan.h"

// scale * product + side * residual + bias, added in this order: numbers of accesses of the map,
// and of the constant that the scale is multiplied with, or NO_PART.
enum { VECTOR_ALIGNMENT = 16 }; // in bytes
#define NO_PART UINT32_MAX
typedef struct product_epilogue {
    double scale, side; // 1 or -1
    uint32_t factor, residual, bias;
} product_epilogue;

// Whether the map is such a sum of the product's result, of `columns` numbers a row: to the bit as
// kernels of their own give it or, in numbers of two bytes, rounded once rather than each time.
bool epilogue_find(const plan_kernel *product, const plan_kernel *map, int64_t columns,
                   product_epilogue *out);

#endif
