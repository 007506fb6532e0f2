// SPDX-License-Identifier: Apache-2.0
// folding.h - how what a kernel folds is written.
#ifndef EMLX_CUDA_FOLDING_H
#define EMLX_CUDA_FOLDING_H

#include "engines/cuda/text/emit.h"

typedef struct fold_form {
    char fold[64];          // the struct
    char step[48];          // what is folded
    char finish[CAST_TEXT]; // the result of `a`
    int out_type;           // of the result
} fold_form;

// False where there is no such fold.
bool choose_fold_form(const emitter *e, fold_form *f);

#endif
