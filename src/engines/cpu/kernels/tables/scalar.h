// SPDX-License-Identifier: Apache-2.0
// scalar.h - scalar functions of elements side by side.
#ifndef EMLX_CPU_TABLES_SCALAR_H
#define EMLX_CPU_TABLES_SCALAR_H

#include "engines/cpu/kernels/tables/elements.h"
#include "graph/scalar.h"

// Two scalar functions of one type in one loop, the first's result being the second's first
// operand.
typedef struct chain_fn {
    scalar_op first, second;
    emlx_type type;
    tile_fn fn;
} chain_fn;

// Three in one loop: join(left(a, b), right(a, c)), as turning bits around is.
typedef struct fork_fn {
    scalar_op left, right, join;
    emlx_type type;
    tile_fn fn;
} fork_fn;

// Functions by what they compute and the type that they compute it in; NULL where there is none. A
// function's row stands with its loop. Sub-byte integers are rare, and functions of complex numbers
// that call libm gain nothing from another level: one build of them serves all.
extern const tile_fn narrow_scalars[SCALAR_COUNT][EMLX_TYPE_COUNT];
extern const tile_fn complex_scalars[SCALAR_COUNT][EMLX_TYPE_COUNT];

#ifdef LEVEL
#define SCALAR_ROW(op, type, TYPE) [SCALAR_##op][EMLX_##TYPE] = KERNEL(type, op),
extern const tile_fn KERNEL(scalar, table)[SCALAR_COUNT][EMLX_TYPE_COUNT];
extern const tile_fn KERNEL(math, table)[SCALAR_COUNT][EMLX_TYPE_COUNT];
extern const chain_fn KERNEL(chain, table)[];
extern const fork_fn KERNEL(fork, table)[];
#endif

#endif
