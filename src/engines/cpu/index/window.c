// SPDX-License-Identifier: Apache-2.0
// window.c - folds over windows of an operand that is not padded, element by element. The CPU's own
// plans pad it and fold: this is for engines that take them whole and hand one over.
#include <math.h>
#include <string.h>

#include "base/types.h"
#include "engines/cpu/run.h"
#include "engines/cpu/whole.h"

typedef struct window_work {
    const cpu_run *run;
    const window_params *params;
    const plan_access *access;
    const emlx_shape *in, *out;
    const char *from;
    char *to;
    size_t size;
    int64_t cells, count, group; // of the result, of a window's elements, of a task
} window_work;

// Whether a number takes the place of another one, as the folds of the other engines say.
static bool takes_over(reduce_kind kind, const emlx_number *x, const emlx_number *held) {
    bool least = reduce_is_least(kind);
    switch (x->kind) {
    case EMLX_NUMBER_SIGNED: return least ? x->as.s < held->as.s : x->as.s > held->as.s;
    case EMLX_NUMBER_UNSIGNED: return least ? x->as.u < held->as.u : x->as.u > held->as.u;
    default:
        return isnan(x->as.f[0]) ||
               (least ? x->as.f[0] < held->as.f[0] : x->as.f[0] > held->as.f[0]);
    }
}

// Where element `number` of window `cell` lies in the operand; false: beside it.
static bool find_element(const window_work *w, int64_t cell, int64_t number, int64_t *place) {
    const window_params *p = w->params;
    *place = 0;
    for (int32_t d = w->in->rank - 1; d >= 0; d--) {
        int64_t at = cell % w->out->dims[d] * p->strides[d] - p->low[d] +
                     number % p->window[d] * p->dilations[d];
        cell /= w->out->dims[d];
        number /= p->window[d];
        if (at < 0 || at >= w->in->dims[d]) return false;
        *place += at * w->access->strides[d];
    }
    return true;
}

static void fold_window(const window_work *w, int64_t cell) {
    reduce_kind kind = (reduce_kind)w->params->either.bits;
    emlx_type type = w->access->type;
    bool adds = kind == REDUCE_SUM, any = false;
    emlx_number held = {EMLX_NUMBER_REAL, {.f = {reduce_table[kind].neutral}}};
    for (int64_t i = 0; i < w->count; i++) {
        int64_t place;
        if (!find_element(w, cell, i, &place)) continue;
        emlx_number x = type_load(type, w->from + place * (int64_t)w->size);
        if (adds)
            held.as.f[0] += x.as.f[0];
        else if (!any || takes_over(kind, &x, &held))
            held = x;
        any = true;
    }
    type_store(type, &held, w->to + cell * (int64_t)w->size);
}

static void window_task(void *context, int64_t index) {
    const window_work *w = context;
    int64_t end = (index + 1) * w->group < w->cells ? (index + 1) * w->group : w->cells;
    for (int64_t cell = index * w->group; cell < end; cell++) fold_window(w, cell);
}

emlx_status run_window(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const plan_value *value = output_value(run);
    window_work w = {.run = run,
                     .params = k->params,
                     .access = &k->accesses[0],
                     .in = &k->shapes[0],
                     .out = &value->shape,
                     .count = 1};
    w.from = operand_data(run, 0);
    w.to = output_data(run);
    w.size = emlx_type_size(w.access->type);
    w.cells = emlx_shape_count(&value->shape);
    if (w.cells == 0) return EMLX_OK;
    for (int32_t d = 0; d < w.in->rank; d++) w.count *= w.params->window[d];
    w.group = w.count >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / w.count;
    return run_tasks(run, (w.cells - 1) / w.group + 1, window_task, &w, err);
}
