// SPDX-License-Identifier: Apache-2.0
// engine.c - the CUDA engine's door. Only this file knows it.
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engines/cuda/graph.h"
#include "engines/cuda/hand.h"
#include "engines/cuda/launch.h"
#include "engines/cuda/library/convolutions.h"
#include "engines/cuda/library/factors.h"
#include "engines/cuda/library/products.h"
#include "engines/cuda/library/transforms.h"
#include "engines/cuda/loop.h"
#include "engines/cuda/report.h"
#include "engines/cuda/text/fold/rows.h"
#include "engines/cuda/text/whole/whole.h"

// A plan made ready in one context: one of each kernel, in its order.
typedef struct gpu_plan {
    unsigned generation;
    uint32_t count;
    gpu_kernel *kernels;
    graph_list *graphs;
} gpu_plan;

// The form of a plan: made anew, in its place, when the device was opened anew.
typedef struct gpu_form {
    pthread_mutex_t lock;
    atomic_uint generation; // of `now`, which nobody looks at before
    _Atomic(gpu_plan *) now;
} gpu_form;

static int cuda_count(char *why, size_t size) {
    emlx_error err;
    int count = gpu_count(&err);
    if (count == 0) snprintf(why, size, "%s", err.message);
    return count;
}

static emlx_status cuda_open(emlx_device *device, emlx_error *err) {
    gpu *g;
    TRY(gpu_open(device->number, &g, err));
    g->threads = device->pool;
    if (!g->rehearsal) device->memory = &g->memory;
    device->state = g;
    return EMLX_OK;
}

static void cuda_close(emlx_device *device) {
    gpu *g = device->state;
    emlx_error err;
    if (gpu_wait(g, &err) == EMLX_OK) {
        product_close(g->products);
        convolution_close(g->convolutions);
        factors_close(g->factors);
    }
    device->memory = NULL;
    gpu_close(g);
}

// "op 3, other 1": how often each op was handed over.
static void describe_handovers(const emlx_device *device, char *text, size_t size) {
    const char *op;
    uint64_t count;
    for (size_t i = 0; emlx_device_handover(device, i, &op, &count); i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s %llu", i == 0 ? "; handed over: " : ", ", op,
                 (unsigned long long)count);
    }
}

static void cuda_describe(const emlx_device *device, char *text, size_t size) {
    static const struct {
        const char *what;
        void (*describe)(char *text, size_t size);
    } libraries[] = {{"products", product_describe},
                     {"convolutions", convolution_describe},
                     {"factors", factors_describe},
                     {"transforms", transform_describe}};
    gpu_describe(device->state, text, size);
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        char place[512];
        size_t used = strlen(text);
        libraries[i].describe(place, sizeof place);
        snprintf(text + used, size - used, "; %s: %s", libraries[i].what, place);
    }
    describe_handovers(device, text, size);
}

static emlx_status cuda_allocate(emlx_device *device, size_t size, emlx_buffer **out,
                                 emlx_error *err) {
    return gpu_buffer_new(device->state, size, out, err);
}

static emlx_status cuda_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                               emlx_error *err) {
    return gpu_upload(device->state, to, from, size, err);
}

static emlx_status cuda_download(emlx_device *device, const emlx_buffer *from, size_t offset,
                                 void *to, size_t size, emlx_error *err) {
    return gpu_download(device->state, from, offset, to, size, err);
}

static emlx_status cuda_copy(emlx_device *device, emlx_buffer *to, emlx_device *from,
                             const emlx_buffer *buffer, size_t size, emlx_error *err) {
    return gpu_copy(device->state, to, from->state, buffer, size, err);
}

static emlx_status cuda_reset(emlx_device *device, emlx_error *err) {
    return gpu_reset(device->state, err);
}

static emlx_status cuda_address_of(emlx_device *device, emlx_buffer *buffer, uint64_t *address,
                                   emlx_error *err) {
    return gpu_buffer_address(device->state, buffer, address, err);
}

static emlx_status cuda_borrow(emlx_device *device, uint64_t address, size_t size,
                               emlx_buffer **out, emlx_error *err) {
    return gpu_buffer_borrow(device->state, address, size, out, err);
}

static emlx_status cuda_export(emlx_device *device, emlx_buffer *buffer, void *handle, size_t *size,
                               emlx_error *err) {
    return gpu_buffer_export(device->state, buffer, handle, size, err);
}

static emlx_status cuda_import(emlx_device *device, const void *handle, size_t handle_size,
                               size_t size, emlx_buffer **out, emlx_error *err) {
    return gpu_buffer_import(device->state, handle, handle_size, size, out, err);
}

// Plans -------------------------------------------------------------------------------------------

// What libraries made in a context that is gone goes with it.
static void discard_plan(gpu *g, gpu_plan *p) {
    bool alive = p->generation == atomic_load(&g->generation);
    for (uint32_t i = 0; i < p->count; i++) {
        code_clear(&p->kernels[i].code);
        if (alive && p->kernels[i].discard != NULL) p->kernels[i].discard(&p->kernels[i]);
        hand_discard(atomic_load(&p->kernels[i].handed));
    }
    graph_list_free(g, p->graphs);
    mem_free(p->kernels, p->count * sizeof *p->kernels);
    mem_free(p, sizeof *p);
}

static void cuda_discard(emlx_device *device, void *form) {
    gpu_form *f = form;
    if (atomic_load(&f->now) != NULL) discard_plan(device->state, atomic_load(&f->now));
    pthread_mutex_destroy(&f->lock);
    mem_free(f, sizeof *f);
}

static bool cuda_rows(const emlx_device *device, const plan_kernel *kernel) {
    (void)device;
    return rows_suit(kernel);
}

static bool cuda_takes(const emlx_device *device, const emlx_tensor *either) {
    return whole_suits(either, ((const gpu *)device->state)->shared_most);
}

static bool cuda_epilogue(const emlx_device *device, const plan_kernel *product,
                          const plan_kernel *map) {
    return ((const gpu *)device->state)->epilogues && product_joins(product, map);
}

static bool cuda_widens(const emlx_device *device, emlx_type from, emlx_type type) {
    (void)device;
    return product_widens(from, type);
}

// A kernel that no library takes and that cannot be generated is handed over: its `run` stays NULL.
static emlx_status prepare_kernel(gpu *g, gpu_kernel *out, const emlx_plan *plan,
                                  const plan_kernel *k, emlx_error *err) {
    TRY(product_prepare(g, out, plan, k, err));
    TRY(convolution_prepare(g, out, plan, k, err));
    TRY(transform_prepare(g, out, plan, k, err));
    TRY(factors_prepare(g, out, plan, k, err));
    if (out->run != NULL) return EMLX_OK;
    emlx_status status = code_make(&out->code, plan, k, err);
    if (status == EMLX_OK) out->run = launch_generated;
    if (status != EMLX_UNSUPPORTED) return status;
    code_clear(&out->code);
    return EMLX_OK;
}

static emlx_status prepare_all(gpu *g, thread_pool *pool, gpu_plan *p, const emlx_plan *plan,
                               emlx_error *err) {
    size_t codes_size = (p->count + 1) * sizeof(kernel_code);
    size_t stored_size = (p->count + 1) * sizeof(stored_kernel *);
    kernel_code *codes = mem_alloc(codes_size);
    stored_kernel **stored = mem_alloc(stored_size);
    emlx_status status = EMLX_OK;
    if (codes == NULL || stored == NULL) status = error_no_memory(err, "to prepare a plan");
    for (uint32_t i = 0; i < p->count && status == EMLX_OK; i++) {
        p->kernels[i].joined = i > 0 && p->kernels[i - 1].joins;
        if (p->kernels[i].joined) continue;
        status = prepare_kernel(g, &p->kernels[i], plan, &plan->kernels[i], err);
        if (status != EMLX_OK) error_prefix(err, status, "%s", plan->kernels[i].op);
        codes[i] = p->kernels[i].code;
    }
    if (status == EMLX_OK) status = store_get(g->store, pool, codes, p->count, stored, err);
    for (uint32_t i = 0; i < p->count && status == EMLX_OK; i++) p->kernels[i].stored = stored[i];
    mem_free(codes, codes_size);
    mem_free(stored, stored_size);
    return status;
}

// `pool`: threads that may help to compile, where the caller holds no lock.
static emlx_status make_gpu_plan(gpu *g, thread_pool *pool, const emlx_plan *plan, gpu_plan **out,
                                 emlx_error *err) {
    gpu_plan *p = mem_alloc(sizeof *p);
    if (p == NULL) return error_no_memory(err, "to prepare a plan");
    p->generation = atomic_load(&g->generation);
    p->count = plan->kernel_count;
    p->kernels = mem_alloc(p->count * sizeof *p->kernels);
    p->graphs = graph_list_new(g);
    emlx_status status = EMLX_OK;
    if (p->kernels == NULL) {
        p->count = 0;
        status = error_no_memory(err, "to prepare a plan");
    }
    if (status == EMLX_OK) status = prepare_all(g, pool, p, plan, err);
    if (status == EMLX_OK)
        *out = p;
    else
        discard_plan(g, p);
    return status;
}

static emlx_status cuda_prepare(emlx_device *device, const emlx_plan *plan, void **form,
                                emlx_error *err) {
    gpu *g = device->state;
    gpu_plan *made = NULL;
    gpu_form *f = mem_alloc(sizeof *f);
    if (f == NULL) return error_no_memory(err, "to prepare a plan");
    pthread_mutex_init(&f->lock, NULL);
    emlx_status status = g->rehearsal ? EMLX_OK : gpu_begin(g, err);
    if (status == EMLX_OK) {
        status = make_gpu_plan(g, g->threads, plan, &made, err);
        if (!g->rehearsal) gpu_end(g);
    }
    atomic_store(&f->now, made);
    if (made != NULL) atomic_store(&f->generation, made->generation);
    *form = f;
    if (status != EMLX_OK) cuda_discard(device, f);
    return status;
}

// The form as it is in this context. Whoever made it for an earlier one is gone.
static emlx_status current_plan(gpu *g, gpu_form *f, const emlx_plan *plan, gpu_plan **out,
                                emlx_error *err) {
    unsigned generation = atomic_load_explicit(&g->generation, memory_order_relaxed);
    emlx_status status = EMLX_OK;
    if (atomic_load_explicit(&f->generation, memory_order_acquire) != generation) {
        pthread_mutex_lock(&f->lock);
        gpu_plan *old = atomic_load(&f->now), *made = NULL;
        if (old->generation != generation) status = make_gpu_plan(g, NULL, plan, &made, err);
        if (made != NULL) {
            atomic_store(&f->now, made);
            atomic_store(&f->generation, generation);
            discard_plan(g, old);
        }
        pthread_mutex_unlock(&f->lock);
    }
    *out = atomic_load_explicit(&f->now, memory_order_acquire);
    return status;
}

// Running -----------------------------------------------------------------------------------------

// What the kernel makes lies in memory that others may be at still.
static emlx_status take_made(gpu_stream *s, const kernel_call *call, emlx_error *err) {
    for (uint32_t i = 0; i < call->kernel->made_count; i++) {
        gpu_buffer *b = buffer_of_gpu(call->buffers[call->kernel->made[i]]);
        if (b != NULL) TRY(stream_writes(s, b, err));
    }
    return EMLX_OK;
}

static emlx_status run_kernel(emlx_device *device, void *context, const kernel_call *call,
                              emlx_error *err) {
    gpu *g = device->state;
    gpu_plan *form = context;
    gpu_kernel *k = &form->kernels[call->kernel - call->plan->kernels];
    if (k->joined) return EMLX_OK;
    if (!g->rehearsal) TRY(take_made(stream_now(g), call, err));
    if (k->run != NULL && !g->rehearsal) {
        if (k->code.reports) TRY(report_begin(stream_now(g), call, k->code.checks > 0, err));
        return k->run(g, k, call, err);
    }
    if (!g->rehearsal && handovers_refused())
        return error_set(err, EMLX_UNSUPPORTED, "device %s cannot compute it", device->name);
    if (!g->rehearsal) handover_count(device, call->kernel->op);
    return hand_over(g, device->pool, &k->handed, call, err);
}

// Where an input is being made work goes on there, so that nothing waits.
static int wanted_stream(const gpu *g, const plan_call *call) {
    for (uint32_t i = call->plan->input_count; i-- > 0;) {
        const gpu_buffer *b = buffer_of_gpu(call->inputs[i]);
        if (b == NULL || b->writer < STREAM_FIRST) continue;
        if (b->written > atomic_load_explicit(&g->streams[b->writer]->ended, memory_order_relaxed))
            return b->writer;
    }
    return STREAM_ANY;
}

// Inputs that others hold as well are kept until the work is queued: see stream.h.
static emlx_status read_inputs(gpu_stream *s, const plan_call *call, emlx_error *err) {
    for (uint32_t i = 0; i < call->plan->input_count; i++) {
        gpu_buffer *b = buffer_of_gpu(call->inputs[i]);
        if (b == NULL) continue;
        TRY(gpu_buffer_check(s->gpu, b, err));
        TRY(stream_reads(s, b, err));
        if (!buffer_exclusive(&b->base)) TRY(stream_hold(s, &b->base, err));
    }
    return EMLX_OK;
}

static emlx_status release_inputs(const plan_call *call, emlx_status status) {
    for (uint32_t i = 0; i < call->plan->input_count; i++) buffer_release(call->inputs[i]);
    return status;
}

static emlx_status queue_plan(emlx_device *device, gpu_stream *s, const plan_call *call,
                              emlx_error *err) {
    gpu_plan *form = NULL;
    emlx_status status = current_plan(device->state, call->prepared, call->plan, &form, err);
    if (status == EMLX_OK) status = read_inputs(s, call, err);
    if (status != EMLX_OK) return release_inputs(call, status);
    s->graphs = form->graphs;
    status = run_kernels(device, call, &(kernel_loop){.run = run_kernel, .context = form}, err);
    if (status != EMLX_OK) {
        // What kernels that were queued before report came first, and is not to be another's.
        emlx_error first;
        emlx_status reported = report_read(s, &first);
        if (reported == EMLX_OK || status == EMLX_CANCELLED) return status;
        *err = first;
        return reported;
    }
    status = report_read(s, err);
    for (uint32_t i = 0; i < call->plan->output_count && status != EMLX_OK; i++)
        buffer_release(call->outputs[i]);
    return status;
}

// What is queued counts as done: whatever comes later is ordered behind it by the streams. Only
// what may report an error is waited for.
static emlx_status cuda_submit(emlx_device *device, void *stream, const plan_call *call,
                               fence **end, emlx_error *err) {
    (void)stream, (void)end;
    gpu *g = device->state;
    gpu_stream *s = NULL;
    if (g->rehearsal) {
        gpu_form *f = call->prepared;
        return run_kernels(device, call,
                           &(kernel_loop){.run = run_kernel, .context = atomic_load(&f->now)}, err);
    }
    emlx_status status = gpu_hold(g, err);
    if (status == EMLX_OK) {
        status = stream_begin(g, wanted_stream(g, call), &s, err);
        gpu_end(g);
    }
    if (status != EMLX_OK) return release_inputs(call, status);
    return stream_end(s, queue_plan(device, s, call, err), err);
}

// Inputs that stay are kept by the caller. Parts of the state are the loop's own.
static emlx_status read_fixed(gpu_stream *s, const loop_call *call, emlx_error *err) {
    for (uint32_t i = 0; i < call->turn.plan->input_count; i++) {
        gpu_buffer *b = call->inputs[i] == UINT32_MAX ? buffer_of_gpu(call->turn.inputs[i]) : NULL;
        if (b == NULL) continue;
        TRY(gpu_buffer_check(s->gpu, b, err));
        TRY(stream_reads(s, b, err));
    }
    for (uint32_t i = 0; i < call->state_count; i++)
        TRY(gpu_buffer_check(s->gpu, buffer_of_gpu(call->states[i]), err));
    return EMLX_OK;
}

static emlx_status queue_loop(emlx_device *device, gpu_stream *s, const loop_call *call,
                              loop_progress *progress, emlx_error *err) {
    gpu_plan *form = NULL;
    TRY(current_plan(device->state, call->turn.prepared, call->turn.plan, &form, err));
    if (!loop_suits(s->gpu, call, form->kernels, form->count)) return EMLX_OK;
    TRY(read_fixed(s, call, err));
    kernel_loop turn = {.run = run_kernel, .context = form};
    return loop_run(device, s, call, form->kernels, &turn, progress, err);
}

static emlx_status cuda_loop(emlx_device *device, void *stream, const loop_call *call,
                             loop_progress *progress, emlx_error *err) {
    (void)stream;
    gpu_stream *s = NULL;
    gpu *g = device->state;
    if (g->rehearsal) return EMLX_OK;
    TRY(stream_begin(g, STREAM_LOOP, &s, err));
    return stream_end(s, queue_loop(device, s, call, progress, err), err);
}

const engine_ops cuda_engine = {
    .name = "cuda",
    .form = FORM_KERNELS,
    .speed = 128,
    .count = cuda_count,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .allocate = cuda_allocate,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .reset = cuda_reset,
    .address = cuda_address_of,
    .borrow = cuda_borrow,
    .export = cuda_export,
    .import = cuda_import,
    .takes = cuda_takes,
    .widens = cuda_widens,
    .rows = cuda_rows,
    .epilogue = cuda_epilogue,
    .prepare = cuda_prepare,
    .discard = cuda_discard,
    .submit = cuda_submit,
    .loop = cuda_loop,
};
