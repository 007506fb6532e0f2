// SPDX-License-Identifier: Apache-2.0
// faults.h - what depends on numbers that are only there when a plan runs: starts that reach too
// far, which are moved, and what a computation ends with an error for. Whatever the engine, the
// words and the status are these.
#ifndef EMLX_GRAPH_FAULTS_H
#define EMLX_GRAPH_FAULTS_H

#include "graph/graph.h"

// What a `map` stops the computation with when its second operand has a true element, and then what
// routines stop it with: the status, the fault, and the text, which comes after the op's name.
#define GUARD_MAP(XX)                                                                              \
    XX(DIVISION, ARITHMETIC, DIVISION, "division by zero")                                         \
    XX(LEFT_SHIFT, INVALID, SHIFT, "cannot left shift by a negative number")                       \
    XX(RIGHT_SHIFT, INVALID, SHIFT, "cannot right shift by a negative number")                     \
    XX(REAL, ARITHMETIC, COMPLEX, "only accepts real numbers as arguments, one is complex")        \
    XX(TRIANGLE, SINGULAR, SINGULAR, "the diagonal of a triangular matrix has a zero")             \
    XX(SYSTEM, SINGULAR, SINGULAR, "the matrix of a system of equations is singular")              \
    XX(EIGENVALUES, INTERNAL, ITERATION, "the eigenvalue iteration did not converge")              \
    XX(SINGULAR_VALUES, INTERNAL, ITERATION, "the singular value iteration did not converge")

typedef enum guard_kind {
    GUARD_NONE,
#define XX(name, status, fault, text) GUARD_##name,
    GUARD_MAP(XX)
#undef XX
} guard_kind;

// Its error, with the op's name in front unless that is NULL.
emlx_status guard_error(guard_kind guard, const char *op, emlx_error *err);

// An integer moved into 0 to `limit`: what a region does with a start given at run time. What
// kernels are generated from computes the same. One without a sign may be beyond an s64.
static inline int64_t start_within(emlx_number value, int64_t limit) {
    bool huge = value.kind == EMLX_NUMBER_UNSIGNED && value.as.u > (uint64_t)limit;
    if (huge || value.as.s > limit) return limit;
    return value.as.s < 0 ? 0 : value.as.s;
}

// How a gather or a scatter reads the rows of its indices.
typedef struct indexing {
    int32_t count; // numbers a row, each an index into the axis of that place in `axes`
    const int32_t *axes;
    bool along;       // one axis, where all axes of the array count as indexed
    bool is_unsigned; // they were u64
} indexing;

indexing indexing_of(primitive p, const void *params);
// The error of a row in which one is outside of the array: the first such, or the last of all.
emlx_status index_error(const indexing *how, const emlx_shape *array, const int64_t *row,
                        emlx_error *err);
// The same of the number at a place of its row.
emlx_status index_error_at(const indexing *how, const emlx_shape *array, int32_t place,
                           int64_t index, emlx_error *err);

#endif
