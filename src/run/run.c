// SPDX-License-Identifier: Apache-2.0
// run.c - runs a compiled program: a stack of frames, one for each block that is being run.
//
// The stack is a list of our own rather than the thread's, so that a run can stop between two
// steps and be taken up elsewhere, and so that nesting cannot exhaust a small stack.
#include "run/run.h"

#include <string.h>

#include "base/error.h"
#include "base/event.h"
#include "base/types.h"
#include "plan/submit.h"
#include "threads/cancel.h"

#define FEW 32

struct frame {
    frame *caller;
    const code *code;
    uint32_t next;  // the step to run, or being run by the block above
    uint32_t block; // of that step: the block that is running
    uint32_t turns; // of that step, a loop, so far
    emlx_buffer *slots[];
};

static size_t frame_size(const code *c) {
    return sizeof(frame) + c->slot_count * sizeof(emlx_buffer *);
}

emlx_status run_no_memory(emlx_error *err) { return error_no_memory(err, "for running a program"); }

// Frames -----------------------------------------------------------------------------------------

// A frame that an earlier turn has left, or a new one.
static frame *frame_new(program_run *run, const code *c) {
    for (uint32_t i = 0; i < run->frame_count; i++) {
        frame *f = run->frames[i];
        if (f->code != c) continue;
        run->frames[i] = run->frames[--run->frame_count];
        return f;
    }
    frame *f = mem_alloc(frame_size(c));
    if (f != NULL) f->code = c;
    return f;
}

static void frame_free(frame *f) {
    if (f != NULL) mem_free(f, frame_size(f->code));
}

// Keeps a frame whose slots are empty.
static void frame_keep(program_run *run, frame *f) {
    if (run->frame_count < RUN_FRAMES) {
        run->frames[run->frame_count++] = f;
        return;
    }
    frame_free(run->frames[run->next_frame]);
    run->frames[run->next_frame] = f;
    run->next_frame = (run->next_frame + 1) % RUN_FRAMES;
}

static emlx_status frame_push(program_run *run, const code *c, frame **out, emlx_error *err) {
    frame *f = frame_new(run, c);
    if (f == NULL) return run_no_memory(err);
    f->caller = run->top;
    f->next = f->block = 0;
    for (size_t i = 0; i < c->bounds.count; i++) {
        const bound *b = &c->bounds.items[i];
        f->slots[b->slot] = buffer_retain(b->buffer);
    }
    run->top = *out = f;
    return EMLX_OK;
}

static void frame_pop(program_run *run) {
    frame *f = run->top;
    run->top = f->caller;
    for (uint32_t i = 0; i < f->code->slot_count; i++) {
        spares_give(&run->spares, f->slots[i]);
        f->slots[i] = NULL;
    }
    frame_keep(run, f);
}

// A reference on what a slot holds: the slot's own if it is moved out.
static emlx_buffer *slot_take(frame *f, uint32_t slot, bool move) {
    emlx_buffer *buffer = f->slots[slot];
    if (!move) return buffer_retain(buffer);
    f->slots[slot] = NULL;
    return buffer;
}

static void slot_set(program_run *run, frame *f, slot_use use, emlx_buffer *buffer) {
    spares_give(&run->spares, f->slots[use.slot]);
    f->slots[use.slot] = use.last ? NULL : buffer;
    if (use.last) spares_give(&run->spares, buffer);
}

// Waiting for the device -------------------------------------------------------------------------

static bool must_wait(program_run *run) {
    run->waits = !fence_signalled(run->end);
    return run->waits;
}

// One more piece of work to wait for. Takes the reference over.
static emlx_status note_work(program_run *run, fence *end, emlx_error *err) {
    fence *before = run->end;
    run->end = before == NULL ? fence_retain(end) : fence_both(before, end);
    bool noted = run->end != NULL;
    if (!noted) run->end = fence_retain(before);
    if (!noted) fence_wait(end, NULL);
    fence_release(before);
    fence_release(end);
    return noted ? EMLX_OK : run_no_memory(err);
}

// How the work went that there is nothing to wait for in any more.
static emlx_status take_end(program_run *run, emlx_error *err) {
    fence *end = run->end;
    run->end = NULL;
    emlx_status status = fence_status(end, err);
    fence_release(end);
    return status;
}

// Segments ---------------------------------------------------------------------------------------

static emlx_status run_segment(program_run *run, frame *f, const step *st, emlx_error *err) {
    size_t count = (size_t)st->input_count + st->output_count;
    emlx_buffer *few[FEW], **buffers = few;
    if (count > FEW) buffers = mem_alloc(count * sizeof *buffers);
    if (buffers == NULL) return run_no_memory(err);
    emlx_buffer **outputs = buffers + st->input_count;
    for (uint32_t i = 0; i < st->input_count; i++)
        buffers[i] = slot_take(f, st->inputs[i].slot, st->inputs[i].last);
    plan_submission submission = {.device = run->device,
                                  .stream = run->stream,
                                  .cancel = run->cancel,
                                  .inputs = buffers,
                                  .outputs = outputs,
                                  .spares = &run->spares};
    fence *end;
    emlx_status status = plan_submit(&st->planned, &submission, &end, err);
    for (uint32_t i = 0; i < st->output_count && status == EMLX_OK; i++)
        slot_set(run, f, st->outputs[i], outputs[i]);
    if (status == EMLX_OK && end != NULL) status = note_work(run, end, err);
    if (buffers != few) mem_free(buffers, count * sizeof *buffers);
    f->next++;
    return status;
}

// Control flow -----------------------------------------------------------------------------------

typedef enum passing { PASS_COPIES, PASS_LAST, PASS_ALL } passing;

// Starts block `b` of the current step with its inputs from these slots of the caller. Nothing is
// kept there that only this block still needs: it can then work in place.
static emlx_status enter(program_run *run, const step *st, uint32_t b, const slot_use *uses,
                         passing how, emlx_error *err) {
    frame *caller = run->top, *f = NULL;
    TRY(frame_push(run, st->blocks[b], &f, err));
    caller->block = b;
    for (uint32_t i = 0; i < f->code->input_count; i++) {
        bool move = how == PASS_ALL || (how == PASS_LAST && uses[i].last);
        slot_set(run, f, f->code->inputs[i], slot_take(caller, uses[i].slot, move));
    }
    return EMLX_OK;
}

// Whether the last output of the block that has just ended is other than zero. The device must have
// done its work.
static emlx_status decide(program_run *run, const char *what, bool *yes, emlx_error *err) {
    const frame *f = run->top;
    emlx_type type = f->code->decides;
    const emlx_buffer *last = f->slots[f->code->outputs[f->code->output_count - 1].slot];
    uint8_t bytes[16];
    TRY(take_end(run, err));
    emlx_status status =
        run->device->ops->download(run->device, last, 0, bytes, type_size(type), err);
    if (status != EMLX_OK) return error_prefix(err, status, "%s", what);
    emlx_number number = type_load(type, bytes);
    if (number.kind <= EMLX_NUMBER_UNSIGNED)
        *yes = number.as.u != 0;
    else
        *yes = number.as.f[0] != 0 || (number.kind == EMLX_NUMBER_COMPLEX && number.as.f[1] != 0);
    frame_pop(run);
    return EMLX_OK;
}

// Moves the results of the block that has just ended into slots of its caller.
static void take_results(program_run *run, const slot_use *to) {
    frame *f = run->top;
    for (uint32_t i = 0; i < f->code->output_count; i++) {
        slot_use from = f->code->outputs[i];
        slot_set(run, f->caller, to[i], slot_take(f, from.slot, from.last));
    }
    frame_pop(run);
}

static emlx_status start_cond(program_run *run, frame *f, const step *st, emlx_error *err) {
    (void)f;
    return enter(run, st, 0, st->inputs, PASS_COPIES, err);
}

static emlx_status resume_cond(program_run *run, frame *f, const step *st, emlx_error *err) {
    uint32_t predicates = st->block_count / 2, b = f->block;
    if (b >= predicates) {
        take_results(run, st->outputs);
        f->next++;
        return EMLX_OK;
    }
    bool yes = false;
    if (must_wait(run)) return EMLX_OK;
    TRY(decide(run, "cond", &yes, err));
    if (!yes && b + 1 < predicates) return enter(run, st, b + 1, st->inputs, PASS_COPIES, err);
    uint32_t branch = yes ? predicates + b : st->block_count - 1;
    return enter(run, st, branch, st->inputs, PASS_LAST, err);
}

// While a loop runs, all of its state is needed, wanted afterwards or not.
static void set_state(program_run *run, frame *f, const step *st, uint32_t i, emlx_buffer *buffer) {
    slot_set(run, f, (slot_use){st->outputs[i].slot, false}, buffer);
}

static emlx_status start_while(program_run *run, frame *f, const step *st, emlx_error *err) {
    for (uint32_t i = 0; i < st->input_count; i++)
        set_state(run, f, st, i, slot_take(f, st->inputs[i].slot, st->inputs[i].last));
    f->turns = 0;
    return enter(run, st, 0, st->outputs, PASS_COPIES, err);
}

// Loops on the device -----------------------------------------------------------------------------

// A loop that goes on for longer is worth making ready for the device to run without us.
enum { TURNS_HERE = 8 };

// A loop's turn as a plan, and what its values are to the loop. All arrays are one allocation.
typedef struct device_loop {
    loop_call call;
    const step *turn;
    emlx_buffer **fixed;
    uint32_t *inputs;
    loop_next *next;
    size_t size;
} device_loop;

static uint32_t find_slot(const slot_use *uses, uint32_t count, uint32_t slot) {
    for (uint32_t i = 0; i < count; i++)
        if (uses[i].slot == slot) return i;
    return UINT32_MAX;
}

static emlx_buffer *bound_at(const code *c, uint32_t slot) {
    for (size_t i = 0; i < c->bounds.count; i++)
        if (c->bounds.items[i].slot == slot) return c->bounds.items[i].buffer;
    return NULL;
}

// False where a value is none that a loop on a device knows.
static bool describe_loop(device_loop *l, const code *c) {
    const step *turn = l->turn;
    loop_call *call = &l->call;
    uint32_t last = c->output_count - 1;
    for (uint32_t i = 0; i < turn->input_count; i++) {
        l->inputs[i] = find_slot(c->inputs, c->input_count, turn->inputs[i].slot);
        if (l->inputs[i] == UINT32_MAX) l->fixed[i] = bound_at(c, turn->inputs[i].slot);
        if (l->inputs[i] == UINT32_MAX && l->fixed[i] == NULL) return false;
    }
    for (uint32_t i = 0; i < last; i++) {
        uint32_t made = find_slot(turn->outputs, turn->output_count, c->outputs[i].slot);
        uint32_t kept = find_slot(c->inputs, c->input_count, c->outputs[i].slot);
        l->next[i] = (loop_next){made == UINT32_MAX, made == UINT32_MAX ? kept : made};
        if (l->next[i].index == UINT32_MAX) return false;
    }
    call->again = find_slot(turn->outputs, turn->output_count, c->outputs[last].slot);
    call->again_size = type_size(c->decides);
    uint8_t none[16] = {0};
    return call->again != UINT32_MAX && type_load(c->decides, none).kind <= EMLX_NUMBER_UNSIGNED;
}

static bool is_one_plan(const step *st) {
    const code *c = st->blocks[1];
    return st->merged && c->steps.count == 1 && c->steps.items[0].kind == STEP_SEGMENT &&
           c->input_count == st->output_count && c->output_count == st->output_count + 1;
}

static emlx_status device_loop_new(program_run *run, const step *st, device_loop **out,
                                   emlx_error *err) {
    const step *turn = &st->blocks[1]->steps.items[0];
    size_t pointers = (size_t)turn->input_count + st->output_count;
    size_t size = sizeof(device_loop) + pointers * sizeof(emlx_buffer *) +
                  st->output_count * sizeof(loop_next) + turn->input_count * sizeof(uint32_t);
    device_loop *l = mem_alloc(size);
    if (l == NULL) return run_no_memory(err);
    l->size = size;
    l->turn = turn;
    l->fixed = (emlx_buffer **)(l + 1);
    l->call.states = l->fixed + turn->input_count;
    l->next = (loop_next *)(l->call.states + st->output_count);
    l->inputs = (uint32_t *)(l->next + st->output_count);
    l->call.inputs = l->inputs;
    l->call.next = l->next;
    l->call.state_count = st->output_count;
    l->call.turn.inputs = l->fixed;
    l->call.turn.cancel = run->cancel;
    *out = l;
    return EMLX_OK;
}

// The turns that are left, by the device, where it takes them; it is asked once more at the next
// turn if it leaves some, as others wait.
static emlx_status loop_there(program_run *run, frame *f, const step *st, loop_progress *progress,
                              emlx_error *err) {
    device_loop *l = NULL;
    *progress = LOOP_REFUSED;
    if (run->device->ops->loop == NULL || ++f->turns != TURNS_HERE + 1 || !is_one_plan(st))
        return EMLX_OK;
    TRY(device_loop_new(run, st, &l, err));
    emlx_status status = EMLX_OK;
    if (describe_loop(l, st->blocks[1])) {
        for (uint32_t i = 0; i < st->output_count; i++)
            l->call.states[i] = slot_take(f, st->outputs[i].slot, true);
        status = plan_loop(&l->turn->planned, run->device, run->stream, &l->call, progress, err);
        for (uint32_t i = 0; i < st->output_count; i++) set_state(run, f, st, i, l->call.states[i]);
        if (*progress == LOOP_LEFT) f->turns = TURNS_HERE;
    }
    mem_free(l, l->size);
    return status;
}

static emlx_status resume_while(program_run *run, frame *f, const step *st, emlx_error *err) {
    bool yes = false;
    if ((f->block == 0 || st->merged) && must_wait(run)) return EMLX_OK;
    if (f->block == 1) {
        frame *body = run->top;
        for (uint32_t i = 0; i < st->output_count; i++) {
            slot_use from = body->code->outputs[i];
            set_state(run, f, st, i, slot_take(body, from.slot, from.last));
        }
    }
    if (f->block == 1 && !st->merged) {
        frame_pop(run);
        return enter(run, st, 0, st->outputs, PASS_COPIES, err);
    }
    TRY(decide(run, "while", &yes, err));
    loop_progress progress = LOOP_REFUSED;
    if (yes) TRY(loop_there(run, f, st, &progress, err));
    if (yes && progress != LOOP_ENDED) return enter(run, st, 1, st->outputs, PASS_ALL, err);
    for (uint32_t i = 0; i < st->output_count; i++)
        if (st->outputs[i].last) spares_give(&run->spares, slot_take(f, st->outputs[i].slot, true));
    f->next++;
    return EMLX_OK;
}

// The operands stay where they are until the host asks for them.
static emlx_status start_host_call(program_run *run, frame *f, const step *st, emlx_error *err) {
    (void)f, (void)err;
    run->host_call = st;
    return EMLX_OK;
}

emlx_status run_operands(program_run *run, emlx_tensor **operands, emlx_error *err) {
    const step *st = run->host_call;
    uint32_t done = 0;
    emlx_status status = EMLX_OK;
    for (; done < st->input_count && status == EMLX_OK; done += status == EMLX_OK) {
        const emlx_port *port = &st->ports[done];
        emlx_buffer *buffer = slot_take(run->top, st->inputs[done].slot, st->inputs[done].last);
        status =
            node_from_buffer(run->device, port->type, &port->shape, buffer, &operands[done], err);
        if (status != EMLX_OK) buffer_release(buffer);
    }
    while (status != EMLX_OK && done > 0) emlx_tensor_release(operands[--done]);
    return status;
}

void run_answer(program_run *run, emlx_buffer *const *results) {
    const step *st = run->host_call;
    for (uint32_t i = 0; i < st->output_count; i++)
        slot_set(run, run->top, st->outputs[i], buffer_retain(results[i]));
    run->top->next++;
    run->host_call = NULL;
}

// What each kind of step does when it is reached, and when a block that it started has ended.
typedef emlx_status (*step_fn)(program_run *run, frame *f, const step *st, emlx_error *err);

static const struct {
    step_fn start, resume;
} step_fns[] = {
    [STEP_SEGMENT] = {run_segment, NULL},
    [STEP_COND] = {start_cond, resume_cond},
    [STEP_WHILE] = {start_while, resume_while},
    [STEP_HOST_CALL] = {start_host_call, NULL},
};

// A run ------------------------------------------------------------------------------------------

emlx_status run_start(program_run *run, const emlx_program *program, emlx_buffer *const *buffers,
                      emlx_error *err) {
    const code *c = program->main;
    run->device = program->device;
    run->results = run->few_results;
    if (c->output_count > RUN_FEW) run->results = mem_alloc(c->output_count * sizeof *run->results);
    if (run->results == NULL) return run_no_memory(err);
    run->result_count = c->output_count;
    run->begun = event_begin();
    frame *f = NULL;
    TRY(frame_push(run, c, &f, err));
    for (uint32_t i = 0; i < c->input_count; i++)
        slot_set(run, f, c->inputs[i], buffer_retain(buffers[i]));
    return EMLX_OK;
}

static void finish_main(program_run *run) {
    frame *f = run->top;
    for (uint32_t i = 0; i < f->code->output_count; i++) {
        slot_use from = f->code->outputs[i];
        run->results[i] = slot_take(f, from.slot, from.last);
    }
    frame_pop(run);
    event_send((emlx_event){.kind = EMLX_EVENT_EVALUATED,
                            .device = run->device->name,
                            .count = run->result_count},
               run->begun);
}

// Runs the next step of the innermost block, or ends that block.
static emlx_status advance(program_run *run, emlx_error *err) {
    frame *f = run->top;
    if (f->next < f->code->steps.count) {
        const step *st = &f->code->steps.items[f->next];
        return step_fns[st->kind].start(run, f, st, err);
    }
    if (f->caller == NULL) {
        finish_main(run);
        return EMLX_OK;
    }
    const step *st = &f->caller->code->steps.items[f->caller->next];
    return step_fns[st->kind].resume(run, f->caller, st, err);
}

// A run that stops keeps only what it needs to go on.
static void drop_spares(program_run *run) {
    spares_clear(&run->spares);
    while (run->frame_count > 0) frame_free(run->frames[--run->frame_count]);
}

static bool goes_on(const program_run *run) {
    return run->top != NULL && run->host_call == NULL && !run->waits;
}

emlx_status run_go(program_run *run, emlx_error *err) {
    run->waits = run->gave_way = false;
    while (goes_on(run)) {
        if (cancel_raised(run->cancel))
            return error_set(err, EMLX_CANCELLED, "the run was cancelled");
        TRY(advance(run, err));
        run->gave_way = goes_on(run) && run->pool != NULL && pool_due(run->pool);
        if (run->gave_way) return EMLX_OK;
    }
    if (run->waits || must_wait(run)) return EMLX_OK;
    drop_spares(run);
    return take_end(run, err);
}

emlx_status run_through(program_run *run, emlx_error *err) {
    TRY(run_go(run, err));
    while (run->waits) {
        fence_wait(run->end, NULL);
        TRY(run_go(run, err));
    }
    return EMLX_OK;
}

// Work that still goes on looks at the flag, which ends with the run.
void run_clear(program_run *run) {
    fence_wait(run->end, NULL);
    fence_release(run->end);
    run->end = NULL;
    while (run->top != NULL) frame_pop(run);
    drop_spares(run);
    if (run->results == NULL) return;
    for (size_t i = 0; i < run->result_count; i++) buffer_release(run->results[i]);
    if (run->results != run->few_results)
        mem_free(run->results, run->result_count * sizeof *run->results);
    run->results = NULL;
}
