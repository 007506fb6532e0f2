// SPDX-License-Identifier: Apache-2.0
// product_avx2.c - inner loops of matrix products at level avx2.
#define LEVEL avx2
#include "engines/cpu/kernels/product/product.inc"
