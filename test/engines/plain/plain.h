// SPDX-License-Identifier: Apache-2.0
// plain.h - what the files of the engine plain share: arrays that are read and written an element
// at a time, and one function a primitive.
//
// It is there to be compared with, so nothing is quick: an element is an emlx_number, floats are
// computed in long double and rounded when they are stored. It takes plans in nodes, so that it
// knows as little of fusion, kernels and placing as it does of the CPU engine.
#ifndef EMLX_TEST_PLAIN_H
#define EMLX_TEST_PLAIN_H

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engine.h"

// A dense array in memory.
typedef struct array {
    emlx_type type;
    const emlx_shape *shape;
    int64_t count;
    char *data;
} array;

emlx_number array_get(const array *a, int64_t position);
// Converts the number to the array's type, as Nx casts.
void array_set(array *a, int64_t position, emlx_number value);

// One node of one run.
typedef struct node_run {
    const plan_node *node;
    array *in; // its operands
    array out;
    const scalar_value *constant; // of a constant: its value, in the node's type
    emlx_function *function;      // of a call
    emlx_error *err;
} node_run;

typedef emlx_status (*node_fn)(node_run *r);
emlx_status run_constant(node_run *r);
emlx_status run_iota(node_run *r);
emlx_status run_map(node_run *r);
emlx_status run_view(node_run *r);
emlx_status run_write(node_run *r);
emlx_status run_reduce(node_run *r);
emlx_status run_dot(node_run *r);
emlx_status run_conv(node_run *r);
emlx_status run_gather(node_run *r);
emlx_status run_scatter(node_run *r);
emlx_status run_sort(node_run *r);
emlx_status run_scan(node_run *r);
emlx_status run_pick(node_run *r);
emlx_status run_routine(node_run *r);
emlx_status run_custom(node_run *r);
emlx_status run_function(node_run *r);

// Whether run_routine knows how.
bool routine_is_known(const routine_params *p);

// Numbers -----------------------------------------------------------------------------------------

emlx_number real_number(long double x);
emlx_number signed_number(int64_t x);
// Converted to a type and back, so that it is one of that type's numbers.
emlx_number rounded_to(emlx_type type, emlx_number x);
int64_t whole_part(emlx_number x);
bool number_is_nan(emlx_number x);
// Of two integers or two real numbers; false beside a NaN.
bool number_less(emlx_number x, emlx_number y);

// A scalar function of numbers of the type `compute`; of no guards and no `bitcast`.
emlx_number scalar_of(scalar_op op, emlx_type compute, const emlx_number *args);
// The same for complex numbers, and what is made of two parts of the type `compute`.
emlx_number of_complex(scalar_op op, emlx_type compute, const emlx_number *args);
// A whole map of numbers of any type: arguments are converted, and the result is of type `type`.
emlx_status map_of(const map_params *p, const emlx_type *from, emlx_type type, emlx_number *args,
                   emlx_number *out, emlx_error *err);

// Positions ---------------------------------------------------------------------------------------

// The index of a row-major position, and the position of an index.
void index_of(const emlx_shape *shape, int64_t position, int64_t *index);
int64_t position_of(const emlx_shape *shape, const int64_t *index);

#endif
