// SPDX-License-Identifier: Apache-2.0
// products.h - products of matrices by cuBLASLt.
#ifndef EMLX_CUDA_PRODUCTS_H
#define EMLX_CUDA_PRODUCTS_H

#include "engines/cuda/launch.h"

// Whether products in `type` read narrower numbers as they are: bytes, whose sums are exact, and
// floats of two bytes for f32, whose products are.
bool product_widens(emlx_type from, emlx_type type);
// Whether the library may compute the map behind a product with it.
bool product_joins(const plan_kernel *product, const plan_kernel *map);
// Prepares a product that the library takes: sets k->run, k->library, k->discard and, where the map
// behind it is computed with it, k->joins. Leaves them alone for others, and where the library is
// not there.
emlx_status product_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan, const plan_kernel *kernel,
                            emlx_error *err);
// Where the library was found, or why it was not.
void product_describe(char *text, size_t size);
void product_close(void *handle);

#endif
