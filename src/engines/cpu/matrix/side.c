// SPDX-License-Identifier: Apache-2.0
// side.c - the sides of a contraction as matrices, and dense copies of them.
#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/matrix/matrix.h"

static void add_axis(int64_t *dims, int64_t *strides, int32_t *rank, int64_t *count, int64_t dim,
                     int64_t stride) {
    *count *= dim;
    if (dim == 1) return;
    int32_t last = *rank - 1;
    if (last >= 0 && strides[last] == stride * dim) {
        dims[last] *= dim;
        strides[last] = stride;
        return;
    }
    dims[*rank] = dim;
    strides[(*rank)++] = stride;
}

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
    int64_t batches = 1;
    *s = (side){.data = operand_data(run, operand), .type = a->type, .rows = 1, .columns = 1};
    for (int32_t d = 0; d < p->batch; d++)
        add_axis(s->batch_dims, s->batch_strides, &s->batch_rank, &batches, shape->dims[d],
                 a->strides[d]);
    for (int32_t d = p->batch; d < shape->rank; d++)
        if (!contains(contracted, p->contracted, d))
            add_axis(s->row_dims, s->row_strides, &s->row_rank, &s->rows, shape->dims[d],
                     a->strides[d]);
    for (int32_t i = 0; i < p->contracted; i++)
        add_axis(s->column_dims, s->column_strides, &s->column_rank, &s->columns,
                 shape->dims[contracted[i]], a->strides[contracted[i]]);
}

bool side_steps(side *s) {
    if (s->row_rank > 1 || s->column_rank > 1) return false;
    s->row_step = s->row_rank == 1 ? s->row_strides[0] : s->columns;
    s->column_step = s->column_rank == 1 ? s->column_strides[0] : 1;
    if (s->row_rank == 0 && s->column_step != 1) s->row_step = 1;
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
    int64_t offset = axis_offset(s->batch_dims, s->batch_strides, s->batch_rank, index / s->rows) +
                     axis_offset(s->row_dims, s->row_strides, s->row_rank, index % s->rows);
    int64_t inner = s->column_rank > 0 ? s->column_dims[s->column_rank - 1] : 1;
    int64_t stride = s->column_rank > 0 ? s->column_strides[s->column_rank - 1] : 1;
    char *to = w->to + index * s->columns * (int64_t)out_size, few[2048];
    int64_t room = (int64_t)(sizeof few / size);
    for (int64_t c = 0; c < s->columns;) {
        int64_t left = inner - c % inner;
        int64_t from = offset + axis_offset(s->column_dims, s->column_strides, s->column_rank, c);
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
    TRY(pool_alloc(s->packed_size, &s->packed, err));
    pack_work work = {w, s, type, s->packed};
    if (s->columns > 0) TRY(run_tasks(w->run, rows, pack_row, &work, err));
    s->data = s->packed;
    s->type = type;
    s->row_rank = s->column_rank = 0;
    s->row_step = s->columns;
    s->column_step = 1;
    s->batch_rank = 1;
    s->batch_dims[0] = w->batches;
    s->batch_strides[0] = s->rows * s->columns;
    return EMLX_OK;
}

void side_clear(side *s) {
    if (s->packed != NULL) pool_free(s->packed, s->packed_size);
}
