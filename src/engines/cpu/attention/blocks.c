// SPDX-License-Identifier: Apache-2.0
// blocks.c - attention of many rows: keys and values are packed once for all rows that share them,
// and blocks of rows go through them a block of keys at a time, by the tiles of matrix products.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/attention/attention.h"
#include "engines/cpu/kernels/tables/product.h"

// Rows of a task, a whole number of any panel's lines, and bytes of what is packed at a time.
enum { ROW_BLOCK = 96, MOST_PACKED = 1 << 25 };

typedef struct blocks {
    attention *a;
    const product_fns *scores, *sums; // products with keys, and with values
    size_t element, value_element;    // of packed keys and queries, and of values and weights
    int64_t terms;                    // of keys: the size, to whole groups
    int64_t key_group;                // of the terms of weights and values, which are keys
    int64_t columns;                  // of values: the width, to whole panels
    int64_t key_blocks, row_blocks;
    size_t keys_bytes, values_bytes; // of a packed block
    int64_t first, count;            // pairs that are packed
    atomic_bool odd;                 // there are values that are not plain
    char *packed;                    // [pair][block of keys]: keys, then values
} blocks;

// What a task works with.
typedef struct work {
    float *queries; // [row][term], or as they are packed
    char *left;     // panels of them, or of weights
    float *scores;  // [row][key]
    char *weights;  // panels of them
    float *sums;    // [row][column]
    row_sum so_far[ROW_BLOCK];
} work;

static const product_fns *of_type(const attention *a, emlx_type type) {
    return &a->run->kernels->product[type];
}

// Products of bf16 are exact in f32, whatever multiplies them.
static const product_fns *score_fns(const attention *a) {
    bool narrow = a->q.type == EMLX_BF16 && a->k.type == EMLX_BF16 && a->q.strides[3] == 1 &&
                  a->k.strides[3] == 1;
    const product_fns *fns = of_type(a, narrow ? EMLX_BF16 : EMLX_F32);
    return fns->tile != NULL ? fns : of_type(a, EMLX_F32);
}

// Tiles of whole matrices of bf16 are so quick that weights go through them twice, as two numbers.
static const product_fns *sum_fns(const attention *a) {
    const product_fns *fns = of_type(a, EMLX_BF16);
    bool narrow = a->v.type == EMLX_BF16 && a->v.strides[3] == 1 && fns->tile != NULL;
    bool quick = fns->packed == EMLX_BF16 && fns->left.group > 2;
    return narrow && quick && KEY_BLOCK % fns->left.group == 0 ? fns : of_type(a, EMLX_F32);
}

static int64_t group_of(const product_fns *f) {
    return f->left.group > f->right.group ? f->left.group : f->right.group;
}

// Packing ----------------------------------------------------------------------------------------

// A row of keys or queries, as it is packed.
static void load_packed(const blocks *b, const operand *o, int64_t batch, int64_t head, int64_t t,
                        void *to) {
    if (b->scores->packed == EMLX_F32)
        load_row(b->a, o, batch, head, t, 0, b->a->size, to);
    else
        memcpy(to, operand_at(o, batch, head, t), (size_t)b->a->size * b->element);
}

// Lines that are one after the other in `rows`, as panels; what fills the last group is 0.
static void pack_lines(const blocks *b, const panel_form *form, const void *rows, int64_t count,
                       char *to) {
    int64_t own = round_up(b->a->size, form->group);
    size_t line = (size_t)b->a->size * b->element;
    size_t panel = (size_t)(form->lines * b->terms) * b->element;
    for (int64_t i = 0; i < count; i += form->lines, to += panel) {
        form->pack(to, (const char *)rows + (size_t)i * line, b->a->size, 1,
                   (size_t)least(form->lines, count - i), (size_t)b->a->size);
        memset(to + (size_t)(own * form->lines) * b->element, 0,
               (size_t)((b->terms - own) * form->lines) * b->element);
    }
}

// Panels of values; keys that fill the last group are 0.
static void pack_values(const blocks *b, const void *rows, int64_t count, char *to) {
    const panel_form *form = &b->sums->right;
    int64_t own = round_up(count, form->group), all = round_up(count, b->key_group);
    size_t line = (size_t)form->lines * b->value_element, panel = line * KEY_BLOCK;
    for (int64_t c = 0; c < b->a->width; c += form->lines, to += panel) {
        form->pack(to, (const char *)rows + (size_t)c * b->value_element, 1, b->a->width,
                   (size_t)least(form->lines, b->a->width - c), (size_t)count);
        memset(to + (size_t)own * line, 0, (size_t)(all - own) * line);
    }
}

// Rows of values, as they are packed.
static void load_values(blocks *b, int64_t pair, int64_t first, int64_t count, char *to) {
    const attention *a = b->a;
    int64_t batch = pair / a->groups, group = pair % a->groups;
    size_t row = (size_t)a->width * b->value_element;
    for (int64_t i = 0; i < count; i++) {
        char *at = to + (size_t)i * row;
        if (b->sums->packed == EMLX_F32)
            load_row(a, &a->v, batch, group, first + i, 0, a->width, (float *)(void *)at);
        else
            memcpy(at, operand_at(&a->v, batch, group, first + i), row);
    }
    if (b->sums->packed == EMLX_F32) return;
    if (!a->fns->plain((const uint16_t *)(void *)to, (size_t)(count * a->width)))
        atomic_store_explicit(&b->odd, true, memory_order_relaxed);
}

static char *packed_at(const blocks *b, int64_t pair, int64_t block) {
    size_t each = b->keys_bytes + b->values_bytes;
    return b->packed + (size_t)((pair - b->first) * b->key_blocks + block) * each;
}

static void pack_task(void *context, int64_t index) {
    blocks *b = context;
    attention *a = b->a;
    int64_t pair = b->first + index / b->key_blocks, block = index % b->key_blocks;
    int64_t batch = pair / a->groups, group = pair % a->groups, key = block * KEY_BLOCK;
    int64_t seen = row_limit(a, pair, a->queries - 1), count = least(KEY_BLOCK, seen - key);
    size_t bytes = (size_t)(KEY_BLOCK * (a->size > a->width ? a->size : a->width)) * sizeof(float);
    char *to = packed_at(b, pair, block);
    emlx_error err;
    void *rows;
    if (key >= seen) return;
    if (data_alloc(bytes, &rows, &err) != EMLX_OK) {
        task_failed(&a->errors, &err);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        load_packed(b, &a->k, batch, group, key + i,
                    (char *)rows + (size_t)(i * a->size) * b->element);
    pack_lines(b, &b->scores->right, rows, count, to);
    load_values(b, pair, key, count, rows);
    pack_values(b, rows, count, to + b->keys_bytes);
    data_free(rows, bytes);
}

// Blocks of rows ---------------------------------------------------------------------------------

static void load_queries(const blocks *b, int64_t pair, int64_t first, int64_t rows, work *w) {
    const attention *a = b->a;
    for (int64_t i = 0; i < rows; i++)
        load_packed(b, &a->q, pair / a->groups, row_head(a, pair, first + i),
                    (first + i) % a->queries,
                    (char *)w->queries + (size_t)(i * a->size) * b->element);
    pack_lines(b, &b->scores->left, w->queries, rows, w->left);
}

// scores = queries * keys
static void multiply_keys(const blocks *b, int64_t rows, int64_t count, const char *keys, work *w) {
    const product_fns *f = b->scores;
    size_t left = (size_t)(f->left.lines * b->terms) * b->element;
    size_t right = (size_t)(f->right.lines * b->terms) * b->element;
    if (f->enter != NULL) f->enter();
    for (int64_t j = 0; j < count; j += f->right.lines)
        for (int64_t i = 0; i < rows; i += f->left.lines)
            f->tile(b->terms, w->left + (size_t)(i / f->left.lines) * left,
                    keys + (size_t)(j / f->right.lines) * right, w->scores + i * KEY_BLOCK + j,
                    KEY_BLOCK, false);
    if (f->leave != NULL) f->leave();
}

// Panels of weights: of f32, or two of bf16 in the same room.
static void pack_weights(const blocks *b, int64_t rows, int64_t count, const work *w) {
    const panel_form *form = &b->sums->left;
    size_t panel = (size_t)(form->lines * KEY_BLOCK) * sizeof(float);
    char *to = w->weights;
    for (int64_t i = 0; i < rows; i += form->lines, to += panel) {
        const float *from = w->scores + i * KEY_BLOCK;
        size_t some = (size_t)least(form->lines, rows - i);
        if (b->sums->packed == EMLX_F32)
            form->pack(to, from, KEY_BLOCK, 1, some, (size_t)count);
        else
            b->a->fns->split(from, KEY_BLOCK, some, (size_t)count, form, (uint16_t *)to,
                             (uint16_t *)(to + panel / 2));
    }
}

// sums += weights * values
static void multiply_values(const blocks *b, int64_t rows, int64_t count, const char *values,
                            work *w) {
    const product_fns *f = b->sums;
    size_t left = (size_t)(f->left.lines * KEY_BLOCK) * sizeof(float);
    size_t right = (size_t)(f->right.lines * KEY_BLOCK) * b->value_element;
    int64_t terms = round_up(count, b->key_group);
    pack_weights(b, rows, count, w);
    if (f->enter != NULL) f->enter();
    for (int64_t j = 0; j < b->a->width; j += f->right.lines, values += right)
        for (int64_t i = 0; i < rows; i += f->left.lines) {
            const char *weights = w->weights + (size_t)(i / f->left.lines) * left;
            float *sums = w->sums + i * b->columns + j;
            f->tile(terms, weights, values, sums, b->columns, true);
            if (f->packed != EMLX_F32)
                f->tile(terms, weights + left / 2, values, sums, b->columns, true);
        }
    if (f->leave != NULL) f->leave();
}

// Scores become weights. One row's largest score is known long after its last: the next row need
// not wait for it.
static void weigh_rows(const blocks *b, int64_t pair, int64_t first, int64_t rows, int64_t key,
                       int64_t count, work *w) {
    const attention *a = b->a;
    float most[ROW_BLOCK];
    for (int64_t i = 0; i < rows; i++)
        most[i] = row_score(a, pair, first + i, key, count, w->scores + i * KEY_BLOCK);
    for (int64_t i = 0; i < rows; i++) {
        float by = row_weigh(a, pair, first + i, key, count, most[i], w->scores + i * KEY_BLOCK,
                             &w->so_far[i]);
        if (by != 1) a->fns->multiply(w->sums + i * b->columns, by, (size_t)a->width);
    }
}

static void attend_block(const blocks *b, int64_t pair, int64_t first, int64_t rows, work *w) {
    const attention *a = b->a;
    int64_t most = 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t limit = row_limit(a, pair, first + i);
        most = limit > most ? limit : most;
        w->so_far[i] = row_begin(a, pair, first + i);
    }
    for (int64_t key = 0; key < most; key += KEY_BLOCK) {
        if (!task_goes_on(a->run)) return;
        int64_t count = least(KEY_BLOCK, most - key);
        const char *packed = packed_at(b, pair, key / KEY_BLOCK);
        multiply_keys(b, rows, count, packed, w);
        weigh_rows(b, pair, first, rows, key, count, w);
        multiply_values(b, rows, count, packed + b->keys_bytes, w);
    }
    for (int64_t i = 0; i < rows; i++)
        row_finish(a, pair, first + i, &w->so_far[i], w->sums + i * b->columns);
}

static void block_task(void *context, int64_t index) {
    blocks *b = context;
    attention *a = b->a;
    int64_t pair = b->first + index / b->row_blocks, first = index % b->row_blocks * ROW_BLOCK;
    size_t lines = ROW_BLOCK, query = (size_t)a->size, left = (size_t)b->terms;
    size_t floats = lines * (query + left + 2 * KEY_BLOCK + (size_t)b->columns);
    emlx_error err;
    void *memory;
    if (data_alloc(floats * sizeof(float), &memory, &err) != EMLX_OK) {
        task_failed(&a->errors, &err);
        return;
    }
    work w = {.queries = memory};
    w.left = (char *)(w.queries + lines * query);
    w.scores = w.queries + lines * (query + left);
    w.weights = (char *)(w.scores + lines * KEY_BLOCK);
    w.sums = w.scores + 2 * lines * KEY_BLOCK;
    memset(w.sums, 0, lines * (size_t)b->columns * sizeof(float));
    int64_t rows = least(ROW_BLOCK, a->rows - first);
    load_queries(b, pair, first, rows, &w);
    attend_block(b, pair, first, rows, &w);
    data_free(memory, floats * sizeof(float));
}

static emlx_status run_blocks(blocks *b, int64_t at_once, emlx_error *err) {
    attention *a = b->a;
    for (b->first = 0; b->first < a->pairs; b->first += at_once) {
        b->count = least(at_once, a->pairs - b->first);
        TRY(run_tasks(a->run, b->count * b->key_blocks, pack_task, b, err));
        TRY(task_result(&a->errors, err));
        if (atomic_load_explicit(&b->odd, memory_order_relaxed)) return EMLX_OK;
        TRY(run_tasks(a->run, b->count * b->row_blocks, block_task, b, err));
        TRY(task_result(&a->errors, err));
    }
    return EMLX_OK;
}

// *odd: `sums` do not take these values.
static emlx_status attend_by(attention *a, const product_fns *sums, bool *odd, emlx_error *err) {
    blocks b = {.a = a, .scores = score_fns(a), .sums = sums};
    b.element = type_size(b.scores->packed);
    b.value_element = type_size(b.sums->packed);
    b.key_group = group_of(b.sums);
    b.terms = round_up(a->size, group_of(b.scores));
    b.columns = round_up(a->width, b.sums->right.lines);
    b.key_blocks = (a->keys - 1) / KEY_BLOCK + 1;
    b.row_blocks = (a->rows - 1) / ROW_BLOCK + 1;
    b.keys_bytes = (size_t)(round_up(KEY_BLOCK, b.scores->right.lines) * b.terms) * b.element;
    b.values_bytes = (size_t)(KEY_BLOCK * b.columns) * b.value_element;
    size_t pair = (size_t)b.key_blocks * (b.keys_bytes + b.values_bytes);
    int64_t at_once = pair < MOST_PACKED ? MOST_PACKED / (int64_t)pair : 1;
    at_once = least(at_once, a->pairs);
    void *memory;
    TRY(data_alloc((size_t)at_once * pair, &memory, err));
    b.packed = memory;
    emlx_status status = run_blocks(&b, at_once, err);
    data_free(memory, (size_t)at_once * pair);
    *odd = atomic_load_explicit(&b.odd, memory_order_relaxed);
    return status;
}

emlx_status attend_blocks(attention *a, emlx_error *err) {
    bool odd = false;
    TRY(attend_by(a, sum_fns(a), &odd, err));
    return odd ? attend_by(a, of_type(a, EMLX_F32), &odd, err) : EMLX_OK;
}
