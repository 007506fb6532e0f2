// SPDX-License-Identifier: Apache-2.0
// late.c - an engine for tests: everything that a GPU does to the parts above the door, by threads.
//
// Its memory cannot be read by the host, each stream is a thread that takes its time, errors are
// only found there, and freed memory is overwritten. The kernels are the CPU engine's, on memory
// that stands behind a buffer from when its writer has ended. Buffers that queued work reads are
// not held by it, but marked with its fence, so that who frees them too early is found out.
//
// EMLX_LATE_DELAY is the longest delay of a piece of work in microseconds (300), EMLX_LATE_LEAST
// the shortest (0). Its description says how many plans it has run.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "engine.h"
#include "setting.h"

enum { DEVICES = 2, POISON = 0xa5 };

typedef struct stream stream;

typedef struct late_device {
    emlx_device cpu; // whose kernels are used
    memory_account memory;
    stream *own;
    unsigned least, delay;
    atomic_ulong done; // plans
} late_device;

// Memory -----------------------------------------------------------------------------------------

// `handle` is the host buffer behind it, or NULL before there is one.
static void destroy(emlx_buffer *buffer) {
    emlx_buffer *behind = buffer->handle;
    if (behind != NULL && buffer_exclusive(behind)) memset(behind->data, POISON, behind->size);
    buffer_release(behind);
    account_give(buffer->owner, buffer->size);
    mem_free(buffer, sizeof *buffer);
}

static emlx_status make(late_device *d, size_t size, emlx_buffer *behind, emlx_buffer **out,
                        emlx_error *err) {
    emlx_buffer *buffer = mem_alloc(sizeof *buffer);
    if (buffer == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "late: no memory for a buffer");
    if (!account_take(&d->memory, size)) {
        mem_free(buffer, sizeof *buffer);
        return account_refused(&d->memory, size, err);
    }
    account_took(&d->memory);
    buffer_init(buffer, size, destroy);
    buffer->owner = &d->memory;
    buffer->writable = true;
    buffer->handle = behind;
    *out = buffer;
    return EMLX_OK;
}

static emlx_status late_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                 emlx_error *err) {
    emlx_buffer *behind;
    TRY(buffer_new(size, &behind, err));
    emlx_status status = make(device->state, size, behind, out, err);
    if (status != EMLX_OK) buffer_release(behind);
    return status;
}

static emlx_status late_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                               emlx_error *err) {
    return host_upload(device, to->handle, from, size, err);
}

static emlx_status late_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                 void *to, size_t size, emlx_error *err) {
    const emlx_buffer *behind = from->handle;
    if (behind == NULL) return error_set(err, EMLX_INTERNAL, "late: read before it was written");
    return host_download(device, behind, offset, to, size, err);
}

static emlx_status late_copy(emlx_device *device, emlx_buffer *to, emlx_device *from,
                             const emlx_buffer *buffer, size_t size, emlx_error *err) {
    (void)device;
    return late_download(from, buffer, 0, ((emlx_buffer *)to->handle)->data, size, err);
}

// Work -------------------------------------------------------------------------------------------

// One plan in a stream. Of its inputs it owns those that it may overwrite.
typedef struct work {
    struct work *next;
    size_t size; // of the allocation
    plan_call call;
    fence *end;
    emlx_buffer **inputs, **outputs;
    fence **before; // by input: its writer on another stream
    bool *owned;
} work;

struct stream {
    late_device *device;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    work *first, *last;
    bool closing;
    unsigned random;
};

static emlx_buffer *behind_of(work *w, uint32_t i) {
    emlx_buffer *input = w->inputs[i];
    if (input->data != NULL) return buffer_retain(input);
    emlx_buffer *behind = input->handle;
    if (!w->owned[i]) return buffer_retain(behind);
    input->handle = NULL;
    return behind;
}

static void await_inputs(work *w) {
    for (uint32_t i = 0; i < w->call.plan->input_count; i++) {
        fence_wait(w->before[i], NULL);
        fence_release(w->before[i]);
    }
}

// False where work before it has failed to make an input.
static bool inputs_are_there(const work *w) {
    for (uint32_t i = 0; i < w->call.plan->input_count; i++)
        if (w->inputs[i]->data == NULL && w->inputs[i]->handle == NULL) return false;
    return true;
}

static emlx_status compute(late_device *d, work *w, emlx_error *err) {
    uint32_t inputs = w->call.plan->input_count, outputs = w->call.plan->output_count;
    if (!inputs_are_there(w)) return error_set(err, EMLX_INTERNAL, "late: an input is not there");
    emlx_buffer **room = mem_alloc((inputs + outputs + 1) * sizeof *room);
    if (room == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "late: no memory to run a plan");
    plan_call call = w->call;
    call.inputs = room;
    call.outputs = room + inputs;
    for (uint32_t i = 0; i < inputs; i++) call.inputs[i] = behind_of(w, i);
    fence *none = NULL;
    emlx_status status = d->cpu.ops->submit(&d->cpu, NULL, &call, &none, err);
    for (uint32_t i = 0; i < outputs && status == EMLX_OK; i++) {
        if (w->outputs[i]->handle == NULL)
            w->outputs[i]->handle = call.outputs[i];
        else
            buffer_release(call.outputs[i]);
    }
    mem_free(room, (inputs + outputs + 1) * sizeof *room);
    return status;
}

static void do_work(stream *s, work *w) {
    emlx_error err = {.code = EMLX_OK};
    s->random = s->random * 1103515245 + 12345;
    usleep(s->device->least + (s->random >> 8) % s->device->delay);
    await_inputs(w);
    emlx_status status = compute(s->device, w, &err);
    atomic_fetch_add(&s->device->done, 1);
    for (uint32_t i = 0; i < w->call.plan->input_count; i++)
        if (w->owned[i]) buffer_release(w->inputs[i]);
    fence_arrive(w->end, status == EMLX_OK ? NULL : &err);
    fence_release(w->end);
    mem_free(w, w->size);
}

static void *stream_main(void *argument) {
    stream *s = argument;
    pthread_mutex_lock(&s->lock);
    while (s->first != NULL || !s->closing) {
        if (s->first == NULL) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        work *w = s->first;
        s->first = w->next;
        pthread_mutex_unlock(&s->lock);
        do_work(s, w);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void push(stream *s, work *w) {
    pthread_mutex_lock(&s->lock);
    if (s->first == NULL)
        s->first = w;
    else
        s->last->next = w;
    s->last = w;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static work *work_new(const plan_call *call) {
    const emlx_plan *plan = call->plan;
    size_t inputs = plan->input_count, outputs = plan->output_count;
    size_t size = sizeof(work) + (inputs + outputs) * sizeof(emlx_buffer *) +
                  inputs * sizeof(fence *) + inputs;
    work *w = mem_alloc(size);
    if (w == NULL) return NULL;
    w->size = size;
    w->call = *call;
    w->inputs = (emlx_buffer **)(w + 1);
    w->outputs = w->inputs + inputs;
    w->before = (fence **)(w->outputs + outputs);
    w->owned = (bool *)(w->before + inputs);
    memcpy(w->inputs, call->inputs, inputs * sizeof *w->inputs);
    w->call.spares = NULL;
    return w;
}

// The buffers of the results, which have memory behind them once the work has been done.
static emlx_status make_outputs(late_device *d, work *w, const plan_call *call, emlx_error *err) {
    const emlx_plan *plan = call->plan;
    uint32_t i = 0;
    emlx_status status = EMLX_OK;
    for (; i < plan->output_count && status == EMLX_OK; i++) {
        uint32_t v = plan->outputs[i];
        if (v < plan->input_count)
            w->outputs[i] = buffer_retain(call->inputs[v]);
        else
            status = make(d, plan->values[v].bytes, NULL, &w->outputs[i], err);
    }
    for (i = 0; i < plan->output_count && status != EMLX_OK; i++) buffer_release(w->outputs[i]);
    return status;
}

// What may not be overwritten is let go at once: the fence keeps its memory.
static void use_inputs(stream *s, work *w) {
    for (uint32_t i = 0; i < w->call.plan->input_count; i++) {
        emlx_buffer *input = w->inputs[i];
        fence *writer = buffer_writer(input);
        bool elsewhere = writer != NULL && writer->stream != s;
        w->before[i] = elsewhere ? fence_retain(writer) : NULL;
        w->owned[i] = input->writable && buffer_reusable(input, s);
        fence_release(writer);
    }
    for (uint32_t i = 0; i < w->call.plan->input_count; i++) {
        buffer_read_by(w->inputs[i], w->end);
        if (!w->owned[i]) buffer_release(w->inputs[i]);
    }
}

static emlx_status begin_work(work *w, stream *s, const plan_call *call, emlx_error *err) {
    TRY(fence_new(&w->end, err));
    w->end->device = s->device;
    w->end->stream = s;
    emlx_status status = make_outputs(s->device, w, call, err);
    if (status == EMLX_OK) return EMLX_OK;
    fence_arrive(w->end, NULL);
    fence_release(w->end);
    return status;
}

static emlx_status late_submit(emlx_device *device, void *where, const plan_call *call, fence **end,
                               emlx_error *err) {
    late_device *d = device->state;
    stream *s = where != NULL ? where : d->own;
    uint32_t inputs = call->plan->input_count;
    work *w = work_new(call);
    emlx_status status = EMLX_OK;
    if (w == NULL) status = error_set(err, EMLX_OUT_OF_MEMORY, "late: no memory to run a plan");
    if (status == EMLX_OK) status = begin_work(w, s, call, err);
    if (status != EMLX_OK) {
        if (w != NULL) mem_free(w, w->size);
        for (uint32_t i = 0; i < inputs; i++) buffer_release(call->inputs[i]);
        return status;
    }
    for (uint32_t i = 0; i < call->plan->output_count; i++) {
        call->outputs[i] = w->outputs[i];
        if (call->plan->outputs[i] >= inputs) buffer_written_by(w->outputs[i], w->end);
    }
    use_inputs(s, w);
    *end = fence_retain(w->end);
    push(s, w);
    return EMLX_OK;
}

// Streams and devices ----------------------------------------------------------------------------

static emlx_status stream_new(late_device *d, stream **out, emlx_error *err) {
    stream *s = mem_alloc(sizeof *s);
    if (s == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "late: no memory for a stream");
    s->device = d;
    s->random = (unsigned)(uintptr_t)s;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_create(&s->thread, NULL, stream_main, s);
    *out = s;
    return EMLX_OK;
}

static void stream_free(stream *s) {
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    mem_free(s, sizeof *s);
}

static emlx_status late_stream_open(emlx_device *device, void **out, emlx_error *err) {
    stream *s;
    TRY(stream_new(device->state, &s, err));
    *out = s;
    return EMLX_OK;
}

static void late_stream_close(emlx_device *device, void *s) {
    (void)device;
    stream_free(s);
}

static int late_count(char *why, size_t size) {
    (void)why, (void)size;
    return DEVICES;
}

static emlx_status late_open(emlx_device *device, emlx_error *err) {
    late_device *d = mem_alloc(sizeof *d);
    if (d == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "late: no memory for a device");
    d->cpu = (emlx_device){.ops = &cpu_engine, .name = "cpu behind late"};
    unsigned longest = setting("EMLX_LATE_DELAY", 300);
    d->least = setting("EMLX_LATE_LEAST", 0);
    d->delay = longest > d->least ? longest - d->least : 1;
    device->state = d;
    device->memory = &d->memory;
    emlx_status status = pool_new(1, &d->cpu.pool, err);
    if (status == EMLX_OK) status = cpu_engine.open(&d->cpu, err);
    if (status == EMLX_OK) status = stream_new(d, &d->own, err);
    return status;
}

static void late_close(emlx_device *device) {
    late_device *d = device->state;
    device->memory = NULL;
    stream_free(d->own);
    pool_release(d->cpu.pool);
    mem_free(d, sizeof *d);
}

static void late_describe(const emlx_device *device, char *text, size_t size) {
    const late_device *d = device->state;
    snprintf(text, size, "for tests: the CPU engine, up to %u us late, %lu plans done",
             d->least + d->delay, atomic_load(&d->done));
}

static emlx_status late_prepare(emlx_device *device, const emlx_plan *plan, void **form,
                                emlx_error *err) {
    late_device *d = device->state;
    return cpu_engine.prepare(&d->cpu, plan, form, err);
}

static bool late_takes(const emlx_device *device, const emlx_tensor *either) {
    const late_device *d = device->state;
    return cpu_engine.takes != NULL && cpu_engine.takes(&d->cpu, either);
}

static void late_discard(emlx_device *device, void *form) {
    late_device *d = device->state;
    cpu_engine.discard(&d->cpu, form);
}

static const engine_ops late = {
    .name = "late",
    .form = FORM_KERNELS,
    .count = late_count,
    .open = late_open,
    .close = late_close,
    .describe = late_describe,
    .stream_open = late_stream_open,
    .stream_close = late_stream_close,
    .allocate = late_allocate,
    .upload = late_upload,
    .download = late_download,
    .copy = late_copy,
    .takes = late_takes,
    .prepare = late_prepare,
    .discard = late_discard,
    .submit = late_submit,
};

EMLX_API const engine_entry emlx_engine = ENGINE_ENTRY(&late);
