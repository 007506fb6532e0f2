// SPDX-License-Identifier: Apache-2.0
// scalar.h - the scalar functions of maps and the kinds of folds: facts that ops and engines share.
#ifndef EMLX_GRAPH_SCALAR_H
#define EMLX_GRAPH_SCALAR_H

#include "emlx.h"

typedef enum scalar_op {
#define SCALAR(name, operands, result, cost, loop) SCALAR_##name,
#include "graph/scalar.def"
#undef SCALAR
    SCALAR_COUNT
} scalar_op;

typedef enum scalar_result { GIVES_SAME, GIVES_BOOL, GIVES_PART, GIVES_COMPLEX } scalar_result;

typedef enum scalar_loop { LOOP_PLAIN, LOOP_SHORT, LOOP_LONG } scalar_loop;

typedef struct scalar_info {
    const char *name;
    uint8_t operands;
    uint8_t gives; // scalar_result
    uint8_t cost;  // of an element
    uint8_t loop;  // scalar_loop
} scalar_info;

extern const scalar_info scalar_table[SCALAR_COUNT];
// The type of a function's result when it is computed in `compute`.
emlx_type scalar_result_type(scalar_op op, emlx_type compute);

typedef enum reduce_kind {
#define REDUCE(NAME, name, gives, neutral, late) REDUCE_##NAME,
#include "graph/reduce.def"
#undef REDUCE
    REDUCE_COUNT
} reduce_kind;

typedef enum reduce_result { GIVES_COMBINED, GIVES_CHOSEN, GIVES_PLACED } reduce_result;

typedef struct reduce_info {
    const char *name;
    reduce_result gives;
    double neutral;
    reduce_kind late;
} reduce_info;

extern const reduce_info reduce_table[REDUCE_COUNT];
// Whether it looks for the least element, not the greatest.
bool reduce_is_least(reduce_kind kind);
// The type of what it finds among elements of `type`.
emlx_type reduce_result_type(reduce_kind kind, emlx_type type);

#endif
