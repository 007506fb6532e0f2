// SPDX-License-Identifier: Apache-2.0
// engine.c - Apple's MLX as an engine: plans in the form of nodes, each one function of MLX's, run
// by one thread a device. Two engines: its GPU, and its CPU, which is an oracle rather than fast.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engine.h"
#include "engines/mlx/edge/adapter.h"
#include "engines/mlx/lower/lower.h"
#include "engines/mlx/worker.h"
#include "memory/room.h"
#include "threads/cancel.h"

typedef struct mlx_state {
    const mlx_edge *edge;
    mlx_session *session;
    mlx_worker *worker;
    mlx_traits traits;
    mlx_target target;
    bool apart;                     // memory of its own: the host sees copies
    char message[MLX_MESSAGE_SIZE]; // of the worker's last call that was waited for
} mlx_state;

// The form of a plan.
typedef struct mlx_form {
    arena memory;
    mlx_lowered lowered;
    mlx_function *function;
} mlx_form;

static emlx_status mlx_failed(const char *message, emlx_error *err) {
    return error_set(err, EMLX_INTERNAL, "MLX: %s", message);
}

// Devices ----------------------------------------------------------------------------------------

static int count_of(mlx_target target, char *why, size_t size) {
    char message[MLX_MESSAGE_SIZE];
    const mlx_edge *edge = adapter_open(why, size);
    if (edge == NULL) return 0;
    if (edge->available(target, message)) return 1;
    snprintf(why, size, "%s", message);
    return 0;
}

static int count_gpu(char *why, size_t size) { return count_of(MLX_TARGET_GPU, why, size); }
static int count_cpu(char *why, size_t size) { return count_of(MLX_TARGET_CPU, why, size); }

static uint32_t version_number(const char *text) {
    unsigned major = 0, minor = 0, patch = 0;
    sscanf(text, "%u.%u.%u", &major, &minor, &patch);
    return major * 1000000 + minor * 1000 + patch;
}

static void open_session(void *context) {
    mlx_state *s = context;
    s->message[0] = '\0';
    if (!s->edge->open(s->target, &s->session, s->message)) s->session = NULL;
}

static void close_session(void *context) {
    mlx_state *s = context;
    s->edge->close(s->session);
}

static void mlx_close(emlx_device *device) {
    mlx_state *s = device->state;
    if (s->session != NULL) worker_do(s->worker, close_session, s);
    worker_stop(s->worker);
    mem_free(s, sizeof *s);
}

static emlx_status open_target(emlx_device *device, mlx_target target, emlx_error *err) {
    char why[400];
    mlx_state *s = mem_alloc(sizeof *s);
    if (s == NULL) return error_no_memory(err, "to open MLX");
    s->edge = adapter_open(why, sizeof why);
    s->target = target;
    bool cpu = target == MLX_TARGET_CPU;
    emlx_status status = s->edge != NULL ? worker_start(&s->worker, err)
                                         : error_set(err, EMLX_UNSUPPORTED, "%s", why);
    if (status != EMLX_OK) {
        mem_free(s, sizeof *s);
        return status;
    }
    s->traits = (mlx_traits){.version = version_number(s->edge->mlx_version()),
                             .f64 = cpu,
                             .cpu = cpu,
                             .exact = getenv("EMLX_MLX_EXACT") != NULL,
                             .rank = cpu ? EMLX_MAX_RANK : 10};
    s->apart = !s->edge->shares_memory(target);
    device->state = s;
    device->host_memory = !s->apart;
    worker_do(s->worker, open_session, s);
    worker_watch_exit();
    if (s->session != NULL) return EMLX_OK;
    mlx_failed(s->message, err);
    mlx_close(device);
    return EMLX_INTERNAL;
}

static emlx_status open_gpu(emlx_device *device, emlx_error *err) {
    return open_target(device, MLX_TARGET_GPU, err);
}
static emlx_status open_cpu(emlx_device *device, emlx_error *err) {
    return open_target(device, MLX_TARGET_CPU, err);
}

static void mlx_describe(const emlx_device *device, char *text, size_t size) {
    const mlx_state *s = device->state;
    snprintf(text, size, "MLX %s, its %s", s->edge->mlx_version(),
             s->target == MLX_TARGET_CPU ? "CPU" : "GPU");
}

// Buffers ----------------------------------------------------------------------------------------

// A block frees itself on whatever thread lets go of it; MLX's allocator has a lock of its own.
static void destroy_buffer(emlx_buffer *buffer) {
    const mlx_edge *edge = buffer->owner;
    if (buffer->handle != NULL) edge->block_free(buffer->handle);
    data_unreserve(buffer->size);
    mem_free(buffer, sizeof *buffer);
}

// MLX looks at no address that malloc gives it: what there is no room for must not reach it.
#define LARGE ((size_t)64 << 20)
static bool has_room(size_t size) { return size < LARGE || system_has_room(size); }

static emlx_status no_room(size_t size, emlx_error *err) {
    return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for %zu bytes of MLX's", size);
}

static emlx_status empty_buffer(const mlx_state *s, size_t size, emlx_buffer **out,
                                emlx_error *err) {
    emlx_buffer *buffer = mem_alloc(sizeof *buffer);
    if (buffer == NULL) return error_no_memory(err, "for a buffer's description");
    if (!data_reserve(size)) {
        mem_free(buffer, sizeof *buffer);
        return no_room(size, err);
    }
    buffer_init(buffer, size, destroy_buffer);
    buffer->owner = (void *)s->edge;
    *out = buffer;
    return EMLX_OK;
}

// Nothing has no address on MLX's GPUs; here it is a buffer like any other.
static void fill_buffer(const mlx_state *s, emlx_buffer *buffer, mlx_block *block) {
    static max_align_t nothing;
    buffer->handle = block;
    if (!s->apart) buffer->data = s->edge->block_data(block);
    if (!s->apart && buffer->data == NULL && buffer->size == 0) buffer->data = &nothing;
}

static emlx_status mlx_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                emlx_error *err) {
    char message[MLX_MESSAGE_SIZE];
    const mlx_state *s = device->state;
    mlx_block *block;
    if (!has_room(size)) return no_room(size, err);
    TRY(empty_buffer(s, size, out, err));
    if (!s->edge->block_new(s->session, size, &block, message)) {
        buffer_release(*out);
        return error_set(err, EMLX_OUT_OF_MEMORY, "no %zu bytes of MLX's memory: %s", size,
                         message);
    }
    fill_buffer(s, *out, block);
    (*out)->writable = true;
    return EMLX_OK;
}

// A copy between a buffer and the host. MLX copies what it is given, on its CPU; pages of a Mac's
// memory could be borrowed.
typedef struct host_copy {
    const mlx_state *state;
    const emlx_buffer *buffer;
    size_t offset, size;
    void *to;         // of the host, or
    const void *from; // of the host
    bool done;
} host_copy;

static void copy_now(void *context) {
    host_copy *c = context;
    char *data = c->buffer->data;
    if (data == NULL) data = c->state->edge->block_data(c->buffer->handle);
    c->done = data != NULL;
    if (c->done && c->to != NULL) memcpy(c->to, data + c->offset, c->size);
    if (c->done && c->from != NULL) memcpy(data + c->offset, c->from, c->size);
}

static emlx_status copy_with_host(const emlx_device *device, host_copy *c, emlx_error *err) {
    c->state = device->state;
    if (c->size == 0) return EMLX_OK;
    if (c->state->apart)
        worker_do(c->state->worker, copy_now, c);
    else
        copy_now(c);
    return c->done ? EMLX_OK : error_set(err, EMLX_INTERNAL, "MLX's memory cannot be reached");
}

static emlx_status mlx_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                              emlx_error *err) {
    return copy_with_host(device, &(host_copy){.buffer = to, .size = size, .from = from}, err);
}

static emlx_status mlx_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                void *to, size_t size, emlx_error *err) {
    host_copy c = {.buffer = from, .offset = offset, .size = size, .to = to};
    return copy_with_host(device, &c, err);
}

// Plans ------------------------------------------------------------------------------------------

static bool can(const emlx_device *device, const plan_node *nodes, uint32_t node) {
    return mlx_can(&((const mlx_state *)device->state)->traits, &nodes[node], nodes);
}

static bool takes(const emlx_device *device, const emlx_tensor *either) {
    return mlx_takes(&((const mlx_state *)device->state)->traits, either);
}

static emlx_status mlx_prepare(emlx_device *device, const emlx_plan *plan, void **form,
                               emlx_error *err) {
    char message[MLX_MESSAGE_SIZE];
    const mlx_state *s = device->state;
    mlx_form *f = mem_alloc(sizeof *f);
    if (f == NULL) return error_no_memory(err, "to prepare a plan");
    emlx_status status = mlx_lower(plan, &s->traits, &f->memory, &f->lowered, err);
    if (status == EMLX_OK && !s->edge->compile(s->session, &f->lowered.list, &f->function, message))
        status = mlx_failed(message, err);
    if (status == EMLX_OK) {
        *form = f;
        return EMLX_OK;
    }
    arena_clear(&f->memory);
    mem_free(f, sizeof *f);
    return status;
}

typedef struct drop_job {
    mlx_job job;
    const mlx_state *state;
    mlx_form *form;
} drop_job;

static void drop(mlx_job *job) {
    drop_job *d = (drop_job *)job;
    d->state->edge->drop(d->state->session, d->form->function);
    arena_clear(&d->form->memory);
    mem_free(d->form, sizeof *d->form);
    mem_free(d, sizeof *d);
}

// What MLX compiled is forgotten by the thread that compiled it. Without memory to say so it stays
// until the device is closed.
static void mlx_discard(emlx_device *device, void *form) {
    drop_job *d = mem_alloc(sizeof *d);
    if (d == NULL) return;
    *d = (drop_job){{.run = drop}, device->state, form};
    worker_post(d->state->worker, &d->job);
}

// Runs -------------------------------------------------------------------------------------------

// A run that waits for its turn. The arrays lie behind it.
typedef struct run_job {
    mlx_job job;
    emlx_device *device;
    const mlx_form *form;
    const emlx_plan *plan;
    const emlx_cancel *cancel;
    fence *end;
    size_t size;           // of the whole
    emlx_buffer **inputs;  // held
    emlx_buffer **outputs; // held
    const scalar_value *constants;
    mlx_block **in, **out;
} run_job;

static emlx_status row_error(const plan_node *n, const plan_node *nodes, const int64_t *row,
                             emlx_error *err) {
    bool gathers = n->primitive == PRIM_gather;
    const indexing how = indexing_of((primitive)n->primitive, n->params);
    return index_error(&how, gathers ? &nodes[n->operands[0]].shape : &n->shape, row, err);
}

static emlx_status look_at_checks(const run_job *j, emlx_error *err) {
    const mlx_edge *edge = ((const mlx_state *)j->device->state)->edge;
    const mlx_lowered *l = &j->form->lowered;
    for (uint32_t i = 0; i < l->check_count; i++) {
        const mlx_check *c = &l->checks[i];
        const plan_node *n = &j->plan->nodes[c->node];
        if (!*(const bool *)edge->block_data(j->out[c->flag])) continue;
        emlx_status status =
            c->guard != GUARD_NONE
                ? guard_error((guard_kind)c->guard, NULL, err)
                : row_error(n, j->plan->nodes, edge->block_data(j->out[c->detail]), err);
        return error_prefix(err, status, "%s", n->op);
    }
    return EMLX_OK;
}

static emlx_status give_constants(const run_job *j, uint32_t *made, char *message,
                                  emlx_error *err) {
    const mlx_state *s = j->device->state;
    for (; *made < j->plan->constant_count; (*made)++) {
        size_t size = type_size((emlx_type)j->plan->constant_types[*made]);
        mlx_block **block = &j->in[j->plan->input_count + *made];
        if (!s->edge->block_new(s->session, size, block, message)) return mlx_failed(message, err);
        memcpy(s->edge->block_data(*block), &j->constants[*made], size);
    }
    return EMLX_OK;
}

static emlx_status run_now(run_job *j, emlx_error *err) {
    const mlx_state *s = j->device->state;
    char message[MLX_MESSAGE_SIZE];
    uint32_t made = 0;
    if (cancel_raised(j->cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
    if (!has_room(j->form->lowered.largest)) return no_room(j->form->lowered.largest, err);
    for (uint32_t i = 0; i < j->plan->input_count; i++) {
        j->in[i] = j->inputs[i]->handle;
        if (j->in[i] == NULL) return error_set(err, EMLX_INTERNAL, "an input was never computed");
    }
    emlx_status status = give_constants(j, &made, message, err);
    if (status == EMLX_OK && !s->edge->run(s->session, j->form->function, j->in, j->out, message))
        status = mlx_failed(message, err);
    while (made > 0) s->edge->block_free(j->in[j->plan->input_count + --made]);
    if (status != EMLX_OK) return status;
    status = look_at_checks(j, err);
    for (uint32_t i = 0; i < j->form->lowered.list.output_count; i++) {
        if (status == EMLX_OK && i < j->plan->output_count)
            fill_buffer(s, j->outputs[i], j->out[i]);
        else
            s->edge->block_free(j->out[i]);
    }
    return status;
}

static void release_buffers(emlx_buffer **buffers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) buffer_release(buffers[i]);
}

static void run_plan(mlx_job *job) {
    run_job *j = (run_job *)job;
    emlx_error error;
    fence *end = j->end;
    emlx_status status = run_now(j, &error);
    // A result may be a view of an input: nobody writes there any more, though it may be held once.
    for (uint32_t i = 0; i < j->plan->input_count; i++) j->inputs[i]->writable = false;
    release_buffers(j->inputs, j->plan->input_count);
    release_buffers(j->outputs, j->plan->output_count);
    mem_free(j, j->size);
    fence_arrive(end, status == EMLX_OK ? NULL : &error);
}

static run_job *new_run(emlx_device *device, const plan_call *call) {
    const emlx_plan *p = call->plan;
    const mlx_form *form = call->prepared;
    size_t in = (size_t)p->input_count + p->constant_count, out = form->lowered.list.output_count;
    size_t pointers = p->input_count + p->output_count + in + out;
    size_t size = sizeof(run_job) + pointers * sizeof(void *);
    run_job *j = mem_alloc(size);
    if (j == NULL) return NULL;
    *j = (run_job){.job = {.run = run_plan}, .device = device, .form = form, .plan = p};
    j->size = size;
    j->cancel = call->cancel;
    j->constants = call->constants;
    j->inputs = (emlx_buffer **)(j + 1);
    j->outputs = j->inputs + p->input_count;
    j->in = (mlx_block **)(void *)(j->outputs + p->output_count);
    j->out = j->in + in;
    memcpy(j->inputs, call->inputs, p->input_count * sizeof *j->inputs);
    return j;
}

// Outputs are there at once, without memory: MLX brings that.
static emlx_status mlx_submit(emlx_device *device, void *stream, const plan_call *call, fence **end,
                              emlx_error *err) {
    const mlx_state *s = device->state;
    const emlx_plan *p = call->plan;
    run_job *j = new_run(device, call);
    uint32_t made = 0;
    (void)stream;
    emlx_status status = j != NULL ? fence_new(&j->end, err) : error_no_memory(err, "to run");
    for (; made < p->output_count && status == EMLX_OK; made++)
        status = empty_buffer(s, p->values[p->outputs[made]].bytes, &call->outputs[made], err);
    if (status != EMLX_OK) {
        release_buffers(call->inputs, p->input_count);
        if (made > 0) release_buffers(call->outputs, made - 1);
        if (j != NULL && j->end != NULL) {
            fence_arrive(j->end, NULL);
            fence_release(j->end);
        }
        if (j != NULL) mem_free(j, j->size);
        return status;
    }
    for (uint32_t i = 0; i < p->output_count; i++) j->outputs[i] = buffer_retain(call->outputs[i]);
    *end = j->end;
    worker_post(s->worker, &j->job);
    return EMLX_OK;
}

// Captures ---------------------------------------------------------------------------------------

typedef struct capture_call {
    const mlx_edge *edge;
    const char *path; // NULL: ends it
    bool done;
    char message[MLX_MESSAGE_SIZE];
} capture_call;

static void capture_now(void *context) {
    capture_call *c = context;
    c->done = c->path != NULL ? c->edge->capture_start(c->path, c->message)
                              : c->edge->capture_stop(c->message);
}

static emlx_status mlx_capture(emlx_device *device, const char *path, emlx_error *err) {
    const mlx_state *s = device->state;
    capture_call c = {.edge = s->edge, .path = path};
    if (!s->edge->is_metal(s->target))
        return error_set(err, EMLX_UNSUPPORTED,
                         "device %s cannot be captured: it is MLX's, but not on Metal",
                         device->name);
    worker_do(s->worker, capture_now, &c);
    if (c.done) return EMLX_OK;
    return error_set(err, EMLX_INTERNAL,
                     "MLX: %.300s (MTL_CAPTURE_ENABLED=1 has to be in the environment when the "
                     "process starts)",
                     c.message);
}

#define MLX_ENGINE(its_name, its_speed, lacks_f64, its_count, its_open)                            \
    {                                                                                              \
        .name = its_name, .speed = its_speed, .no_f64 = lacks_f64, .form = FORM_NODES,             \
        .host_memory = true, .count = its_count, .open = its_open, .close = mlx_close,             \
        .describe = mlx_describe, .allocate = mlx_allocate, .upload = mlx_upload,                  \
        .download = mlx_download, .can = can, .takes = takes, .prepare = mlx_prepare,              \
        .discard = mlx_discard, .submit = mlx_submit, .capture = mlx_capture,                      \
    }

const engine_ops mlx_engine = MLX_ENGINE("mlx", 16, true, count_gpu, open_gpu);
const engine_ops mlx_cpu_engine = MLX_ENGINE("mlx-cpu", 1, false, count_cpu, open_cpu);
