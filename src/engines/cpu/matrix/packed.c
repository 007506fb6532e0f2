// SPDX-License-Identifier: Apache-2.0
// packed.c - products with weights of few bits. Of a few vectors with all rows the bits are read
// once, where they are; for many vectors rows become numbers as they are packed into panels, and
// the product is one like any other.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/matrix/matrix.h"
#include "engines/cpu/whole.h"

// Up to this many vectors go through the rows by themselves.
#define FEW 8
// Bytes of rows that a task reads, about.
#define TASK_BYTES (1 << 17)

bool packed_takes(const emlx_device *device, const emlx_tensor *either) {
    (void)device;
    const emlx_tensor *x = either->inputs[1], *w = either->inputs[2];
    emlx_type type = emlx_tensor_type(x);
    bool known = type == EMLX_F32 || type == EMLX_BF16 || type == EMLX_F16;
    if (!known || either->type != type) return false;
    int64_t terms = x->shape.dims[x->shape.rank - 1];
    return terms % PACKED_CHUNK == 0 && terms > 0 && w->shape.dims[0] > 0 &&
           emlx_shape_count(&either->shape) > 0;
}

typedef struct packed_work {
    dot_work dot;
    packed_side side;
    packed_kind kind;
    const packed_info *info;
    const char *operands[3]; // packed weights, dense
    emlx_type types[3];
    float *scale, *bias; // [row][group]
    char *vectors;       // as packed_fns want them
    float *sums;         // [vector][row]
    size_t vector_bytes;
    int64_t rows_a_task;
    const char *x; // dense
} packed_work;

void packed_values_of(const packed_side *s, int64_t row, int64_t at, int64_t count, float *to) {
    const uint8_t *bits = (const uint8_t *)s->bits + row * s->row_bytes;
    const float *scale = s->scale + row * s->groups, *bias = s->bias + row * s->groups;
    for (int64_t i = 0; i < count; i += PACKED_CHUNK)
        s->fns->values(to + i, bits, at + i, scale, bias, s->group);
}

// Scales and biases
// --------------------------------------------------------------------------------

// The f16 at a place in each of `count` blocks.
static void halves_of(const packed_work *w, const uint8_t *block, int64_t at, int64_t count,
                      float *to) {
    enum { ROOM = 256 };
    _Alignas(64) uint16_t halves[ROOM];
    for (int64_t i = 0; i < count;) {
        int64_t some = count - i < ROOM ? count - i : ROOM;
        for (int64_t j = 0; j < some; j++, block += w->info->block_bytes)
            memcpy(&halves[j], block + at, sizeof *halves);
        w->dot.run->kernels->cast[EMLX_F16][EMLX_F32](to + i, halves, NULL, NULL, (size_t)some);
        i += some;
    }
}

static void affine_scales(const packed_work *w, int64_t first, int64_t count) {
    for (int i = 1; i <= 2; i++) {
        tile_fn cast = w->dot.run->kernels->cast[w->types[i]][EMLX_F32];
        size_t size = type_size(w->types[i]);
        cast((i == 1 ? w->scale : w->bias) + first, w->operands[i] + (size_t)first * size, NULL,
             NULL, (size_t)count);
    }
}

// What codes of E2M1 have more, and twice, goes off again.
static void fit_e2m1(const packed_work *w, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; i++) {
        w->scale[i] /= 2;
        w->bias[i] = -12 * w->scale[i];
    }
}

static void power_scales(const packed_work *w, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; i++) {
        uint32_t bits = (uint32_t)(uint8_t)w->operands[1][i] << 23;
        if (bits == 0) bits = 0x400000;
        memcpy(&w->scale[i], &bits, sizeof bits);
        w->bias[i] = 0;
    }
    if (w->kind == PACKED_mxfp4) fit_e2m1(w, first, count);
}

static void e4m3_scales(const packed_work *w, int64_t first, int64_t count) {
    w->dot.run->kernels->cast[EMLX_F8_E4M3FN][EMLX_F32](w->scale + first, w->operands[1] + first,
                                                        NULL, NULL, (size_t)count);
    fit_e2m1(w, first, count);
}

static void block_scales(const packed_work *w, int64_t first, int64_t count) {
    float zero = w->kind == PACKED_q8_0 ? -128 : -8;
    const uint8_t *blocks = (const uint8_t *)w->operands[0] + first * w->info->block_bytes;
    halves_of(w, blocks, 0, count, w->scale + first);
    for (int64_t i = first; i < first + count; i++) w->bias[i] = zero * w->scale[i];
}

enum { SOME_BLOCKS = 64 };

static void q4_k_scales(const packed_work *w, int64_t first, int64_t count) {
    const int64_t size = w->info->block_bytes;
    const uint8_t *block = (const uint8_t *)w->operands[0] + first / 8 * size;
    float d[SOME_BLOCKS], least[SOME_BLOCKS];
    for (int64_t b = 0; b < count / 8; b++, block += size) {
        int64_t left = count / 8 - b < SOME_BLOCKS ? count / 8 - b : SOME_BLOCKS;
        if (b % SOME_BLOCKS == 0) halves_of(w, block, 0, left, d);
        if (b % SOME_BLOCKS == 0) halves_of(w, block, 2, left, least);
        const uint8_t *s = block + 4;
        float *scale = w->scale + first + b * 8, *bias = w->bias + first + b * 8;
        for (int j = 0; j < 4; j++) {
            scale[j] = d[b % SOME_BLOCKS] * (float)(s[j] & 63);
            bias[j] = -(least[b % SOME_BLOCKS] * (float)(s[j + 4] & 63));
            int high_scale = (s[j + 8] & 15) | s[j] >> 6 << 4;
            int high_bias = s[j + 8] >> 4 | s[j + 4] >> 6 << 4;
            scale[j + 4] = d[b % SOME_BLOCKS] * (float)high_scale;
            bias[j + 4] = -(least[b % SOME_BLOCKS] * (float)high_bias);
        }
    }
}

static void q6_k_scales(const packed_work *w, int64_t first, int64_t count) {
    const int64_t size = w->info->block_bytes;
    const uint8_t *block = (const uint8_t *)w->operands[0] + first / 16 * size;
    float d[SOME_BLOCKS];
    for (int64_t b = 0; b < count / 16; b++, block += size) {
        int64_t left = count / 16 - b < SOME_BLOCKS ? count / 16 - b : SOME_BLOCKS;
        if (b % SOME_BLOCKS == 0) halves_of(w, block, 208, left, d);
        float *scale = w->scale + first + b * 16, *bias = w->bias + first + b * 16;
        for (int j = 0; j < 16; j++) {
            scale[j] = d[b % SOME_BLOCKS] * (float)(int8_t)block[192 + j];
            bias[j] = -32 * scale[j];
        }
    }
}

// Of `count` groups of all rows, counted on, from `first` on; whole rows.
typedef void (*scales_fn)(const packed_work *w, int64_t first, int64_t count);
static const scales_fn scales[PACKED_COUNT] = {
    [PACKED_affine_2] = affine_scales, [PACKED_affine_3] = affine_scales,
    [PACKED_affine_4] = affine_scales, [PACKED_affine_6] = affine_scales,
    [PACKED_affine_8] = affine_scales, [PACKED_mxfp4] = power_scales,
    [PACKED_mxfp8] = power_scales,     [PACKED_nvfp4] = e4m3_scales,
    [PACKED_q4_0] = block_scales,      [PACKED_q8_0] = block_scales,
    [PACKED_q4_k] = q4_k_scales,       [PACKED_q6_k] = q6_k_scales,
};

// Few vectors
// --------------------------------------------------------------------------------------

static void vector_task(void *context, int64_t index) {
    packed_work *w = context;
    const packed_side *s = &w->side;
    int64_t first = index * w->rows_a_task, left = w->dot.n - first;
    int64_t rows = left < w->rows_a_task ? left : w->rows_a_task;
    scales[w->kind](w, first * s->groups, rows * s->groups);
    for (int64_t row = first; row < first + rows; row++) {
        const packed_row r = {(const uint8_t *)s->bits + row * s->row_bytes,
                              s->scale + row * s->groups, s->bias + row * s->groups};
        for (int64_t v = 0; v < w->dot.m; v += PACKED_VECTORS) {
            const void *vectors[PACKED_VECTORS];
            float sums[PACKED_VECTORS];
            int count = w->dot.m - v < PACKED_VECTORS ? (int)(w->dot.m - v) : PACKED_VECTORS;
            for (int i = 0; i < count; i++)
                vectors[i] = w->vectors + (size_t)(v + i) * w->vector_bytes;
            s->fns->dot(&r, w->dot.k, s->group, vectors, count, sums);
            for (int i = 0; i < count; i++) w->sums[(v + i) * w->dot.n + row] = sums[i];
        }
    }
}

static void prepare_task(void *context, int64_t index) {
    packed_work *w = context;
    int64_t k = w->dot.k;
    emlx_type type = w->dot.left.type;
    float *wide = w->sums + w->dot.m * w->dot.n + index * k;
    w->dot.run->kernels->cast[type][EMLX_F32](wide, w->x + index * k * (int64_t)type_size(type),
                                              NULL, NULL, (size_t)k);
    w->side.fns->prepare(w->vectors + (size_t)index * w->vector_bytes, wide, k, w->side.group);
}

static emlx_status multiply_vectors(packed_work *w, emlx_error *err) {
    dot_work *d = &w->dot;
    w->vector_bytes = (w->side.fns->bytes(d->k, w->side.group) + 63) / 64 * 64;
    size_t sums = (size_t)(d->m * (d->n + d->k)) * sizeof(float);
    size_t bytes = (size_t)d->m * w->vector_bytes + sums;
    void *memory;
    TRY(pool_alloc(bytes, &memory, err));
    w->vectors = memory;
    w->sums = (float *)((char *)memory + (size_t)d->m * w->vector_bytes);
    w->rows_a_task = TASK_BYTES / w->side.row_bytes + 1;
    emlx_status status = run_tasks(d->run, d->m, prepare_task, w, err);
    if (status == EMLX_OK)
        status = run_tasks(d->run, (d->n - 1) / w->rows_a_task + 1, vector_task, w, err);
    if (status == EMLX_OK)
        d->run->kernels->cast[EMLX_F32][d->out_type](d->out, w->sums, NULL, NULL,
                                                     (size_t)(d->m * d->n));
    pool_free(memory, bytes);
    return status;
}

// Many vectors
// -------------------------------------------------------------------------------------

static void dense_side(side *s, const char *data, emlx_type type, int64_t rows, int64_t columns) {
    *s = (side){.data = data, .type = type, .rows = rows, .columns = columns};
    s->row = (axis_list){rows, 1, {rows}, {columns}};
    s->column = (axis_list){columns, 1, {columns}, {1}};
}

static void scales_task(void *context, int64_t index) {
    packed_work *w = context;
    scales[w->kind](w, index * w->side.groups, w->side.groups);
}

static emlx_status multiply_many(packed_work *w, emlx_error *err) {
    TRY(run_tasks(w->dot.run, w->dot.n, scales_task, w, err));
    return product_multiply(&w->dot, err);
}

// The product
// --------------------------------------------------------------------------------------

// Operands that are not dense in memory become so.
static emlx_status dense_operand(const cpu_run *run, uint32_t index, const char **data,
                                 emlx_error *err) {
    const plan_access *a = &run->call->kernel->accesses[index];
    const emlx_shape *shape = &run->call->kernel->shapes[index];
    int64_t stride = 1;
    bool dense = true;
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        dense = dense && (shape->dims[d] == 1 || a->strides[d] == stride);
        stride *= shape->dims[d];
    }
    *data = operand_data(run, index);
    if (dense) return EMLX_OK;
    size_t size = type_size(a->type), bytes = (size_t)emlx_shape_count(shape) * size;
    void *copy;
    TRY(pool_alloc(bytes, &copy, err));
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
        pool_free((void *)data, count * type_size(a->type));
}

static emlx_status multiply(packed_work *w, emlx_error *err) {
    dot_work *d = &w->dot;
    packed_side *s = &w->side;
    size_t bytes = (size_t)(d->n * s->groups) * 2 * sizeof(float);
    void *memory;
    TRY(pool_alloc(bytes, &memory, err));
    w->scale = memory;
    w->bias = w->scale + d->n * s->groups;
    s->scale = w->scale, s->bias = w->bias, s->bits = w->operands[0];
    dense_side(&d->left, w->x, d->left.type, d->m, d->k);
    dense_side(&d->right, s->bits, d->left.type == EMLX_BF16 ? EMLX_BF16 : EMLX_F32, d->n, d->k);
    d->right.weights = s;
    emlx_status status =
        d->m <= FEW || !product_can(d) ? multiply_vectors(w, err) : multiply_many(w, err);
    pool_free(memory, bytes);
    return status;
}

emlx_status run_packed_dot(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const either_params *p = k->params;
    const emlx_shape *x = &k->shapes[0], *bits = &k->shapes[1];
    packed_work w = {.kind = (packed_kind)p->bits, .info = &packed_table[p->bits]};
    w.dot = (dot_work){.run = run, .type = EMLX_F32, .out_type = output_value(run)->type};
    w.dot.k = x->dims[x->rank - 1];
    w.dot.n = bits->dims[0];
    w.dot.m = emlx_shape_count(x) / w.dot.k;
    w.dot.batches = 1;
    w.dot.out = output_data(run);
    w.dot.left.type = k->accesses[0].type;
    w.side = (packed_side){.fns = &run->kernels->packed[p->bits],
                           .group = p->count,
                           .groups = w.dot.k / p->count,
                           .row_bytes = bits->dims[1] * (int64_t)type_size(k->accesses[1].type)};
    emlx_status status = dense_operand(run, 0, &w.x, err);
    for (uint32_t i = 0; i < w.info->operands && status == EMLX_OK; i++) {
        w.types[i] = k->accesses[i + 1].type;
        status = dense_operand(run, i + 1, &w.operands[i], err);
    }
    if (status == EMLX_OK) status = multiply(&w, err);
    let_operand_go(run, 0, w.x);
    for (uint32_t i = 0; i < w.info->operands; i++) let_operand_go(run, i + 1, w.operands[i]);
    return status;
}
