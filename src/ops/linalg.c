// SPDX-License-Identifier: Apache-2.0
// linalg.c - linear algebra: checks, and lowerings into routines.
#include "ops/make.h"

#include <float.h>
#include <string.h>

// Rows or columns of a matrix, at most: LAPACK counts its working memory in 32 bits.
#define LONGEST 16384
// Matrices of up to this many elements are computed in double whatever their type: it costs little
// and rounds once.
#define SMALL_MATRIX 4096
// Elements looked at when they are already known, so that a singular matrix is reported at the
// call.
#define CHECKED_NOW 65536

// Checks ------------------------------------------------------------------------------------

// A batch of matrices.
typedef struct matrices {
    emlx_shape batch;
    int64_t rows, columns;
} matrices;

static emlx_status find_matrices(const op_call *call, matrices *found, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    char text[SHAPE_TEXT];
    if (shape->rank < 2)
        return error_set(err, EMLX_INVALID, "at least 2 axes are expected, got shape %s",
                         shape_print(shape, text));
    found->batch = *shape;
    found->batch.rank -= 2;
    found->rows = shape->dims[shape->rank - 2];
    found->columns = shape->dims[shape->rank - 1];
    if (found->rows == 0 || found->columns == 0)
        return error_set(err, EMLX_INVALID, "matrices without elements, of shape %s",
                         shape_print(shape, text));
    if (found->rows > LONGEST || found->columns > LONGEST)
        return error_set(err, EMLX_UNSUPPORTED, "matrices have at most %d rows or columns, got %s",
                         LONGEST, shape_print(shape, text));
    return EMLX_OK;
}

static emlx_status find_square(const op_call *call, matrices *found, emlx_error *err) {
    char text[SHAPE_TEXT];
    TRY(find_matrices(call, found, err));
    if (found->rows == found->columns) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "square matrices are expected, got shape %s",
                     shape_print(operand_shape(call, 0), text));
}

// A result of float type: the batch's axes and those in `dims`.
static emlx_status set_result(const op_call *call, const matrices *m, const int64_t *dims,
                              int32_t rank, op_result *result, emlx_error *err) {
    emlx_shape shape = m->batch;
    for (int32_t d = 0; d < rank; d++) shape.dims[shape.rank++] = dims[d];
    result->type = type_floating(operand_type(call, 0));
    result->choice = CHOOSE_FLOAT;
    return emlx_shape_make(shape.dims, (size_t)shape.rank, &result->shape, err);
}

static emlx_status set_matrix(const op_call *call, const matrices *m, int64_t rows, int64_t columns,
                              op_result *result, emlx_error *err) {
    return set_result(call, m, (int64_t[]){rows, columns}, 2, result, err);
}

emlx_status check_square(const op_call *call, op_result *result, emlx_error *err) {
    matrices m;
    TRY(find_square(call, &m, err));
    return set_matrix(call, &m, m.rows, m.columns, result, err);
}

emlx_status check_determinant(const op_call *call, op_result *result, emlx_error *err) {
    matrices m;
    TRY(find_square(call, &m, err));
    return set_result(call, &m, NULL, 0, result, err);
}

static bool same_batch(const emlx_shape *a, const emlx_shape *b) {
    for (int32_t d = 0; d < a->rank; d++)
        if (a->dims[d] != b->dims[d]) return false;
    return true;
}

// Whether the second operand is one vector for each matrix; it is read so wherever it can be.
static bool is_vectors(const op_call *call, const matrices *m) {
    const emlx_shape *b = operand_shape(call, 1);
    return b->rank == m->batch.rank + 1 && same_batch(&m->batch, b) &&
           b->dims[b->rank - 1] == m->rows;
}

emlx_status check_solve(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *a = operand_shape(call, 0), *b = operand_shape(call, 1);
    bool left = attr_int(call, "left_side", 1);
    const char *transform = attr_text(call, "transform_a", "none");
    char texts[2][SHAPE_TEXT];
    matrices m;
    TRY(find_square(call, &m, err));
    if (strcmp(transform, "none") != 0 && strcmp(transform, "transpose") != 0 &&
        strcmp(transform, "conjugate") != 0)
        return error_set(err, EMLX_INVALID, "transform_a is none, transpose or conjugate, not %s",
                         transform);
    bool fits = b->rank == a->rank && same_batch(&m.batch, b) &&
                b->dims[b->rank - (left ? 2 : 1)] == m.rows;
    if (!fits && !is_vectors(call, &m))
        return error_set(err, EMLX_INVALID, "%s %s do not fit the matrices %s",
                         left ? "right sides" : "left sides", shape_print(b, texts[0]),
                         shape_print(a, texts[1]));
    int64_t other = b->rank == a->rank ? b->dims[b->rank - (left ? 1 : 2)] : 1;
    if (other > LONGEST)
        return error_set(err, EMLX_UNSUPPORTED, "matrices have at most %d rows or columns, got %s",
                         LONGEST, shape_print(b, texts[0]));
    result->type = type_floating(type_merge(operand_type(call, 0), operand_type(call, 1)));
    result->choice = CHOOSE_FLOAT;
    result->shape = *b;
    return EMLX_OK;
}

// Whether the orthogonal factors are to be square.
static bool wants_full(const op_call *call) {
    if (call->op->code == ROUTINE_svd) return attr_int(call, "full_matrices?", 1);
    return strcmp(attr_text(call, "mode", "reduced"), "complete") == 0;
}

emlx_status check_qr(const op_call *call, op_result *result, emlx_error *err) {
    const char *mode = attr_text(call, "mode", "reduced");
    matrices m;
    TRY(find_matrices(call, &m, err));
    if (!wants_full(call) && strcmp(mode, "reduced") != 0)
        return error_set(err, EMLX_INVALID, "mode is reduced or complete, not %s", mode);
    int64_t inner = wants_full(call) || m.rows < m.columns ? m.rows : m.columns;
    TRY(set_matrix(call, &m, m.rows, inner, &result[0], err));
    return set_matrix(call, &m, inner, m.columns, &result[1], err);
}

emlx_status check_lu(const op_call *call, op_result *result, emlx_error *err) {
    matrices m;
    TRY(find_square(call, &m, err));
    for (int i = 0; i < 3; i++) TRY(set_matrix(call, &m, m.rows, m.rows, &result[i], err));
    result[0].type = operand_type(call, 0);
    result[0].choice = CHOOSE_ANY;
    return EMLX_OK;
}

emlx_status check_eigh(const op_call *call, op_result *result, emlx_error *err) {
    matrices m;
    TRY(find_square(call, &m, err));
    TRY(set_result(call, &m, &m.rows, 1, &result[0], err));
    return set_matrix(call, &m, m.rows, m.rows, &result[1], err);
}

emlx_status check_svd(const op_call *call, op_result *result, emlx_error *err) {
    matrices m;
    TRY(find_matrices(call, &m, err));
    if (type_is_complex(operand_type(call, 0)))
        return error_set(err, EMLX_UNSUPPORTED, "there is no decomposition of %s matrices",
                         emlx_type_name(operand_type(call, 0)));
    int64_t inner = m.rows < m.columns ? m.rows : m.columns;
    bool full = wants_full(call);
    TRY(set_matrix(call, &m, m.rows, full ? m.rows : inner, &result[0], err));
    TRY(set_result(call, &m, &inner, 1, &result[1], err));
    return set_matrix(call, &m, full ? m.columns : inner, m.columns, &result[2], err);
}

// Lowerings ---------------------------------------------------------------------------------

// The type a routine computes in: f32 only where that is the result's and the matrices are large.
static emlx_type routine_type(const op_call *call, const op_result *result) {
    emlx_type type = type_floating(operand_type(call, 0));
    for (size_t i = 1; i < call->count; i++)
        type = type_floating(type_merge(type, operand_type(call, i)));
    type = type_merge(type, result->type);
    const emlx_shape *a = operand_shape(call, 0);
    bool small = a->dims[a->rank - 2] * a->dims[a->rank - 1] <= SMALL_MATRIX;
    if (type_is_complex(type)) return small || type == EMLX_C128 ? EMLX_C128 : EMLX_C64;
    return small || type == EMLX_F64 ? EMLX_F64 : EMLX_F32;
}

// How much of the largest singular value rounding the matrix's elements may make of a zero: Nx's
// pseudo-inverse takes what is not zero for a singular value.
static double noise(const op_result *result) {
    bool wide = result->type == EMLX_F64 || result->type == EMLX_C128;
    return 4 * (wide ? DBL_EPSILON : FLT_EPSILON);
}

// The code says which routine.
static emlx_tensor *make_routine(maker *m, const op_call *call, const op_result *result,
                                 int64_t flags, const emlx_shape *shape) {
    routine_params params = {.kind = call->op->code,
                             .batch = operand_shape(call, 0)->rank - 2,
                             .flags = flags,
                             .tolerance = noise(result)};
    node_spec spec = {.primitive = PRIM_routine,
                      .type = routine_type(call, result),
                      .shape = *shape,
                      .params = &params,
                      .params_size = sizeof params,
                      .input_count = call->count};
    emlx_tensor *inputs[2] = {NULL, NULL};
    for (size_t i = 0; i < call->count; i++) inputs[i] = make_cast(m, call->in[i], spec.type);
    spec.inputs = inputs;
    return m->status == EMLX_OK ? make_node(m, &spec) : NULL;
}

static emlx_status lower_one(const op_call *call, const op_result *result, int64_t flags,
                             emlx_tensor **out, emlx_error *err) {
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_routine(&m, call, result, flags, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status lower_routine(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    return lower_one(call, result, 0, out, err);
}

static int64_t vector_flag(const op_call *call) {
    const emlx_shape *a = operand_shape(call, 0);
    matrices m = {.batch = *a, .rows = a->dims[a->rank - 1], .columns = a->dims[a->rank - 1]};
    m.batch.rank -= 2;
    return is_vectors(call, &m) ? ROUTINE_VECTOR : 0;
}

emlx_status lower_solve(const op_call *call, const op_result *result, emlx_tensor **out,
                        emlx_error *err) {
    return lower_one(call, result, vector_flag(call), out, err);
}

static bool is_zero(emlx_type type, const void *data, size_t index) {
    emlx_number n = type_load(type, (const char *)data + index * type_size(type));
    if (n.kind == EMLX_NUMBER_SIGNED || n.kind == EMLX_NUMBER_UNSIGNED) return n.as.u == 0;
    return n.as.f[0] == 0 && (n.kind == EMLX_NUMBER_REAL || n.as.f[1] == 0);
}

// Reports a zero on the diagonal at once when the matrices are known. The engine looks for others.
static emlx_status check_known(const op_call *call, emlx_error *err) {
    const emlx_tensor *a = call->in[0];
    const void *data;
    size_t count, n = (size_t)a->shape.dims[a->shape.rank - 1];
    scalar_value room;
    if (!known_values(a, CHECKED_NOW, &data, &count, &room)) return EMLX_OK;
    bool constant = a->primitive == PRIM_constant;
    for (size_t i = 0; i < count; i++)
        if ((constant || i / n % n == i % n) && is_zero(emlx_tensor_type(a), data, i))
            return guard_error(GUARD_TRIANGLE, NULL, err);
    return EMLX_OK;
}

emlx_status lower_triangular(const op_call *call, const op_result *result, emlx_tensor **out,
                             emlx_error *err) {
    const char *transform = attr_text(call, "transform_a", "none");
    int64_t flags = vector_flag(call);
    if (!attr_int(call, "lower", 1)) flags |= ROUTINE_UPPER;
    if (!attr_int(call, "left_side", 1)) flags |= ROUTINE_RIGHT;
    if (strcmp(transform, "transpose") == 0) flags |= ROUTINE_TRANSPOSE;
    if (strcmp(transform, "conjugate") == 0) flags |= ROUTINE_CONJUGATE;
    TRY(check_known(call, err));
    return lower_one(call, result, flags, out, err);
}

// Elements that a result has for each element of the batch.
static int64_t part_length(const op_result *result, int32_t batch) {
    int64_t length = 1;
    for (int32_t d = batch; d < result->shape.rank; d++) length *= result->shape.dims[d];
    return length;
}

// The result that lies from `start` on in what a routine has packed.
static emlx_tensor *take_part(maker *m, emlx_tensor *packed, int64_t start, int64_t length,
                              const op_result *result) {
    if (packed == NULL) return NULL;
    emlx_shape shape = packed->shape;
    int64_t starts[EMLX_MAX_RANK] = {0}, steps[EMLX_MAX_RANK];
    for (int32_t d = 0; d < shape.rank; d++) steps[d] = 1;
    starts[shape.rank - 1] = start;
    shape.dims[shape.rank - 1] = length;
    emlx_tensor *t = view_slice(m, packed, starts, steps, &shape);
    return make_cast(m, view_reshape(m, t, &result->shape), result->type);
}

// Several results of one routine.
emlx_status lower_factors(const op_call *call, const op_result *result, emlx_tensor **out,
                          emlx_error *err) {
    int32_t batch = operand_shape(call, 0)->rank - 2;
    emlx_tensor *parts[EMLX_MAX_RESULTS];
    emlx_shape packed = *operand_shape(call, 0);
    packed.dims[batch] = 0;
    for (size_t i = 0; i < call->op->results; i++)
        packed.dims[batch] += part_length(&result[i], batch);
    TRY(emlx_shape_make(packed.dims, (size_t)batch + 1, &packed, err));
    maker m;
    make_start(&m, call, &packed, err);
    // Permutations are given in the operand's type; the factors say what to compute in.
    const op_result *last = &result[call->op->results - 1];
    emlx_tensor *t = make_routine(&m, call, last, wants_full(call) ? ROUTINE_FULL : 0, &packed);
    int64_t start = 0;
    for (size_t i = 0; i < call->op->results; i++) {
        int64_t length = part_length(&result[i], batch);
        parts[i] = take_part(&m, t, start, length, &result[i]);
        start += length;
    }
    return make_done_all(&m, parts, call->op->results, out);
}
