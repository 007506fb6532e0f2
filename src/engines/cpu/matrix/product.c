// SPDX-License-Identifier: Apache-2.0
// product.c - products of matrices from panels: both sides are packed in the order in which tiles
// of the result read them, and converted on the way. Blocks of the result are tasks, which go
// through the terms a part at a time, so that what they read again stays in the caches. Sums are
// added in the order of the terms, wherever blocks begin.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/matrix/matrix.h"

// Rows and columns of a block, about, and bytes of a packed side at a time.
#define BLOCK_LINES 128
#define MOST_PACKED (1 << 25)
// Bytes of both packed sides up to which a task does a whole product by itself.
#define SMALL_PACKED (1 << 19)
// Elements of a side that goes by in a task, about.
#define STREAM_READS (1 << 18)
// Elements that are converted at a time, a whole number of groups of terms for any line.
enum { STAGE_TERMS = 64, STAGE = 64 * STAGE_TERMS };
// Bytes of the sums of a tile, at most.
enum { MOST_TILE = 4096 };

// One side in panels.
typedef struct panels {
    const panel_form *form;
    const side *from;
    bool cast;
    size_t size;          // of a packed element
    int64_t first, lines; // of the side
    int64_t count;        // panels
    size_t bytes;         // of a panel
    char *data;
} panels;

typedef struct product {
    const dot_work *w;
    const product_fns *fns;
    panels left, right;
    int64_t batch, terms; // terms with those that fill the last group
    int64_t row_blocks, column_blocks, rows, columns;
    bool in_place; // the left side is in no panels
    atomic_bool flushes;
    task_errors errors;
} product;

// Terms that sums of 32 bits hold the products of, whatever bytes they are.
#define MOST_BYTES (INT32_MAX / (255 * 255))

static bool is_byte(emlx_type t) { return t == EMLX_U8 || t == EMLX_S8; }
static bool is_half(emlx_type t) { return is_byte(t) || t == EMLX_S16; }

// Of bytes and halves whose sums are wider: sums of 32 bits are those of 64 where they do not wrap.
static const product_fns *find_wide(const dot_work *w) {
    const product_fns *table = w->run->kernels->product, *bytes = NULL, *halves = NULL;
    emlx_type l = w->left.type, r = w->right.type;
    bool both = is_byte(l) && is_byte(r);
    if (!type_is_integer(w->type) || type_size(w->type) < 4) return NULL;
    if (type_size(w->type) > 4 && !(both && w->k <= MOST_BYTES)) return NULL;
    if (both) bytes = &table[PRODUCT_BYTES + 2 * (l == EMLX_S8) + (r == EMLX_S8)];
    if (is_half(l) && is_half(r)) halves = &table[PRODUCT_HALVES];
    if (bytes != NULL && bytes->tile != NULL) return bytes;
    return halves != NULL && halves->tile != NULL ? halves : NULL;
}

// What is converted to f32 before it is multiplied has the bits of f32.
static const product_fns *find_fns(const dot_work *w) {
    const product_fns *table = w->run->kernels->product, *wide = find_wide(w);
    emlx_type l = w->left.type, r = w->right.type;
    bool narrow = type_is_float(l) && type_is_float(r) && l != EMLX_F16 && r != EMLX_F16 &&
                  type_size(l) < 4 && type_size(r) < 4 && w->out_type != EMLX_F32;
    if (wide != NULL) return wide;
    if (w->type == EMLX_F32 && narrow && table[EMLX_BF16].tile != NULL) return &table[EMLX_BF16];
    return &table[w->type];
}

bool product_can(const dot_work *w) { return find_fns(w)->tile != NULL; }

// Packing ---------------------------------------------------------------------------------------

static bool same_bits(emlx_type a, emlx_type b) {
    return a == b || (type_is_integer(a) && type_is_integer(b) && type_size(a) == type_size(b));
}

// Terms of lines of weights of few bits, which are a whole number of chunks.
static void stage_weights(const product *p, const panels *s, char *to, int64_t line, int64_t lines,
                          int64_t term, int64_t terms) {
    tile_fn cast = p->w->run->kernels->cast[EMLX_F32][p->fns->packed];
    _Alignas(64) char stage[STAGE * sizeof(float)];
    float values[STAGE_TERMS];
    for (int64_t i = 0; i < lines; i++) {
        packed_values_of(s->from->weights, line + i, term, terms, values);
        cast(stage + i * STAGE_TERMS * (int64_t)s->size, values, NULL, NULL, (size_t)terms);
    }
    s->form->pack(to, stage, STAGE_TERMS, 1, (size_t)lines, (size_t)terms);
}

// Some terms of a panel's lines, converted first.
static void stage_panel(const product *p, const panels *s, char *to, const char *from,
                        int64_t lines, int64_t terms) {
    const side *x = s->from;
    tile_fn cast = p->w->run->kernels->cast[x->type][p->fns->packed];
    int64_t size = (int64_t)type_size(x->type), stage_size = (int64_t)s->size;
    _Alignas(64) char stage[STAGE * sizeof(double)];
    bool by_lines = x->column_step == 1;
    int64_t runs = by_lines ? lines : terms, length = by_lines ? terms : lines;
    int64_t step = by_lines ? x->row_step : x->column_step;
    int64_t apart = by_lines ? STAGE_TERMS : s->form->lines;
    for (int64_t i = 0; i < runs; i++)
        cast(stage + i * apart * stage_size, from + i * step * size, NULL, NULL, (size_t)length);
    s->form->pack(to, stage, by_lines ? apart : 1, by_lines ? 1 : apart, (size_t)lines,
                  (size_t)terms);
}

// `count` terms of a panel, from `first` on, and zeros up to `whole_count`.
static void pack_terms(const product *p, const panels *s, int64_t index, int64_t first,
                       int64_t count, int64_t whole_count, char *to) {
    const side *x = s->from;
    int64_t line = index * s->form->lines, size = (int64_t)type_size(x->type);
    int64_t lines = least(s->lines - line, s->form->lines);
    const char *from =
        side_batch(x, p->batch) + ((s->first + line) * x->row_step + first * x->column_step) * size;
    int64_t packed = round_up(count, s->form->group), row = s->form->lines * (int64_t)s->size;
    if (!s->cast)
        s->form->pack(to, from, x->row_step, x->column_step, (size_t)lines, (size_t)count);
    for (int64_t t = 0; s->cast && t < count; t += STAGE_TERMS) {
        int64_t some = least(count - t, STAGE_TERMS);
        if (x->weights != NULL)
            stage_weights(p, s, to + t * row, s->first + line, lines, first + t, some);
        else
            stage_panel(p, s, to + t * row, from + t * x->column_step * size, lines, some);
    }
    // Groups that only the other side has.
    memset(to + packed * row, 0, (size_t)((whole_count - packed) * row));
}

// A product that the tiles would take for another is not computed by them.
static void look_for_odd(product *p, const panels *s, const char *data, size_t bytes) {
    if (p->fns->flushes != NULL && p->fns->flushes(data, bytes / s->size))
        atomic_store_explicit(&p->flushes, true, memory_order_relaxed);
}

static void pack_task(void *context, int64_t index) {
    product *p = context;
    const panels *s = index < p->left.count ? &p->left : &p->right;
    if (s == &p->right) index -= p->left.count;
    char *to = s->data + (size_t)index * s->bytes;
    pack_terms(p, s, index, 0, p->w->k, p->terms, to);
    look_for_odd(p, s, to, s->bytes);
}

static void set_lines(panels *s, int64_t first, int64_t lines) {
    s->first = first;
    s->lines = lines;
    s->count = (lines - 1) / s->form->lines + 1;
}

// Blocks ----------------------------------------------------------------------------------------

typedef struct block {
    int64_t row, column, rows, columns; // of the result's part
    char *sums;
    int64_t step; // between rows of sums
} block;

// Terms from `first` on of a line of a left side that is where it is, or of a panel.
static const char *left_at(const product *p, int64_t row, int64_t first) {
    const side *x = p->left.from;
    if (p->in_place)
        return side_batch(x, p->batch) + (size_t)(row * x->row_step + first) * p->left.size;
    return p->left.data + (size_t)(row / p->fns->left.lines) * p->left.bytes +
           (size_t)(first * p->fns->left.lines) * p->left.size;
}

static const char *right_at(const product *p, int64_t column, int64_t first) {
    int64_t lines = p->fns->right.lines;
    return p->right.data + (size_t)(column / lines) * p->right.bytes +
           (size_t)(first * lines) * p->right.size;
}

// The sums of `rows` rows of a panel on either side, as many as a panel has or, in place, any.
static void multiply_tile(const product *p, int64_t first, int64_t terms, int64_t row, int64_t rows,
                          int64_t column, char *sums, int64_t step) {
    const product_fns *f = p->fns;
    const char *left = left_at(p, row, first), *right = right_at(p, column, first);
    if (p->in_place)
        f->lines(terms, left, p->left.from->row_step, rows, right, sums, step, first > 0);
    else
        f->tile(terms, left, right, sums, step, first > 0);
}

static void copy_sums(char *to, size_t to_step, const char *from, size_t from_step, size_t size,
                      int64_t rows) {
    for (; rows > 0; rows--, to += to_step, from += from_step) memcpy(to, from, size);
}

// A tile that is larger than what is left of the result.
static void multiply_edge(const product *p, int64_t first, int64_t terms, const block *b, int64_t i,
                          int64_t j) {
    const product_fns *f = p->fns;
    _Alignas(64) char tile[MOST_TILE];
    size_t size = type_size(f->sum), step = (size_t)b->step * size;
    size_t room = (size_t)f->right.lines * size;
    int64_t rows = least(b->rows - i, f->left.lines);
    size_t bytes = (size_t)least(b->columns - j, f->right.lines) * size;
    char *sums = b->sums + (size_t)(i * b->step + j) * size;
    if (first > 0) copy_sums(tile, room, sums, step, bytes, rows);
    multiply_tile(p, first, terms, b->row + i, rows, b->column + j, tile, f->right.lines);
    copy_sums(sums, step, tile, room, bytes, rows);
}

// The columns of a panel.
static void multiply_columns(const product *p, int64_t first, int64_t terms, const block *b,
                             int64_t j) {
    const product_fns *f = p->fns;
    bool whole = j + f->right.lines <= b->columns;
    int64_t rows = whole && p->in_place ? b->rows : f->left.lines;
    for (int64_t i = 0; i < b->rows; i += rows)
        if (whole && i + rows <= b->rows)
            multiply_tile(p, first, terms, b->row + i, rows, b->column + j,
                          b->sums + (size_t)(i * b->step + j) * type_size(f->sum), b->step);
        else
            multiply_edge(p, first, terms, b, i, j);
}

static void multiply_block(const product *p, const block *b) {
    const product_fns *f = p->fns;
    for (int64_t t = 0; t < p->terms; t += f->terms)
        for (int64_t j = 0; j < b->columns; j += f->right.lines)
            multiply_columns(p, t, least(p->terms - t, f->terms), b, j);
}

// Where the result's row begins.
static char *result_at(const product *p, int64_t row, int64_t column) {
    const dot_work *w = p->w;
    int64_t index = (p->batch * w->m + p->left.first + row) * w->n + p->right.first + column;
    return w->out + index * (int64_t)type_size(w->out_type);
}

static void round_block(const product *p, const block *b) {
    const dot_work *w = p->w;
    tile_fn cast = w->run->kernels->cast[p->fns->sum][w->out_type];
    size_t size = type_size(p->fns->sum);
    for (int64_t i = 0; i < b->rows; i++)
        cast(result_at(p, b->row + i, b->column), b->sums + (size_t)(i * b->step) * size, NULL,
             NULL, (size_t)b->columns);
}

// Sums are the result, or become it once they are all there.
static emlx_status run_block(const product *p, block *b, emlx_error *err) {
    const product_fns *f = p->fns;
    bool direct = same_bits(f->sum, p->w->out_type);
    b->step = direct ? p->w->n : b->columns;
    size_t bytes = (size_t)(b->rows * b->step) * type_size(f->sum);
    void *sums = direct ? result_at(p, b->row, b->column) : NULL;
    if (!direct) TRY(data_alloc(bytes, &sums, err));
    b->sums = sums;
    if (f->enter != NULL) f->enter();
    multiply_block(p, b);
    if (f->leave != NULL) f->leave();
    if (direct) return EMLX_OK;
    round_block(p, b);
    data_free(sums, bytes);
    return EMLX_OK;
}

static void block_task(void *context, int64_t index) {
    product *p = context;
    block b = {.row = index / p->column_blocks * p->rows,
               .column = index % p->column_blocks * p->columns};
    b.rows = p->left.lines - b.row < p->rows ? p->left.lines - b.row : p->rows;
    b.columns = p->right.lines - b.column < p->columns ? p->right.lines - b.column : p->columns;
    emlx_error err;
    if (run_block(p, &b, &err) != EMLX_OK) task_failed(&p->errors, &err);
}

// Streams ---------------------------------------------------------------------------------------

// Where one side has few lines, the other is read once: some terms of a panel are packed and used
// before they leave the first-level cache.
typedef struct stream {
    product *p;
    panels *kept, *passing;
    int64_t group; // panels of a task
    size_t part, sums;
} stream;

static void multiply_part(const stream *s, const char *part, int64_t first, int64_t terms,
                          char *sums) {
    const product *p = s->p;
    const product_fns *f = p->fns;
    bool left = s->kept == &p->left;
    int64_t step = left ? f->right.lines : round_up(s->kept->lines, f->right.lines);
    int64_t apart = left ? f->left.lines * step : f->right.lines;
    for (int64_t i = 0; i < s->kept->count; i++) {
        const char *kept = s->kept->data + (size_t)i * s->kept->bytes +
                           (size_t)(first * s->kept->form->lines) * s->kept->size;
        char *to = sums + (size_t)(i * apart) * type_size(f->sum);
        f->tile(terms, left ? kept : part, left ? part : kept, to, step, first > 0);
    }
}

static void stream_panel(const stream *s, int64_t index, char *part, char *sums) {
    product *p = s->p;
    bool left = s->kept == &p->left;
    int64_t lines = s->passing->form->lines, line = index * lines;
    for (int64_t t = 0; t < p->terms; t += p->fns->terms) {
        int64_t terms = least(p->terms - t, p->fns->terms), there = least(p->w->k - t, terms);
        pack_terms(p, s->passing, index, t, there, terms, part);
        look_for_odd(p, s->passing, part, (size_t)(terms * lines) * s->passing->size);
        multiply_part(s, part, t, terms, sums);
    }
    int64_t found = least(s->passing->lines - line, lines);
    block b = {left ? 0 : line,
               left ? line : 0,
               left ? s->kept->lines : found,
               left ? found : s->kept->lines,
               sums,
               0};
    b.step = left ? lines : round_up(s->kept->lines, p->fns->right.lines);
    round_block(p, &b);
}

static void stream_task(void *context, int64_t index) {
    const stream *s = context;
    const product_fns *f = s->p->fns;
    int64_t end = least((index + 1) * s->group, s->passing->count);
    void *memory;
    emlx_error err;
    if (data_alloc(s->part + s->sums, &memory, &err) != EMLX_OK) {
        task_failed(&s->p->errors, &err);
        return;
    }
    if (f->enter != NULL) f->enter();
    for (int64_t i = index * s->group; i < end; i++)
        stream_panel(s, i, memory, (char *)memory + s->part);
    if (f->leave != NULL) f->leave();
    data_free(memory, s->part + s->sums);
}

static void pack_kept(void *context, int64_t index) {
    const stream *s = context;
    product *p = s->p;
    char *to = s->kept->data + (size_t)index * s->kept->bytes;
    pack_terms(p, s->kept, index, 0, p->w->k, p->terms, to);
    look_for_odd(p, s->kept, to, s->kept->bytes);
}

// All lines of both sides are set.
static emlx_status run_stream(stream *s, emlx_error *err) {
    product *p = s->p;
    const cpu_run *run = p->w->run;
    int64_t lines = s->passing->form->lines, rows = round_up(s->kept->lines, s->kept->form->lines);
    s->part = (size_t)(p->fns->terms * lines) * s->passing->size;
    s->sums = (size_t)(rows * lines) * type_size(p->fns->sum);
    s->group = STREAM_READS / (p->terms * lines) + 1;
    for (p->batch = 0; p->batch < p->w->batches; p->batch++) {
        TRY(run_tasks(run, s->kept->count, pack_kept, s, err));
        TRY(run_tasks(run, (s->passing->count - 1) / s->group + 1, stream_task, s, err));
        if (atomic_load_explicit(&p->flushes, memory_order_relaxed)) break;
    }
    return task_result(&p->errors, err);
}

// Products --------------------------------------------------------------------------------------

static void begin_product(product *p, const dot_work *w, const product_fns *fns) {
    const panel_form *forms[2] = {&fns->left, &fns->right};
    const side *sides[2] = {&w->left, &w->right};
    panels *both[2] = {&p->left, &p->right};
    *p = (product){.w = w, .fns = fns};
    int64_t group = fns->left.group > fns->right.group ? fns->left.group : fns->right.group;
    p->terms = round_up(w->k, group);
    for (int i = 0; i < 2; i++) {
        panels *s = both[i];
        *s = (panels){.form = forms[i], .from = sides[i], .size = type_size(fns->packed)};
        s->cast = sides[i]->weights != NULL || !same_bits(sides[i]->type, fns->packed);
        s->bytes = (size_t)(forms[i]->lines * p->terms) * s->size;
    }
    p->rows = round_up(BLOCK_LINES, fns->left.lines);
    p->columns = round_up(BLOCK_LINES, fns->right.lines);
}

static emlx_status pack_and_multiply(product *p, emlx_error *err) {
    const cpu_run *run = p->w->run;
    TRY(run_tasks(run, p->left.count + p->right.count, pack_task, p, err));
    if (atomic_load_explicit(&p->flushes, memory_order_relaxed)) return EMLX_OK;
    p->row_blocks = (p->left.lines - 1) / p->rows + 1;
    p->column_blocks = (p->right.lines - 1) / p->columns + 1;
    TRY(run_tasks(run, p->row_blocks * p->column_blocks, block_task, p, err));
    return task_result(&p->errors, err);
}

// Lines of a side that are packed at a time.
static int64_t lines_at_once(const panels *s, int64_t lines) {
    int64_t room = (int64_t)(MOST_PACKED / s->bytes) * s->form->lines;
    if (room < BLOCK_LINES) room = round_up(BLOCK_LINES, s->form->lines);
    return room < lines ? room : lines;
}

// One product after another, all threads on each.
static emlx_status run_large(product *p, int64_t rows, int64_t columns, emlx_error *err) {
    const dot_work *w = p->w;
    for (p->batch = 0; p->batch < w->batches; p->batch++)
        for (int64_t column = 0; column < w->n; column += columns)
            for (int64_t row = 0; row < w->m; row += rows) {
                set_lines(&p->right, column, w->n - column < columns ? w->n - column : columns);
                set_lines(&p->left, row, w->m - row < rows ? w->m - row : rows);
                TRY(pack_and_multiply(p, err));
                if (atomic_load_explicit(&p->flushes, memory_order_relaxed)) return EMLX_OK;
            }
    return EMLX_OK;
}

static emlx_status multiply_large(product *p, emlx_error *err) {
    int64_t rows = lines_at_once(&p->left, p->w->m), columns = lines_at_once(&p->right, p->w->n);
    set_lines(&p->left, 0, rows);
    set_lines(&p->right, 0, columns);
    size_t left = (size_t)p->left.count * p->left.bytes;
    size_t right = (size_t)p->right.count * p->right.bytes;
    void *memory;
    TRY(data_alloc(left + right, &memory, err));
    p->left.data = memory;
    p->right.data = (char *)memory + left;
    emlx_status status = run_large(p, rows, columns, err);
    data_free(memory, left + right);
    return status;
}

// Whether one side has few lines, and then that one: the other is not worth a copy.
static panels *few_lines(product *p) {
    if (p->w->m <= BLOCK_LINES && p->w->n > BLOCK_LINES) return &p->left;
    return p->w->n <= BLOCK_LINES && p->w->m > BLOCK_LINES ? &p->right : NULL;
}

static emlx_status multiply_streamed(product *p, emlx_error *err) {
    stream s = {.p = p, .kept = few_lines(p)};
    s.passing = s.kept == &p->left ? &p->right : &p->left;
    set_lines(&p->left, 0, p->w->m);
    set_lines(&p->right, 0, p->w->n);
    void *memory;
    size_t size = (size_t)s.kept->count * s.kept->bytes;
    TRY(data_alloc(size, &memory, err));
    s.kept->data = memory;
    emlx_status status = run_stream(&s, err);
    data_free(memory, size);
    return status;
}

// A whole product within a task, whose sides stay in its cache. Lines of the left side are read as
// often as there are panels on the right, and where they are if they can be.
static emlx_status multiply_small(product *p, emlx_error *err) {
    p->in_place = p->fns->lines != NULL && !p->left.cast && p->left.from->column_step == 1;
    if (p->in_place) p->left.count = 0;
    size_t left = (size_t)p->left.count * p->left.bytes;
    size_t right = (size_t)p->right.count * p->right.bytes;
    void *memory;
    TRY(data_alloc(left + right, &memory, err));
    p->left.data = memory;
    p->right.data = (char *)memory + left;
    for (int64_t i = 0; i < p->left.count + p->right.count; i++) pack_task(p, i);
    block all = {0, 0, p->w->m, p->w->n, NULL, 0};
    emlx_status status =
        atomic_load_explicit(&p->flushes, memory_order_relaxed) ? EMLX_OK : run_block(p, &all, err);
    data_free(memory, left + right);
    return status;
}

static void small_task(void *context, int64_t index) {
    product *all = context, one;
    emlx_error err;
    begin_product(&one, all->w, all->fns);
    one.batch = index;
    set_lines(&one.left, 0, one.w->m);
    set_lines(&one.right, 0, one.w->n);
    if (multiply_small(&one, &err) != EMLX_OK) task_failed(&all->errors, &err);
    if (atomic_load_explicit(&one.flushes, memory_order_relaxed))
        atomic_store_explicit(&all->flushes, true, memory_order_relaxed);
}

static bool is_small(product *p) {
    const dot_work *w = p->w;
    if (w->m > 4 * BLOCK_LINES || w->n > 4 * BLOCK_LINES) return false;
    set_lines(&p->left, 0, w->m);
    set_lines(&p->right, 0, w->n);
    size_t bytes = (size_t)p->left.count * p->left.bytes + (size_t)p->right.count * p->right.bytes;
    bool one_block = w->m <= BLOCK_LINES && w->n <= BLOCK_LINES;
    return bytes <= SMALL_PACKED && (one_block || w->batches >= 4);
}

static emlx_status multiply_with(const dot_work *w, const product_fns *fns, bool *flushes,
                                 emlx_error *err) {
    product p;
    begin_product(&p, w, fns);
    emlx_status status;
    if (is_small(&p)) {
        status = run_tasks(w->run, w->batches, small_task, &p, err);
        if (status == EMLX_OK) status = task_result(&p.errors, err);
    } else {
        bool streams = few_lines(&p) != NULL;
        status = streams ? multiply_streamed(&p, err) : multiply_large(&p, err);
    }
    *flushes = atomic_load_explicit(&p.flushes, memory_order_relaxed);
    return status;
}

emlx_status product_multiply(dot_work *w, emlx_error *err) {
    side *sides[2] = {&w->left, &w->right};
    for (int i = 0; i < 2; i++)
        if (!side_steps(sides[i]) || (sides[i]->row_step != 1 && sides[i]->column_step != 1))
            TRY(side_pack(w, sides[i], sides[i]->type, err));
    bool flushes;
    TRY(multiply_with(w, find_fns(w), &flushes, err));
    if (flushes) TRY(multiply_with(w, &w->run->kernels->product[w->type], &flushes, err));
    return EMLX_OK;
}
