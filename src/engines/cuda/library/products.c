// SPDX-License-Identifier: Apache-2.0
// products.c - products of matrices by cuBLASLt. What it is asked for, and the algorithm, are
// chosen once a plan; f32 is computed in full f32 but where TF32 is allowed, integers exactly.
#include "engines/cuda/library/products.h"

#include <stdio.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/product/bytes.h"

typedef struct lt_handle_st *lt_handle;
typedef struct lt_desc_st *lt_desc;
typedef struct lt_layout_st *lt_layout;
typedef struct lt_preference_st *lt_preference;

typedef struct lt_algorithm {
    uint64_t data[8];
} lt_algorithm;

typedef struct lt_choice {
    lt_algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} lt_choice;

// Numbers of the library's own header.
enum {
    DESC_TRANSPOSE_A = 3,
    DESC_TRANSPOSE_B = 4,
    LAYOUT_BATCH = 5,
    LAYOUT_BATCH_STRIDE = 6,
    PREFER_WORKSPACE = 1,
    PREFER_ALIGNMENT_A = 5, // B, C and D follow
    OPERATION_TRANSPOSE = 1,
    COMPUTE_32F = 68,
    COMPUTE_64F = 70,
    COMPUTE_32I = 72,
    COMPUTE_TF32 = 77,
    TYPE_S8 = 3,
    TYPE_S32 = 10
};

#define CUBLASLT(XX)                                                                               \
    XX(create, "cublasLtCreate", (lt_handle * handle))                                             \
    XX(destroy, "cublasLtDestroy", (lt_handle handle))                                             \
    XX(desc_create, "cublasLtMatmulDescCreate", (lt_desc * desc, int compute, int scale))          \
    XX(desc_destroy, "cublasLtMatmulDescDestroy", (lt_desc desc))                                  \
    XX(desc_set, "cublasLtMatmulDescSetAttribute",                                                 \
       (lt_desc desc, int attribute, const void *value, size_t size))                              \
    XX(layout_create, "cublasLtMatrixLayoutCreate",                                                \
       (lt_layout * layout, int type, uint64_t rows, uint64_t columns, int64_t leading))           \
    XX(layout_destroy, "cublasLtMatrixLayoutDestroy", (lt_layout layout))                          \
    XX(layout_set, "cublasLtMatrixLayoutSetAttribute",                                             \
       (lt_layout layout, int attribute, const void *value, size_t size))                          \
    XX(preference_create, "cublasLtMatmulPreferenceCreate", (lt_preference * preference))          \
    XX(preference_destroy, "cublasLtMatmulPreferenceDestroy", (lt_preference preference))          \
    XX(preference_set, "cublasLtMatmulPreferenceSetAttribute",                                     \
       (lt_preference preference, int attribute, const void *value, size_t size))                  \
    XX(choose, "cublasLtMatmulAlgoGetHeuristic",                                                   \
       (lt_handle handle, lt_desc desc, lt_layout a, lt_layout b, lt_layout c, lt_layout d,        \
        lt_preference preference, int asked, lt_choice *choices, int *found))                      \
    XX(multiply, "cublasLtMatmul",                                                                 \
       (lt_handle handle, lt_desc desc, const void *alpha, const void *a, lt_layout a_layout,      \
        const void *b, lt_layout b_layout, const void *beta, const void *c, lt_layout c_layout,    \
        void *d, lt_layout d_layout, const lt_algorithm *algorithm, void *workspace, size_t size,  \
        cuda_stream stream))

static struct { CUBLASLT(LIBRARY_FUNCTION) } lt;
LIBRARY(library, lt, CUBLASLT, "cuBLASLt", "libcublasLt.so.13", "libcublasLt.so.12",
        "libcublasLt.so");

void product_describe(char *text, size_t size) { library_describe(&library, text, size); }

void product_close(void *handle) {
    if (handle != NULL) lt.destroy(handle);
}

static emlx_status lt_check(int result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    emlx_status code = result == 3 ? EMLX_OUT_OF_MEMORY : EMLX_INTERNAL;
    return error_set(err, code, "cuBLASLt: %s failed (error %d)", what, result);
}

// One handle a device.
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static emlx_status open_handle(gpu *g, emlx_error *err) {
    emlx_status status = EMLX_OK;
    pthread_mutex_lock(&opening);
    if (g->products == NULL) {
        lt_handle handle;
        status = lt_check(lt.create(&handle), "opening it", err);
        if (status == EMLX_OK) g->products = handle;
    }
    pthread_mutex_unlock(&opening);
    return status;
}

// Shapes ------------------------------------------------------------------------------------------

// Axes that are walked as one. `fits` is false where they do not lie so.
typedef struct merged {
    int64_t count, stride[2];
    bool fits;
} merged;

// Adds an axis inside of those so far.
static void merge_axis(merged *m, int64_t dim, int64_t left, int64_t right) {
    if (dim == 1) return;
    if (m->count > 1 &&
        !(axes_are_one(m->stride[0], left, dim) && axes_are_one(m->stride[1], right, dim)))
        m->fits = false;
    m->count *= dim;
    m->stride[0] = left;
    m->stride[1] = right;
}

typedef struct product_shape {
    merged batch, rows, columns, terms;
} product_shape;

static bool is_contracted(const int32_t *axes, int32_t count, int32_t d) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == d) return true;
    return false;
}

static product_shape find_shape(const plan_kernel *k) {
    const dot_params *p = k->params;
    const plan_access *l = &k->accesses[0], *r = &k->accesses[1];
    const merged none = {1, {0, 0}, true};
    product_shape s = {none, none, none, none};
    for (int32_t d = 0; d < p->batch; d++)
        merge_axis(&s.batch, k->shapes[0].dims[d], l->strides[d], r->strides[d]);
    for (int32_t d = p->batch; d < k->shapes[0].rank; d++)
        if (!is_contracted(p->left, p->contracted, d))
            merge_axis(&s.rows, k->shapes[0].dims[d], l->strides[d], 0);
    for (int32_t d = p->batch; d < k->shapes[1].rank; d++)
        if (!is_contracted(p->right, p->contracted, d))
            merge_axis(&s.columns, k->shapes[1].dims[d], 0, r->strides[d]);
    for (int32_t i = 0; i < p->contracted; i++)
        merge_axis(&s.terms, k->shapes[0].dims[p->left[i]], l->strides[p->left[i]],
                   r->strides[p->right[i]]);
    return s;
}

// A matrix of `fast` by `slow` numbers as the library counts them: down its columns. Whether it
// lies so, or transposed, and its leading dimension.
typedef struct matrix {
    int64_t rows, columns, leading; // as stored
    bool transposed, fits;
} matrix;

static matrix find_matrix(int64_t rows, int64_t row_stride, int64_t columns,
                          int64_t column_stride) {
    matrix m = {.fits = true};
    if (row_stride == 1 || rows == 1)
        m = (matrix){rows, columns, columns == 1 ? rows : column_stride, false, true};
    else if (column_stride == 1 || columns == 1)
        m = (matrix){columns, rows, row_stride, true, true};
    else
        m.fits = false;
    if (rows == 1 && columns > 1 && column_stride == 1)
        m = (matrix){columns, 1, columns, true, true};
    m.fits = m.fits && m.leading >= m.rows && m.leading <= INT32_MAX;
    return m;
}

// Types -------------------------------------------------------------------------------------------

typedef struct product_type {
    int type, compute, scale; // the library's numbers
} product_type;

static bool find_type(const gpu *g, emlx_type type, product_type *out) {
    int f32 = g->tf32 ? COMPUTE_TF32 : COMPUTE_32F;
    switch (type) {
    case EMLX_F32: *out = (product_type){0, f32, 0}; return true;
    case EMLX_F64: *out = (product_type){1, COMPUTE_64F, 1}; return true;
    case EMLX_F16: *out = (product_type){2, COMPUTE_32F, 0}; return true;
    case EMLX_BF16: *out = (product_type){14, COMPUTE_32F, 0}; return true;
    case EMLX_C64: *out = (product_type){4, f32, 4}; return true;
    case EMLX_C128: *out = (product_type){5, COMPUTE_64F, 5}; return true;
    default: return false;
    }
}

// Preparing ---------------------------------------------------------------------------------------

// Below, our own kernel sums in double, which prints the digits that Nx's documentation shows.
#define SMALL_WORK 16384
#define WORKSPACE ((size_t)32 << 20)

// Products of wider integers by their digits: terms of which sums fit in 32 bits, multiplications
// from which on they are faster than our own kernel, and bytes of working memory.
#define TERMS_MOST (1 << 17)
#define DIGITS_WORK (double)(1 << 27)
#define DIGITS_ROOM ((size_t)1 << 30)
enum { LINE = 16 };

enum { PARTS_MOST = 8 };

// One call of the library.
typedef struct product_part {
    lt_layout a, b;
    lt_choice choice;
    size_t begin, out; // bytes from the right operand's and the result's first ones
} product_part;

typedef struct product {
    lt_desc desc;
    lt_layout d;
    product_part parts[PARTS_MOST];
    int part_count;
    size_t workspace;
    bool wide; // scales are doubles
    bool of_bytes;
    byte_product bytes;
} product;

static void free_product(product *p) {
    if (p->desc != NULL) lt.desc_destroy(p->desc);
    for (int i = 0; i < PARTS_MOST; i++) {
        if (p->parts[i].a != NULL) lt.layout_destroy(p->parts[i].a);
        if (p->parts[i].b != NULL) lt.layout_destroy(p->parts[i].b);
    }
    if (p->d != NULL) lt.layout_destroy(p->d);
    mem_free(p, sizeof *p);
}

static void discard_product(gpu_kernel *k) { free_product(k->library); }

static emlx_status make_layout(lt_layout *out, int type, const matrix *m, int64_t batch,
                               int64_t stride, emlx_error *err) {
    int32_t count = (int32_t)batch;
    TRY(lt_check(lt.layout_create(out, type, (uint64_t)m->rows, (uint64_t)m->columns, m->leading),
                 "describing a matrix", err));
    if (batch == 1) return EMLX_OK;
    TRY(lt_check(lt.layout_set(*out, LAYOUT_BATCH, &count, sizeof count), "a batch", err));
    return lt_check(lt.layout_set(*out, LAYOUT_BATCH_STRIDE, &stride, sizeof stride), "a batch",
                    err);
}

static emlx_status make_desc(product *p, const product_type *type, const matrix *a, const matrix *b,
                             emlx_error *err) {
    int32_t transpose = OPERATION_TRANSPOSE;
    TRY(lt_check(lt.desc_create(&p->desc, type->compute, type->scale), "describing a product",
                 err));
    if (a->transposed)
        TRY(lt_check(lt.desc_set(p->desc, DESC_TRANSPOSE_A, &transpose, sizeof transpose),
                     "a transpose", err));
    if (b->transposed)
        TRY(lt_check(lt.desc_set(p->desc, DESC_TRANSPOSE_B, &transpose, sizeof transpose),
                     "a transpose", err));
    return EMLX_OK;
}

// To how many bytes an operand is aligned, as its block is.
static uint32_t alignment(const plan_access *a) {
    int64_t bytes = a->offset * (int64_t)type_size(a->type) | DEVICE_ALIGNMENT;
    return (uint32_t)(bytes & -bytes);
}

// *found: the library has an algorithm for the next part.
static emlx_status choose_algorithm(const gpu *g, product *p, const uint32_t aligned[2],
                                    bool *found, emlx_error *err) {
    product_part *part = &p->parts[p->part_count++];
    lt_preference preference;
    size_t workspace = WORKSPACE;
    int count = 0;
    TRY(lt_check(lt.preference_create(&preference), "choosing", err));
    lt.preference_set(preference, PREFER_WORKSPACE, &workspace, sizeof workspace);
    for (int i = 0; i < 2; i++)
        lt.preference_set(preference, PREFER_ALIGNMENT_A + i, &aligned[i], sizeof *aligned);
    int result = lt.choose(g->products, p->desc, part->a, part->b, p->d, p->d, preference, 1,
                           &part->choice, &count);
    lt.preference_destroy(preference);
    *found = result == 0 && count > 0 && part->choice.state == 0;
    if (*found && part->choice.workspace > p->workspace) p->workspace = part->choice.workspace;
    return EMLX_OK;
}

// The result is [rows, columns] row by row: to the library [columns, rows], the product of the
// right operand's transpose and the left one's.
static emlx_status make_product(const gpu *g, product *p, const product_shape *s,
                                const plan_kernel *k, bool *found, emlx_error *err) {
    emlx_type type = k->accesses[0].type;
    product_type t;
    matrix a =
        find_matrix(s->columns.count, s->columns.stride[1], s->terms.count, s->terms.stride[1]);
    matrix b = find_matrix(s->terms.count, s->terms.stride[0], s->rows.count, s->rows.stride[0]);
    matrix d = {s->columns.count, s->rows.count, s->columns.count, false, true};
    *found = a.fits && b.fits && find_type(g, type, &t);
    if (!*found) return EMLX_OK;
    p->wide = t.compute == COMPUTE_64F;
    TRY(make_desc(p, &t, &a, &b, err));
    product_part *part = p->parts;
    TRY(make_layout(&part->a, t.type, &a, s->batch.count, s->batch.stride[1], err));
    TRY(make_layout(&part->b, t.type, &b, s->batch.count, s->batch.stride[0], err));
    TRY(make_layout(&p->d, t.type, &d, s->batch.count, s->rows.count * s->columns.count, err));
    const uint32_t aligned[2] = {alignment(&k->accesses[1]), alignment(&k->accesses[0])};
    return choose_algorithm(g, p, aligned, found, err);
}

// The product that counts 256^n: the first n + 1 digits of the left side's rows, the last of the
// right side's.
static emlx_status add_digits(const gpu *g, product *p, const plan_kernel *k, int n,
                              const int64_t leading[2], const int64_t steps[2], bool *found,
                              emlx_error *err) {
    const byte_product *b = &p->bytes;
    product_part *part = &p->parts[n];
    bool plain = b->digits == 1;
    const uint32_t aligned[2] = {plain ? alignment(&k->accesses[1]) : LINE,
                                 plain ? alignment(&k->accesses[0]) : LINE};
    int64_t terms = (n + 1) * b->padded_terms;
    matrix left = {terms, b->sides[0].padded, leading[0], false, true};
    matrix right = {terms, b->sides[1].padded, leading[1], true, true};
    part->begin = (size_t)((b->digits - 1 - n) * b->padded_terms);
    part->out = (size_t)(n * b->plane) * 4;
    TRY(make_layout(&part->a, TYPE_S8, &right, b->batch, steps[1], err));
    TRY(make_layout(&part->b, TYPE_S8, &left, b->batch, steps[0], err));
    return choose_algorithm(g, p, aligned, found, err);
}

// Whether sums of products of digits fit in 32 bits, there is enough to do for as many calls, and
// working memory stays moderate.
static bool digits_suit(const byte_product *b) {
    double work = (double)b->plane * (double)b->terms;
    return b->digits == 1 ||
           (b->terms * b->digits < TERMS_MOST && work > DIGITS_WORK && b->work_place < DIGITS_ROOM);
}

// Bytes: [rows, terms] and [columns, terms], whose product the library counts as above. Wider
// integers by their digits.
static emlx_status make_byte_product(const gpu *g, product *p, const product_shape *s,
                                     const plan_kernel *k, bool *found, emlx_error *err) {
    const product_type t = {TYPE_S8, COMPUTE_32I, TYPE_S32};
    const matrix plain = {.fits = true}, turned = {.transposed = true, .fits = true};
    byte_product *b = &p->bytes;
    *b = (byte_product){.batch = s->batch.count,
                        .terms = s->terms.count,
                        .digits = (int)type_size(k->accesses[0].type)};
    for (int i = 0; i < 2; i++) {
        const merged *outer = i == 0 ? &s->rows : &s->columns;
        b->sides[i] = (byte_side){.outer = outer->count,
                                  .outer_step = outer->stride[i],
                                  .terms_step = s->terms.stride[i],
                                  .batch_step = s->batch.count > 1 ? s->batch.stride[i] : 0};
    }
    byte_product_place(b, k);
    p->of_bytes = true;
    if (!digits_suit(b)) return EMLX_OK;
    matrix d = {b->sides[1].padded, b->sides[0].outer, b->sides[1].padded, false, true};
    int64_t steps[2], leading[2], line = b->padded_terms * b->digits;
    for (int i = 0; i < 2; i++) {
        const byte_side *side = &b->sides[i];
        leading[i] = side->brought || side->outer == 1 ? line : side->outer_step;
        steps[i] = side->brought ? side->padded * line : side->batch_step;
        if (leading[i] < line || leading[i] > INT32_MAX) return EMLX_OK;
    }
    TRY(make_desc(p, &t, &turned, &plain, err));
    TRY(make_layout(&p->d, TYPE_S32, &d, b->batch, d.rows * d.columns, err));
    *found = true;
    for (int n = 0; n < b->digits && *found; n++)
        TRY(add_digits(g, p, k, n, leading, steps, found, err));
    return EMLX_OK;
}

// Where the library reads and writes, and its own working memory.
static emlx_status multiply(gpu *g, const product *p, const product_part *part,
                            const cuda_address at[2], cuda_address out, cuda_address workspace,
                            emlx_error *err) {
    const void *left = (const void *)at[0], *right = (const void *)(at[1] + part->begin);
    void *to = (void *)(out + part->out);
    const double one[2] = {1, 0}, none[2] = {0, 0};
    const float one_f32[2] = {1, 0};
    const int32_t one_s32 = 1;
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    const void *alpha = p->of_bytes ? (const void *)&one_s32
                        : p->wide   ? (const void *)one
                                    : one_f32;
    int result = lt.multiply(g->products, p->desc, alpha, right, part->a, left, part->b, none, to,
                             p->d, to, p->d, &part->choice.algorithm, (void *)workspace,
                             part->choice.workspace, stream);
    return lt_check(result, "a product", err);
}

static emlx_status multiply_bytes(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                  cuda_address at[2], cuda_address memory, emlx_error *err) {
    const product *p = k->library;
    const byte_product *b = &p->bytes;
    for (int i = 0; i < 2; i++) {
        if (!b->sides[i].brought) continue;
        TRY(launch_part(g, k, call, memory, i == 0 ? 'a' : 'c', err));
        at[i] = memory + b->sides[i].place;
    }
    for (int n = 0; n < p->part_count; n++)
        TRY(multiply(g, p, &p->parts[n], at, memory + b->out_place, memory + b->work_place, err));
    return launch_part(g, k, call, memory, 'b', err);
}

static emlx_status run_product(gpu *g, const gpu_kernel *k, const kernel_call *call,
                               emlx_error *err) {
    const product *p = k->library;
    const plan_kernel *kernel = call->kernel;
    device_block memory = {0};
    cuda_address at[2], out = buffer_address(call->buffers[kernel->output]);
    size_t room = p->workspace + (p->of_bytes ? p->bytes.work_place : 0);
    for (int i = 0; i < 2; i++) {
        const plan_access *a = &kernel->accesses[i];
        at[i] = buffer_address(call->buffers[a->value]) +
                (cuda_address)(a->offset * (int64_t)type_size(a->type));
    }
    if (room > 0) TRY(gpu_take(g, room, &memory, err));
    emlx_status status = p->of_bytes ? multiply_bytes(g, k, call, at, memory.address, err)
                                     : multiply(g, p, p->parts, at, out, memory.address, err);
    if (room > 0) gpu_give(g, &memory);
    return status;
}

static bool is_suitable(const emlx_plan *plan, const plan_kernel *k, const product_shape *s) {
    const plan_access *l = &k->accesses[0], *r = &k->accesses[1];
    emlx_type out = plan->values[k->output].type;
    double work = (double)s->batch.count * (double)s->rows.count * (double)s->columns.count *
                  (double)s->terms.count;
    return l->type == r->type && l->type == out && l->start_count + r->start_count == 0 &&
           s->batch.fits && s->rows.fits && s->columns.fits && s->terms.fits && work > SMALL_WORK;
}

emlx_status product_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan, const plan_kernel *kernel,
                            emlx_error *err) {
    bool found = false;
    if (kernel->kind != KERNEL_DOT || g->rehearsal) return EMLX_OK;
    emlx_type type = kernel->accesses[0].type;
    bool whole = type_is_integer(type);
    if (type_is_sub_byte(type) || (!whole && type_size(type) == 1)) return EMLX_OK;
    product_shape shape = find_shape(kernel);
    if (!is_suitable(plan, kernel, &shape) || library_open(&library, NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    TRY(open_handle(g, err));
    product *p = mem_alloc(sizeof *p);
    if (p == NULL) return error_no_memory(err, "for a product");
    emlx_status status =
        (whole ? make_byte_product : make_product)(g, p, &shape, kernel, &found, err);
    if (status == EMLX_OK && found && whole)
        status = code_bytes(&k->code, plan, kernel, &p->bytes, err);
    if (status != EMLX_OK || !found) {
        free_product(p);
        return status;
    }
    k->run = run_product;
    k->library = p;
    k->discard = discard_product;
    return EMLX_OK;
}
