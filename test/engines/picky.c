// SPDX-License-Identifier: Apache-2.0
// picky.c - an engine for tests: it takes plans in nodes, and refuses some of the nodes at random,
// so that plans divided between it and the host are proved equal to undivided ones.
//
// What it takes it computes a node at a time by the CPU engine, each as a plan of its own. Its
// memory is the host's, or with EMLX_PICKY_APART=1 one that the host cannot read. What is refused
// depends on the node and EMLX_PICKY_SEED; one in EMLX_PICKY_ODDS (3) is. Of the functions of an
// `either` it takes whole what stands in a list, at random as well: they are computed as the op of
// that name by the CPU engine, so that they give the bits that they have there.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "plan/build.h"
#include "plan/cache.h"
#include "plan/submit.h"
#include "setting.h"

typedef struct picky_device {
    emlx_device cpu; // whose kernels are used
    unsigned seed, odds;
} picky_device;

// Memory that the host cannot read: `handle` is the buffer behind it -----------------------------

static void destroy_hidden(emlx_buffer *buffer) {
    buffer_release(buffer->handle);
    mem_free(buffer, sizeof *buffer);
}

static emlx_status hide(emlx_buffer *behind, emlx_buffer **out, emlx_error *err) {
    emlx_buffer *buffer = mem_alloc(sizeof *buffer);
    if (buffer == NULL) {
        buffer_release(behind);
        return error_set(err, EMLX_OUT_OF_MEMORY, "picky: no memory for a buffer");
    }
    buffer_init(buffer, behind->size, destroy_hidden);
    buffer->handle = behind;
    *out = buffer;
    return EMLX_OK;
}

static emlx_buffer *seen(emlx_buffer *buffer) {
    return buffer->data != NULL ? buffer : buffer->handle;
}

static emlx_status picky_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                  emlx_error *err) {
    emlx_buffer *buffer;
    TRY(buffer_new(size, &buffer, err));
    if (device->ops->host_memory) {
        *out = buffer;
        return EMLX_OK;
    }
    return hide(buffer, out, err);
}

static emlx_status picky_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                                emlx_error *err) {
    return host_upload(device, seen(to), from, size, err);
}

static emlx_status picky_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                  void *to, size_t size, emlx_error *err) {
    return host_download(device, seen((emlx_buffer *)from), offset, to, size, err);
}

// Nodes ------------------------------------------------------------------------------------------

static uint32_t mix(uint32_t hash, uint32_t value) { return (hash ^ value) * 0x9e3779b1u; }

static bool picky_can(const emlx_device *device, const plan_node *nodes, uint32_t node) {
    const picky_device *d = device->state;
    const plan_node *n = &nodes[node];
    uint32_t hash = mix(mix(mix(d->seed, n->primitive), n->type), n->operand_count);
    for (int32_t i = 0; i < n->shape.rank; i++) hash = mix(hash, (uint32_t)n->shape.dims[i]);
    return (hash >> 8) % d->odds != 0;
}

// Functions taken whole --------------------------------------------------------------------------

static size_t fold_attrs(const either_params *p, int64_t *axes, emlx_attr *attrs) {
    attrs[0] = (emlx_attr){.name = "axes", .kind = EMLX_ATTR_INTS, .ints = axes};
    for (int64_t d = 0; d < EMLX_MAX_RANK; d++)
        if (p->bits >> d & 1) axes[attrs[0].count++] = d;
    return 1;
}

static size_t norm_attrs(const either_params *p, int64_t *unused, emlx_attr *attrs) {
    (void)unused;
    attrs[0] = (emlx_attr){.name = "eps", .kind = EMLX_ATTR_NUMBER};
    attrs[0].value = (emlx_number){EMLX_NUMBER_REAL, {.f = {p->n[0]}}};
    return 1;
}

static size_t no_attrs(const either_params *p, int64_t *unused, emlx_attr *attrs) {
    (void)p, (void)unused, (void)attrs;
    return 0;
}

static void set_number(emlx_attr *attr, const char *name, double value) {
    *attr = (emlx_attr){.name = name, .kind = EMLX_ATTR_NUMBER};
    attr->value = (emlx_number){EMLX_NUMBER_REAL, {.f = {value}}};
}

static void set_integer(emlx_attr *attr, const char *name, emlx_attr_kind kind, int64_t value) {
    *attr = (emlx_attr){.name = name, .kind = kind, .value = {EMLX_NUMBER_SIGNED, {.s = value}}};
}

static size_t rope_attrs(const either_params *p, int64_t *unused, emlx_attr *attrs) {
    (void)unused;
    set_integer(&attrs[0], "dims", EMLX_ATTR_INT, p->count);
    set_integer(&attrs[1], "traditional", EMLX_ATTR_BOOL, p->bits & ROPE_TRADITIONAL);
    set_number(&attrs[2], "base", p->n[0]);
    set_number(&attrs[3], "scale", p->n[1]);
    return 4;
}

static size_t attention_attrs(const either_params *p, int64_t *unused, emlx_attr *attrs) {
    static const char *const names[] = {"causal", "offset", "mask", "key_mask", "sinks"};
    (void)unused;
    set_number(&attrs[0], "scale", p->n[0]);
    set_integer(&attrs[1], "first", EMLX_ATTR_INT, p->count);
    for (int i = 0; i < 5; i++)
        set_integer(&attrs[2 + i], names[i], EMLX_ATTR_BOOL, p->bits >> i & 1);
    return 7;
}

// The attributes of the op by the function's parameters.
static size_t (*const taken[EITHER_COUNT])(const either_params *, int64_t *, emlx_attr *) = {
    [EITHER_softmax] = fold_attrs,    [EITHER_rms_norm] = norm_attrs,
    [EITHER_layer_norm] = norm_attrs, [EITHER_swiglu] = no_attrs,
    [EITHER_rope] = rope_attrs,       [EITHER_attention] = attention_attrs,
};

static bool picky_takes(const emlx_device *device, const emlx_tensor *t) {
    const picky_device *d = device->state;
    const either_params *p = t->params;
    if (taken[p->function] == NULL) return false;
    // What the CPU engine takes whole has bits of its own.
    if (cpu_engine.takes(&d->cpu, t)) return true;
    uint32_t hash = mix(mix(d->seed, p->function), t->type);
    for (int32_t i = 0; i < t->shape.rank; i++) hash = mix(hash, (uint32_t)t->shape.dims[i]);
    return (hash >> 8) % d->odds != 0;
}

static emlx_status whole_make(emlx_device *device, const plan_node *n, emlx_tensor *const *operands,
                              emlx_tensor **out, emlx_error *err) {
    const either_params *p = n->params;
    int64_t axes[EMLX_MAX_RANK];
    emlx_attr attrs[8];
    size_t count = taken[p->function](p, axes, attrs);
    return emlx_apply(emlx_op_find(either_names[p->function]), device, operands, n->operand_count,
                      attrs, count, (emlx_type)n->type, out, err);
}

// One node as a graph of its own, with its operands as placeholders.
typedef struct lone_node {
    emlx_tensor *node, *operands[64];
    uint32_t count;
} lone_node;

static void lone_clear(lone_node *l) {
    emlx_tensor_release(l->node);
    for (uint32_t i = 0; i < l->count; i++) emlx_tensor_release(l->operands[i]);
}

static emlx_status lone_make(emlx_device *device, const plan_node *nodes, uint32_t node,
                             const plan_call *call, lone_node *l, emlx_error *err) {
    const plan_node *n = &nodes[node];
    if (n->operand_count > 64) return error_set(err, EMLX_UNSUPPORTED, "picky: too many operands");
    for (; l->count < n->operand_count; l->count++) {
        const plan_node *o = &nodes[n->operands[l->count]];
        node_spec input = {.device = device, .primitive = PRIM_input, .type = (emlx_type)o->type};
        input.shape = o->shape;
        TRY(node_new(&input, &l->operands[l->count], err));
    }
    if (n->primitive == PRIM_either) return whole_make(device, n, l->operands, &l->node, err);
    node_spec spec = {.device = device,
                      .op = n->op,
                      .primitive = (primitive)n->primitive,
                      .type = (emlx_type)n->type,
                      .shape = n->shape,
                      .params = n->params,
                      .params_size = n->params_size,
                      .inputs = l->operands,
                      .input_count = l->count};
    function_params function;
    if (n->primitive == PRIM_constant) {
        spec.params = &call->constants[n->parameter];
        spec.params_size = sizeof *call->constants;
    } else if (n->primitive == PRIM_function) {
        function.function = call->functions[n->parameter];
        spec.params = &function;
        spec.params_size = sizeof function;
    }
    return node_new(&spec, &l->node, err);
}

static emlx_status run_planned(picky_device *d, const plan_call *call, uint32_t node,
                               const planned *planned, emlx_buffer **values, emlx_error *err) {
    const plan_node *n = &call->plan->nodes[node];
    emlx_buffer *inputs[64];
    for (uint32_t i = 0; i < n->operand_count; i++)
        inputs[i] = buffer_retain(values[n->operands[i]]);
    plan_submission work = {
        .device = &d->cpu, .cancel = call->cancel, .inputs = inputs, .outputs = &values[node]};
    fence *none;
    return plan_submit(planned, &work, &none, err);
}

static emlx_status run_node(emlx_device *device, const plan_call *call, uint32_t node,
                            emlx_buffer **values, emlx_error *err) {
    picky_device *d = device->state;
    lone_node l = {0};
    planned planned = {0};
    bool whole = call->plan->nodes[node].primitive == PRIM_either;
    if (!whole && !picky_can(device, call->plan->nodes, node))
        return error_set(err, EMLX_INTERNAL, "picky: given what it refused");
    emlx_status status = lone_make(&d->cpu, call->plan->nodes, node, call, &l, err);
    plan_request request = {&d->cpu, &l.node, 1, l.operands, l.count};
    if (status == EMLX_OK) status = plan_find(&request, &planned, err);
    if (status == EMLX_OK) status = run_planned(d, call, node, &planned, values, err);
    planned_clear(&planned);
    lone_clear(&l);
    return status;
}

static emlx_status give_output(emlx_device *device, const plan_call *call, uint32_t i,
                               emlx_buffer **values, emlx_error *err) {
    uint32_t v = call->plan->outputs[i];
    if (v < call->plan->input_count)
        call->outputs[i] = buffer_retain(call->inputs[v]);
    else if (device->ops->host_memory)
        call->outputs[i] = buffer_retain(values[v]);
    else
        return hide(buffer_retain(values[v]), &call->outputs[i], err);
    return EMLX_OK;
}

static emlx_status picky_submit(emlx_device *device, void *stream, const plan_call *call,
                                fence **end, emlx_error *err) {
    (void)stream, (void)end;
    const emlx_plan *plan = call->plan;
    size_t size = ((size_t)plan->node_count + 1) * sizeof(emlx_buffer *);
    emlx_buffer **values = mem_alloc(size);
    emlx_status status = EMLX_OK;
    if (values == NULL) status = error_set(err, EMLX_OUT_OF_MEMORY, "picky: no memory to run");
    for (uint32_t i = 0; i < plan->input_count && values != NULL; i++)
        values[i] = buffer_retain(seen(call->inputs[i]));
    for (uint32_t n = plan->input_count; n < plan->node_count && status == EMLX_OK; n++)
        status = run_node(device, call, n, values, err);
    uint32_t done = 0;
    for (; done < plan->output_count && status == EMLX_OK; done += status == EMLX_OK)
        status = give_output(device, call, done, values, err);
    for (uint32_t i = 0; i < done && status != EMLX_OK; i++) buffer_release(call->outputs[i]);
    for (uint32_t n = 0; n < plan->node_count && values != NULL; n++) buffer_release(values[n]);
    for (uint32_t i = 0; i < plan->input_count; i++) buffer_release(call->inputs[i]);
    if (values != NULL) mem_free(values, size);
    return status;
}

// The device -------------------------------------------------------------------------------------

static engine_ops picky;

static emlx_status picky_open(emlx_device *device, emlx_error *err) {
    picky_device *d = mem_alloc(sizeof *d);
    if (d == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "picky: no memory for a device");
    d->cpu = (emlx_device){.ops = &cpu_engine, .name = "cpu behind picky"};
    d->seed = setting("EMLX_PICKY_SEED", 1);
    d->odds = setting("EMLX_PICKY_ODDS", 3);
    if (d->odds == 0) d->odds = 1;
    device->state = d;
    TRY(pool_new(1, &d->cpu.pool, err));
    return cpu_engine.open(&d->cpu, err);
}

static void picky_close(emlx_device *device) {
    picky_device *d = device->state;
    plan_cache_clear(&d->cpu);
    pool_release(d->cpu.pool);
    mem_free(d, sizeof *d);
}

static void picky_describe(const emlx_device *device, char *text, size_t size) {
    const picky_device *d = device->state;
    snprintf(text, size, "for tests: refuses one node in %u, seed %u", d->odds, d->seed);
}

static int picky_count(char *why, size_t size) {
    (void)why, (void)size;
    picky.host_memory = setting("EMLX_PICKY_APART", 0) == 0;
    return 1;
}

static engine_ops picky = {
    .name = "picky",
    .form = FORM_NODES,
    .immediate = true,
    .host_memory = true,
    .count = picky_count,
    .open = picky_open,
    .close = picky_close,
    .describe = picky_describe,
    .allocate = picky_allocate,
    .upload = picky_upload,
    .download = picky_download,
    .can = picky_can,
    .takes = picky_takes,
    .submit = picky_submit,
};

EMLX_API const engine_entry emlx_engine = ENGINE_ENTRY(&picky);
