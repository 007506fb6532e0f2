// SPDX-License-Identifier: Apache-2.0
// packed.c - products with weights of few bits. Of a few vectors with all rows the bits are read
// once, where they are; for many vectors rows become numbers as they are packed into panels, and
// the product is one like any other.
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engines/cpu/matrix/matrix.h"
#include "engines/cpu/whole.h"

// Bytes of rows that a task reads, about.
#define TASK_BYTES (1 << 15)

bool packed_takes(const emlx_device *device, const emlx_tensor *either) {
    (void)device;
    const emlx_tensor *x = either->inputs[1], *w = either->inputs[2];
    emlx_type type = emlx_tensor_type(x);
    bool known = type == EMLX_F32 || type == EMLX_BF16 || type == EMLX_F16;
    if (!known || either->type != type) return false;
    int64_t terms = x->shape.dims[x->shape.rank - 1];
    return terms > 0 && w->shape.dims[0] > 0 && emlx_shape_count(&either->shape) > 0;
}

// Scales and biases ------------------------------------------------------------------------------

// Those of `count` groups of all rows, counted on, from `first` on.
typedef void (*scales_fn)(const packed_product *w, int64_t first, int64_t count, float *scale,
                          float *bias);

static void affine_scales(const packed_product *w, int64_t first, int64_t count, float *scale,
                          float *bias) {
    for (int i = 1; i <= 2; i++) {
        tile_fn cast = w->dot.run->kernels->cast[w->types[i]][EMLX_F32];
        size_t size = type_size(w->types[i]);
        cast(i == 1 ? scale : bias, w->operands[i] + (size_t)first * size, NULL, NULL,
             (size_t)count);
    }
}

// What codes of E2M1 have more, and twice, goes off again.
static void fit_e2m1(int64_t count, float *scale, float *bias) {
    for (int64_t i = 0; i < count; i++) {
        scale[i] /= 2;
        bias[i] = -12 * scale[i];
    }
}

static void power_scales(const packed_product *w, int64_t first, int64_t count, float *scale,
                         float *bias) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)(uint8_t)w->operands[1][first + i] << 23;
        if (bits == 0) bits = 0x400000;
        memcpy(&scale[i], &bits, sizeof bits);
        bias[i] = 0;
    }
    if (w->kind == PACKED_mxfp4) fit_e2m1(count, scale, bias);
}

static void e4m3_scales(const packed_product *w, int64_t first, int64_t count, float *scale,
                        float *bias) {
    w->dot.run->kernels->cast[EMLX_F8_E4M3FN][EMLX_F32](scale, w->operands[1] + first, NULL, NULL,
                                                        (size_t)count);
    fit_e2m1(count, scale, bias);
}

// Of formats whose scales lie apart from the elements.
static const scales_fn scales_apart[PACKED_COUNT] = {
    [PACKED_affine_2] = affine_scales, [PACKED_affine_3] = affine_scales,
    [PACKED_affine_4] = affine_scales, [PACKED_affine_6] = affine_scales,
    [PACKED_affine_8] = affine_scales, [PACKED_mxfp4] = power_scales,
    [PACKED_mxfp8] = power_scales,     [PACKED_nvfp4] = e4m3_scales,
};

static void scales_of_rows(const packed_product *w, int64_t first, int64_t count, float *scale,
                           float *bias) {
    const packed_side *s = &w->side;
    if (s->fns->scales == NULL) {
        scales_apart[w->kind](w, first * s->groups, count * s->groups, scale, bias);
        return;
    }
    for (int64_t r = 0; r < count; r++)
        s->fns->scales((const uint8_t *)s->bits + (first + r) * s->row_bytes, s->groups,
                       scale + r * s->groups, bias + r * s->groups);
}

// Few vectors ------------------------------------------------------------------------------------

// Rows whose scales are made at a time, where the kernel wants them: they stay in the first-level
// cache.
enum { SOME_ROWS = 16, SOME_BYTES = 8192 };

static int64_t some_rows(const packed_side *s) {
    int64_t rows = SOME_BYTES / s->row_bytes;
    return rows < 1 ? 1 : rows > SOME_ROWS ? SOME_ROWS : rows;
}

static void multiply_rows(const packed_product *w, packed_rows *rows, int64_t first,
                          int64_t count) {
    const packed_side *s = &w->side;
    rows->bits = (const uint8_t *)s->bits + first * s->row_bytes;
    for (int i = 1; i <= 2; i++) {
        const char *from = w->operands[i];
        int64_t before = first * s->groups * (int64_t)type_size(w->types[i]);
        *(i == 1 ? &rows->scales : &rows->biases) = from == NULL ? NULL : from + before;
    }
    for (int64_t v = 0; v < w->dot.m; v += PACKED_VECTORS) {
        const void *vectors[PACKED_VECTORS];
        int some = w->dot.m - v < PACKED_VECTORS ? (int)(w->dot.m - v) : PACKED_VECTORS;
        for (int i = 0; i < some; i++) vectors[i] = w->vectors + (size_t)(v + i) * w->vector_bytes;
        s->fns->dot(rows, count, vectors, some, w->sums + v * w->dot.n + first, w->dot.n);
    }
}

// With scales made before.
static void multiply_scaled(packed_product *w, packed_rows *rows, int64_t first, int64_t end) {
    int64_t some = some_rows(&w->side);
    size_t scales = (size_t)(some * w->side.groups) + PACKED_ROOM;
    _Alignas(64) char room[ROOM_SIZE];
    emlx_error err;
    void *memory;
    if (room_take(room, 2 * scales * sizeof(float), &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    float *scale = memory, *bias = scale + scales;
    rows->scale = scale;
    rows->bias = bias;
    for (int64_t row = first; row < end; row += some) {
        int64_t count = end - row < some ? end - row : some;
        scales_of_rows(w, row, count, scale, bias);
        multiply_rows(w, rows, row, count);
    }
    room_end(room, memory, 2 * scales * sizeof(float));
}

static void vector_task(void *context, int64_t index) {
    packed_product *w = context;
    const packed_side *s = &w->side;
    int64_t first = index * w->rows_a_task, end = first + w->rows_a_task;
    if (end > w->dot.n) end = w->dot.n;
    packed_rows rows = {.row_bytes = s->row_bytes,
                        .terms = w->dot.k,
                        .group = s->group,
                        .groups = s->groups,
                        .type = w->types[1]};
    if (s->fns->reads_scales)
        multiply_rows(w, &rows, first, end - first);
    else
        multiply_scaled(w, &rows, first, end);
}

// Scales of other types than kernels read become f32.
static bool scales_are_read(const packed_product *w) {
    emlx_type type = w->types[1];
    return !w->side.fns->reads_scales || w->info->operands == 1 || type == EMLX_U8 ||
           type == EMLX_F32 || type == EMLX_F16 || type == EMLX_BF16;
}

static void convert_scales(packed_product *w, float *to) {
    int64_t count = w->dot.n * w->side.groups;
    affine_scales(w, 0, count, to, to + count);
    for (int i = 1; i <= 2; i++) {
        w->operands[i] = (const char *)(to + (i - 1) * count);
        w->types[i] = EMLX_F32;
    }
}

static void prepare_task(void *context, int64_t index) {
    packed_product *w = context;
    int64_t k = w->dot.k;
    emlx_type type = w->dot.left.type;
    float *wide = w->sums + w->dot.m * w->dot.n + index * k;
    w->dot.run->kernels->cast[type][EMLX_F32](wide, w->x + index * k * (int64_t)type_size(type),
                                              NULL, NULL, (size_t)k);
    w->side.fns->prepare(w->vectors + (size_t)index * w->vector_bytes, wide, k, w->side.group);
}

// What is needed lies in one block: vectors, sums, a vector in f32 each, and scales.
static emlx_status begin_vectors(packed_product *w, product_tasks *tasks, emlx_error *err) {
    dot_work *d = &w->dot;
    w->vector_bytes = (size_t)round_up((int64_t)w->side.fns->bytes(d->k, w->side.group), 64);
    w->rows_a_task = TASK_BYTES / w->side.row_bytes / 4 * 4 + 4;
    size_t vectors = (size_t)d->m * w->vector_bytes, sums = (size_t)(d->m * (d->n + d->k));
    size_t scales = scales_are_read(w) ? 0 : (size_t)(2 * d->n * w->side.groups);
    w->bytes = vectors + (sums + scales) * sizeof(float);
    TRY(data_alloc(w->bytes, &w->memory, err));
    w->vectors = w->memory;
    w->sums = (float *)((char *)w->memory + vectors);
    if (scales > 0) convert_scales(w, w->sums + sums);
    TRY(run_tasks(d->run, d->m, prepare_task, w, err));
    *tasks = (product_tasks){(d->n - 1) / w->rows_a_task + 1, vector_task, w};
    return EMLX_OK;
}

static emlx_status end_vectors(packed_product *w, emlx_status status, emlx_error *err) {
    dot_work *d = &w->dot;
    if (status == EMLX_OK) status = task_result(&w->errors, err);
    if (status == EMLX_OK)
        d->run->kernels->cast[EMLX_F32][d->out_type](d->out, w->sums, NULL, NULL,
                                                     (size_t)(d->m * d->n));
    data_free(w->memory, w->bytes);
    return status;
}

// Many vectors -----------------------------------------------------------------------------------

static void dense_side(side *s, const char *data, emlx_type type, int64_t rows, int64_t columns) {
    *s = (side){.data = data, .type = type, .rows = rows, .columns = columns};
    s->row = (axis_list){rows, 1, {rows}, {columns}};
    s->column = (axis_list){columns, 1, {columns}, {1}};
}

static void scales_task(void *context, int64_t index) {
    packed_product *w = context;
    packed_side *s = &w->side;
    scales_of_rows(w, index, 1, s->scale + index * s->groups, s->bias + index * s->groups);
}

// The rows are read through the side, with all scales at hand.
static emlx_status multiply_many(packed_product *w, emlx_error *err) {
    dot_work *d = &w->dot;
    packed_side *s = &w->side;
    size_t scales = (size_t)(d->n * s->groups) + PACKED_ROOM, bytes = 2 * scales * sizeof(float);
    void *memory;
    TRY(data_alloc(bytes, &memory, err));
    s->scale = memory;
    s->bias = s->scale + scales;
    emlx_status status = run_tasks(d->run, d->n, scales_task, w, err);
    if (status == EMLX_OK) status = product_multiply(d, err);
    data_free(memory, bytes);
    return status;
}

// The product ------------------------------------------------------------------------------------

// Operands that are not dense in memory become so.
static emlx_status dense_operand(const cpu_run *run, uint32_t index, const char **data,
                                 emlx_error *err) {
    const plan_access *a = &run->call->kernel->accesses[index];
    const emlx_shape *shape = &run->call->kernel->shapes[index];
    *data = operand_data(run, index);
    if (shape_is_dense(shape, a->strides)) return EMLX_OK;
    size_t size = type_size(a->type), bytes = (size_t)emlx_shape_count(shape) * size;
    void *copy;
    TRY(data_alloc(bytes, &copy, err));
    for (int64_t i = 0; i < emlx_shape_count(shape); i++)
        memcpy((char *)copy + (size_t)i * size,
               *data + axis_offset(shape->dims, a->strides, shape->rank, i) * (int64_t)size, size);
    *data = copy;
    return EMLX_OK;
}

static void let_operand_go(const cpu_run *run, uint32_t index, const char *data) {
    const plan_access *a = &run->call->kernel->accesses[index];
    size_t count = (size_t)emlx_shape_count(&run->call->kernel->shapes[index]);
    if (data != NULL && data != operand_data(run, index))
        data_free((void *)data, count * type_size(a->type));
}

static emlx_status begin_packed(packed_product *w, product_tasks *tasks, emlx_error *err) {
    dot_work *d = &w->dot;
    packed_side *s = &w->side;
    s->bits = w->operands[0];
    dense_side(&d->left, w->x, d->left.type, d->m, d->k);
    dense_side(&d->right, s->bits, d->left.type == EMLX_BF16 ? EMLX_BF16 : EMLX_F32, d->n, d->k);
    d->right.weights = s;
    bool few = d->m <= s->fns->most || !product_can(d);
    return few ? begin_vectors(w, tasks, err) : multiply_many(w, err);
}

emlx_status packed_begin(const cpu_run *run, packed_product *w, product_tasks *tasks,
                         emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const either_params *p = k->params;
    const emlx_shape *x = &k->shapes[0], *bits = &k->shapes[1];
    *w = (packed_product){.kind = (packed_kind)p->bits, .info = &packed_table[p->bits]};
    w->dot = (dot_work){.run = run, .type = EMLX_F32, .out_type = output_value(run)->type};
    w->dot.k = x->dims[x->rank - 1];
    w->dot.n = bits->dims[0];
    w->dot.m = emlx_shape_count(x) / w->dot.k;
    w->dot.batches = 1;
    w->dot.out = output_data(run);
    w->dot.left.type = k->accesses[0].type;
    w->side = (packed_side){.info = w->info,
                            .fns = &run->kernels->packed[p->bits],
                            .group = p->count,
                            .groups = w->dot.k / p->count,
                            .row_bytes = bits->dims[1] * (int64_t)type_size(k->accesses[1].type)};
    TRY(dense_operand(run, 0, &w->x, err));
    for (uint32_t i = 0; i < w->info->operands; i++) {
        w->types[i] = k->accesses[i + 1].type;
        TRY(dense_operand(run, i + 1, &w->given[i], err));
        w->operands[i] = w->given[i];
    }
    return begin_packed(w, tasks, err);
}

emlx_status packed_end(packed_product *w, emlx_status status, emlx_error *err) {
    if (w->memory != NULL) status = end_vectors(w, status, err);
    let_operand_go(w->dot.run, 0, w->x);
    for (uint32_t i = 0; i < w->info->operands; i++) let_operand_go(w->dot.run, i + 1, w->given[i]);
    return status;
}
