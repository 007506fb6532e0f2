// SPDX-License-Identifier: Apache-2.0
// whole.h - the functions of an `either` that are generated whole.
#ifndef EMLX_CUDA_WHOLE_H
#define EMLX_CUDA_WHOLE_H

#include "engines/cuda/text/emit.h"

// Whether one is, of that type and those operands, where a block has so many bytes of shared
// memory.
bool whole_suits(const emlx_tensor *either, int64_t shared_most);

bool attention_suits(const emlx_tensor *either, int64_t shared_most);
void emit_attention(emitter *e);
bool packed_suits(const emlx_tensor *either, int64_t shared_most);
void emit_packed(emitter *e);
bool window_suits(const emlx_tensor *either, int64_t shared_most);
void emit_window(emitter *e);

#endif
