// SPDX-License-Identifier: Apache-2.0
// scan.c - running folds along an axis. The array is [outer, length, inner]; a line is one element
// of outer and inner, and lines that lie side by side are folded together.
#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/run.h"

typedef struct scan_work {
    const cpu_run *run;
    scan_fn fold;
    const char *in;
    char *out;
    bool reverse;
    int64_t size;          // bytes of an element
    int64_t length, inner; // of the array
    int64_t block, blocks; // lines folded together, and how often that goes into `inner`
    int64_t units, group;  // blocks in all, and in a task
} scan_work;

// Elements of long lines that are gone through before others may have their turn.
#define STRETCH (1 << 18)

static void scan_lines(const scan_work *w, char *out, const char *in, size_t count) {
    _Alignas(64) char state[SCAN_STATE];
    int64_t step = w->reverse ? -w->inner : w->inner, most = STRETCH / (int64_t)count;
    for (int64_t row = 0; row < w->length; row += most) {
        if (row > 0 && !task_goes_on(w->run)) return;
        int64_t at = row * step * w->size;
        w->fold(out + at, in + at, least(most, w->length - row), step, count, state, row == 0);
    }
}

static void scan_task(void *context, int64_t index) {
    const scan_work *w = context;
    int64_t end = (index + 1) * w->group < w->units ? (index + 1) * w->group : w->units;
    for (int64_t unit = index * w->group; unit < end; unit++) {
        int64_t column = unit % w->blocks * w->block, left = w->inner - column;
        int64_t first = unit / w->blocks * w->length * w->inner + column;
        if (w->reverse) first += (w->length - 1) * w->inner;
        scan_lines(w, w->out + first * w->size, w->in + first * w->size,
                   (size_t)least(left, w->block));
    }
}

emlx_status run_scan(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const scan_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    emlx_type type = k->accesses[0].type;
    int64_t count = emlx_shape_count(shape);
    scan_work w = {.run = run, .fold = cpu_scans[p->kind][type], .reverse = p->reverse, .inner = 1};
    if (w.fold == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no such running fold of %s",
                         emlx_type_name(type));
    if (count == 0) return EMLX_OK;
    w.in = operand_data(run, 0);
    w.out = output_data(run);
    w.size = (int64_t)type_size(type);
    w.length = shape->dims[p->axis];
    for (int32_t d = p->axis + 1; d < shape->rank; d++) w.inner *= shape->dims[d];
    w.block = w.inner < SCAN_COLUMNS ? w.inner : SCAN_COLUMNS;
    w.blocks = (w.inner - 1) / w.block + 1;
    w.units = count / w.length / w.inner * w.blocks;
    int64_t elements = w.length * w.block;
    w.group = elements >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / elements;
    return run_tasks(run, (w.units - 1) / w.group + 1, scan_task, &w, err);
}
