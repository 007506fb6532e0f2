// SPDX-License-Identifier: Apache-2.0
// adapter.h - finding and opening the shared object that links MLX.
#ifndef EMLX_ENGINES_MLX_ADAPTER_H
#define EMLX_ENGINES_MLX_ADAPTER_H

#include "emlx.h"
#include "engines/mlx/edge/edge.h"

// The adapter's functions, opened at the first call and for good; NULL where there is none, with
// one sentence in `why`. EMLX_MLX_ADAPTER names its file; else libemlx_mlx lies beside the file
// that this library is in.
const mlx_edge *adapter_open(char *why, size_t size);

#endif
