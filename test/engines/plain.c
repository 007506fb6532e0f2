// SPDX-License-Identifier: Apache-2.0
// plain.c - an engine for tests, written to be read: the oracle of every primitive. What it knows
// stands in the folder plain; here is the device, whose memory is the host's.
#include <stdio.h>
#include <string.h>

#include "engines/plain/plain.h"
#include "threads/cancel.h"

static const node_fn nodes[PRIM_COUNT] = {
#define PRIMITIVE(name, form, kept, cost) [PRIM_##name] = run_##name,
#define run_input NULL
#define run_either NULL // is chosen before any engine sees it
#include "graph/primitive.def"
#undef run_input
#undef run_either
#undef PRIMITIVE
};

// Plans ------------------------------------------------------------------------------------------

static bool plain_can(const emlx_device *device, const plan_node *all, uint32_t node) {
    (void)device;
    const plan_node *n = &all[node];
    return n->primitive != PRIM_routine || routine_is_known(n->params);
}

static array array_of(const plan_node *n, const emlx_buffer *buffer) {
    return (array){(emlx_type)n->type, &n->shape, emlx_shape_count(&n->shape), buffer->data};
}

static emlx_status run_node(const plan_call *call, uint32_t node, emlx_buffer **buffers,
                            emlx_error *err) {
    const plan_node *all = call->plan->nodes, *n = &all[node];
    size_t size = ((size_t)n->operand_count + 1) * sizeof(array);
    if (cancel_raised(call->cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
    TRY(buffer_new(call->plan->values[node].bytes, &buffers[node], err));
    node_run r = {.node = n, .in = mem_alloc(size), .out = array_of(n, buffers[node]), .err = err};
    if (r.in == NULL) return error_no_memory(err, "to run a node");
    for (uint32_t i = 0; i < n->operand_count; i++)
        r.in[i] = array_of(&all[n->operands[i]], buffers[n->operands[i]]);
    if (n->primitive == PRIM_constant) r.constant = &call->constants[n->parameter];
    if (n->primitive == PRIM_function) r.function = call->functions[n->parameter];
    emlx_status status = nodes[n->primitive](&r);
    mem_free(r.in, size);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "%s", n->op);
}

static emlx_status plain_submit(emlx_device *device, void *stream, const plan_call *call,
                                fence **end, emlx_error *err) {
    (void)device, (void)stream, (void)end;
    const emlx_plan *plan = call->plan;
    size_t size = ((size_t)plan->node_count + 1) * sizeof(emlx_buffer *);
    emlx_buffer **buffers = mem_alloc(size);
    emlx_status status = buffers != NULL ? EMLX_OK : error_no_memory(err, "to run a plan");
    for (uint32_t i = 0; i < plan->input_count; i++) {
        if (buffers != NULL)
            buffers[i] = call->inputs[i];
        else
            buffer_release(call->inputs[i]);
    }
    for (uint32_t n = plan->input_count; n < plan->node_count && status == EMLX_OK; n++)
        status = run_node(call, n, buffers, err);
    for (uint32_t i = 0; i < plan->output_count && status == EMLX_OK; i++)
        call->outputs[i] = buffer_retain(buffers[plan->outputs[i]]);
    for (uint32_t n = 0; n < plan->node_count && buffers != NULL; n++) buffer_release(buffers[n]);
    if (buffers != NULL) mem_free(buffers, size);
    return status;
}

static void plain_describe(const emlx_device *device, char *text, size_t size) {
    (void)device;
    snprintf(text, size, "for tests: one element at a time");
}

static const engine_ops plain = {
    .name = "plain",
    .form = FORM_NODES,
    .immediate = true,
    .host_memory = true,
    .describe = plain_describe,
    .allocate = host_allocate,
    .upload = host_upload,
    .download = host_download,
    .can = plain_can,
    .submit = plain_submit,
};

EMLX_API const engine_entry emlx_engine = ENGINE_ENTRY(&plain);
