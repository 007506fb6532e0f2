// SPDX-License-Identifier: Apache-2.0
// rows.h - kernels of several stages on each row.
#ifndef EMLX_CUDA_ROWS_H
#define EMLX_CUDA_ROWS_H

#include "engines/cuda/text/emit.h"

// Whether one is generated for these stages, of which it may have more later.
bool rows_suit(const plan_kernel *k);

#endif
