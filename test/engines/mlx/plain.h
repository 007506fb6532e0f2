// SPDX-License-Identifier: Apache-2.0
// plain.h - what the adapter's instructions mean, as plain loops: the other side of
// engines/mlx/edge/edge.h without MLX. It takes what edge.h promises and nothing else: operands of
// one type, indices within bounds, no division by zero. What MLX would answer by ending the
// process, or by an arbitrary number, ends the run with a message.
#ifndef EMLX_TEST_ENGINES_MLX_PLAIN_H
#define EMLX_TEST_ENGINES_MLX_PLAIN_H

#include <setjmp.h>

#include "base/types.h"
#include "engines/mlx/edge/edge.h"

// Dense, in row order.
typedef struct plain_array {
    mlx_dtype dtype;
    int32_t rank;
    int64_t dims[MLX_MAX_RANK];
    int64_t count;
    unsigned char *data;
} plain_array;

// Memory of a run, freed with it.
typedef struct plain_piece {
    struct plain_piece *next;
    _Alignas(16) unsigned char bytes[];
} plain_piece;

typedef struct plain_run {
    jmp_buf refused;
    char *message; // MLX_MESSAGE_SIZE
    plain_piece *pieces;
    bool truncates; // division of integers; else it rounds down, as in newer versions
} plain_run;

// One instruction, with its operands.
typedef struct plain_call {
    plain_run *run;
    mlx_code code;
    mlx_dtype dtype;
    const plain_array *in;
    uint32_t count;
    const int64_t *ints;
    size_t int_count;
} plain_call;

// Ends the run.
_Noreturn void plain_refuse(plain_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void *plain_memory(plain_run *run, size_t size);

size_t plain_size(mlx_dtype dtype);
emlx_type plain_type(mlx_dtype dtype); // a bool is a u8
plain_array plain_new(plain_run *run, mlx_dtype dtype, int32_t rank, const int64_t *dims);
emlx_number plain_get(const plain_array *a, int64_t at);
void plain_set(plain_array *a, int64_t at, emlx_number number);
emlx_number plain_real(double number);
emlx_number plain_integer(int64_t number);
// Element `of` of an array of the same type.
void plain_copy(plain_array *to, int64_t at, const plain_array *from, int64_t of);
// An element of an array of indices.
int64_t plain_index(const plain_array *a, int64_t at);

void plain_strides(const plain_array *a, int64_t *strides);
// Turns to the next index below `dims`; false after the last one.
bool plain_next(int64_t *index, int32_t rank, const int64_t *dims);
int64_t plain_dot(const int64_t *index, const int64_t *strides, int32_t rank);

// Numbers.
emlx_number plain_unary(const plain_call *c, emlx_number x);
emlx_number plain_binary(plain_run *run, mlx_code code, emlx_type type, emlx_number x,
                         emlx_number y);
bool plain_is_nan(emlx_number x);
bool plain_less(emlx_number x, emlx_number y);

// Arrays: one function a kind of instruction.
plain_array plain_map(const plain_call *c);
plain_array plain_where(const plain_call *c);
plain_array plain_pair(const plain_call *c);
plain_array plain_literal(const plain_call *c);
plain_array plain_zeros(const plain_call *c);
plain_array plain_arange(const plain_call *c);
plain_array plain_astype(const plain_call *c);
plain_array plain_view(const plain_call *c);
plain_array plain_from_fp8(const plain_call *c);
plain_array plain_contiguous(const plain_call *c);
plain_array plain_reshape(const plain_call *c);
plain_array plain_broadcast_to(const plain_call *c);
plain_array plain_transpose(const plain_call *c);
plain_array plain_as_strided(const plain_call *c);
plain_array plain_slice(const plain_call *c);
plain_array plain_slice_at(const plain_call *c);
plain_array plain_slice_update(const plain_call *c);
plain_array plain_slice_update_at(const plain_call *c);
plain_array plain_concatenate(const plain_call *c);
plain_array plain_fold(const plain_call *c);
plain_array plain_argmax(const plain_call *c);
plain_array plain_cumulate(const plain_call *c);
plain_array plain_sort(const plain_call *c);
plain_array plain_matmul(const plain_call *c);
plain_array plain_conv(const plain_call *c);
plain_array plain_take(const plain_call *c);
plain_array plain_take_along_axis(const plain_call *c);
plain_array plain_gather(const plain_call *c);
plain_array plain_scatter(const plain_call *c);
plain_array plain_softmax(const plain_call *c);
plain_array plain_logsumexp(const plain_call *c);
plain_array plain_norm(const plain_call *c);
plain_array plain_rope(const plain_call *c);
plain_array plain_attention(const plain_call *c);
plain_array plain_quantized_matmul(const plain_call *c);

#endif
