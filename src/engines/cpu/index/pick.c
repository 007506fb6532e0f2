// SPDX-License-Identifier: Apache-2.0
// pick.c - the position of each window's winner.
#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/run.h"

typedef struct pick_work pick_work;
typedef void (*pick_fn)(const pick_work *w, int64_t *out, int64_t from, int64_t to);

struct pick_work {
    pick_fn pick;
    const char *in;
    int64_t *out;
    const emlx_shape *shape;      // of the result
    int64_t steps[EMLX_MAX_RANK]; // in the operand, of one step in the result
    int64_t *offsets;             // of a window's elements from its first, in row-major order
    int64_t count;                // of those
    bool lowest;
    int64_t cells, group; // of the result, and of a task
};

// Walking over windows --------------------------------------------------------------------------

// Where the window of a cell of the result begins; `index` is where the cell is.
static int64_t start_at(const pick_work *w, int64_t cell, int64_t *index) {
    int64_t base = 0;
    for (int32_t d = w->shape->rank - 1; d >= 0; d--) {
        index[d] = cell % w->shape->dims[d];
        cell /= w->shape->dims[d];
        base += index[d] * w->steps[d];
    }
    return base;
}

// The same for the next cell.
static inline int64_t step_on(const pick_work *w, int64_t base, int64_t *index) {
    for (int32_t d = w->shape->rank - 1; d >= 0; d--) {
        base += w->steps[d];
        if (++index[d] < w->shape->dims[d]) break;
        base -= index[d] * w->steps[d];
        index[d] = 0;
    }
    return base;
}

#define PICK_(name, part) name##_##part
#define PICK(name, part) PICK_(name, part)

#define T uint8_t
#define NAME pick_u8
#include "engines/cpu/index/pick.inc"
#define T uint16_t
#define NAME pick_u16
#include "engines/cpu/index/pick.inc"
#define T uint32_t
#define NAME pick_u32
#include "engines/cpu/index/pick.inc"
#define T uint64_t
#define NAME pick_u64
#include "engines/cpu/index/pick.inc"
#define T int8_t
#define NAME pick_s8
#include "engines/cpu/index/pick.inc"
#define T int16_t
#define NAME pick_s16
#include "engines/cpu/index/pick.inc"
#define T int32_t
#define NAME pick_s32
#include "engines/cpu/index/pick.inc"
#define T int64_t
#define NAME pick_s64
#include "engines/cpu/index/pick.inc"
#define T float
#define NAME pick_f32
#include "engines/cpu/index/pick.inc"
#define T double
#define NAME pick_f64
#include "engines/cpu/index/pick.inc"

// Elements below a byte are extended to one.
static const pick_fn picks[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = pick_u8,   [EMLX_U4] = pick_u8,   [EMLX_U8] = pick_u8,   [EMLX_U16] = pick_u16,
    [EMLX_U32] = pick_u32, [EMLX_U64] = pick_u64, [EMLX_S2] = pick_s8,   [EMLX_S4] = pick_s8,
    [EMLX_S8] = pick_s8,   [EMLX_S16] = pick_s16, [EMLX_S32] = pick_s32, [EMLX_S64] = pick_s64,
    [EMLX_F32] = pick_f32, [EMLX_F64] = pick_f64,
};

// Running ---------------------------------------------------------------------------------------

// From the last axis on: what is there for the axes behind repeats for every step of this one.
static void find_offsets(const pick_params *p, int32_t rank, const int64_t *strides,
                         int64_t *offsets) {
    int64_t count = 1;
    offsets[0] = 0;
    for (int32_t d = rank - 1; d >= 0; d--) {
        for (int64_t i = count; i < count * p->window[d]; i++)
            offsets[i] = offsets[i - count] + strides[d];
        count *= p->window[d];
    }
}

static void pick_task(void *context, int64_t index) {
    const pick_work *w = context;
    int64_t end = (index + 1) * w->group < w->cells ? (index + 1) * w->group : w->cells;
    w->pick(w, w->out, index * w->group, end);
}

emlx_status run_pick(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const pick_params *p = k->params;
    const plan_value *value = output_value(run);
    emlx_type type = k->accesses[0].type;
    int32_t rank = value->shape.rank;
    int64_t strides[EMLX_MAX_RANK];
    pick_work w = {.pick = picks[type], .shape = &value->shape, .lowest = p->lowest};
    if (w.pick == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu compares no %s", emlx_type_name(type));
    w.cells = emlx_shape_count(&value->shape);
    if (w.cells == 0) return EMLX_OK;
    shape_strides(&k->shapes[0], strides);
    w.count = 1;
    for (int32_t d = 0; d < rank; d++) {
        w.count *= p->window[d];
        w.steps[d] = value->shape.dims[d] > 1 ? strides[d] * p->strides[d] : 0;
    }
    w.in = operand_data(run, 0);
    w.out = (int64_t *)output_data(run);
    size_t size = (size_t)w.count * sizeof *w.offsets;
    _Alignas(64) char room[ROOM_SIZE];
    void *offsets;
    TRY(room_take(room, size, &offsets, err));
    w.offsets = offsets;
    find_offsets(p, rank, strides, w.offsets);
    w.group = w.count >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / w.count;
    emlx_status status = run_tasks(run, (w.cells - 1) / w.group + 1, pick_task, &w, err);
    room_end(room, offsets, size);
    return status;
}
