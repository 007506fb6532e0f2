// SPDX-License-Identifier: Apache-2.0
// fft.c - Fourier transforms of a kernel's lines. Lines come as complex numbers of the computed
// type, or are made such; real lines of even length are transformed as complex ones of half the
// length. Bunches of lines are tasks, or, where lines are long, each is the work of all threads.
#include "engines/cpu/fft/fft.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/routine/routine.h"
#include "threads/cancel.h"

// How a line comes to be complex and its transform to be the result.
typedef enum line_way {
    WAY_PLAIN,   // as it is
    WAY_UNFOLD,  // real: pairs are complex numbers, whose transform is unfolded
    WAY_FOLD,    // half of a mirrored line: folded, and the results are pairs
    WAY_MIRRORED // half of a mirrored line: the other half is made
} line_way;

typedef struct fft_work {
    const fft_form *form, *inner; // inner: of the complex lines
    const routine_params *params;
    const cpu_run *run;
    line_way way;
    bool at_once;                       // lines are unfolded within a panel
    emlx_type from_type, to_type, type; // type: of numbers that are computed with
    const char *from;
    char *to;
    int64_t from_length, to_length, beside; // of a line in memory, and how many lie side by side
    int64_t lines, blocks, block, group;    // lines; blocks of at most `block` lines, which do not
                                            // go beyond those side by side; blocks of a task
    bool inverse;
    fft_scale scale; // of the results
    // Numbers of a line that is copied in, of one between, of one to be copied out; 0: there is
    // none, as memory will do.
    int64_t in, middle, out;
    size_t memory; // bytes of all that, and of what transforms take
    task_errors errors;
} fft_work;

// A block of lines on its way.
typedef struct fft_block {
    const fft_work *w;
    fft_job job;
    int64_t first, lines;
    char *in, *middle, *out, *rest;
} fft_block;

// Numbers that are converted in one go, and elements in one call.
enum { STAGE = 128, CHUNK = 16384 };

static int64_t width(emlx_type type) { return type_is_complex(type) ? 2 : 1; }

// Elements that are looked at of a line that comes.
static int64_t wanted(const fft_work *w) {
    int64_t n = w->form->length;
    return w->params->kind == ROUTINE_irfft ? n / 2 + 1 : n;
}

// Where line `number` begins in elements, of lines that long.
static int64_t line_at(const fft_work *w, int64_t number, int64_t length) {
    return number / w->beside * w->beside * length + number % w->beside;
}

static bool is_real(const fft_work *w) { return !type_is_complex(w->from_type); }

// Copies ----------------------------------------------------------------------------------------

// Some elements of a line, as complex numbers unless they are pairs of real ones.
static void copy_in(const fft_work *w, const char *line, char *to, int64_t from, int64_t end) {
    size_t element = type_size(w->from_type), number = type_size(w->type);
    stride_fn gather = w->run->kernels->gather[__builtin_ctzl(element)];
    tile_fn cast = w->run->kernels->cast[type_part(w->from_type)][w->type];
    bool spread = is_real(w) && w->way != WAY_UNFOLD;
    tile_fn with_zeros = cpu_scalar(w->run->kernels, SCALAR_complex, w->type);
    static const double zeros[STAGE / 2];
    int64_t there = least(end, w->from_length), wide = width(w->from_type), count;
    _Alignas(64) char stage[STAGE * sizeof(double)], numbers[STAGE * sizeof(double)];
    for (int64_t at = from; at < there; at += count) {
        count = least(there - at, STAGE / 2);
        const char *elements = line + at * w->beside * (int64_t)element;
        if (w->beside > 1) gather(stage, elements, w->beside, (size_t)count);
        int64_t place = at * (spread ? 2 : wide) * (int64_t)number;
        cast(spread ? numbers : to + place, w->beside > 1 ? stage : elements, NULL, NULL,
             (size_t)(count * wide));
        if (spread) with_zeros(to + place, numbers, zeros, NULL, (size_t)count);
    }
    int64_t first = there > from ? there : from, each = (spread ? 2 : wide) * (int64_t)number;
    if (end > first) memset(to + first * each, 0, (size_t)((end - first) * each));
}

// The other half is the first one's mirror image, where that has a partner.
static void mirror(const fft_work *w, char *line) {
    int64_t n = w->form->length;
    size_t size = type_size(w->type);
    tile_fn negate = cpu_scalar(w->run->kernels, SCALAR_negate, w->type);
    for (int64_t k = n / 2 + 1; k < n; k++) {
        char *number = line + (size_t)k * 2 * size, *imaginary = number + size;
        memcpy(number, line + (size_t)(n - k) * 2 * size, 2 * size);
        negate(imaginary, imaginary, NULL, NULL, 1);
    }
}

static void copy_out(const fft_work *w, const char *line, char *to, int64_t from, int64_t end) {
    size_t element = type_size(w->to_type), number = type_size(w->type);
    stride_fn scatter = w->run->kernels->scatter[__builtin_ctzl(element)];
    stride_fn gather = w->run->kernels->gather[__builtin_ctzl(number)];
    tile_fn cast = w->run->kernels->cast[w->type][type_part(w->to_type)];
    // Pairs of a line that was folded are beside each other already.
    int64_t wide = width(w->to_type), step = wide == 2 || w->way == WAY_FOLD ? 1 : 2, count;
    _Alignas(64) char stage[STAGE * sizeof(double)], numbers[STAGE * sizeof(double)];
    for (int64_t at = from; at < end; at += count) {
        count = least(end - at, STAGE / 2);
        gather(numbers, line + (size_t)(at * wide * step) * number, step, (size_t)(count * wide));
        cast(stage, numbers, NULL, NULL, (size_t)(count * wide));
        scatter(to + at * w->beside * (int64_t)element, stage, w->beside, (size_t)count);
    }
}

// A chunk of one of a block's lines.
typedef struct piece {
    int64_t line, from, to;
} piece;

static piece find_piece(int64_t index, int64_t length) {
    int64_t chunks = (length - 1) / CHUNK + 1;
    piece p = {index / chunks, index % chunks * CHUNK, 0};
    p.to = least(length, p.from + CHUNK);
    return p;
}

static void in_body(void *context, int64_t index) {
    const fft_block *b = context;
    const fft_work *w = b->w;
    piece p = find_piece(index, wanted(w));
    int64_t at = line_at(w, b->first + p.line, w->from_length);
    const char *line = w->from + at * (int64_t)type_size(w->from_type);
    copy_in(w, line, b->in + p.line * w->in * (int64_t)type_size(w->type), p.from, p.to);
}

static void mirror_body(void *context, int64_t index) {
    const fft_block *b = context;
    mirror(b->w, b->in + index * b->w->in * (int64_t)type_size(b->w->type));
}

static void out_body(void *context, int64_t index) {
    const fft_block *b = context;
    const fft_work *w = b->w;
    piece p = find_piece(index, w->to_length);
    int64_t at = line_at(w, b->first + p.line, w->to_length);
    char *line = w->to + at * (int64_t)type_size(w->to_type);
    copy_out(w, b->out + p.line * w->out * (int64_t)type_size(w->type), line, p.from, p.to);
}

static emlx_status each_piece(fft_block *b, int64_t length, pool_body body, emlx_error *err) {
    return fft_each(&b->job, b->lines * ((length - 1) / CHUNK + 1), body, b, err);
}

// Mixing ----------------------------------------------------------------------------------------

// Where lines come from and go to: copies, or memory.
static fft_view source(const fft_block *b) {
    const fft_work *w = b->w;
    int64_t wide = width(w->from_type), size = (int64_t)type_size(w->from_type);
    if (w->in > 0) return (fft_view){b->in, w->in, 2};
    char *data = (char *)(uintptr_t)w->from + line_at(w, b->first, w->from_length) * size;
    return (fft_view){data, w->beside > 1 ? wide : w->from_length * wide, w->beside * 2};
}

static fft_view target(const fft_block *b) {
    const fft_work *w = b->w;
    int64_t wide = width(w->to_type), size = (int64_t)type_size(w->to_type);
    if (w->out > 0) return (fft_view){b->out, w->out, 2};
    char *data = w->to + line_at(w, b->first, w->to_length) * size;
    return (fft_view){data, w->beside > 1 ? wide : w->to_length * wide, w->beside * 2};
}

// The inverse has the conjugates.
static double unfolded_sign(const fft_work *w) { return w->inverse ? -1 : 1; }

static void mix_body(void *context, int64_t index) {
    const fft_block *b = context;
    const fft_work *w = b->w;
    bool folds = w->way == WAY_FOLD;
    int64_t half = w->form->length / 2, pieces = half / 2 / FFT_MIXED + 1, line = index / pieces;
    int64_t size = (int64_t)type_size(w->type);
    fft_view whole = folds ? source(b) : target(b);
    char *outside = whole.data + line * whole.line * size;
    char *inside = b->middle + line * w->middle * size;
    fft_mixing m = {.from = folds ? outside : inside, .to = folds ? inside : outside};
    m.half = half;
    m.folds = folds;
    m.k = index % pieces * FFT_MIXED;
    m.end = least(half / 2 + 1, m.k + FFT_MIXED);
    m.base = w->form->turns[folds];
    fft_root(&w->form->roots, m.k, m.start);
    if (folds) m.start[1] = -m.start[1];
    if (!folds && w->params->kind == ROUTINE_fft) m.mirror = outside;
    m.sign = folds ? 1 : unfolded_sign(w);
    m.scale = (fft_scale){1, 1, 0};
    if (!folds) m.scale = w->scale;
    w->inner->fns->mix(&m);
}

static emlx_status mix(fft_block *b, emlx_error *err) {
    int64_t pieces = b->w->form->length / 4 / FFT_MIXED + 1;
    return fft_each(&b->job, b->lines * pieces, mix_body, b, err);
}

// Blocks ----------------------------------------------------------------------------------------

static emlx_status transform(fft_block *b, emlx_error *err) {
    const fft_work *w = b->w;
    fft_view middle = {b->middle, w->middle, 2};
    fft_mixing unfold = {.half = w->form->length / 2, .base = w->form->turns[0]};
    unfold.sign = unfolded_sign(w);
    unfold.scale = w->scale;
    if (w->params->kind == ROUTINE_fft) unfold.mirror = w->to;
    bool apart = w->way == WAY_UNFOLD && !w->at_once;
    fft_lines t = {.job = &b->job,
                   .form = w->inner,
                   .from = w->way == WAY_FOLD ? middle : source(b),
                   .to = apart ? middle : target(b),
                   .lines = b->lines,
                   .exchange = w->inverse && w->way != WAY_UNFOLD,
                   .scale = w->way != WAY_UNFOLD ? &w->scale : NULL,
                   .memory = b->rest,
                   .unfold = w->at_once ? &unfold : NULL};
    return fft_transform(&t, err);
}

static emlx_status run_block(fft_block *b, emlx_error *err) {
    const fft_work *w = b->w;
    if (w->in > 0) TRY(each_piece(b, wanted(w), in_body, err));
    if (w->way == WAY_MIRRORED) TRY(fft_each(&b->job, b->lines, mirror_body, b, err));
    if (w->way == WAY_FOLD) TRY(mix(b, err));
    TRY(transform(b, err));
    if (w->way == WAY_UNFOLD && !w->at_once) TRY(mix(b, err));
    if (w->out > 0) TRY(each_piece(b, w->to_length, out_body, err));
    return EMLX_OK;
}

static int64_t block_numbers(const fft_work *w) { return w->block * (w->in + w->middle + w->out); }

static void place_block(fft_block *b, int64_t number, char *memory) {
    const fft_work *w = b->w;
    int64_t size = (int64_t)type_size(w->type), blocks = (w->beside - 1) / w->block + 1;
    int64_t along = w->beside > 1 ? w->beside : w->lines;
    if (w->beside == 1) blocks = (w->lines - 1) / w->block + 1;
    int64_t within = number % blocks * w->block;
    b->first = number / blocks * along + within;
    b->lines = least(along - within, w->block);
    b->in = memory;
    b->middle = b->in + w->block * w->in * size;
    b->out = b->middle + w->block * w->middle * size;
    b->rest = b->out + w->block * w->out * size;
}

static void fft_task(void *context, int64_t index) {
    fft_work *w = context;
    _Alignas(64) char room[ROOM_SIZE];
    void *memory;
    emlx_error err;
    emlx_status status = room_take(room, w->memory, &memory, &err);
    if (status == EMLX_OK) {
        int64_t end = least((index + 1) * w->group, w->blocks);
        for (int64_t i = index * w->group; i < end && status == EMLX_OK; i++) {
            fft_block b = {.w = w, .job = {.run = w->run}};
            place_block(&b, i, memory);
            status = run_block(&b, &err);
        }
        room_end(room, memory, w->memory);
    }
    if (status != EMLX_OK) task_failed(&w->errors, &err);
}

// Each block by all threads.
static emlx_status run_spread(fft_work *w, emlx_error *err) {
    void *memory;
    TRY(data_alloc(w->memory, &memory, err));
    emlx_status status = EMLX_OK;
    for (int64_t i = 0; i < w->blocks && status == EMLX_OK; i++) {
        fft_block b = {.w = w, .job = {.run = w->run, .spread = true}};
        place_block(&b, i, memory);
        status = run_block(&b, err);
    }
    data_free(memory, w->memory);
    return status;
}

// Kernels ---------------------------------------------------------------------------------------

static line_way choose_way(const fft_work *w) {
    bool half = w->form->half != NULL;
    if (w->params->kind == ROUTINE_irfft) return half ? WAY_FOLD : WAY_MIRRORED;
    return half && is_real(w) ? WAY_UNFOLD : WAY_PLAIN;
}

// The inverse is divided by the length, or multiplied where that is exact; unfolding has twice the
// result.
static void find_scale(fft_work *w) {
    double by = (w->inverse ? (double)w->form->length : 1) * (w->way == WAY_UNFOLD ? 2 : 1);
    int exponent;
    w->scale = (fft_scale){1, by, w->params->tolerance};
    if (frexp(by, &exponent) == 0.5) w->scale.times = 1 / by, w->scale.over = 1;
}

// Copies of lines that memory has not in the form that they are computed in.
static void find_copies(fft_work *w) {
    int64_t n = w->form->length, numbers = wanted(w) * (w->way == WAY_UNFOLD ? 1 : 2);
    bool same = type_part(w->from_type) == w->type && w->from_length >= wanted(w);
    bool pairs = !is_real(w) || w->way == WAY_UNFOLD;
    if (!same || !pairs || w->way == WAY_MIRRORED) w->in = w->way == WAY_MIRRORED ? 2 * n : numbers;
    if ((w->way == WAY_UNFOLD && !w->at_once) || w->way == WAY_FOLD) w->middle = n;
    bool all = w->way == WAY_FOLD || (type_is_complex(w->to_type) && w->to_length == n);
    if (type_part(w->to_type) != w->type || (w->way != WAY_UNFOLD && !all))
        w->out = w->way == WAY_FOLD ? n : 2 * n + 2;
}

static void cut_lines(fft_work *w) {
    bool beside = w->beside > 1 && w->in == 0 && w->way != WAY_FOLD;
    w->block = least(fft_bunch(w->inner, beside), w->beside > 1 ? w->beside : w->lines);
    int64_t along = w->beside > 1 ? w->beside : w->lines;
    w->blocks = w->lines / along * ((along - 1) / w->block + 1);
    int64_t elements = w->block * w->form->length;
    w->group = elements >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / elements;
    w->memory = (size_t)block_numbers(w) * type_size(w->type);
    w->memory += fft_room(w->inner, w->block, beside);
    if (w->at_once) w->memory += fft_unfold_room(w->inner);
}

static void take_lines(fft_work *w) {
    const plan_kernel *k = w->run->call->kernel;
    const plan_value *value = output_value(w->run);
    const emlx_shape *from = &k->shapes[0];
    int32_t axis = w->params->batch;
    w->from_type = k->accesses[0].type;
    w->to_type = value->type;
    w->type = w->form->fns == &w->run->kernels->fft[0] ? EMLX_F32 : EMLX_F64;
    w->from = operand_data(w->run, 0);
    w->to = output_data(w->run);
    w->from_length = from->dims[axis];
    w->to_length = value->shape.dims[axis];
    w->lines = w->beside = 1;
    for (int32_t d = 0; d < from->rank; d++)
        if (d != axis) w->lines *= from->dims[d];
    for (int32_t d = axis + 1; d < from->rank; d++) w->beside *= from->dims[d];
    w->inverse = w->params->kind == ROUTINE_irfft || (w->params->flags & ROUTINE_INVERSE);
    w->inner = w->form->half != NULL ? w->form->half : w->form;
}

emlx_status run_fft(const cpu_run *run, emlx_error *err) {
    fft_work w = {.run = run, .form = run->form->fft, .params = run->call->kernel->params};
    take_lines(&w);
    if (w.lines == 0) return EMLX_OK;
    w.way = choose_way(&w);
    w.at_once = w.way == WAY_UNFOLD && fft_in_panel(w.inner);
    find_scale(&w);
    find_copies(&w);
    cut_lines(&w);
    emlx_status status;
    if (fft_is_long(w.inner))
        status = run_spread(&w, err);
    else
        status = run_tasks(run, (w.blocks - 1) / w.group + 1, fft_task, &w, err);
    TRY(status);
    // A line that was given up on the way is no result.
    if (cancel_raised(run->call->cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
    return task_result(&w.errors, err);
}
