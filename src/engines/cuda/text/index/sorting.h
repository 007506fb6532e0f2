// SPDX-License-Identifier: Apache-2.0
// sorting.h - launches that sort lines of keys, for sort and scatter.
#ifndef EMLX_CUDA_SORTING_H
#define EMLX_CUDA_SORTING_H

#include "engines/cuda/text/emit.h"

// Sorts `lines` lines of `length` keys each. The text before has a struct Key@ with the type K of
// keys, K key(p, line, i), and load(p, line, i), which goes along with the key; where TELLS is
// true, told(key) is the load of most keys.
typedef struct sorting {
    int64_t lines, length;
    size_t key_size;
    int key_bits;          // that differ
    uint32_t keys, places; // words: where the sorted keys are, and the load of each
    bool puts;             // the text has a struct Out@, as Kept of radix.cu, for results
    bool put;              // and that has been used: nothing is at `keys` and `places`
} sorting;

void emit_sorting(emitter *e, sorting *s);

#endif
