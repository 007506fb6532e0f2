// SPDX-License-Identifier: Apache-2.0
// custom.c - folds with a function of the caller's: checks and lowerings, and writing a function of
// scalars out as steps.
#include "ops/make.h"

#include <stdio.h>

#include "graph/function.h"

// Values of a function that is written out, and how far they may depend on each other, as following
// that recurses on the caller's stack; nobody writes larger ones by hand.
enum { MOST_VALUES = 1024, MOST_DEPTH = 256, MOST_SCALARS = 24, NOT_WRITTEN = -1 };

// The function -------------------------------------------------------------------------------

static emlx_function *function_of(const op_call *call) {
    return attr_get(call, "function")->function;
}

static emlx_status expect_scalar(const char *what, const emlx_tensor *t, emlx_type type,
                                 emlx_error *err) {
    char text[SHAPE_TEXT];
    if (t->shape.rank == 0 && t->type == type) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "%s %s%s, a scalar of %s expected", what,
                     emlx_type_name(emlx_tensor_type(t)), shape_print(&t->shape, text),
                     emlx_type_name(type));
}

emlx_status check_function(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_function *f = function_of(call);
    if (f->input_count != 2)
        return error_set(err, EMLX_INVALID, "the function takes %zu arguments, 2 expected",
                         f->input_count);
    result->type = emlx_tensor_type(f->inputs[1]);
    TRY(expect_scalar("the function takes", f->inputs[0], emlx_tensor_type(f->inputs[0]), err));
    TRY(expect_scalar("the function takes", f->inputs[1], result->type, err));
    TRY(expect_scalar("the function gives", f->output, result->type, err));
    if (operand_shape(call, 1)->rank == 0) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "the value to start with must be a scalar");
}

// Writing it out -----------------------------------------------------------------------------

// A value that has been met, and its number; of steps, which come after the scalars, the place.
typedef struct written {
    const emlx_tensor *node;
    bool is_step;
    uint16_t number;
} written;

typedef struct writer {
    maker *m;
    const emlx_function *f;
    int value_count, depth;
    uint32_t scalar_count, step_count;
    written values[MOST_VALUES];
    emlx_tensor *scalars[MOST_SCALARS];
    custom_step steps[MOST_VALUES];
} writer;

static int add_value(writer *w, const emlx_tensor *node, bool is_step, uint32_t number) {
    w->values[w->value_count] = (written){node, is_step, (uint16_t)number};
    return w->value_count++;
}

static int add_scalar(writer *w, const emlx_tensor *node, emlx_tensor *scalar) {
    if (w->scalar_count == MOST_SCALARS || scalar == NULL) return NOT_WRITTEN;
    w->scalars[w->scalar_count] = scalar;
    return add_value(w, node, false, 2 + w->scalar_count++);
}

static int write_value(writer *w, const emlx_tensor *node);

static int write_constant(writer *w, const emlx_tensor *node) {
    emlx_shape shape = {0};
    node_spec spec = {.primitive = PRIM_constant, .type = (emlx_type)node->type, .shape = shape};
    spec.params = node->params;
    spec.params_size = sizeof(scalar_value);
    return add_scalar(w, node, make_node(w->m, &spec));
}

static int write_iota(writer *w, const emlx_tensor *node) {
    int64_t offset = ((const iota_params *)node->params)->offset;
    return add_scalar(w, node, make_integer(w->m, (emlx_type)node->type, offset));
}

// All there is in one element is that element.
static int write_view(writer *w, const emlx_tensor *node) {
    return write_value(w, node->inputs[0]);
}

// Arguments hold the places in `values` until all scalars are known.
static int write_map(writer *w, const emlx_tensor *node) {
    custom_step step = {.map = *(const map_params *)node->params, .type = node->type};
    for (uint32_t i = 0; i < node->input_count; i++) {
        int arg = write_value(w, node->inputs[i]);
        if (arg == NOT_WRITTEN) return NOT_WRITTEN;
        step.args[i] = (uint16_t)arg;
    }
    if (w->value_count == MOST_VALUES) return NOT_WRITTEN;
    w->steps[w->step_count] = step;
    return add_value(w, node, true, w->step_count++);
}

static int (*const value_writers[PRIM_COUNT])(writer *, const emlx_tensor *) = {
    [PRIM_constant] = write_constant,
    [PRIM_iota] = write_iota,
    [PRIM_view] = write_view,
    [PRIM_map] = write_map,
};

// The place of the node's value, or NOT_WRITTEN when it is no scalar function of the arguments.
static int write_value(writer *w, const emlx_tensor *node) {
    for (int i = 0; i < w->value_count; i++)
        if (w->values[i].node == node) return i;
    bool is_scalar = emlx_shape_count(&node->shape) == 1;
    int (*write)(writer *, const emlx_tensor *) = value_writers[node->primitive];
    if (!is_scalar || write == NULL || w->value_count == MOST_VALUES) return NOT_WRITTEN;
    if (w->depth == MOST_DEPTH) return NOT_WRITTEN;
    w->depth++;
    int place = write(w, node);
    w->depth--;
    return place;
}

static uint16_t number_of(const writer *w, int place) {
    const written *value = &w->values[place];
    return (uint16_t)(value->is_step ? 2 + w->scalar_count + value->number : value->number);
}

// Folding ------------------------------------------------------------------------------------

static emlx_tensor *custom_node(writer *w, emlx_tensor *t, emlx_tensor *start, uint32_t axes,
                                int result) {
    maker *m = w->m;
    emlx_tensor *inputs[2 + MOST_SCALARS] = {t, start};
    size_t size = sizeof(custom_params) + w->step_count * sizeof(custom_step);
    custom_params *params = mem_alloc(size);
    if (params == NULL) {
        m->status = error_no_memory(m->err, "for a function");
        return NULL;
    }
    params->axes = axes;
    params->result = number_of(w, result);
    params->count = w->step_count;
    for (uint32_t i = 0; i < w->scalar_count; i++) inputs[2 + i] = w->scalars[i];
    for (uint32_t i = 0; i < w->step_count; i++) {
        custom_step *step = &params->steps[i];
        *step = w->steps[i];
        for (int a = 0; a < 3; a++) step->args[a] = number_of(w, step->args[a]);
    }
    node_spec spec = {.primitive = PRIM_custom, .type = w->f->output->type, .shape = m->shape};
    spec.params = params;
    spec.params_size = size;
    spec.inputs = inputs;
    spec.input_count = 2 + w->scalar_count;
    emlx_tensor *node = make_node(m, &spec);
    mem_free(params, size);
    return node;
}

// With the folded axes behind the others, each fold is a row.
static emlx_tensor *rows_of(maker *m, emlx_tensor *t, uint32_t axes) {
    int64_t order[EMLX_MAX_RANK];
    int32_t rank = t->shape.rank, n = 0;
    emlx_shape rows = {2, {1, 1}};
    for (int folded = 0; folded < 2; folded++)
        for (int32_t d = 0; d < rank; d++) {
            if ((int)(axes >> d & 1) != folded) continue;
            order[n++] = d;
            rows.dims[folded] *= t->shape.dims[d];
        }
    return view_reshape(m, view_transpose(m, t, order), &rows);
}

static emlx_tensor *call_node(maker *m, emlx_function *f, emlx_tensor *t, emlx_tensor *start,
                              uint32_t axes) {
    emlx_tensor *inputs[2] = {rows_of(m, t, axes), start};
    const function_params params = {f};
    node_spec spec = {.primitive = PRIM_function, .type = f->output->type, .shape = m->shape};
    spec.params = &params;
    spec.params_size = sizeof params;
    spec.inputs = inputs;
    spec.input_count = 2;
    return make_node(m, &spec);
}

// Folds `t`, into the maker's shape, over the axes whose bit is set.
static emlx_tensor *make_custom(maker *m, emlx_function *f, emlx_tensor *t, emlx_tensor *start,
                                uint32_t axes) {
    if (m->status != EMLX_OK) return NULL;
    if (emlx_shape_count(&t->shape) == 0) return view_broadcast(m, start, &m->shape, NULL);
    writer *w = mem_alloc(sizeof *w);
    if (w == NULL) {
        m->status = error_no_memory(m->err, "for a function");
        return NULL;
    }
    w->m = m;
    w->f = f;
    for (uint32_t i = 0; i < 2; i++) add_value(w, f->inputs[i], false, i);
    int result = write_value(w, f->output);
    emlx_tensor *node = NULL;
    if (m->status == EMLX_OK && result != NOT_WRITTEN)
        node = custom_node(w, t, start, axes, result);
    else
        node = call_node(m, f, t, start, axes);
    mem_free(w, sizeof *w);
    return node;
}

// Ops ----------------------------------------------------------------------------------------

emlx_status check_custom(const op_call *call, op_result *result, emlx_error *err) {
    uint32_t axes;
    TRY(check_function(call, result, err));
    TRY(folded_axes(call, &axes, err));
    folded_shape(operand_shape(call, 0), axes, attr_int(call, "keep_axes", 0), &result->shape);
    return EMLX_OK;
}

emlx_status lower_custom(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    uint32_t axes;
    TRY(folded_axes(call, &axes, err));
    emlx_function *f = function_of(call);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_cast(&m, call->in[0], emlx_tensor_type(f->inputs[0]));
    emlx_tensor *start = make_cast(&m, call->in[1], emlx_tensor_type(f->inputs[1]));
    t = make_custom(&m, f, t, start, axes);
    return make_done(&m, make_cast(&m, t, result->type), out);
}

emlx_status check_custom_window(const op_call *call, op_result *result, emlx_error *err) {
    TRY(check_function(call, result, err));
    return windows_shape(call, &result->shape, err);
}

// The value to start with is what padding has, too.
emlx_status lower_custom_window(const op_call *call, const op_result *result, emlx_tensor **out,
                                emlx_error *err) {
    emlx_function *f = function_of(call);
    uint32_t axes = 0;
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_cast(&m, call->in[0], emlx_tensor_type(f->inputs[0]));
    emlx_tensor *padding = make_cast(&m, call->in[1], emlx_tensor_type(f->inputs[0]));
    emlx_tensor *start = make_cast(&m, call->in[1], emlx_tensor_type(f->inputs[1]));
    t = make_windows(&m, call, t, padding, &axes);
    m.shape = result->shape;
    t = make_custom(&m, f, t, start, axes);
    return make_done(&m, make_cast(&m, t, result->type), out);
}
