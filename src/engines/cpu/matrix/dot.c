// SPDX-License-Identifier: Apache-2.0
// dot.c - contractions as batches of matrix products: which way each goes, plain loops for what is
// too small for any other to pay, and BLAS for complex numbers and for floats where there is no
// kernel of our own.
#include <string.h>

#include "base/error.h"
#include "base/sanitize.h"
#include "base/types.h"
#include "engines/cpu/kernels/math/complex.h"
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/matrix/matrix.h"

// Up to this many multiplications, a loop that accumulates in double is as quick as the kernels.
#define SMALL_WORK 512
// Multiplications of one parallel task.
#define TASK_WORK (1 << 21)
// Blocks of one product, at most.
#define MOST_PARTS 64
// Rows or columns of a block, whichever are more, at least, and twice that of the others: BLAS
// rearranges both sides once for every block.
#define LEAST_BLOCK 256

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
    int64_t a = axes_offset(&l->batch, batch);
    int64_t b = axes_offset(&r->batch, batch);
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

#define TIMES(x, y) wide_times(x, y)
#define ELEMENT float _Complex
#define WIDE wide_complex
#define PRODUCT product_c64
#include "engines/cpu/matrix/dot_loop.inc"
#define ELEMENT double _Complex
#define WIDE wide_complex
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

// The length of blocks when an axis is to be cut into so many parts: a multiple of 16 for BLAS.
static int64_t block_length(int64_t length, double parts, int64_t least) {
    int64_t block = parts > 1 ? (int64_t)((double)length / parts) / 16 * 16 : length;
    if (block < least) block = least;
    return block < length ? block : length;
}

// Blocks have a size that depends on the product alone. The longer axis is cut first.
static void cut_result(dot_work *w) {
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

static bool is_small(const dot_work *w) {
    return (double)w->m * (double)w->n * (double)w->k <= SMALL_WORK;
}

static pool_body choose_block(const dot_work *w) {
    if (blas_products[w->type].product != NULL && !is_small(w) && fits_blas(w))
        return w->m == 1 || w->n == 1 ? blas_vector_block : blas_block;
    return products[w->type] != NULL ? loop_block : NULL;
}

// Whether BLAS can read the matrix where it is: one step between rows, one between columns, one of
// them 1 and the other at least as long as what it steps over.
static bool in_place(side *s) {
    if (!side_steps(s)) return false;
    bool by_rows = s->column_step == 1 && s->row_step >= s->columns;
    bool by_columns = s->row_step == 1 && s->column_step >= s->rows;
    int64_t longest = s->row_step > s->column_step ? s->row_step : s->column_step;
    return (by_rows || by_columns) && longest <= INT32_MAX;
}

static emlx_status multiply_blocks(dot_work *w, emlx_error *err) {
    pool_body body = choose_block(w);
    side *sides[2] = {&w->left, &w->right};
    if (body == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no product of %s",
                         emlx_type_name(w->type));
    for (int i = 0; i < 2; i++)
        if (sides[i]->type != w->type || !in_place(sides[i]))
            TRY(side_pack(w, sides[i], w->type, err));
    cut_result(w);
    MEMORY_WRITTEN(w->out, (size_t)(w->batches * w->m * w->n) * type_size(w->type)); // by BLAS
    if (body == blas_block) blas_ready(w->run, (double)w->m * (double)w->n * (double)w->k);
    return run_tasks(w->run, w->batches * w->row_blocks * w->column_blocks, body, w, err);
}

// Computes in the type that kernels hold values in, then rounds to the result's.
static emlx_status multiply_and_round(dot_work *w, emlx_error *err) {
    char *out = w->out;
    size_t count = (size_t)(w->batches * w->m * w->n), size = count * type_size(w->type);
    if (w->type == w->out_type) return multiply_blocks(w, err);
    void *wide;
    TRY(data_alloc(size, &wide, err));
    w->out = wide;
    emlx_status status = multiply_blocks(w, err);
    if (status == EMLX_OK)
        w->run->kernels->cast[w->type][w->out_type](out, wide, NULL, NULL, count);
    data_free(wide, size);
    return status;
}

// Floats where a matrix is read at its own width and no product is BLAS's, whose order of terms
// depends on how a matrix lies; bytes and halves where there are dot instructions for them.
bool cpu_widens(const emlx_device *device, emlx_type from, emlx_type type) {
    const cpu_kernels *kernels = device->state;
    const vector_fns *fns = &kernels->vector[from];
    if (type == EMLX_F32)
        return type_is_float(from) && fns->across != NULL && fns->sum == type &&
               kernels->product[type].tile != NULL;
    bool narrow = from == EMLX_U8 || from == EMLX_S8 || from == EMLX_S16;
    return type_is_integer(type) && type_size(type) >= 4 && narrow &&
           kernels->product[PRODUCT_HALVES].tile != NULL;
}

static emlx_status begin_work(dense_product *p, product_tasks *tasks, emlx_error *err) {
    dot_work *w = &p->dot;
    if (!is_small(w) && vector_can(w)) return vector_begin(w, &p->vector, tasks, err);
    if (!is_small(w) && product_can(w)) return product_multiply(w, err);
    return multiply_and_round(w, err);
}

emlx_status dense_begin(const cpu_run *run, dense_product *product, product_tasks *tasks,
                        emlx_error *err) {
    const dot_params *p = run->call->kernel->params;
    const plan_value *value = output_value(run);
    dot_work *w = &product->dot;
    *w = (dot_work){.run = run, .type = type_compute(value->type), .out_type = value->type};
    product->vector.sums = NULL;
    int64_t count = emlx_shape_count(&value->shape);
    side_find(run, 0, p->left, &w->left);
    side_find(run, 1, p->right, &w->right);
    w->out = output_data(run);
    w->m = w->left.rows;
    w->n = w->right.rows;
    w->k = w->left.columns;
    if (count == 0) return EMLX_OK;
    w->batches = count / (w->m * w->n);
    if (w->k > 0) return begin_work(product, tasks, err);
    memset(w->out, 0, value->bytes);
    return EMLX_OK;
}

emlx_status dense_end(dense_product *p, emlx_status status) {
    status = vector_end(&p->vector, status);
    side_clear(&p->dot.left);
    side_clear(&p->dot.right);
    return status;
}
