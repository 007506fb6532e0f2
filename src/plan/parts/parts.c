// SPDX-License-Identifier: Apache-2.0
// parts.c - runs a plan that a device and the host share: part by part, over the same memory where
// the host can read the device's, else through copies.
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/event.h"
#include "plan/submit.h"
#include "threads/mutex.h"

typedef struct parts_run {
    const planned *planned;
    const plan_submission *submission;
    emlx_device *device;
    emlx_buffer **values; // of the device, by value
    emlx_buffer **copies; // of the host, by value, where it cannot read those
    fence *end;           // of what the device was given so far
    emlx_error *err;
} parts_run;

// Counting ---------------------------------------------------------------------------------------

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void count_one(emlx_device *device, const char *op) {
    handover *h = device->handed;
    while (h != NULL && strcmp(h->op, op) != 0) h = h->next;
    if (h == NULL) {
        h = mem_alloc(sizeof *h);
        if (h == NULL) return;
        *h = (handover){.next = device->handed, .op = op};
        device->handed = h;
    }
    h->count++;
}

void handover_count(emlx_device *device, const char *op) {
    mutex_lock(&counting);
    count_one(device, op);
    mutex_unlock(&counting);
    event_send(
        (emlx_event){.kind = EMLX_EVENT_HANDED_OVER, .device = device->name, .op = op, .count = 1},
        0);
}

bool emlx_device_handover(const emlx_device *device, size_t index, const char **op,
                          uint64_t *count) {
    if (device == NULL) return false;
    mutex_lock(&counting);
    const handover *h = device->handed;
    while (h != NULL && index > 0) h = h->next, index--;
    if (h != NULL) {
        if (op != NULL) *op = h->op;
        if (count != NULL) *count = h->count;
    }
    mutex_unlock(&counting);
    return h != NULL;
}

// Buffers ----------------------------------------------------------------------------------------

// Waits until what writes the value has ended. An input that others failed to make is theirs.
static emlx_status await(parts_run *r, uint32_t value) {
    fence *writer = buffer_writer(r->values[value]);
    emlx_status status = fence_wait(writer, r->err);
    fence_release(writer);
    if (status != EMLX_OK && value < r->planned->plan->input_count) return STATUS_AGAIN;
    return status;
}

static emlx_status copy_to_host(parts_run *r, uint32_t value) {
    size_t size = r->planned->plan->values[value].bytes;
    TRY(buffer_new(size, &r->copies[value], r->err));
    if (size == 0) return EMLX_OK;
    return r->device->ops->download(r->device, r->values[value], 0, r->copies[value]->data, size,
                                    r->err);
}

// The value for a part of the host's: one more reference.
static emlx_status host_buffer(parts_run *r, uint32_t value, emlx_buffer **out) {
    emlx_buffer *own = r->values[value];
    if (own != NULL) TRY(await(r, value));
    bool readable = own != NULL && own->data != NULL;
    if (!readable && r->copies[value] == NULL) TRY(copy_to_host(r, value));
    *out = buffer_retain(readable ? own : r->copies[value]);
    return EMLX_OK;
}

static emlx_status copy_to_device(parts_run *r, uint32_t value) {
    const engine_ops *ops = r->device->ops;
    size_t size = r->planned->plan->values[value].bytes;
    TRY(ops->allocate(r->device, size, &r->values[value], r->err));
    if (size == 0) return EMLX_OK;
    return ops->upload(r->device, r->values[value], r->copies[value]->data, size, r->err);
}

static emlx_status device_buffer(parts_run *r, uint32_t value, emlx_buffer **out) {
    if (r->values[value] == NULL) TRY(copy_to_device(r, value));
    *out = buffer_retain(r->values[value]);
    return EMLX_OK;
}

static void let_buffer_go(emlx_buffer **buffer) {
    buffer_release(*buffer);
    *buffer = NULL;
}

static emlx_status gather(parts_run *r, uint32_t p, emlx_buffer **inputs) {
    const emlx_plan *whole = r->planned->plan;
    const plan_part *part = &whole->parts[p];
    uint32_t count = part->plan->input_count, done = 0;
    emlx_status status = EMLX_OK;
    for (; done < count && status == EMLX_OK; done += status == EMLX_OK)
        status = part->handed_over ? host_buffer(r, part->inputs[done], &inputs[done])
                                   : device_buffer(r, part->inputs[done], &inputs[done]);
    for (uint32_t i = 0; i < done && status != EMLX_OK; i++) buffer_release(inputs[i]);
    for (uint32_t i = 0; i < count && status == EMLX_OK; i++) {
        if (whole->last_part[part->inputs[i]] != p) continue;
        let_buffer_go(&r->values[part->inputs[i]]);
        let_buffer_go(&r->copies[part->inputs[i]]);
    }
    return status;
}

// Parts ------------------------------------------------------------------------------------------

// One more piece of work to wait for. Takes the reference over.
static void note_work(parts_run *r, fence *end) {
    fence *before = r->end;
    if (end == NULL) return;
    r->end = before == NULL ? fence_retain(end) : fence_both(before, end);
    if (r->end == NULL) {
        fence_wait(before, NULL);
        r->end = fence_retain(end);
    }
    fence_release(before);
    fence_release(end);
}

static emlx_status submit_part(parts_run *r, uint32_t p, emlx_buffer **inputs,
                               emlx_buffer **outputs) {
    const plan_part *part = &r->planned->plan->parts[p];
    planned sub = *r->planned;
    sub.plan = part->plan;
    plan_submission submission = {.device = part->plan->device,
                                  .stream = part->handed_over ? NULL : r->submission->stream,
                                  .cancel = r->submission->cancel,
                                  .inputs = inputs,
                                  .outputs = outputs,
                                  .memory = r->device->host_memory ? r->device : NULL};
    fence *end = NULL;
    TRY(whole_submit(&sub, &submission, &end, r->err));
    for (uint32_t i = 0; i < part->op_count; i++) handover_count(r->device, part->ops[i]);
    bool aside = part->handed_over && !r->device->host_memory;
    for (uint32_t i = 0; i < part->plan->output_count; i++)
        (aside ? r->copies : r->values)[part->outputs[i]] = outputs[i];
    note_work(r, end);
    return EMLX_OK;
}

static emlx_status run_part(parts_run *r, uint32_t p) {
    const emlx_plan *part = r->planned->plan->parts[p].plan;
    size_t size = ((size_t)part->input_count + part->output_count + 1) * sizeof(emlx_buffer *);
    emlx_buffer **room = mem_alloc(size);
    if (room == NULL) return error_no_memory(r->err, "to run a plan");
    emlx_status status = gather(r, p, room);
    if (status == EMLX_OK) status = submit_part(r, p, room, room + part->input_count);
    mem_free(room, size);
    return status;
}

static emlx_status give_outputs(parts_run *r) {
    const emlx_plan *whole = r->planned->plan;
    uint32_t done = 0;
    emlx_status status = EMLX_OK;
    for (; done < whole->output_count && status == EMLX_OK; done += status == EMLX_OK)
        status = device_buffer(r, whole->outputs[done], &r->submission->outputs[done]);
    for (uint32_t i = 0; i < done && status != EMLX_OK; i++)
        buffer_release(r->submission->outputs[i]);
    return status;
}

static emlx_status run_parts(parts_run *r) {
    const emlx_plan *whole = r->planned->plan;
    memcpy(r->values, r->submission->inputs, whole->input_count * sizeof(emlx_buffer *));
    for (uint32_t p = 0; p < whole->part_count; p++) TRY(run_part(r, p));
    return give_outputs(r);
}

static emlx_status submit_parts(const planned *planned, const plan_submission *submission,
                                fence **end, emlx_error *err) {
    const emlx_plan *whole = planned->plan;
    emlx_error own;
    parts_run r = {.planned = planned,
                   .submission = submission,
                   .device = submission->device,
                   .err = err != NULL ? err : &own};
    size_t size = 2 * ((size_t)whole->value_count + 1) * sizeof(emlx_buffer *);
    r.values = mem_alloc(size);
    if (r.values == NULL) {
        for (uint32_t i = 0; i < whole->input_count; i++) buffer_release(submission->inputs[i]);
        return error_no_memory(err, "to run a plan");
    }
    r.copies = r.values + whole->value_count + 1;
    emlx_status status = run_parts(&r);
    for (uint32_t v = 0; v < whole->value_count; v++) {
        buffer_release(r.values[v]);
        buffer_release(r.copies[v]);
    }
    mem_free(r.values, size);
    *end = NULL;
    if (status == EMLX_OK && !fence_signalled(r.end)) {
        *end = r.end;
        return EMLX_OK;
    }
    // What fails has ended, so that nothing looks at the flag or the plan any more.
    emlx_status ended = fence_wait(r.end, status == EMLX_OK ? err : NULL);
    for (uint32_t i = 0; i < whole->output_count && status == EMLX_OK && ended != EMLX_OK; i++)
        buffer_release(submission->outputs[i]);
    fence_release(r.end);
    return status != EMLX_OK ? status : ended;
}

emlx_status plan_prepare(emlx_plan *plan, emlx_error *err) {
    void *form;
    if (plan->part_count == 0) return whole_prepare(plan->device, plan, &form, err);
    for (uint32_t p = 0; p < plan->part_count; p++) TRY(plan_prepare(plan->parts[p].plan, err));
    return EMLX_OK;
}

emlx_status plan_submit(const planned *planned, const plan_submission *submission, fence **end,
                        emlx_error *err) {
    bool divided = planned->plan->part_count > 0;
    return (divided ? submit_parts : whole_submit)(planned, submission, end, err);
}
