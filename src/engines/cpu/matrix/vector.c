// SPDX-License-Identifier: Apache-2.0
// vector.c - products of a matrix and a few vectors: the matrix is read once, where it is and at
// its own width, which is what such a product takes. Lines of the matrix are its rows as sides have
// them, terms its columns.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/matrix/matrix.h"

// Elements of the matrix that a task reads, about; lines whose sums stay in the first-level cache
// where they lie side by side; and terms that one sum is made of before it is added to others.
#define TASK_READS (1 << 16)
#define SIDE_BY_SIDE 1024
#define MOST_TERMS (1 << 16)
// Vectors for which the matrix is gone through one after another, a part of it being in the cache.
#define FEW 4

// A single row on either side, or a few on the left.
static bool left_matrix(const dot_work *w) { return w->n == 1; }

static const vector_fns *find_fns(const dot_work *w) {
    const side *matrix = left_matrix(w) ? &w->left : &w->right;
    const vector_fns *fns = &w->run->kernels->vector[matrix->type];
    bool wide = type_is_float(w->type) && fns->sum == w->type;
    if (fns->across == NULL || (matrix->type != w->type && !wide)) return NULL;
    return fns;
}

bool vector_can(const dot_work *w) { return (w->n == 1 || w->m <= FEW) && find_fns(w) != NULL; }

static void vector_task(void *context, int64_t index) {
    const vector_work *v = context;
    const dot_work *w = v->w;
    int64_t line = index % v->line_blocks * v->line_block;
    int64_t part = index / v->line_blocks % v->parts, batch = index / v->line_blocks / v->parts;
    int64_t lines = v->lines - line < v->line_block ? v->lines - line : v->line_block;
    int64_t term = part * v->part, terms = w->k - term < v->part ? w->k - term : v->part;
    const side *s = v->matrix;
    const char *m = side_batch(s, batch) +
                    (line * s->row_step + term * s->column_step) * (int64_t)type_size(s->type);
    for (int64_t r = 0; r < v->few; r++) {
        const char *x =
            side_batch(v->vectors, batch) + (r * v->vectors->row_step + term) * (int64_t)v->size;
        int64_t sum = ((part * w->batches + batch) * v->few + r) * v->lines + line;
        char *sums = v->sums + sum * (int64_t)v->size;
        memset(sums, 0, (size_t)lines * v->size);
        if (v->across)
            v->fns->across(m, s->row_step, (size_t)lines, x, (size_t)terms, sums);
        else
            v->fns->down(m, s->column_step, (size_t)terms, x, (size_t)lines, sums);
    }
}

// Depends on the product alone, so that results do.
static void cut_parts(vector_work *v) {
    int64_t k = v->w->k;
    int64_t wide = v->lines < SIDE_BY_SIDE ? v->lines : SIDE_BY_SIDE;
    int64_t most = v->across ? MOST_TERMS : TASK_READS / wide;
    v->parts = (k - 1) / most + 1;
    v->part = (k - 1) / v->parts + 1;
    int64_t block = v->across ? TASK_READS / v->part : SIDE_BY_SIDE;
    block = block < 4 ? 4 : block / 4 * 4;
    v->line_block = block < v->lines ? block : v->lines;
    v->line_blocks = (v->lines - 1) / v->line_block + 1;
}

// Sums of parts are added in order.
static void add_parts(const vector_work *v) {
    const dot_work *w = v->w;
    size_t count = (size_t)(w->batches * v->few * v->lines), bytes = count * v->size;
    tile_fn add = cpu_scalar(w->run->kernels, SCALAR_add, v->fns->sum);
    for (int64_t p = 1; p < v->parts; p++)
        add(v->sums, v->sums, v->sums + (size_t)p * bytes, NULL, count);
    w->run->kernels->cast[v->fns->sum][w->out_type](w->out, v->sums, NULL, NULL, count);
}

static size_t sums_bytes(const vector_work *v) {
    return (size_t)(v->parts * v->w->batches * v->few * v->lines) * v->size;
}

emlx_status vector_end(vector_work *v, emlx_status status) {
    if (v->sums == NULL) return status;
    if (status == EMLX_OK) add_parts(v);
    data_free(v->sums, sums_bytes(v));
    return status;
}

emlx_status vector_begin(dot_work *w, vector_work *v, product_tasks *tasks, emlx_error *err) {
    const vector_fns *fns = find_fns(w);
    bool left = left_matrix(w);
    side *matrix = left ? &w->left : &w->right, *vectors = left ? &w->right : &w->left;
    if (!side_steps(vectors) || vectors->type != fns->sum || vectors->column_step != 1)
        TRY(side_pack(w, vectors, fns->sum, err));
    if (!side_steps(matrix) || (matrix->column_step != 1 && matrix->row_step != 1))
        TRY(side_pack(w, matrix, matrix->type, err));
    *v = (vector_work){.w = w,
                       .fns = fns,
                       .matrix = matrix,
                       .vectors = vectors,
                       .across = matrix->column_step == 1,
                       .few = vectors->rows,
                       .lines = matrix->rows,
                       .size = type_size(fns->sum)};
    cut_parts(v);
    void *sums;
    TRY(data_alloc(sums_bytes(v), &sums, err));
    v->sums = sums;
    *tasks = (product_tasks){w->batches * v->parts * v->line_blocks, vector_task, v};
    return EMLX_OK;
}
