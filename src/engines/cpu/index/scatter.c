// SPDX-License-Identifier: Apache-2.0
// scatter.c - slices put or added into an array at computed indices, in the order of the updates
// wherever several meet.
//
// Where slices are runs of memory, the updates are first sorted by the part of the array that they
// go to; parts are then worked on side by side, each in the cache. Elsewhere a task takes some
// positions of every slice. Single elements of which no two are the same are added where they are,
// in any order. No way depends on the number of threads.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/index/indexed.h"
#include "engines/cpu/kernels/math/complex.h"

enum {
    PART = 8192,          // elements of a part of the array, or more where that
    MOST_PARTS = 1024,    // makes too many parts
    CHUNK = 32768,        // updates sorted by one task
    FEW = 512,            // elements converted at a time
    FEWEST_POSITIONS = 64 // of slices, for one task
};

// An update of a part, and the unit of the part that it goes to. A unit is what one index vector
// reaches.
typedef struct placed {
    uint32_t update, unit;
} placed;

typedef void (*add_fn)(char *to, const char *from, int64_t step, int64_t n);
typedef void (*one_fn)(char *to, const char *from, const placed *list, size_t n, int64_t unit);
typedef struct scatter_work scatter_work;
typedef void (*apart_fn)(scatter_work *w, int64_t from, int64_t to);

struct scatter_work {
    const cpu_run *run;
    slices slices;
    bool adds;
    emlx_type type, wide; // of the elements, and in which they are added
    add_fn add;           // of elements in `wide`, or of those updates as they are
    one_fn one;           // the same for slices of one element; may be NULL
    tile_fn widen;        // NULL: `add` takes the updates as they are
    const int64_t *indices;
    const char *updates;
    char *target;
    int64_t count, chunks; // updates, and tasks that find their places
    atomic_llong bad;      // the first update with an index out of bounds, or -1
    int64_t block, blocks; // elements of a slice, or rows, that one task takes; how many of these
    int64_t *offsets;      // by position: where each update begins
    // By part: units are numbered, and 2 to the power of `shift` of them are a part.
    int64_t unit, units, parts; // elements of a unit; units; parts
    int shift;
    uint32_t *numbers; // unit of each update
    uint32_t *starts;  // by chunk and part: where the chunk's updates go in `order`
    placed *order;     // the updates by part
};

// Adding ----------------------------------------------------------------------------------------

#define ADD_LOOP(name, type, wide)                                                                 \
    static void name(char *to, const char *from, int64_t step, int64_t n) {                        \
        wide *out = (wide *)to;                                                                    \
        const type *in = (const type *)from;                                                       \
        for (int64_t i = 0; i < n; i++) out[i * step] = (wide)(out[i * step] + (wide)in[i]);       \
    }
#define ONE_LOOP(name, type, wide, before)                                                         \
    static void name(char *to, const char *from, const placed *list, size_t n, int64_t unit) {     \
        wide *out = (wide *)to;                                                                    \
        const type *in = (const type *)from;                                                       \
        for (size_t i = 0; i < n; i++) {                                                           \
            wide *place = &out[list[i].unit * unit];                                               \
            *place = (wide)((before) + (wide)in[list[i].update]);                                  \
        }                                                                                          \
    }
#define ADD_LOOPS(name, type, wide)                                                                \
    ADD_LOOP(add_##name, type, wide)                                                               \
    ONE_LOOP(add_one_##name, type, wide, *place)
ADD_LOOPS(u8, uint8_t, uint8_t)
ADD_LOOPS(u16, uint16_t, uint16_t)
ADD_LOOPS(u32, uint32_t, uint32_t)
ADD_LOOPS(u64, uint64_t, uint64_t)
ADD_LOOPS(f64, double, double)
ADD_LOOPS(f32, float, double)
ADD_LOOP(add_complex, wide_complex, wide_complex)
ONE_LOOP(put_one_u8, uint8_t, uint8_t, 0)
ONE_LOOP(put_one_u16, uint16_t, uint16_t, 0)
ONE_LOOP(put_one_u32, uint32_t, uint32_t, 0)
ONE_LOOP(put_one_u64, uint64_t, uint64_t, 0)

// Integers add in place, by width; others in f64 or c128, so that a sum is rounded once.
static void choose_add(scatter_work *w) {
    static const add_fn adds[4] = {add_u8, add_u16, add_u32, add_u64};
    static const one_fn add_ones[4] = {add_one_u8, add_one_u16, add_one_u32, add_one_u64};
    static const one_fn put_ones[5] = {put_one_u8, put_one_u16, put_one_u32, put_one_u64};
    int width = __builtin_ctzl(w->slices.size);
    w->wide = w->type;
    if (!w->adds) {
        w->one = put_ones[width];
    } else if (type_is_integer(w->type)) {
        w->add = adds[width];
        w->one = add_ones[width];
    } else if (type_is_complex(w->type)) {
        w->wide = EMLX_C128;
        w->add = add_complex;
        if (w->type != EMLX_C128) w->widen = w->run->kernels->cast[w->type][EMLX_C128];
    } else {
        bool single = w->type == EMLX_F32, direct = single || w->type == EMLX_F64;
        w->wide = EMLX_F64;
        w->add = single ? add_f32 : add_f64;
        if (direct)
            w->one = single ? add_one_f32 : add_one_f64;
        else
            w->widen = w->run->kernels->cast[w->type][EMLX_F64];
    }
}

static void combine(const scatter_work *w, char *to, const char *from, int64_t step, int64_t n) {
    int64_t size = (int64_t)w->slices.size, wide = (int64_t)type_size(w->wide);
    wide_complex few[FEW];
    if (!w->adds && step == 1) {
        memcpy(to, from, (size_t)(n * size));
    } else if (!w->adds) {
        w->run->kernels->scatter[__builtin_ctzl((size_t)size)](to, from, step, (size_t)n);
    } else if (w->widen == NULL) {
        w->add(to, from, step, n);
    } else {
        for (int64_t at = 0; at < n; at += FEW) {
            int64_t some = n - at < FEW ? n - at : FEW;
            w->widen(few, from + at * size, NULL, NULL, (size_t)some);
            w->add(to + at * step * wide, (const char *)few, step, some);
        }
    }
}

// Places ----------------------------------------------------------------------------------------

static int64_t chunk_end(const scatter_work *w, int64_t chunk) {
    return (chunk + 1) * CHUNK < w->count ? (chunk + 1) * CHUNK : w->count;
}

// Where an update begins, or -1 when an index is out of bounds.
static inline int64_t place_of(const scatter_work *w, int64_t update) {
    const slices *s = &w->slices;
    const int64_t *indices = w->indices + update * s->how.count;
    int64_t place = 0;
    for (int32_t i = 0; i < s->how.count; i++) {
        if ((uint64_t)indices[i] >= (uint64_t)s->limits[i]) return -1;
        place += indices[i] * s->strides[i];
    }
    return place;
}

static emlx_status bad_index(const scatter_work *w, emlx_error *err) {
    int64_t bad = atomic_load(&w->bad), offset;
    if (bad < 0) return EMLX_OK;
    return slice_offset(&w->slices, w->indices + bad * w->slices.how.count, &offset, err);
}

// Apart -----------------------------------------------------------------------------------------

// Each update of one element that no other one reaches. In f32 a sum of two is rounded as if it had
// been one of doubles first.
#define APART_LOOP(name, type)                                                                     \
    static void name(scatter_work *w, int64_t from, int64_t to) {                                  \
        type *out = (type *)w->target;                                                             \
        const type *in = (const type *)w->updates;                                                 \
        for (int64_t i = from; i < to; i++) {                                                      \
            int64_t place = place_of(w, i);                                                        \
            if (place < 0) {                                                                       \
                note_lowest(&w->bad, i);                                                           \
                return;                                                                            \
            }                                                                                      \
            out[place] = (type)(out[place] + in[i]);                                               \
        }                                                                                          \
    }
APART_LOOP(apart_u8, uint8_t)
APART_LOOP(apart_u16, uint16_t)
APART_LOOP(apart_u32, uint32_t)
APART_LOOP(apart_u64, uint64_t)
APART_LOOP(apart_f32, float)
APART_LOOP(apart_f64, double)

static apart_fn choose_apart(const scatter_work *w) {
    static const apart_fn by_width[4] = {apart_u8, apart_u16, apart_u32, apart_u64};
    if (type_is_integer(w->type)) return by_width[__builtin_ctzl(w->slices.size)];
    if (w->type == EMLX_F32) return apart_f32;
    return w->type == EMLX_F64 ? apart_f64 : NULL;
}

typedef struct apart_work {
    scatter_work *scatter;
    apart_fn add;
} apart_work;

static void apart_task(void *context, int64_t chunk) {
    const apart_work *w = context;
    w->add(w->scatter, chunk * CHUNK, chunk_end(w->scatter, chunk));
}

static emlx_status add_apart(scatter_work *w, apart_fn add, emlx_error *err) {
    apart_work work = {w, add};
    TRY(run_tasks(w->run, w->chunks, apart_task, &work, err));
    return bad_index(w, err);
}

// By part ---------------------------------------------------------------------------------------

// Whether slices are runs of memory, one beside the other.
static bool has_units(const scatter_work *w) {
    const slices *s = &w->slices;
    if (s->how.count == 0 || s->rows != 1 || w->count > UINT32_MAX) return false;
    if (s->strides[0] * s->limits[0] / s->strides[s->how.count - 1] > UINT32_MAX) return false;
    return (s->step == 1 || s->length == 1) && s->strides[s->how.count - 1] >= s->length;
}

static void cut_parts(scatter_work *w) {
    slices *s = &w->slices;
    w->unit = s->strides[s->how.count - 1];
    w->units = s->strides[0] * s->limits[0] / w->unit;
    for (int32_t i = 0; i < s->how.count; i++) s->strides[i] /= w->unit;
    while (w->unit << w->shift < PART || w->units >> w->shift >= MOST_PARTS) w->shift++;
    w->parts = ((w->units - 1) >> w->shift) + 1;
    // Tasks take parts of a slice only where a slice is long.
    w->block = w->shift == 0 && s->length > PART ? PART : s->length;
    w->blocks = (s->length - 1) / w->block + 1;
}

static void number_task(void *context, int64_t chunk) {
    scatter_work *w = context;
    uint32_t *counts = w->starts + chunk * w->parts;
    memset(counts, 0, (size_t)w->parts * sizeof *counts);
    for (int64_t i = chunk * CHUNK; i < chunk_end(w, chunk); i++) {
        int64_t unit = place_of(w, i);
        if (unit < 0) {
            note_lowest(&w->bad, i);
            return;
        }
        w->numbers[i] = (uint32_t)unit;
        counts[unit >> w->shift]++;
    }
}

static void order_task(void *context, int64_t chunk) {
    const scatter_work *w = context;
    uint32_t *next = w->starts + chunk * w->parts;
    uint32_t mask = (uint32_t)(((int64_t)1 << w->shift) - 1);
    for (int64_t i = chunk * CHUNK; i < chunk_end(w, chunk); i++) {
        uint32_t unit = w->numbers[i];
        w->order[next[(int64_t)unit >> w->shift]++] = (placed){(uint32_t)i, unit & mask};
    }
}

// Counts become starts: part by part, the chunks in order, so that updates keep theirs. After
// order_task each is the end of its place, and the last chunk's that of the part.
static emlx_status sort_updates(scatter_work *w, emlx_error *err) {
    uint32_t total = 0;
    TRY(run_tasks(w->run, w->chunks, number_task, w, err));
    TRY(bad_index(w, err));
    for (int64_t p = 0; p < w->parts; p++)
        for (int64_t c = 0; c < w->chunks; c++) {
            uint32_t *start = &w->starts[c * w->parts + p], count = *start;
            *start = total;
            total += count;
        }
    return run_tasks(w->run, w->chunks, order_task, w, err);
}

// Elements `first` to `first` + n of all updates of a part, into `out`, where its first unit has
// them.
static void apply_part(const scatter_work *w, const placed *list, size_t count, int64_t first,
                       int64_t n, char *out) {
    int64_t size = (int64_t)w->slices.size, wide = (int64_t)type_size(w->wide);
    if (w->slices.length == 1 && w->one != NULL) {
        w->one(out, w->updates, list, count, w->unit);
        return;
    }
    for (size_t i = 0; i < count; i++)
        combine(w, out + list[i].unit * w->unit * wide,
                w->updates + (list[i].update * w->slices.length + first) * size, 1, n);
}

// The same in sums of another type, made of the `all` elements that the target has there.
static emlx_status add_part(const scatter_work *w, const placed *list, size_t count, int64_t first,
                            int64_t n, int64_t all, char *target, emlx_error *err) {
    const cpu_kernels *kernels = w->run->kernels;
    size_t size = (size_t)all * type_size(w->wide);
    _Alignas(64) char room[ROOM_SIZE];
    void *sums;
    TRY(room_take(room, size, &sums, err));
    kernels->cast[w->type][w->wide](sums, target, NULL, NULL, (size_t)all);
    apply_part(w, list, count, first, n, sums);
    kernels->cast[w->wide][w->type](target, sums, NULL, NULL, (size_t)all);
    room_end(room, sums, size);
    return EMLX_OK;
}

typedef struct part_tasks {
    const scatter_work *work;
    task_errors errors;
} part_tasks;

static void part_task(void *context, int64_t index) {
    part_tasks *tasks = context;
    const scatter_work *w = tasks->work;
    int64_t part = index / w->blocks, first = index % w->blocks * w->block;
    const uint32_t *ends = w->starts + (w->chunks - 1) * w->parts;
    uint32_t from = part == 0 ? 0 : ends[part - 1], count = ends[part] - from;
    int64_t left = w->slices.length - first, n = left < w->block ? left : w->block;
    int64_t unit = part << w->shift, units = w->units - unit, most = (int64_t)1 << w->shift;
    char *target = w->target + (unit * w->unit + first) * (int64_t)w->slices.size;
    emlx_error err;
    if (count == 0) return;
    if (units > most) units = most;
    if (w->wide == w->type)
        apply_part(w, w->order + from, count, first, n, target);
    else if (add_part(w, w->order + from, count, first, n, (units - 1) * w->unit + n, target,
                      &err) != EMLX_OK)
        task_failed(&tasks->errors, &err);
}

static emlx_status scatter_by_part(scatter_work *w, emlx_error *err) {
    cut_parts(w);
    size_t order = (size_t)w->count * sizeof *w->order;
    size_t numbers = (size_t)w->count * sizeof *w->numbers;
    size_t starts = (size_t)(w->chunks * w->parts) * sizeof *w->starts;
    part_tasks tasks = {.work = w};
    _Alignas(64) char room[ROOM_SIZE];
    void *memory;
    TRY(room_take(room, order + numbers + starts, &memory, err));
    w->order = memory;
    w->numbers = (uint32_t *)(w->order + w->count);
    w->starts = w->numbers + w->count;
    emlx_status status = sort_updates(w, err);
    if (status == EMLX_OK) status = run_tasks(w->run, w->parts * w->blocks, part_task, &tasks, err);
    if (status == EMLX_OK) status = task_result(&tasks.errors, err);
    room_end(room, memory, order + numbers + starts);
    return status;
}

// By position -----------------------------------------------------------------------------------

static void offsets_task(void *context, int64_t chunk) {
    scatter_work *w = context;
    for (int64_t i = chunk * CHUNK; i < chunk_end(w, chunk); i++) {
        w->offsets[i] = place_of(w, i);
        if (w->offsets[i] >= 0) continue;
        note_lowest(&w->bad, i);
        return;
    }
}

// Rows of every slice, or parts of the row that a slice is.
static void positions_task(void *context, int64_t index) {
    const scatter_work *w = context;
    const slices *s = &w->slices;
    bool by_row = s->rows > 1;
    int64_t size = (int64_t)s->size, wide = (int64_t)type_size(w->wide);
    int64_t from = index * w->block, to = from + w->block, all = by_row ? s->rows : s->length;
    if (to > all) to = all;
    int64_t first = by_row ? 0 : from, n = by_row ? s->length : to - from;
    for (int64_t row = by_row ? from : 0; row < (by_row ? to : 1); row++) {
        int64_t place = row_offset(s, row) + first * s->step;
        for (int64_t i = 0; i < w->count; i++)
            combine(w, w->target + (w->offsets[i] + place) * wide,
                    w->updates + ((i * s->rows + row) * s->length + first) * size, s->step, n);
    }
}

static emlx_status scatter_positions(scatter_work *w, emlx_error *err) {
    const slices *s = &w->slices;
    int64_t all = s->rows > 1 ? s->rows : s->length;
    w->block = s->rows > 1 ? (FEWEST_POSITIONS - 1) / s->length + 1 : FEWEST_POSITIONS;
    return run_tasks(w->run, (all - 1) / w->block + 1, positions_task, w, err);
}

typedef struct cast_work {
    tile_fn cast;
    char *to;
    const char *from;
    size_t to_size, from_size;
    int64_t count;
} cast_work;

static void cast_task(void *context, int64_t index) {
    const cast_work *w = context;
    int64_t at = index * TASK_ELEMENTS, left = w->count - at;
    w->cast(w->to + (size_t)at * w->to_size, w->from + (size_t)at * w->from_size, NULL, NULL,
            (size_t)(left < TASK_ELEMENTS ? left : TASK_ELEMENTS));
}

static emlx_status cast_all(const scatter_work *w, void *to, emlx_type to_type, const void *from,
                            emlx_type from_type, emlx_error *err) {
    int64_t count = emlx_shape_count(w->slices.shape);
    cast_work work = {.cast = w->run->kernels->cast[from_type][to_type],
                      .to = to,
                      .from = from,
                      .to_size = type_size(to_type),
                      .from_size = type_size(from_type),
                      .count = count};
    return run_tasks(w->run, (count - 1) / TASK_ELEMENTS + 1, cast_task, &work, err);
}

static emlx_status add_positions(scatter_work *w, emlx_error *err) {
    size_t size = (size_t)emlx_shape_count(w->slices.shape) * type_size(w->wide);
    _Alignas(64) char room[ROOM_SIZE];
    char *target = w->target;
    void *sums;
    TRY(room_take(room, size, &sums, err));
    emlx_status status = cast_all(w, sums, w->wide, target, w->type, err);
    w->target = sums;
    if (status == EMLX_OK) status = scatter_positions(w, err);
    if (status == EMLX_OK) status = cast_all(w, target, w->type, sums, w->wide, err);
    w->target = target;
    room_end(room, sums, size);
    return status;
}

static emlx_status scatter_by_position(scatter_work *w, emlx_error *err) {
    size_t size = (size_t)w->count * sizeof *w->offsets;
    _Alignas(64) char room[ROOM_SIZE];
    emlx_status status;
    void *memory;
    TRY(room_take(room, size, &memory, err));
    w->offsets = memory;
    status = run_tasks(w->run, w->chunks, offsets_task, w, err);
    if (status == EMLX_OK) status = bad_index(w, err);
    if (status == EMLX_OK && w->wide != w->type)
        status = add_positions(w, err);
    else if (status == EMLX_OK)
        status = scatter_positions(w, err);
    room_end(room, memory, size);
    return status;
}

// Running ---------------------------------------------------------------------------------------

emlx_status run_scatter(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const scatter_params *p = k->params;
    scatter_work w = {.run = run, .adds = p->kind == SCATTER_ADD, .type = output_value(run)->type};
    find_slices(k, &k->shapes[2].dims[1], w.type, &w.slices);
    w.indices = (const int64_t *)operand_data(run, 1);
    w.updates = operand_data(run, 2);
    w.target = output_data(run);
    w.count = k->shapes[1].dims[0];
    if (w.count == 0 || w.slices.rows * w.slices.length == 0) return EMLX_OK;
    w.chunks = (w.count - 1) / CHUNK + 1;
    atomic_init(&w.bad, -1);
    apart_fn apart = p->apart && w.adds ? choose_apart(&w) : NULL;
    if (apart != NULL && w.slices.rows * w.slices.length == 1) return add_apart(&w, apart, err);
    choose_add(&w);
    return has_units(&w) ? scatter_by_part(&w, err) : scatter_by_position(&w, err);
}
