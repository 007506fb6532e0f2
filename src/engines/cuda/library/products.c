// SPDX-License-Identifier: Apache-2.0
// products.c - products of matrices by cuBLASLt. What it is asked for, and the algorithm, are
// chosen once a plan; f32 is computed in full f32 but where TF32 is allowed, integers exactly.
// What a plan computes of a product next is done by the same call where the library has that.
#include "engines/cuda/library/products.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/library/epilogue.h"
#include "engines/cuda/text/product/bytes.h"
#include "engines/cuda/text/product/copies.h"

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
    DESC_EPILOGUE = 7,
    DESC_BIAS = 8,
    LAYOUT_BATCH = 5,
    LAYOUT_BATCH_STRIDE = 6,
    PREFER_WORKSPACE = 1,
    PREFER_ALIGNMENT_A = 5, // B, C and D follow
    OPERATION_TRANSPOSE = 1,
    EPILOGUE_BIAS = 4,
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
    int64_t count, stride;
    bool fits;
} merged;

// Adds an axis inside of those so far.
static void merge_axis(merged *m, int64_t dim, int64_t stride) {
    if (dim == 1) return;
    m->fits = m->fits && (m->count == 1 || axes_are_one(m->stride, stride, dim));
    m->count *= dim;
    m->stride = stride;
}

// An operand: `outer` axes are the result's.
typedef struct operand_shape {
    merged batch, outer, terms;
} operand_shape;

static bool is_contracted(const int32_t *axes, int32_t count, int32_t d) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == d) return true;
    return false;
}

// The axes of an operand: batch, outer, terms. Returns how many are of the first two kinds.
static int32_t order_operand(const plan_kernel *k, int side, int32_t order[EMLX_MAX_RANK]) {
    const dot_params *p = k->params;
    const int32_t *contracted = side == 0 ? p->left : p->right;
    int32_t count = 0;
    for (int32_t d = 0; d < k->shapes[side].rank; d++)
        if (d < p->batch || !is_contracted(contracted, p->contracted, d)) order[count++] = d;
    for (int32_t i = 0; i < p->contracted; i++) order[count + i] = contracted[i];
    return count;
}

static operand_shape find_operand(const plan_kernel *k, int side) {
    const merged none = {1, 0, true};
    operand_shape s = {none, none, none};
    int32_t order[EMLX_MAX_RANK] = {0}, batch = ((const dot_params *)k->params)->batch;
    int32_t outer = order_operand(k, side, order);
    for (int32_t i = 0; i < k->shapes[side].rank; i++) {
        merged *m = i < batch ? &s.batch : i < outer ? &s.outer : &s.terms;
        merge_axis(m, k->shapes[side].dims[order[i]], k->accesses[side].strides[order[i]]);
    }
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

// The operand with its terms down the columns, as the library counts.
static matrix matrix_of(const operand_shape *s) {
    return find_matrix(s->terms.count, s->terms.stride, s->outer.count, s->outer.stride);
}

// Whether the library can read it where it is.
static bool lies_well(const operand_shape *s) {
    return s->batch.fits && s->outer.fits && s->terms.fits && s->batch.stride >= 0 &&
           matrix_of(s).fits;
}

// The operand as a copy has it: what is innermost stays so.
static operand_shape copied(const operand_shape *s) {
    int64_t outer = s->outer.count, terms = s->terms.count;
    bool down = s->outer.stride == 1 && s->terms.stride != 1 && outer > 1;
    return (operand_shape){.batch = {s->batch.count, outer * terms, true},
                           .outer = {outer, down ? 1 : terms, true},
                           .terms = {terms, down ? outer : 1, true}};
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
    // Operands that lie in a way that the library has not, or of which one alone is narrower than
    // the result, are copied first, to working memory.
    emlx_type type; // of the result
    operand_shape sides[2];
    bool copied[2];
    size_t places[2], copied_bytes;
    // What of the map behind it is computed with it.
    bool joined;
    product_epilogue end;
    pthread_mutex_t lock; // of `desc`, where the vector's address is set for a call
} product;

static void free_product(product *p) {
    if (p->desc != NULL) lt.desc_destroy(p->desc);
    for (int i = 0; i < PARTS_MOST; i++) {
        if (p->parts[i].a != NULL) lt.layout_destroy(p->parts[i].a);
        if (p->parts[i].b != NULL) lt.layout_destroy(p->parts[i].b);
    }
    if (p->d != NULL) lt.layout_destroy(p->d);
    pthread_mutex_destroy(&p->lock);
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

static emlx_status set_vector(const product *p, uint64_t address, emlx_error *err) {
    return lt_check(lt.desc_set(p->desc, DESC_BIAS, &address, sizeof address), "a vector", err);
}

// Until a call the address only says how the vector is aligned.
static emlx_status describe_end(const product *p, emlx_error *err) {
    int32_t epilogue = EPILOGUE_BIAS;
    if (!p->joined || p->end.bias == NO_PART) return EMLX_OK;
    TRY(lt_check(lt.desc_set(p->desc, DESC_EPILOGUE, &epilogue, sizeof epilogue), "an epilogue",
                 err));
    return set_vector(p, VECTOR_ALIGNMENT, err);
}

// To how many bytes an operand is aligned, as its block is.
static uint32_t alignment(const plan_access *a) {
    int64_t bytes = a->offset * (int64_t)type_size(a->type) | DEVICE_ALIGNMENT;
    return (uint32_t)(bytes & -bytes);
}

enum { ALIGNED_COUNT = 3 }; // what is known of the alignment of A, B and C

// *found: the library has an algorithm for the next part.
static emlx_status choose_algorithm(const gpu *g, product *p, const uint32_t aligned[ALIGNED_COUNT],
                                    bool *found, emlx_error *err) {
    product_part *part = &p->parts[p->part_count++];
    lt_preference preference;
    size_t workspace = WORKSPACE;
    int count = 0;
    TRY(lt_check(lt.preference_create(&preference), "choosing", err));
    lt.preference_set(preference, PREFER_WORKSPACE, &workspace, sizeof workspace);
    for (int i = 0; i < ALIGNED_COUNT; i++)
        lt.preference_set(preference, PREFER_ALIGNMENT_A + i, &aligned[i], sizeof *aligned);
    int result = lt.choose(g->products, p->desc, part->a, part->b, p->d, p->d, preference, 1,
                           &part->choice, &count);
    lt.preference_destroy(preference);
    *found = result == 0 && count > 0 && part->choice.state == 0;
    if (*found && part->choice.workspace > p->workspace) p->workspace = part->choice.workspace;
    return EMLX_OK;
}

static uint32_t side_alignment(const product *p, const plan_kernel *k, int side) {
    return p->copied[side] ? DEVICE_ALIGNMENT : alignment(&k->accesses[side]);
}

static uint32_t residual_alignment(const product *p, const plan_kernel *k) {
    bool added = p->joined && p->end.residual != NO_PART;
    return added ? alignment(&k[1].accesses[p->end.residual]) : DEVICE_ALIGNMENT;
}

// The type that both operands are multiplied in.
static emlx_type common_type(const product *p, const plan_kernel *k) {
    return k->accesses[0].type == k->accesses[1].type ? k->accesses[0].type : p->type;
}

// Where operands are read, copied if need be.
static void place_operands(product *p, const plan_kernel *k) {
    emlx_type type = common_type(p, k);
    for (int i = 0; i < 2; i++) {
        operand_shape *s = &p->sides[i];
        p->copied[i] = !lies_well(s) || k->accesses[i].type != type;
        if (!p->copied[i]) continue;
        size_t bytes = (size_t)(s->batch.count * s->outer.count * s->terms.count) * type_size(type);
        *s = copied(s);
        p->places[i] = p->copied_bytes;
        p->copied_bytes += (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
    }
}

// The result is [rows, columns] row by row: to the library [columns, rows], the product of the
// right operand's transpose and the left one's.
static emlx_status make_product(const gpu *g, product *p, const plan_kernel *k, bool *found,
                                emlx_error *err) {
    product_type t, out;
    *found = find_type(g, common_type(p, k), &t) && find_type(g, p->type, &out);
    if (!*found) return EMLX_OK;
    place_operands(p, k);
    const operand_shape *left = &p->sides[0], *right = &p->sides[1];
    int64_t rows = left->outer.count, columns = right->outer.count, batch = left->batch.count;
    matrix a = find_matrix(columns, right->outer.stride, right->terms.count, right->terms.stride);
    matrix b = matrix_of(left), d = {columns, rows, columns, false, true};
    p->wide = t.compute == COMPUTE_64F;
    TRY(make_desc(p, &t, &a, &b, err));
    TRY(describe_end(p, err));
    product_part *part = p->parts;
    TRY(make_layout(&part->a, t.type, &a, batch, right->batch.stride, err));
    TRY(make_layout(&part->b, t.type, &b, batch, left->batch.stride, err));
    TRY(make_layout(&p->d, out.type, &d, batch, rows * columns, err));
    const uint32_t aligned[ALIGNED_COUNT] = {side_alignment(p, k, 1), side_alignment(p, k, 0),
                                             residual_alignment(p, k)};
    return choose_algorithm(g, p, aligned, found, err);
}

static int copies_of(const product *p, const plan_kernel *k, tensor_copy copies[2]) {
    int count = 0;
    for (int i = 0; i < 2; i++) {
        if (!p->copied[i]) continue;
        int32_t order[EMLX_MAX_RANK] = {0};
        tensor_copy *c = &copies[count++];
        *c = (tensor_copy){.suffix = 'a',
                           .access = (uint32_t)i,
                           .place = p->places[i],
                           .type = common_type(p, k),
                           .rank = k->shapes[i].rank};
        int32_t batch = ((const dot_params *)k->params)->batch, outer = order_operand(k, i, order);
        int32_t terms = c->rank - outer, down = p->sides[i].terms.stride != 1;
        for (int32_t d = 0; d < c->rank; d++) {
            int32_t at = d;
            if (down && d >= batch) at = d < batch + terms ? outer + d - batch : d - terms;
            c->dims[d] = k->shapes[i].dims[order[at]];
            c->steps[d] = k->accesses[i].strides[order[at]];
        }
    }
    return count;
}

// The product that counts 256^n: the first n + 1 digits of the left side's rows, the last of the
// right side's.
static emlx_status add_digits(const gpu *g, product *p, const plan_kernel *k, int n,
                              const int64_t leading[2], const int64_t steps[2], bool *found,
                              emlx_error *err) {
    const byte_product *b = &p->bytes;
    product_part *part = &p->parts[n];
    bool plain = b->digits == 1;
    const uint32_t aligned[ALIGNED_COUNT] = {plain ? alignment(&k->accesses[1]) : LINE,
                                             plain ? alignment(&k->accesses[0]) : LINE,
                                             DEVICE_ALIGNMENT};
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
    if (b->digits == 1 && type_size(b->type) > 4) return b->terms < TERMS_MOST;
    return b->digits == 1 ||
           (b->terms * b->digits < TERMS_MOST && work > DIGITS_WORK && b->work_place < DIGITS_ROOM);
}

// Bytes: [rows, terms] and [columns, terms], whose product the library counts as above. Wider
// integers by their digits.
static emlx_status make_byte_product(const gpu *g, product *p, const plan_kernel *k, bool *found,
                                     emlx_error *err) {
    const product_type t = {TYPE_S8, COMPUTE_32I, TYPE_S32};
    const matrix plain = {.fits = true}, turned = {.transposed = true, .fits = true};
    byte_product *b = &p->bytes;
    bool bytes = type_size(k->accesses[0].type) == 1 && type_size(k->accesses[1].type) == 1;
    *b = (byte_product){.batch = p->sides[0].batch.count,
                        .terms = p->sides[0].terms.count,
                        .type = p->type,
                        .digits = bytes ? 1 : (int)type_size(p->type)};
    for (int i = 0; i < 2; i++) {
        const operand_shape *s = &p->sides[i];
        if (!s->batch.fits || !s->outer.fits || !s->terms.fits) return EMLX_OK;
        b->sides[i] = (byte_side){.outer = s->outer.count,
                                  .outer_step = s->outer.stride,
                                  .terms_step = s->terms.stride,
                                  .batch_step = s->batch.count > 1 ? s->batch.stride : 0};
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

// Words of a call: where the operands are, the result and working memory, which part it is, what is
// added, and the bits of the doubles that the product and that are multiplied with.
enum {
    CALL_LEFT,
    CALL_RIGHT,
    CALL_OUT,
    CALL_WORKSPACE,
    CALL_PART,
    CALL_RESIDUAL,
    CALL_VECTOR,
    CALL_SCALE,
    CALL_SIDE,
    CALL_WORDS
};

// A number as the library wants it.
typedef union factor {
    double f64[2];
    float f32[2];
    int32_t s32;
} factor;

static factor make_factor(const product *p, int64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    if (p->of_bytes) return (factor){.s32 = (int32_t)value};
    return p->wide ? (factor){.f64 = {value}} : (factor){.f32 = {(float)value}};
}

static emlx_status call_part(const gpu *g, const product *p, const int64_t *words,
                             cuda_stream stream, emlx_error *err) {
    const product_part *part = &p->parts[words[CALL_PART]];
    const void *left = (const void *)words[CALL_LEFT], *right = (const void *)words[CALL_RIGHT];
    void *to = (void *)words[CALL_OUT];
    const factor scale = make_factor(p, words[CALL_SCALE]), side = make_factor(p, words[CALL_SIDE]);
    int result =
        lt.multiply(g->products, p->desc, &scale, right, part->a, left, part->b, &side,
                    (const void *)words[CALL_RESIDUAL], p->d, to, p->d, &part->choice.algorithm,
                    (void *)words[CALL_WORKSPACE], part->choice.workspace, stream);
    return lt_check(result, "a product", err);
}

static emlx_status call_library(gpu *g, const void *context, const int64_t *words,
                                cuda_stream stream, emlx_error *err) {
    const product *p = context;
    if (words[CALL_VECTOR] == 0) return call_part(g, p, words, stream, err);
    pthread_mutex_t *lock = (pthread_mutex_t *)&p->lock;
    pthread_mutex_lock(lock);
    emlx_status status = set_vector(p, (uint64_t)words[CALL_VECTOR], err);
    if (status == EMLX_OK) status = call_part(g, p, words, stream, err);
    pthread_mutex_unlock(lock);
    return status;
}

static int64_t double_bits(double value) {
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static cuda_address address_of(const kernel_call *call, const plan_access *a) {
    return buffer_address(call->buffers[a->value]) +
           (cuda_address)(a->offset * (int64_t)type_size(a->type));
}

// The number that a product is scaled with, in this run.
static double scale_of(const product *p, const kernel_call *call) {
    uint32_t n = p->end.factor;
    if (n == NO_PART) return p->end.scale;
    emlx_type type = (emlx_type)call->plan->constant_types[n];
    return p->end.scale * type_load(type, call->constants[n].bytes).as.f[0];
}

// The words that say what is computed with the product: by itself nothing is added.
static void add_end(const product *p, const kernel_call *call, int64_t words[CALL_WORDS]) {
    words[CALL_SCALE] = double_bits(1);
    words[CALL_SIDE] = double_bits(0);
    words[CALL_RESIDUAL] = words[CALL_OUT];
    if (!p->joined) return;
    const plan_access *accesses = call->kernel[1].accesses;
    words[CALL_SCALE] = double_bits(scale_of(p, call));
    if (p->end.bias != NO_PART)
        words[CALL_VECTOR] = (int64_t)address_of(call, &accesses[p->end.bias]);
    if (p->end.residual == NO_PART) return;
    words[CALL_SIDE] = double_bits(p->end.side);
    words[CALL_RESIDUAL] = (int64_t)address_of(call, &accesses[p->end.residual]);
}

static emlx_status multiply(gpu *g, const product *p, int n, const kernel_call *call,
                            const cuda_address at[2], cuda_address out, cuda_address workspace,
                            emlx_error *err) {
    const product_part *part = &p->parts[n];
    int64_t words[CALL_WORDS] = {[CALL_LEFT] = (int64_t)at[0],
                                 [CALL_RIGHT] = (int64_t)(at[1] + part->begin),
                                 [CALL_OUT] = (int64_t)(out + part->out),
                                 [CALL_WORKSPACE] = (int64_t)workspace,
                                 [CALL_PART] = n};
    add_end(p, call, words);
    return stream_call(stream_now(g), call_library, p, words, CALL_WORDS, err);
}

static emlx_status multiply_bytes(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                  cuda_address at[2], cuda_address out, cuda_address memory,
                                  emlx_error *err) {
    const product *p = k->library;
    const byte_product *b = &p->bytes;
    if (!b->direct) out = memory + b->out_place;
    for (int i = 0; i < 2; i++) {
        if (!b->sides[i].brought) continue;
        TRY(launch_part(g, k, call, memory, i == 0 ? 'a' : 'c', err));
        at[i] = memory + b->sides[i].place;
    }
    for (int n = 0; n < p->part_count; n++)
        TRY(multiply(g, p, n, call, at, out, memory + b->work_place, err));
    return b->direct ? EMLX_OK : launch_part(g, k, call, memory, 'b', err);
}

// What a map behind a product makes.
static uint32_t made_value(const plan_kernel *map) {
    return map->accesses[map->stores[0].access].value;
}

static emlx_status run_product(gpu *g, const gpu_kernel *k, const kernel_call *call,
                               emlx_error *err) {
    const product *p = k->library;
    const plan_kernel *kernel = call->kernel;
    device_block memory = {0};
    cuda_address at[2];
    emlx_buffer *to = call->buffers[p->joined ? made_value(kernel + 1) : kernel->output];
    size_t room = p->workspace + (p->of_bytes ? p->bytes.work_place : p->copied_bytes);
    if (p->joined) TRY(stream_writes(stream_now(g), buffer_of_gpu(to), err));
    cuda_address out = buffer_address(to);
    if (room > 0) TRY(gpu_take(g, room, &memory, err));
    for (int i = 0; i < 2; i++) {
        at[i] = address_of(call, &kernel->accesses[i]);
        if (p->copied[i]) at[i] = memory.address + p->places[i];
    }
    emlx_status status = EMLX_OK;
    if (p->copied_bytes > 0) status = launch_part(g, k, call, memory.address, 'a', err);
    if (status == EMLX_OK)
        status = p->of_bytes
                     ? multiply_bytes(g, k, call, at, out, memory.address, err)
                     : multiply(g, p, 0, call, at, out, memory.address + p->copied_bytes, err);
    if (room > 0) gpu_give(g, &memory);
    return status;
}

bool product_widens(emlx_type from, emlx_type type) {
    if (type == EMLX_F32) return from == EMLX_BF16 || from == EMLX_F16;
    return from == EMLX_S8 && type_is_integer(type) && type_size(type) >= 4;
}

static bool takes_operand(const plan_access *a, emlx_type type) {
    return a->start_count == 0 && (a->type == type || product_widens(a->type, type));
}

static bool is_suitable(const plan_kernel *k, emlx_type type, const operand_shape sides[2]) {
    double work = (double)sides[0].batch.count * (double)sides[0].outer.count *
                  (double)sides[1].outer.count * (double)sides[0].terms.count;
    return takes_operand(&k->accesses[0], type) && takes_operand(&k->accesses[1], type) &&
           work > SMALL_WORK;
}

// What is launched besides the library's calls.
static emlx_status code_product(kernel_code *code, const emlx_plan *plan, const plan_kernel *k,
                                const product *p, emlx_error *err) {
    tensor_copy copies[2];
    if (p->of_bytes) return code_bytes(code, plan, k, &p->bytes, err);
    int count = copies_of(p, k, copies);
    return count > 0 ? code_copies(code, plan, k, copies, count, err) : EMLX_OK;
}

bool product_joins(const plan_kernel *product, const plan_kernel *map) {
    product_epilogue end;
    return epilogue_find(product, map, find_operand(product, 1).outer.count, &end);
}

// *out stays NULL where the library has no algorithm: with what the map behind it computes, or
// without.
static emlx_status try_product(const gpu *g, const plan_kernel *kernel, emlx_type type, bool joined,
                               product **out, emlx_error *err) {
    bool found = false;
    product *p = mem_alloc(sizeof *p);
    if (p == NULL) return error_no_memory(err, "for a product");
    pthread_mutex_init(&p->lock, NULL);
    for (int i = 0; i < 2; i++) p->sides[i] = find_operand(kernel, i);
    p->type = type;
    p->joined = joined && epilogue_find(kernel, kernel + 1, p->sides[1].outer.count, &p->end);
    emlx_status status = EMLX_OK;
    if (p->joined == joined)
        status =
            (type_is_integer(type) ? make_byte_product : make_product)(g, p, kernel, &found, err);
    if (status == EMLX_OK && found)
        *out = p;
    else
        free_product(p);
    return status;
}

static bool takes_type(emlx_type type) {
    return !type_is_sub_byte(type) && (type_is_integer(type) || type_size(type) > 1);
}

emlx_status product_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan, const plan_kernel *kernel,
                            emlx_error *err) {
    product *p = NULL;
    if (kernel->kind != KERNEL_DOT || g->rehearsal) return EMLX_OK;
    emlx_type type = plan->values[kernel->output].type;
    const operand_shape sides[2] = {find_operand(kernel, 0), find_operand(kernel, 1)};
    if (!takes_type(type) || !is_suitable(kernel, type, sides) ||
        library_open(&library, NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    TRY(open_handle(g, err));
    if (kernel->epilogue) TRY(try_product(g, kernel, type, true, &p, err));
    if (p == NULL) TRY(try_product(g, kernel, type, false, &p, err));
    if (p == NULL) return EMLX_OK;
    emlx_status status = code_product(&k->code, plan, kernel, p, err);
    if (status != EMLX_OK) {
        free_product(p);
        return status;
    }
    k->run = run_product;
    k->library = p;
    k->discard = discard_product;
    k->joins = p->joined;
    return EMLX_OK;
}
