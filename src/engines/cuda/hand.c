// SPDX-License-Identifier: Apache-2.0
// hand.c - hands kernels over to the CPU engine.
#include "engines/cuda/hand.h"

#include <string.h>

#include "base/error.h"
#include "memory/arena.h"

// The CPU engine ----------------------------------------------------------------------------------

static struct {
    pthread_mutex_t lock;
    bool opened;
    emlx_device device;
} cpu = {.lock = PTHREAD_MUTEX_INITIALIZER};

static emlx_status open_cpu(thread_pool *pool, emlx_error *err) {
    emlx_status status = EMLX_OK;
    pthread_mutex_lock(&cpu.lock);
    cpu.device.ops = &cpu_engine;
    cpu.device.pool = pool; // of all devices
    if (!cpu.opened) {
        status = cpu_engine.open(&cpu.device, err);
        cpu.opened = status == EMLX_OK;
    }
    pthread_mutex_unlock(&cpu.lock);
    return status;
}

// A plan of one kernel ----------------------------------------------------------------------------

// The kernel as a plan of its own: what it reads, and what it writes into, are the inputs; what it
// makes comes behind them. All that it writes is given back.
typedef struct handed_plan {
    emlx_plan plan;
    void *prepared;
    uint32_t *values; // of the plan that it comes from, by value
} handed_plan;

static bool reads(const plan_access *a, uint32_t value) {
    bool found = a->value == value;
    for (uint32_t i = 0; i < a->start_count; i++) found |= a->starts[i].value == value;
    return found;
}

static bool writes(const plan_kernel *k, uint32_t value) {
    bool found = k->kind != KERNEL_MAP && k->output == value;
    for (uint32_t i = 0; i < k->store_count; i++)
        found |= k->accesses[k->stores[i].access].value == value;
    return found;
}

static bool makes(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->made_count; i++)
        if (k->made[i] == value) return true;
    return false;
}

// What a value is to a kernel: there before it, made by it, or known to nobody else.
enum { THERE, MADE, LOCAL, ROLES };
static int role_of(const plan_kernel *k, uint32_t value) {
    return kernel_is_local(k, value) ? LOCAL : makes(k, value) ? MADE : THERE;
}

static bool uses(const plan_kernel *k, uint32_t value) {
    bool found = writes(k, value);
    for (uint32_t i = 0; i < k->access_count; i++) found |= reads(&k->accesses[i], value);
    return found;
}

// Numbers the values that the kernel uses, by their roles.
static emlx_status number_values(handed_plan *h, const emlx_plan *from, const plan_kernel *k,
                                 uint32_t *numbers, emlx_error *err) {
    emlx_plan *p = &h->plan;
    h->values = arena_array(&p->memory, from->value_count + 1, sizeof *h->values);
    p->values = arena_array(&p->memory, from->value_count + 1, sizeof *p->values);
    p->outputs = arena_array(&p->memory, from->value_count + 1, sizeof *p->outputs);
    if (h->values == NULL || p->values == NULL || p->outputs == NULL)
        return error_no_memory(err, "to prepare a plan");
    for (int role = THERE; role < ROLES; role++) {
        for (uint32_t v = 0; v < from->value_count; v++) {
            if (!uses(k, v) || role_of(k, v) != role) continue;
            if (role != LOCAL && writes(k, v)) p->outputs[p->output_count++] = p->value_count;
            h->values[p->value_count] = v;
            p->values[p->value_count] = from->values[v];
            numbers[v] = p->value_count++;
        }
        if (role == THERE) p->input_count = p->value_count;
    }
    return EMLX_OK;
}

static emlx_status copy_accesses(handed_plan *h, plan_kernel *k, const uint32_t *numbers,
                                 emlx_error *err) {
    plan_access *accesses = arena_array(&h->plan.memory, k->access_count + 1, sizeof *accesses);
    if (accesses == NULL) return error_no_memory(err, "to prepare a plan");
    for (uint32_t i = 0; i < k->access_count; i++) {
        plan_access *a = &accesses[i];
        *a = k->accesses[i];
        if (a->value != UINT32_MAX) a->value = numbers[a->value];
        if (a->start_count == 0) continue;
        plan_start *starts = arena_array(&h->plan.memory, a->start_count, sizeof *starts);
        if (starts == NULL) return error_no_memory(err, "to prepare a plan");
        for (uint32_t s = 0; s < a->start_count; s++) {
            starts[s] = a->starts[s];
            starts[s].value = numbers[starts[s].value];
        }
        a->starts = starts;
    }
    k->accesses = accesses;
    return EMLX_OK;
}

// Their accesses are parts of the kernel's.
static emlx_status copy_stages(handed_plan *h, plan_kernel *k, const plan_kernel *from,
                               const uint32_t *numbers, emlx_error *err) {
    k->stages = arena_array(&h->plan.memory, k->stage_count + 1, sizeof *k->stages);
    if (k->stages == NULL) return error_no_memory(err, "to prepare a plan");
    for (uint32_t i = 0; i < k->stage_count; i++) {
        k->stages[i] = from->stages[i];
        k->stages[i].accesses = k->accesses + (from->stages[i].accesses - from->accesses);
        if (from->stages[i].kind == KERNEL_REDUCE)
            k->stages[i].output = numbers[from->stages[i].output];
    }
    return EMLX_OK;
}

static emlx_status copy_kernel(handed_plan *h, const plan_kernel *from, const uint32_t *numbers,
                               emlx_error *err) {
    emlx_plan *p = &h->plan;
    uint32_t made = p->value_count - p->input_count - from->local_count;
    plan_kernel *k = arena_array(&p->memory, 1, sizeof *k);
    uint32_t *lists = arena_array(&p->memory, 2 * made + from->local_count + 1, sizeof *lists);
    if (k == NULL || lists == NULL) return error_no_memory(err, "to prepare a plan");
    *k = *from;
    k->beside = 0;
    k->epilogue = false;
    k->made = lists;
    k->reuse = lists + made;
    k->made_count = made;
    k->ended_count = 0;
    for (uint32_t i = 0; i < made; i++) {
        k->made[i] = p->input_count + i;
        k->reuse[i] = UINT32_MAX;
    }
    k->locals = lists + 2 * made;
    for (uint32_t i = 0; i < from->local_count; i++) k->locals[i] = numbers[from->locals[i]];
    if (from->kind != KERNEL_MAP && from->output != UINT32_MAX) k->output = numbers[from->output];
    p->kernels = k;
    p->kernel_count = 1;
    TRY(copy_accesses(h, k, numbers, err));
    return copy_stages(h, k, from, numbers, err);
}

void hand_discard(void *form) {
    handed_plan *h = form;
    if (h == NULL) return;
    if (h->prepared != NULL) cpu_engine.discard(&cpu.device, h->prepared);
    arena_clear(&h->plan.memory);
    mem_free(h, sizeof *h);
}

static emlx_status make_handed(const emlx_plan *from, const plan_kernel *k, handed_plan **out,
                               emlx_error *err) {
    handed_plan *h = mem_alloc(sizeof *h);
    size_t size = (from->value_count + 1) * sizeof(uint32_t);
    uint32_t *numbers = mem_alloc(size);
    emlx_status status = EMLX_OK;
    if (h == NULL || numbers == NULL) status = error_no_memory(err, "to prepare a plan");
    if (status == EMLX_OK) {
        h->plan.constant_count = from->constant_count;
        h->plan.constant_types = from->constant_types;
        h->plan.function_count = from->function_count;
        status = number_values(h, from, k, numbers, err);
    }
    if (status == EMLX_OK) status = copy_kernel(h, k, numbers, err);
    if (status == EMLX_OK) status = cpu_engine.prepare(&cpu.device, &h->plan, &h->prepared, err);
    mem_free(numbers, size);
    if (status == EMLX_OK)
        *out = h;
    else
        hand_discard(h);
    return status;
}

static emlx_status find_form(_Atomic(void *) *form, const kernel_call *call, handed_plan **out,
                             emlx_error *err) {
    void *expected = NULL;
    *out = atomic_load(form);
    if (*out != NULL) return EMLX_OK;
    TRY(make_handed(call->plan, call->kernel, out, err));
    if (atomic_compare_exchange_strong(form, &expected, (void *)*out)) return EMLX_OK;
    hand_discard(*out);
    *out = expected;
    return EMLX_OK;
}

// Running -----------------------------------------------------------------------------------------

// Copies of the inputs, which the CPU engine takes over.
static emlx_status bring(gpu *g, const handed_plan *h, const kernel_call *call,
                         emlx_buffer **inputs, emlx_error *err) {
    for (uint32_t i = 0; i < h->plan.input_count; i++) {
        emlx_buffer *from = call->buffers[h->values[i]];
        if (g->rehearsal) {
            inputs[i] = buffer_retain(from);
            continue;
        }
        TRY(buffer_new(from->size, &inputs[i], err));
        TRY(gpu_download(g, from, 0, inputs[i]->data, from->size, err));
    }
    return EMLX_OK;
}

static emlx_status take_back(gpu *g, const handed_plan *h, const kernel_call *call,
                             emlx_buffer *const *outputs, emlx_error *err) {
    for (uint32_t i = 0; i < h->plan.output_count; i++) {
        emlx_buffer *to = call->buffers[h->values[h->plan.outputs[i]]];
        if (g->rehearsal && to == outputs[i]) continue;
        TRY(gpu_upload(g, to, outputs[i]->data, outputs[i]->size, err));
    }
    return EMLX_OK;
}

static emlx_status run_plan(gpu *g, handed_plan *h, const kernel_call *call, emlx_buffer **inputs,
                            emlx_error *err) {
    emlx_buffer **outputs = inputs + h->plan.input_count;
    fence *end = NULL;
    emlx_status status = bring(g, h, call, inputs, err);
    if (status != EMLX_OK) {
        for (uint32_t i = 0; i < h->plan.input_count; i++) buffer_release(inputs[i]);
        return status;
    }
    plan_call c = {.plan = &h->plan,
                   .prepared = h->prepared,
                   .constants = call->constants,
                   .functions = call->functions,
                   .inputs = inputs,
                   .outputs = outputs,
                   .cancel = call->cancel};
    TRY(cpu_engine.submit(&cpu.device, NULL, &c, &end, err));
    status = take_back(g, h, call, outputs, err);
    for (uint32_t i = 0; i < h->plan.output_count; i++) buffer_release(outputs[i]);
    return status;
}

emlx_status hand_over(gpu *g, thread_pool *pool, _Atomic(void *) *form, const kernel_call *call,
                      emlx_error *err) {
    handed_plan *h;
    TRY(open_cpu(pool, err));
    TRY(find_form(form, call, &h, err));
    size_t size = (h->plan.input_count + h->plan.output_count + 1) * sizeof(emlx_buffer *);
    emlx_buffer **buffers = mem_alloc(size);
    if (buffers == NULL) return error_no_memory(err, "to run a kernel");
    emlx_status status = run_plan(g, h, call, buffers, err);
    mem_free(buffers, size);
    return status;
}
