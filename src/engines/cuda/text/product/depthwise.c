// SPDX-License-Identifier: Apache-2.0
// depthwise.c - which convolutions have a filter a channel and channels last, and their kernel.
#include "engines/cuda/text/product/depthwise.h"

#include <stdlib.h>

#include "base/shape.h"
#include "base/types.h"

enum { LANES = 16, BLOCK = 256, TAPS_MOST = 49, SPAN_MOST = 16 };

// Below, sums are made in double.
#define SMALL_WORK 65536

// Axes of rows and columns; an image of one axis has one row.
typedef struct spatial {
    int64_t size, filter, results, step, filter_step, stride, dilation, low;
} spatial;

static spatial find_axis(const plan_kernel *k, const emlx_shape *out, int32_t d) {
    const conv_params *p = k->params;
    if (d < 0) return (spatial){1, 1, 1, 0, 0, 1, 1, 0};
    return (spatial){.size = k->shapes[0].dims[2 + d],
                     .filter = k->shapes[1].dims[2 + d],
                     .results = out->dims[1 + d],
                     .step = k->accesses[0].strides[2 + d],
                     .filter_step = k->accesses[1].strides[2 + d],
                     .stride = p->strides[d],
                     .dilation = p->kernel_dilation[d],
                     .low = p->low[d]};
}

static int results_of(const spatial *columns) { return columns->stride == 1 ? 4 : 2; }

// Input elements along a row that a thread's results need.
static int64_t span_of(const spatial *columns) {
    return (results_of(columns) - 1) * columns->stride + (columns->filter - 1) * columns->dilation +
           1;
}

// Places along it are of 32 bits.
static bool is_near(const spatial *a) {
    return a->size < INDEX_MOST && a->filter < INDEX_MOST && a->dilation < INDEX_MOST / a->filter &&
           a->stride < INDEX_MOST / (a->results + 1) && llabs(a->low) < INDEX_MOST &&
           llabs(a->step) < INDEX_MOST;
}

static bool is_taken_type(emlx_type type) {
    return type == EMLX_F32 || type == EMLX_BF16 || type == EMLX_F16;
}

static bool is_vector(const plan_kernel *k, int64_t width) {
    const plan_access *x = &k->accesses[0];
    bool fits = x->strides[1] == 1 && k->shapes[0].dims[1] % width == 0 && x->offset % width == 0;
    for (int32_t d = 0; d < k->shapes[0].rank; d++)
        fits = fits && (d == 1 || k->shapes[0].dims[d] == 1 || x->strides[d] % width == 0);
    return fits;
}

bool depthwise_suits(const emlx_plan *plan, const plan_kernel *k) {
    const conv_params *p = k->params;
    const plan_access *x = &k->accesses[0], *w = &k->accesses[1];
    const plan_value *out = &plan->values[k->output];
    int32_t axes = k->shapes[0].rank - 2;
    int64_t channels = k->shapes[0].dims[1], count = emlx_shape_count(&out->shape);
    if (axes < 1 || axes > 2 || !p->channels_last || p->batch_groups != 1 || channels < 2 ||
        p->feature_groups != channels || k->shapes[1].dims[0] != channels ||
        !is_taken_type(out->type) || x->type != out->type || w->type != out->type ||
        x->start_count + w->start_count > 0)
        return false;
    spatial columns = find_axis(k, &out->shape, axes - 1),
            rows = find_axis(k, &out->shape, axes - 2);
    for (int32_t d = 0; d < axes; d++)
        if (p->input_dilation[d] != 1) return false;
    int64_t taps = rows.filter * columns.filter;
    return count <= INDEX_MOST && taps <= TAPS_MOST && count * taps > SMALL_WORK &&
           is_near(&rows) && is_near(&columns) && span_of(&columns) <= SPAN_MOST &&
           is_vector(k, 16 / (int64_t)type_size(out->type));
}

static void emit_operation(emitter *e, const spatial *rows, const spatial *columns) {
    char wide[CAST_TEXT], narrow[CAST_TEXT];
    int type = e->kernel->accesses[0].type;
    const char *name = type_text(type);
    cast_text(wide, type, EMLX_F32, "x");
    cast_text(narrow, EMLX_F32, type, "x");
    EMIT("struct Op@ {\n typedef T_%s T;\n static METHOD float wide(T x) { return %s; }\n"
         " static METHOD T narrow(float x) { return %s; }\n"
         " static const int ROWS = %d, COLUMNS = %d, STRIDE = %d, DILATION = %d, RESULTS = %d;\n"
         "};\n",
         name, wide, narrow, (int)rows->filter, (int)columns->filter, (int)columns->stride,
         (int)columns->dilation, results_of(columns));
}

// In the order of depthwise.cu.
static uint32_t add_words(emitter *e, const spatial *rows, const spatial *columns) {
    const plan_kernel *k = e->kernel;
    uint32_t first = operand_word(e, 0);
    operand_word(e, 1);
    output_word(e);
    const int64_t words[] = {k->shapes[0].dims[1],
                             k->accesses[0].strides[0],
                             rows->step,
                             columns->step,
                             k->accesses[1].strides[0],
                             rows->filter_step,
                             columns->filter_step,
                             rows->size,
                             columns->size,
                             rows->results,
                             columns->results,
                             k->shapes[0].dims[0],
                             rows->stride,
                             rows->dilation,
                             rows->low,
                             columns->low};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) code_word(e->code, words[i]);
    return first;
}

void emit_depthwise(emitter *e) {
    const plan_kernel *k = e->kernel;
    const emlx_shape *out = &e->plan->values[k->output].shape;
    int32_t axes = k->shapes[0].rank - 2;
    spatial columns = find_axis(k, out, axes - 1), rows = find_axis(k, out, axes - 2);
    int64_t runs = (columns.results + results_of(&columns) - 1) / results_of(&columns);
    int64_t part = LANES * 16 / (int64_t)type_size(k->accesses[0].type);
    int64_t parts = (k->shapes[0].dims[1] + part - 1) / part;
    int64_t units = out->dims[0] * rows.results * runs, each = BLOCK / LANES;
    e->code->parts |= PART_DEPTHWISE;
    emit_operation(e, &rows, &columns);
    uint32_t first = add_words(e, &rows, &columns);
    emit_function(e, 'k', BLOCK);
    EMIT(" convolve_channels<Op@>(&p.w[%u]);\n}\n", first);
    code_launch_add(e->code, 'k', parts * ((units + each - 1) / each) * BLOCK, 0);
}
