// SPDX-License-Identifier: Apache-2.0
// attention.c - attention taken whole: when, and what its operands are.
#include "engines/cpu/attention/attention.h"

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/kernels/tables/product.h"
#include "engines/cpu/whole.h"

// Rows up to which keys and values are read where they are.
enum { FEW_ROWS = 8 };

static bool is_small_float(emlx_type type) {
    return type == EMLX_F32 || type == EMLX_F16 || type == EMLX_BF16;
}

// In f32, by tiles of products; masks of more digits would make scores of as many.
bool attention_takes(const emlx_device *device, const emlx_tensor *either) {
    const either_params *p = either->params;
    const cpu_kernels *kernels = device->state;
    if (kernels->product[EMLX_F32].tile == NULL) return false;
    bool fits = is_small_float(either->type);
    for (uint32_t i = 1; i < 4; i++) fits = fits && is_small_float(either->inputs[i]->type);
    uint32_t at = 4 + ((p->bits & ATTENTION_OFFSET) != 0);
    if (!(p->bits & ATTENTION_MASK)) return fits;
    emlx_type mask = either->inputs[at]->type;
    return fits && (type_is_integer(mask) || is_small_float(mask));
}

// An operand of up to four axes, the last ones.
static operand operand_of(const cpu_run *run, uint32_t i) {
    const plan_access *access = &run->call->kernel->accesses[i];
    const emlx_shape *shape = &run->call->kernel->shapes[i];
    operand o = {.data = operand_data(run, i), .type = access->type};
    for (int32_t d = 0; d < shape->rank; d++)
        if (shape->dims[d] > 1) o.strides[4 - shape->rank + d] = access->strides[d];
    return o;
}

static void take_operands(const cpu_run *run, attention *a) {
    const emlx_shape *shapes = run->call->kernel->shapes;
    const either_params *p = run->call->kernel->params;
    *a = (attention){.run = run, .fns = run->kernels->attention, .scale = (float)p->n[0]};
    a->batch = shapes[0].dims[0];
    a->heads = shapes[0].dims[1];
    a->queries = shapes[0].dims[2];
    a->size = shapes[0].dims[3];
    a->groups = shapes[1].dims[1];
    a->keys = shapes[1].dims[2];
    a->width = shapes[2].dims[3];
    a->rows = a->heads / a->groups * a->queries;
    a->pairs = a->batch * a->groups;
    a->q = operand_of(run, 0);
    a->k = operand_of(run, 1);
    a->v = operand_of(run, 2);
    a->out = output_data(run);
    a->out_type = output_value(run)->type;
}

static int64_t offset_at(const operand *o, int64_t batch) {
    const char *at = o->data + batch * o->strides[3] * (int64_t)type_size(o->type);
    emlx_number number = type_load(o->type, at);
    bool fits = number.kind == EMLX_NUMBER_SIGNED || number.as.u <= INT64_MAX;
    return fits ? number.as.s : INT64_MAX;
}

// The keys that query 0 of each batch sees. Large numbers mean all keys, so that sums cannot wrap.
static void set_limits(attention *a, const operand *offset) {
    const either_params *p = a->run->call->kernel->params;
    int64_t bound = a->keys + a->queries;
    for (int64_t b = 0; b < a->batch; b++) {
        int64_t limit = a->keys;
        if (p->bits & ATTENTION_CAUSAL) limit = least(limit, least(p->count, bound) + 1);
        if (offset->data != NULL) limit = least(limit, least(offset_at(offset, b), bound) + 1);
        a->limits[b] = limit < -bound ? -bound : limit;
    }
}

// Operands behind the first three, in the order of their flags.
static void take_extras(attention *a, float *sinks) {
    const either_params *p = a->run->call->kernel->params;
    operand offset = {.data = NULL};
    uint32_t i = 3;
    if (p->bits & ATTENTION_OFFSET) offset = operand_of(a->run, i++);
    if (p->bits & ATTENTION_MASK) a->mask = operand_of(a->run, i++);
    if (p->bits & ATTENTION_KEY_MASK) {
        a->key_mask = operand_of(a->run, i++);
        a->key_mask.strides[0] = a->key_mask.strides[2];
        a->key_mask.strides[2] = 0;
    }
    set_limits(a, &offset);
    if (!(p->bits & ATTENTION_SINKS)) return;
    operand given = operand_of(a->run, i);
    load_row(a, &given, 0, 0, 0, 0, a->heads, sinks);
    a->sinks = sinks;
}

emlx_status run_attention(const cpu_run *run, emlx_error *err) {
    attention a;
    take_operands(run, &a);
    size_t size = (size_t)a.batch * sizeof(int64_t) + (size_t)a.heads * sizeof(float);
    void *memory;
    TRY(data_alloc(size, &memory, err));
    a.limits = memory;
    take_extras(&a, (float *)(a.limits + a.batch));
    emlx_status status = a.rows <= FEW_ROWS ? attend_few(&a, err) : attend_blocks(&a, err);
    data_free(memory, size);
    return status;
}
