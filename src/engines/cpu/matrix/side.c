// SPDX-License-Identifier: Apache-2.0
// side.c - the sides of a contraction as matrices, and dense copies of them.
#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/matrix/matrix.h"

static bool contains(const int32_t *axes, int32_t count, int32_t axis) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == axis) return true;
    return false;
}

// Batch axes lead; contracted axes become columns, the others rows.
void side_find(const cpu_run *run, uint32_t operand, const int32_t *contracted, side *s) {
    const plan_kernel *kernel = run->call->kernel;
    const dot_params *p = kernel->params;
    const plan_access *a = &kernel->accesses[operand];
    const emlx_shape *shape = &kernel->shapes[operand];
    const axis_list none = {.count = 1};
    *s = (side){.data = operand_data(run, operand),
                .type = a->type,
                .batch = none,
                .row = none,
                .column = none};
    for (int32_t d = 0; d < p->batch; d++) axes_add(&s->batch, shape->dims[d], a->strides[d]);
    for (int32_t d = p->batch; d < shape->rank; d++)
        if (!contains(contracted, p->contracted, d))
            axes_add(&s->row, shape->dims[d], a->strides[d]);
    for (int32_t i = 0; i < p->contracted; i++)
        axes_add(&s->column, shape->dims[contracted[i]], a->strides[contracted[i]]);
    s->rows = s->row.count;
    s->columns = s->column.count;
}

bool side_steps(side *s) {
    s->row_step = s->columns;
    s->column_step = 1;
    if (!axes_step(&s->row, &s->row_step) || !axes_step(&s->column, &s->column_step)) return false;
    if (s->row.rank == 0 && s->column_step != 1) s->row_step = 1;
    return true;
}

typedef struct pack_work {
    const dot_work *dot;
    const side *from;
    emlx_type type;
    char *to;
} pack_work;

static void pack_row(void *context, int64_t index) {
    const pack_work *w = context;
    const side *s = w->from;
    const cpu_kernels *kernels = w->dot->run->kernels;
    size_t size = type_size(s->type), out_size = type_size(w->type);
    tile_fn cast = kernels->cast[s->type][w->type];
    stride_fn gather = kernels->gather[__builtin_ctzl(size)];
    int64_t offset =
        axes_offset(&s->batch, index / s->rows) + axes_offset(&s->row, index % s->rows);
    int32_t last = s->column.rank - 1;
    int64_t inner = last >= 0 ? s->column.dims[last] : 1;
    int64_t stride = last >= 0 ? s->column.strides[last] : 1;
    char *to = w->to + index * s->columns * (int64_t)out_size, few[2048];
    int64_t room = (int64_t)(sizeof few / size);
    for (int64_t c = 0; c < s->columns;) {
        int64_t left = inner - c % inner;
        int64_t from = offset + axes_offset(&s->column, c);
        if (cast != NULL && left > room) left = room;
        char *target = to + c * (int64_t)out_size;
        gather(cast != NULL ? few : target, s->data + from * (int64_t)size, stride, (size_t)left);
        if (cast != NULL) cast(target, few, NULL, NULL, (size_t)left);
        c += left;
    }
}

emlx_status side_pack(const dot_work *w, side *s, emlx_type type, emlx_error *err) {
    int64_t rows = w->batches * s->rows;
    s->packed_size = (size_t)(rows * s->columns) * type_size(type);
    TRY(data_alloc(s->packed_size, &s->packed, err));
    pack_work work = {w, s, type, s->packed};
    if (s->columns > 0) TRY(run_tasks(w->run, rows, pack_row, &work, err));
    s->data = s->packed;
    s->type = type;
    s->row.rank = s->column.rank = 0;
    s->row_step = s->columns;
    s->column_step = 1;
    s->batch = (axis_list){w->batches, 1, {w->batches}, {s->rows * s->columns}};
    return EMLX_OK;
}

void side_clear(side *s) {
    if (s->packed != NULL) data_free(s->packed, s->packed_size);
}
