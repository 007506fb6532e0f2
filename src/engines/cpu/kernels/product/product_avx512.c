// SPDX-License-Identifier: Apache-2.0
// product_avx512.c - inner loops of matrix products at level avx512.
#define LEVEL avx512
#include "engines/cpu/kernels/product/product.inc"
