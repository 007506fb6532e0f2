// SPDX-License-Identifier: Apache-2.0
// sorting.h - launches that sort lines of keys, for sort and scatter.
#ifndef EMLX_CUDA_SORTING_H
#define EMLX_CUDA_SORTING_H

#include "engines/cuda/text/emit.h"

// Sorts `lines` lines of `length` keys each. The text before has a struct Key@ with the type K of
// keys and K key(p, line, i).
typedef struct sorting {
    int64_t lines, length;
    size_t key_size;
    int key_bits;          // that differ
    uint32_t keys, places; // words: where the sorted keys are, and the place of each in its line
} sorting;

void emit_sorting(emitter *e, sorting *s);

#endif
