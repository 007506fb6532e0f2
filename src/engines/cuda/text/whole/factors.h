// SPDX-License-Identifier: Apache-2.0
// factors.h - factors of large real matrices by a library or by panels, and the kernels around
// these.
#ifndef EMLX_CUDA_FACTORS_TEXT_H
#define EMLX_CUDA_FACTORS_TEXT_H

#include "engines/cuda/text/emit.h"

// Where things lie in working memory: for all matrices of the batch, all but the last as doubles or
// 32-bit integers.
typedef enum factor_place {
    PLACE_MATRIX, // operands, and what the library makes of them
    PLACE_SECOND, // right sides of equations; reflections' factors
    PLACE_THIRD,  // signs
    PLACE_VALUES,
    PLACE_PIVOTS, // and behind them where rows come from
    PLACE_MARKS,  // of matrices with numbers that are not finite
    PLACE_INFOS,
    PLACE_WORK, // the library's
    PLACES
} factor_place;

typedef struct factoring {
    const routine_params *params;
    int64_t count, rows, columns, other; // other: columns of the right sides
    int64_t shorter, longer;
    int64_t vectors; // svd: those of the longer side
    int type;
    bool panels;               // by our own kernels, not by the library
    bool single;               // in f32, not in double
    size_t places[PLACES + 1]; // the last is the end
} factoring;

// Writes the kernels for one.
typedef struct factor_writer {
    emitter *e;
    const factoring *f;
    // Words. sizes: rows, columns, other, count; order: where each row of a matrix comes from.
    uint32_t in, out, sizes, order, places[PLACES];
} factor_writer;

// False for what the library does not do, or our own kernels do better.
bool find_factoring(const emlx_plan *plan, const plan_kernel *kernel, factoring *f);
// Those between the first kernel and the last.
enum { PANELS_MOST = 1024 };
void emit_panels(const factor_writer *w);

// All kernels, which need no library, and their launches in order.
void emit_factoring(emitter *e, const factoring *f);
// The kernels, by suffix: 'a' before all; 'p', 'r' and 'b', in this order, where there are such,
// behind the first or the last of the library's calls.
emlx_status code_factoring(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                           const factoring *f, emlx_error *err);

#endif
