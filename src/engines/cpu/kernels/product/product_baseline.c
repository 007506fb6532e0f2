// SPDX-License-Identifier: Apache-2.0
// product_baseline.c - inner loops of matrix products at level baseline.
#define LEVEL baseline
#include "engines/cpu/kernels/product/product.inc"
