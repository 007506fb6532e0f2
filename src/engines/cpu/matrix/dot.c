// SPDX-License-Identifier: Apache-2.0
// dot.c - contractions as batches of matrix products: BLAS for floats and complex numbers, the
// inner loops of convolutions for integers, and plain loops for what is too small for either to
// pay.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/run.h"

// Up to this many multiplications, a loop that accumulates in double is as quick as BLAS.
#define SMALL_WORK 4096
// Multiplications of one parallel task.
#define TASK_WORK (1 << 21)
// Blocks of one product, at most.
#define MOST_PARTS 64
// Rows or columns of a block, whichever are more, at least, and twice that of the others: BLAS
// rearranges both sides once for every block.
#define LEAST_BLOCK 256

// One side as matrices: element (b, r, c) of batch b, row r, column c.
typedef struct side {
    const char *data;
    emlx_type type;
    int32_t batch_rank, row_rank, column_rank;
    int64_t batch_dims[EMLX_MAX_RANK], batch_strides[EMLX_MAX_RANK];
    int64_t row_dims[EMLX_MAX_RANK], row_strides[EMLX_MAX_RANK];
    int64_t column_dims[EMLX_MAX_RANK], column_strides[EMLX_MAX_RANK];
    int64_t rows, columns;
    int64_t row_step, column_step; // when the matrix is two strides; see find_steps
    void *packed;
    size_t packed_size;
} side;

typedef struct dot_work {
    const cpu_run *run;
    emlx_type type; // in which it is computed
    side left, right;
    int64_t batches, m, n, k;
    char *out;
    int64_t row_block, row_blocks, column_block, column_blocks;
} dot_work;

// Axes ------------------------------------------------------------------------------------------

static void add_axis(int64_t *dims, int64_t *strides, int32_t *rank, int64_t *count, int64_t dim,
                     int64_t stride) {
    *count *= dim;
    if (dim == 1) return;
    int32_t last = *rank - 1;
    if (last >= 0 && strides[last] == stride * dim) {
        dims[last] *= dim;
        strides[last] = stride;
        return;
    }
    dims[*rank] = dim;
    strides[(*rank)++] = stride;
}

static bool contains(const int32_t *axes, int32_t count, int32_t axis) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == axis) return true;
    return false;
}

// Batch axes lead; contracted axes become columns, the others rows.
static void find_side(const cpu_run *run, uint32_t operand, const int32_t *contracted, side *s) {
    const plan_kernel *kernel = run->call->kernel;
    const dot_params *p = kernel->params;
    const plan_access *a = &kernel->accesses[operand];
    const emlx_shape *shape = &kernel->shapes[operand];
    int64_t batches = 1;
    *s = (side){.data = operand_data(run, operand), .type = a->type, .rows = 1, .columns = 1};
    for (int32_t d = 0; d < p->batch; d++)
        add_axis(s->batch_dims, s->batch_strides, &s->batch_rank, &batches, shape->dims[d],
                 a->strides[d]);
    for (int32_t d = p->batch; d < shape->rank; d++)
        if (!contains(contracted, p->contracted, d))
            add_axis(s->row_dims, s->row_strides, &s->row_rank, &s->rows, shape->dims[d],
                     a->strides[d]);
    for (int32_t i = 0; i < p->contracted; i++)
        add_axis(s->column_dims, s->column_strides, &s->column_rank, &s->columns,
                 shape->dims[contracted[i]], a->strides[contracted[i]]);
}

// Whether BLAS can read the matrix where it is: one step between rows, one between columns, one of
// them 1 and the other at least as long as what it steps over.
static bool find_steps(side *s) {
    if (s->row_rank > 1 || s->column_rank > 1) return false;
    s->row_step = s->row_rank == 1 ? s->row_strides[0] : s->columns;
    s->column_step = s->column_rank == 1 ? s->column_strides[0] : 1;
    if (s->row_rank == 0 && s->column_step != 1) s->row_step = 1;
    bool by_rows = s->column_step == 1 && s->row_step >= s->columns;
    bool by_columns = s->row_step == 1 && s->column_step >= s->rows;
    int64_t longest = s->row_step > s->column_step ? s->row_step : s->column_step;
    return (by_rows || by_columns) && longest <= INT32_MAX;
}

// Packing ---------------------------------------------------------------------------------------

typedef struct pack_work {
    const dot_work *dot;
    const side *from;
    char *to;
} pack_work;

static void pack_row(void *context, int64_t index) {
    const pack_work *w = context;
    const side *s = w->from;
    const cpu_kernels *kernels = w->dot->run->kernels;
    size_t size = type_size(s->type), out_size = type_size(w->dot->type);
    tile_fn cast = kernels->cast[s->type][w->dot->type];
    stride_fn gather = kernels->gather[__builtin_ctzl(size)];
    int64_t offset = axis_offset(s->batch_dims, s->batch_strides, s->batch_rank, index / s->rows) +
                     axis_offset(s->row_dims, s->row_strides, s->row_rank, index % s->rows);
    int64_t inner = s->column_rank > 0 ? s->column_dims[s->column_rank - 1] : 1;
    int64_t stride = s->column_rank > 0 ? s->column_strides[s->column_rank - 1] : 1;
    char *to = w->to + index * s->columns * (int64_t)out_size, few[2048];
    int64_t room = (int64_t)(sizeof few / size);
    for (int64_t c = 0; c < s->columns;) {
        int64_t left = inner - c % inner;
        int64_t from = offset + axis_offset(s->column_dims, s->column_strides, s->column_rank, c);
        if (cast != NULL && left > room) left = room;
        char *target = to + c * (int64_t)out_size;
        gather(cast != NULL ? few : target, s->data + from * (int64_t)size, stride, (size_t)left);
        if (cast != NULL) cast(target, few, NULL, NULL, (size_t)left);
        c += left;
    }
}

// Copies a side into dense [batch, row, column] of the computed type.
static emlx_status pack(const dot_work *w, side *s, emlx_error *err) {
    int64_t rows = w->batches * s->rows;
    s->packed_size = (size_t)(rows * s->columns) * type_size(w->type);
    TRY(pool_alloc(s->packed_size, &s->packed, err));
    pack_work work = {w, s, s->packed};
    if (s->columns > 0) TRY(run_tasks(w->run, rows, pack_row, &work, err));
    s->data = s->packed;
    s->row_step = s->columns;
    s->column_step = 1;
    s->batch_rank = 1;
    s->batch_dims[0] = w->batches;
    s->batch_strides[0] = s->rows * s->columns;
    return EMLX_OK;
}

// Products --------------------------------------------------------------------------------------

// One block of one product: addresses of its first elements.
typedef struct block {
    const char *a, *b;
    char *c;
    int64_t m, n;
} block;

static block find_block(const dot_work *w, int64_t index) {
    int64_t column = index % w->column_blocks * w->column_block;
    int64_t row = index / w->column_blocks % w->row_blocks * w->row_block;
    int64_t batch = index / w->column_blocks / w->row_blocks;
    const side *l = &w->left, *r = &w->right;
    int64_t size = (int64_t)type_size(w->type);
    int64_t a = axis_offset(l->batch_dims, l->batch_strides, l->batch_rank, batch);
    int64_t b = axis_offset(r->batch_dims, r->batch_strides, r->batch_rank, batch);
    block found = {.a = l->data + (a + row * l->row_step) * size,
                   .b = r->data + (b + column * r->row_step) * size,
                   .c = w->out + ((batch * w->m + row) * w->n + column) * size};
    found.m = w->m - row < w->row_block ? w->m - row : w->row_block;
    found.n = w->n - column < w->column_block ? w->n - column : w->column_block;
    return found;
}

// A product as BLAS wants it: the right side is held as [n, k], so that it sees its transpose. With
// one row or column the other side is a matrix and that one a vector, whose elements are `apart`.
typedef struct blas_product {
    CBLAS_TRANSPOSE ta, tb;
    int m, n, k, lda, ldb, ldc, apart;
} blas_product;

#define REAL_PRODUCT(name, T, gemm, gemv)                                                          \
    static void name(const blas_product *p, const void *a, const void *b, void *c) {               \
        gemm(CblasRowMajor, p->ta, p->tb, p->m, p->n, p->k, 1, (const T *)a, p->lda, (const T *)b, \
             p->ldb, 0, (T *)c, p->ldc);                                                           \
    }                                                                                              \
    static void name##_vector(const blas_product *p, const void *a, const void *x, void *y) {      \
        gemv(CblasRowMajor, p->ta, p->m, p->n, 1, (const T *)a, p->lda, (const T *)x, p->apart, 0, \
             (T *)y, 1);                                                                           \
    }
#define COMPLEX_PRODUCT(name, T, gemm, gemv)                                                       \
    static void name(const blas_product *p, const void *a, const void *b, void *c) {               \
        const T one[2] = {1, 0}, zero[2] = {0, 0};                                                 \
        gemm(CblasRowMajor, p->ta, p->tb, p->m, p->n, p->k, one, a, p->lda, b, p->ldb, zero, c,    \
             p->ldc);                                                                              \
    }                                                                                              \
    static void name##_vector(const blas_product *p, const void *a, const void *x, void *y) {      \
        const T one[2] = {1, 0}, zero[2] = {0, 0};                                                 \
        gemv(CblasRowMajor, p->ta, p->m, p->n, one, a, p->lda, x, p->apart, zero, y, 1);           \
    }
REAL_PRODUCT(blas_f32, float, cblas_sgemm, cblas_sgemv)
REAL_PRODUCT(blas_f64, double, cblas_dgemm, cblas_dgemv)
COMPLEX_PRODUCT(blas_c64, float, cblas_cgemm, cblas_cgemv)
COMPLEX_PRODUCT(blas_c128, double, cblas_zgemm, cblas_zgemv)

typedef void (*blas_fn)(const blas_product *p, const void *a, const void *b, void *c);
static const struct {
    blas_fn product, vector;
} blas_products[EMLX_TYPE_COUNT] = {
    [EMLX_F32] = {blas_f32, blas_f32_vector},
    [EMLX_F64] = {blas_f64, blas_f64_vector},
    [EMLX_C64] = {blas_c64, blas_c64_vector},
    [EMLX_C128] = {blas_c128, blas_c128_vector},
};

static void blas_block(void *context, int64_t index) {
    const dot_work *w = context;
    const side *l = &w->left, *r = &w->right;
    block x = find_block(w, index);
    bool l_rows = l->column_step == 1, r_rows = r->column_step == 1;
    blas_product p = {.ta = l_rows ? CblasNoTrans : CblasTrans,
                      .tb = r_rows ? CblasTrans : CblasNoTrans,
                      .m = (int)x.m,
                      .n = (int)x.n,
                      .k = (int)w->k,
                      .lda = (int)(l_rows ? l->row_step : l->column_step),
                      .ldb = (int)(r_rows ? r->row_step : r->column_step),
                      .ldc = (int)w->n};
    blas_products[w->type].product(&p, x.a, x.b, x.c);
}

// Where one side is a vector: BLAS would copy the matrix first, which takes longer than reading it.
static void blas_vector_block(void *context, int64_t index) {
    const dot_work *w = context;
    block x = find_block(w, index);
    bool left = w->n == 1;
    const side *s = left ? &w->left : &w->right, *vector = left ? &w->right : &w->left;
    int rows = (int)(left ? x.m : x.n);
    bool by_rows = s->column_step == 1;
    blas_product p = {.ta = by_rows ? CblasNoTrans : CblasTrans,
                      .m = by_rows ? rows : (int)w->k,
                      .n = by_rows ? (int)w->k : rows,
                      .lda = (int)(by_rows ? s->row_step : s->column_step),
                      .apart = (int)vector->column_step};
    blas_products[w->type].vector(&p, left ? x.a : x.b, left ? x.b : x.a, x.c);
}

#define TIMES(x, y) ((x) * (y))
#define ELEMENT float
#define WIDE double
#define PRODUCT product_f32
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT double
#define WIDE double
#define PRODUCT product_f64
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT uint8_t
#define WIDE uint32_t
#define PRODUCT product_8
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT uint16_t
#define WIDE uint32_t
#define PRODUCT product_16
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT uint32_t
#define WIDE uint32_t
#define PRODUCT product_32
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT uint64_t
#define WIDE uint64_t
#define PRODUCT product_64
#include "engines/cpu/matrix/dot_loop.inc"
#undef TIMES

#define TIMES(x, y) pair_times(x, y)
#define ELEMENT float _Complex
#define WIDE pair
#define PRODUCT product_c64
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT double _Complex
#define WIDE pair
#define PRODUCT product_c128
#include "engines/cpu/matrix/dot_loop.inc"
#undef TIMES

// Two's complement products wrap alike for both signs.
static void (*const products[EMLX_TYPE_COUNT])(const dot_work *, const block *) = {
    [EMLX_U8] = product_8,    [EMLX_S8] = product_8,    [EMLX_U16] = product_16,
    [EMLX_S16] = product_16,  [EMLX_U32] = product_32,  [EMLX_S32] = product_32,
    [EMLX_U64] = product_64,  [EMLX_S64] = product_64,  [EMLX_F32] = product_f32,
    [EMLX_F64] = product_f64, [EMLX_C64] = product_c64, [EMLX_C128] = product_c128,
};

static void loop_block(void *context, int64_t index) {
    const dot_work *w = context;
    block x = find_block(w, index);
    products[w->type](w, &x);
}

// Integers: a few rows of a strip of columns are summed at a time, a few terms after another, so
// that what is read over and over stays in the first-level cache. The right side's columns lie side
// by side.
enum { STRIP = 64, STRIP_ROWS = 64, TERMS = 64, LEAST_STRIP = 8 };

typedef struct strip {
    const dot_work *w;
    const conv_fns *fns;
    size_t size, sum_size;
    const char *a; // its first row
    int64_t rows, columns;
    const void *terms[TERMS]; // where the columns of each begin
    uint64_t weights[TERMS];
    _Alignas(64) char sums[STRIP_ROWS * STRIP * sizeof(uint64_t)];
} strip;

// Adds terms `from` on, `count` of them, to the sums of all rows.
static void add_terms(strip *s, const char *b, int64_t from, int64_t count) {
    const side *l = &s->w->left, *r = &s->w->right;
    for (int64_t t = 0; t < count; t++)
        s->terms[t] = b + (from + t) * r->column_step * (int64_t)s->size;
    for (int64_t i = 0; i < s->rows; i++) {
        const char *a = s->a + (i * l->row_step + from * l->column_step) * (int64_t)s->size;
        memset(s->weights, 0, sizeof s->weights);
        for (int64_t t = 0; t < count; t++)
            memcpy(&s->weights[t], a + t * l->column_step * (int64_t)s->size, s->size);
        s->fns->rows(s->sums + (size_t)i * STRIP * s->sum_size, s->terms, s->weights, (size_t)count,
                     1, (size_t)s->columns);
    }
}

static void sum_strip(strip *s, const char *b, char *c) {
    const dot_work *w = s->w;
    memset(s->sums, 0, sizeof s->sums);
    for (int64_t k = 0; k < w->k; k += TERMS)
        add_terms(s, b, k, w->k - k < TERMS ? w->k - k : TERMS);
    tile_fn cast = w->run->kernels->cast[s->fns->sum][w->type];
    for (int64_t i = 0; i < s->rows; i++)
        cast(c + i * w->n * (int64_t)s->size, s->sums + (size_t)i * STRIP * s->sum_size, NULL, NULL,
             (size_t)s->columns);
}

static void strip_block(void *context, int64_t index) {
    const dot_work *w = context;
    block x = find_block(w, index);
    strip s = {.w = w, .fns = &w->run->kernels->conv[w->type], .size = type_size(w->type)};
    s.sum_size = type_size(s.fns->sum);
    for (int64_t i = 0; i < x.m; i += STRIP_ROWS) {
        s.rows = x.m - i < STRIP_ROWS ? x.m - i : STRIP_ROWS;
        s.a = x.a + i * w->left.row_step * (int64_t)s.size;
        for (int64_t j = 0; j < x.n; j += STRIP) {
            s.columns = x.n - j < STRIP ? x.n - j : STRIP;
            sum_strip(&s, x.b + j * (int64_t)s.size, x.c + (i * w->n + j) * (int64_t)s.size);
        }
    }
}

// The length of blocks when an axis is to be cut into so many parts: a multiple of 16 for BLAS.
static int64_t block_length(int64_t length, double parts, int64_t least) {
    int64_t block = parts > 1 ? (int64_t)((double)length / parts) / 16 * 16 : length;
    if (block < least) block = least;
    return block < length ? block : length;
}

// Blocks have a size that depends on the product alone. The longer axis is cut first.
static void cut(dot_work *w) {
    double parts = (double)w->m * (double)w->n * (double)w->k / TASK_WORK;
    if (parts > MOST_PARTS) parts = MOST_PARTS;
    bool tall = w->m >= w->n;
    int64_t *first = tall ? &w->row_block : &w->column_block;
    int64_t *second = tall ? &w->column_block : &w->row_block;
    int64_t length = tall ? w->m : w->n;
    *first = block_length(length, parts, LEAST_BLOCK);
    *second =
        block_length(tall ? w->n : w->m, parts * (double)*first / (double)length, 2 * LEAST_BLOCK);
    w->row_blocks = (w->m - 1) / w->row_block + 1;
    w->column_blocks = (w->n - 1) / w->column_block + 1;
}

static bool fits_blas(const dot_work *w) {
    return w->m <= INT32_MAX && w->n <= INT32_MAX && w->k <= INT32_MAX;
}

static pool_body choose(const dot_work *w) {
    bool small = (double)w->m * (double)w->n * (double)w->k <= SMALL_WORK;
    if (blas_products[w->type].product != NULL && !small && fits_blas(w))
        return w->m == 1 || w->n == 1 ? blas_vector_block : blas_block;
    if (type_is_integer(w->type) && !small && w->n >= LEAST_STRIP) return strip_block;
    return products[w->type] != NULL ? loop_block : NULL;
}

static void swap_axes(side *s) {
    side was = *s;
    s->row_rank = was.column_rank;
    s->column_rank = was.row_rank;
    memcpy(s->row_dims, was.column_dims, sizeof s->row_dims);
    memcpy(s->column_dims, was.row_dims, sizeof s->column_dims);
    memcpy(s->row_strides, was.column_strides, sizeof s->row_strides);
    memcpy(s->column_strides, was.row_strides, sizeof s->column_strides);
    s->rows = was.columns;
    s->columns = was.rows;
    s->row_step = was.column_step;
    s->column_step = was.row_step;
}

// A side that cannot be read where it is, is copied; for strips so that its rows lie side by side.
static emlx_status make_ready(const dot_work *w, side *s, bool side_by_side, emlx_error *err) {
    bool in_place = s->type == w->type && find_steps(s);
    if (in_place && (!side_by_side || s->row_step == 1)) return EMLX_OK;
    if (!side_by_side) return pack(w, s, err);
    swap_axes(s);
    emlx_status status = pack(w, s, err);
    swap_axes(s);
    return status;
}

static emlx_status multiply(dot_work *w, emlx_error *err) {
    pool_body body = choose(w);
    if (body == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no product of %s",
                         emlx_type_name(w->type));
    TRY(make_ready(w, &w->left, false, err));
    TRY(make_ready(w, &w->right, body == strip_block, err));
    cut(w);
    if (body == blas_block) blas_ready(w->run, (double)w->m * (double)w->n * (double)w->k);
    return run_tasks(w->run, w->batches * w->row_blocks * w->column_blocks, body, w, err);
}

// Computes in the type that kernels hold values in, then rounds to the result's.
static emlx_status multiply_and_round(dot_work *w, emlx_error *err) {
    const plan_value *value = output_value(w->run);
    int64_t count = emlx_shape_count(&value->shape);
    w->out = output_data(w->run);
    if (w->type == value->type) return multiply(w, err);
    size_t size = (size_t)count * type_size(w->type);
    void *wide;
    TRY(pool_alloc(size, &wide, err));
    w->out = wide;
    emlx_status status = multiply(w, err);
    if (status == EMLX_OK)
        w->run->kernels->cast[w->type][value->type](output_data(w->run), wide, NULL, NULL,
                                                    (size_t)count);
    pool_free(wide, size);
    return status;
}

emlx_status run_dot(const cpu_run *run, emlx_error *err) {
    const dot_params *p = run->call->kernel->params;
    const plan_value *value = output_value(run);
    dot_work w = {.run = run, .type = type_compute(value->type)};
    int64_t count = emlx_shape_count(&value->shape);
    find_side(run, 0, p->left, &w.left);
    find_side(run, 1, p->right, &w.right);
    w.m = w.left.rows;
    w.n = w.right.rows;
    w.k = w.left.columns;
    if (count == 0) return EMLX_OK;
    w.batches = count / (w.m * w.n);
    if (w.k == 0) {
        memset(output_data(run), 0, value->bytes);
        return EMLX_OK;
    }
    emlx_status status = multiply_and_round(&w, err);
    if (w.left.packed != NULL) pool_free(w.left.packed, w.left.packed_size);
    if (w.right.packed != NULL) pool_free(w.right.packed, w.right.packed_size);
    return status;
}
