// SPDX-License-Identifier: Apache-2.0
// make.c - building the nodes of one lowering.
#include "ops/make.h"

#include <stdarg.h>
#include <string.h>

void make_start(maker *m, const op_call *call, const emlx_shape *shape, emlx_error *err) {
    m->device = call->device;
    m->op = call->op->name;
    m->shape = *shape;
    m->status = EMLX_OK;
    m->err = err;
    m->count = 0;
}

emlx_status make_done_all(maker *m, emlx_tensor *const *results, size_t count, emlx_tensor **out) {
    for (size_t i = 0; i < count && m->status == EMLX_OK; i++)
        out[i] = emlx_tensor_retain(results[i]);
    for (int i = 0; i < m->count; i++) emlx_tensor_release(m->made[i]);
    return m->status;
}

emlx_status make_done(maker *m, emlx_tensor *result, emlx_tensor **out) {
    return make_done_all(m, &result, 1, out);
}

emlx_tensor *make_keep(maker *m, emlx_status status, emlx_tensor *t) {
    if (status != EMLX_OK) {
        m->status = status;
        return NULL;
    }
    if (m->count == MAKE_NODES) {
        emlx_tensor_release(t);
        m->status = error_set(m->err, EMLX_INTERNAL, "the lowering needs too many nodes");
        return NULL;
    }
    return m->made[m->count++] = t;
}

// What has no elements depends on nothing, and nothing has to be computed for it.
static void leave_out(node_spec *spec) {
    static const scalar_value zero;
    spec->primitive = PRIM_constant;
    spec->params = &zero;
    spec->params_size = sizeof zero;
    spec->inputs = NULL;
    spec->input_count = 0;
}

emlx_tensor *make_node(maker *m, const node_spec *spec) {
    if (m->status != EMLX_OK) return NULL;
    node_spec full = *spec;
    full.device = m->device;
    full.op = m->op;
    if (emlx_shape_count(&full.shape) == 0) leave_out(&full);
    emlx_tensor *t = NULL;
    emlx_status status = node_new(&full, &t, m->err);
    return make_keep(m, status, t);
}

emlx_tensor *make_op(maker *m, const char *name, emlx_type type, int operands, ...) {
    emlx_tensor *in[3];
    va_list list;
    va_start(list, operands);
    for (int i = 0; i < operands; i++) in[i] = va_arg(list, emlx_tensor *);
    va_end(list);
    return make_op_with(m, name, type, in, (size_t)operands, NULL, 0);
}

emlx_tensor *make_op_with(maker *m, const char *name, emlx_type type, emlx_tensor *const *operands,
                          size_t count, const emlx_attr *attrs, size_t attr_count) {
    emlx_tensor *t = NULL;
    if (m->status != EMLX_OK) return NULL;
    emlx_status status = op_apply(emlx_op_find(name), m->device, operands, count, attrs, attr_count,
                                  type, &t, m->err);
    return make_keep(m, status, t);
}

static emlx_tensor *constant_of(maker *m, emlx_type type, const emlx_shape *shape,
                                const scalar_value *value) {
    node_spec spec = {.primitive = PRIM_constant, .type = type, .shape = *shape};
    spec.params = value;
    spec.params_size = sizeof *value;
    return make_node(m, &spec);
}

emlx_tensor *make_constant(maker *m, emlx_type type, const emlx_shape *shape,
                           const emlx_number *value) {
    scalar_value stored = {{0}};
    type_store(type, value, stored.bytes);
    return constant_of(m, type, shape, &stored);
}

emlx_tensor *make_integer(maker *m, emlx_type type, int64_t value) {
    emlx_number number = {.kind = EMLX_NUMBER_SIGNED, .as.s = value};
    emlx_shape scalar = {0};
    return make_constant(m, type, &scalar, &number);
}

emlx_tensor *make_real(maker *m, emlx_type type, double value) {
    emlx_number number = {.kind = EMLX_NUMBER_REAL, .as.f = {value}};
    emlx_shape scalar = {0};
    return make_constant(m, type, &scalar, &number);
}

// A constant converted now spares every run the conversion.
static emlx_tensor *convert_constant(maker *m, emlx_tensor *t, emlx_type type) {
    scalar_value value;
    if (t == NULL || emlx_tensor_type(t) == type || !node_is_constant(t, &value)) return t;
    emlx_number number = type_load(emlx_tensor_type(t), value.bytes);
    return make_constant(m, type, &t->shape, &number);
}

static emlx_tensor *map_node(maker *m, const map_params *params, emlx_type type,
                             emlx_tensor *const *inputs, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (inputs[i] == NULL) return NULL;
    node_spec spec = {.primitive = PRIM_map, .type = type, .shape = m->shape};
    spec.params = params;
    spec.params_size = sizeof *params;
    spec.inputs = inputs;
    spec.input_count = count;
    return make_node(m, &spec);
}

emlx_tensor *make_map(maker *m, scalar_op op, emlx_type compute, emlx_type type, emlx_tensor *a,
                      emlx_tensor *b, emlx_tensor *c) {
    if (m->status != EMLX_OK) return NULL;
    map_params params = {.op = (uint8_t)op, .compute = (uint8_t)compute};
    emlx_tensor *inputs[3] = {a, b, c};
    size_t count = scalar_table[op].operands;
    for (size_t i = op == SCALAR_select; i < count && i < 3 && op != SCALAR_bitcast; i++)
        inputs[i] = convert_constant(m, inputs[i], compute);
    return map_node(m, &params, type, inputs, count);
}

emlx_tensor *make_guard(maker *m, guard_kind guard, emlx_tensor *value, emlx_tensor *bad) {
    if (m->status != EMLX_OK) return NULL;
    emlx_tensor *inputs[2] = {value, bad};
    emlx_type type = emlx_tensor_type(value);
    map_params params = {.guard = (uint8_t)guard, .compute = (uint8_t)type};
    return map_node(m, &params, type, inputs, 2);
}

emlx_tensor *make_cast(maker *m, emlx_tensor *t, emlx_type type) {
    if (t == NULL || emlx_tensor_type(t) == type) return t;
    if (t->primitive == PRIM_constant) return convert_constant(m, t, type);
    emlx_shape shape = m->shape;
    m->shape = t->shape;
    emlx_tensor *cast = make_map(m, SCALAR_identity, type, type, t, NULL, NULL);
    m->shape = shape;
    return cast;
}

emlx_tensor *make_wide(maker *m, emlx_tensor *t) {
    if (t == NULL) return NULL;
    emlx_type type = type_floating(emlx_tensor_type(t));
    return make_cast(m, t, type_table[type].bits < 32 ? EMLX_F32 : type);
}

static size_t either_size(const either_params *params) {
    return params->function == EITHER_window ? sizeof(window_params) : sizeof *params;
}

emlx_tensor *make_either(maker *m, const either_params *params, emlx_tensor *plain,
                         emlx_tensor *const *operands, size_t count) {
    if (m->status != EMLX_OK) return NULL;
    emlx_tensor *inputs[8] = {plain};
    memcpy(inputs + 1, operands, count * sizeof *operands);
    node_spec spec = {.primitive = PRIM_either, .type = emlx_tensor_type(plain)};
    spec.shape = plain->shape;
    spec.params = params;
    spec.params_size = either_size(params);
    spec.inputs = inputs;
    spec.input_count = count + 1;
    return make_node(m, &spec);
}

bool known_values(const emlx_tensor *t, size_t most, const void **data, size_t *count,
                  scalar_value *room) {
    if (node_is_constant(t, room)) {
        *data = room;
        *count = emlx_shape_count(&t->shape) == 0 ? 0 : 1;
        return true;
    }
    const emlx_buffer *buffer = node_buffer(t);
    size_t elements = (size_t)emlx_shape_count(&t->shape);
    if (buffer == NULL || buffer_seen(buffer) == NULL || elements > most) return false;
    *data = buffer_seen(buffer);
    *count = elements;
    return true;
}

bool known_integer(const emlx_tensor *t, int64_t *value) {
    const void *data;
    size_t count;
    scalar_value room;
    if (!type_is_integer(emlx_tensor_type(t)) || !known_values(t, 1, &data, &count, &room))
        return false;
    if (count != 1) return false;
    emlx_number number = type_load(emlx_tensor_type(t), data);
    bool fits = number.kind == EMLX_NUMBER_SIGNED || number.as.u <= INT64_MAX;
    *value = fits ? number.as.s : INT64_MAX;
    return true;
}
