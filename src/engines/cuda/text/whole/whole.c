// SPDX-License-Identifier: Apache-2.0
// whole.c - the functions of an `either` that are generated whole, one row each.
#include "engines/cuda/text/whole/whole.h"

static const struct {
    bool (*takes)(const emlx_tensor *either, int64_t shared_most);
    void (*emit)(emitter *e);
} wholes[EITHER_COUNT] = {
    [EITHER_attention] = {attention_suits, emit_attention},
    [EITHER_quantized_dot] = {packed_suits, emit_packed},
    [EITHER_window] = {window_suits, emit_window},
};

bool whole_suits(const emlx_tensor *either, int64_t shared_most) {
    uint32_t function = ((const either_params *)either->params)->function;
    return wholes[function].takes != NULL && wholes[function].takes(either, shared_most);
}

void emit_either(emitter *e) {
    wholes[((const either_params *)e->kernel->params)->function].emit(e);
}
