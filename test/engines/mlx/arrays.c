// SPDX-License-Identifier: Apache-2.0
// arrays.c - arrays of the plain adapter: their elements, literals, functions of each element.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines/mlx/plain.h"

void plain_refuse(plain_run *run, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(run->message, MLX_MESSAGE_SIZE, format, list);
    va_end(list);
    longjmp(run->refused, 1);
}

void *plain_memory(plain_run *run, size_t size) {
    plain_piece *piece = calloc(1, sizeof *piece + size + 1);
    if (piece == NULL) plain_refuse(run, "no memory");
    piece->next = run->pieces;
    run->pieces = piece;
    return piece->bytes;
}

// Elements --------------------------------------------------------------------------------------

static const uint8_t types[] = {
    [MLX_DTYPE_bool] = EMLX_U8, [MLX_DTYPE_u8] = EMLX_U8,     [MLX_DTYPE_u16] = EMLX_U16,
    [MLX_DTYPE_u32] = EMLX_U32, [MLX_DTYPE_u64] = EMLX_U64,   [MLX_DTYPE_s8] = EMLX_S8,
    [MLX_DTYPE_s16] = EMLX_S16, [MLX_DTYPE_s32] = EMLX_S32,   [MLX_DTYPE_s64] = EMLX_S64,
    [MLX_DTYPE_f16] = EMLX_F16, [MLX_DTYPE_bf16] = EMLX_BF16, [MLX_DTYPE_f32] = EMLX_F32,
    [MLX_DTYPE_f64] = EMLX_F64, [MLX_DTYPE_c64] = EMLX_C64,
};

emlx_type plain_type(mlx_dtype dtype) { return (emlx_type)types[dtype]; }
size_t plain_size(mlx_dtype dtype) { return type_size(plain_type(dtype)); }

plain_array plain_new(plain_run *run, mlx_dtype dtype, int32_t rank, const int64_t *dims) {
    plain_array a = {.dtype = dtype, .rank = rank, .count = 1};
    if (rank < 0 || rank > MLX_MAX_RANK) plain_refuse(run, "an array of rank %d", rank);
    for (int32_t d = 0; d < rank; d++) {
        if (dims[d] < 0 || dims[d] > INT32_MAX) plain_refuse(run, "a length out of bounds");
        a.count *= a.dims[d] = dims[d];
    }
    a.data = plain_memory(run, (size_t)a.count * plain_size(dtype));
    return a;
}

emlx_number plain_get(const plain_array *a, int64_t at) {
    return type_load(plain_type(a->dtype), a->data + (size_t)at * plain_size(a->dtype));
}

void plain_set(plain_array *a, int64_t at, emlx_number number) {
    unsigned char bytes[16];
    type_store(plain_type(a->dtype), &number, bytes);
    memcpy(a->data + (size_t)at * plain_size(a->dtype), bytes, plain_size(a->dtype));
}

void plain_copy(plain_array *to, int64_t at, const plain_array *from, int64_t of) {
    size_t size = plain_size(from->dtype);
    memcpy(to->data + (size_t)at * size, from->data + (size_t)of * size, size);
}

int64_t plain_index(const plain_array *a, int64_t at) { return plain_get(a, at).as.s; }

// Indices ---------------------------------------------------------------------------------------

void plain_strides(const plain_array *a, int64_t *strides) {
    int64_t step = 1;
    for (int32_t d = a->rank; d-- > 0; step *= a->dims[d]) strides[d] = step;
}

bool plain_next(int64_t *index, int32_t rank, const int64_t *dims) {
    for (int32_t d = rank; d-- > 0;) {
        if (++index[d] < dims[d]) return true;
        index[d] = 0;
    }
    return false;
}

int64_t plain_dot(const int64_t *index, const int64_t *strides, int32_t rank) {
    int64_t sum = 0;
    for (int32_t d = 0; d < rank; d++) sum += index[d] * strides[d];
    return sum;
}

// Numbers of a type -----------------------------------------------------------------------------

plain_array plain_literal(const plain_call *c) {
    plain_array y = plain_new(c->run, c->dtype, 0, NULL);
    double number;
    memcpy(&number, c->ints, sizeof number);
    bool whole = type_is_integer(plain_type(c->dtype));
    plain_set(&y, 0, whole ? plain_integer(*c->ints) : plain_real(number));
    return y;
}

plain_array plain_zeros(const plain_call *c) {
    return plain_new(c->run, c->dtype, (int32_t)c->int_count, c->ints);
}

plain_array plain_arange(const plain_call *c) {
    plain_array y = plain_new(c->run, c->dtype, 1, c->ints);
    for (int64_t i = 0; i < y.count; i++) plain_set(&y, i, plain_integer(i));
    return y;
}

// C's conversion, which knows no float outside of an integer type.
static emlx_number converted(plain_run *run, emlx_number x, mlx_dtype to) {
    emlx_type type = plain_type(to);
    if (to == MLX_DTYPE_bool) return plain_integer(x.as.u != 0);
    if (type_is_integer(type) && x.kind == EMLX_NUMBER_REAL) {
        bool sign = type_class_of(type) == CLASS_SIGNED;
        double limit = ldexp(1, type_table[type].bits - sign), whole = trunc(x.as.f[0]);
        if (!(whole >= (sign ? -limit : 0) && whole < limit))
            plain_refuse(run, "%g is none of %s", x.as.f[0], type_table[type].name);
    }
    // By way of f32.
    bool whole = x.kind <= EMLX_NUMBER_UNSIGNED;
    if (whole && (to == MLX_DTYPE_f16 || to == MLX_DTYPE_bf16))
        return plain_real(x.kind == EMLX_NUMBER_SIGNED ? (float)x.as.s : (float)x.as.u);
    return x;
}

plain_array plain_astype(const plain_call *c) {
    plain_array y = plain_new(c->run, c->dtype, c->in->rank, c->in->dims);
    if (c->in->dtype == MLX_DTYPE_c64 && c->dtype != MLX_DTYPE_c64)
        plain_refuse(c->run, "a complex number made real");
    for (int64_t i = 0; i < y.count; i++)
        plain_set(&y, i, converted(c->run, plain_get(c->in, i), c->dtype));
    return y;
}

plain_array plain_view(const plain_call *c) {
    if (plain_size(c->dtype) != plain_size(c->in->dtype))
        plain_refuse(c->run, "a view of elements of another size");
    plain_array y = *c->in;
    y.dtype = c->dtype;
    return y;
}

plain_array plain_from_fp8(const plain_call *c) {
    plain_array y = plain_new(c->run, c->dtype, c->in->rank, c->in->dims);
    for (int64_t i = 0; i < y.count; i++)
        plain_set(&y, i, type_load(EMLX_F8_E4M3FN, c->in->data + i));
    return y;
}

// Functions of each element, whose operands broadcast --------------------------------------------

static void join_shapes(const plain_call *c, plain_array *y) {
    for (uint32_t o = 0; o < c->count; o++)
        if (c->in[o].rank > y->rank) y->rank = c->in[o].rank;
    for (int32_t d = 0; d < y->rank; d++) y->dims[d] = 1;
    for (uint32_t o = 0; o < c->count; o++) {
        int32_t skip = y->rank - c->in[o].rank;
        for (int32_t d = skip; d < y->rank; d++) {
            int64_t own = c->in[o].dims[d - skip], *dim = &y->dims[d];
            if (own != 1 && *dim != 1 && own != *dim)
                plain_refuse(c->run, "shapes that do not fit");
            if (own != 1) *dim = own;
        }
    }
}

static int64_t element_of(const plain_array *a, int32_t rank, const int64_t *index) {
    int64_t at = 0;
    for (int32_t d = 0; d < a->rank; d++)
        at = at * a->dims[d] + (a->dims[d] == 1 ? 0 : index[rank - a->rank + d]);
    return at;
}

typedef emlx_number (*element_fn)(const plain_call *c, const emlx_number *x);

static plain_array each_element(const plain_call *c, mlx_dtype dtype, element_fn fn) {
    int64_t index[MLX_MAX_RANK] = {0}, at = 0;
    emlx_number x[3];
    plain_array y = {0};
    join_shapes(c, &y);
    y = plain_new(c->run, dtype, y.rank, y.dims);
    if (y.count == 0) return y;
    do {
        for (uint32_t o = 0; o < c->count; o++)
            x[o] = plain_get(&c->in[o], element_of(&c->in[o], y.rank, index));
        plain_set(&y, at++, fn(c, x));
    } while (plain_next(index, y.rank, y.dims));
    return y;
}

static void same_types(const plain_call *c, uint32_t first) {
    for (uint32_t o = first + 1; o < c->count; o++)
        if (c->in[o].dtype != c->in[first].dtype)
            plain_refuse(c->run, "instruction %d of two types", c->code);
}

static emlx_number one_of(const plain_call *c, const emlx_number *x) {
    return plain_unary(c, x[0]);
}
static emlx_number two_of(const plain_call *c, const emlx_number *x) {
    return plain_binary(c->run, c->code, plain_type(c->in->dtype), x[0], x[1]);
}
static emlx_number chosen(const plain_call *c, const emlx_number *x) {
    (void)c;
    return x[0].as.u != 0 ? x[1] : x[2];
}
static emlx_number paired(const plain_call *c, const emlx_number *x) {
    (void)c;
    return (emlx_number){.kind = EMLX_NUMBER_COMPLEX, .as.f = {x[0].as.f[0], x[1].as.f[0]}};
}

// Tests give a bool, parts of complex numbers an f32, others their operand's type.
static mlx_dtype type_given(const plain_call *c) {
    bool test = c->code == MLX_isnan || c->code == MLX_isinf ||
                (c->code >= MLX_equal && c->code <= MLX_logical_and);
    bool part = c->code == MLX_abs || c->code == MLX_real || c->code == MLX_imag;
    if (test) return MLX_DTYPE_bool;
    return part && c->in->dtype == MLX_DTYPE_c64 ? MLX_DTYPE_f32 : c->in->dtype;
}

plain_array plain_map(const plain_call *c) {
    if (c->code == MLX_matmul) return plain_matmul(c);
    same_types(c, 0);
    bool logical = c->code == MLX_logical_or || c->code == MLX_logical_and;
    if (logical && c->in->dtype != MLX_DTYPE_bool) plain_refuse(c->run, "logic of no bools");
    return each_element(c, type_given(c), c->count == 1 ? one_of : two_of);
}

plain_array plain_where(const plain_call *c) {
    same_types(c, 1);
    if (c->in->dtype != MLX_DTYPE_bool) plain_refuse(c->run, "a condition that is no bool");
    return each_element(c, c->in[1].dtype, chosen);
}

plain_array plain_pair(const plain_call *c) {
    same_types(c, 0);
    if (c->in->dtype != MLX_DTYPE_f32) plain_refuse(c->run, "complex parts that are not f32");
    return each_element(c, MLX_DTYPE_c64, paired);
}
