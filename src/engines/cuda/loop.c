// SPDX-License-Identifier: Apache-2.0
// loop.c - a loop as one graph: a conditional node, in whose body are the launches of a turn,
// copies of the new state to where the old one was, and a kernel that looks at the condition.
//
// That kernel also counts turns down and stops where none are left, so that the host can look every
// few milliseconds whether anybody still wants the result, or waits for the stream or the thread:
// these are then left, and the loop is taken up later, by a graph made anew.
#include "engines/cuda/loop.h"

#include "base/error.h"
#include "engines/cuda/graph.h"
#include "engines/cuda/record.h"
#include "engines/cuda/report.h"
#include "threads/cancel.h"

enum {
    KERNELS_MOST = 512,
    MOVED_MOST = 1 << 20, // bytes a kernel; copying more takes longer than asking the host
    FIRST_TURNS = 64,
    TURNS_MOST = 1 << 24,
    SHORT = 2000, // microseconds that a stretch of turns takes at least, and at most
    LONG = 8000,
    WORTH = 4 // times as long as the graph took to make it is run, others waiting or not
};

// Machine code for it would have to be linked with a library of the toolkit's; the driver, which
// compiles this, has the function. Words: the condition's handle, where the predicate is, where the
// number of turns is, the predicate's bytes, and where kernels claim to have found an error, and
// how many bytes that is. There are more turns if the predicate has a byte that is not 0, the
// number has not become 0, and nothing is claimed.
static const char turn_source[] =
    ".version 7.0\n"
    ".target sm_70\n"
    ".address_size 64\n"
    ".extern .func cudaGraphSetConditional(.param .b64 handle, .param .b32 value);\n"
    ".visible .entry emlx_turn(.param .align 8 .b8 w[48])\n"
    "{\n"
    "    .reg .b64 %a<8>;\n"
    "    .reg .b32 %r<7>;\n"
    "    .reg .pred %p<6>;\n"
    "    ld.param.u64 %a1, [w];\n"
    "    ld.param.u64 %a2, [w+8];\n"
    "    ld.param.u64 %a3, [w+16];\n"
    "    ld.param.u64 %a4, [w+24];\n"
    "    ld.param.u64 %a6, [w+32];\n"
    "    ld.param.u64 %a7, [w+40];\n"
    "    add.u64 %a5, %a2, %a4;\n"
    "    add.u64 %a7, %a6, %a7;\n"
    "    mov.u32 %r1, 0;\n"
    "    mov.u32 %r5, 0;\n"
    "PREDICATE:\n"
    "    ld.global.u8 %r2, [%a2];\n"
    "    or.b32 %r1, %r1, %r2;\n"
    "    add.u64 %a2, %a2, 1;\n"
    "    setp.lt.u64 %p1, %a2, %a5;\n"
    "    @%p1 bra PREDICATE;\n"
    "CLAIMS:\n"
    "    setp.ge.u64 %p4, %a6, %a7;\n"
    "    @%p4 bra COUNT;\n"
    "    ld.global.u8 %r6, [%a6];\n"
    "    or.b32 %r5, %r5, %r6;\n"
    "    add.u64 %a6, %a6, 1;\n"
    "    bra CLAIMS;\n"
    "COUNT:\n"
    "    ld.global.u32 %r3, [%a3];\n"
    "    add.u32 %r3, %r3, -1;\n"
    "    st.global.u32 [%a3], %r3;\n"
    "    setp.ne.u32 %p2, %r1, 0;\n"
    "    setp.ne.and.u32 %p3, %r3, 0, %p2;\n"
    "    setp.eq.and.u32 %p5, %r5, 0, %p3;\n"
    "    selp.u32 %r4, 1, 0, %p5;\n"
    "    {\n"
    "        .param .b64 q0;\n"
    "        st.param.b64 [q0], %a1;\n"
    "        .param .b32 q1;\n"
    "        st.param.b32 [q1], %r4;\n"
    "        call.uni cudaGraphSetConditional, (q0, q1);\n"
    "    }\n"
    "    ret;\n"
    "}\n";

enum { TURN_WORDS = 6 };

bool loop_suits(const gpu *g, const loop_call *call, const gpu_kernel *kernels, uint32_t count) {
    uint32_t reporters = 0;
    if (g->rehearsal || count > KERNELS_MOST || !loops_open()) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (kernels[i].joined) continue;
        // Libraries of linear algebra wait for the device.
        bool library = kernels[i].run != launch_generated;
        bool routine = call->turn.plan->kernels[i].kind == KERNEL_ROUTINE;
        if (kernels[i].run == NULL || (library && routine)) return false;
        reporters += kernels[i].code.reports;
    }
    for (uint32_t i = 0; i < call->state_count; i++)
        if (call->states[i]->handle == NULL) return false;
    return reporters < REPORTERS_MOST;
}

// The state's memory ------------------------------------------------------------------------------

// It is written at each turn, so that it must be the loop's alone.
static emlx_status own_state(gpu_stream *s, emlx_buffer **state, emlx_error *err) {
    emlx_buffer *copy, *from = *state;
    if (buffer_exclusive(from)) {
        buffer_forget(from);
        return stream_writes(s, buffer_of_gpu(from), err);
    }
    TRY(stream_reads(s, buffer_of_gpu(from), err));
    TRY(gpu_buffer_new(s->gpu, from->size, &copy, err));
    emlx_status status = stream_writes(s, buffer_of_gpu(copy), err);
    if (status == EMLX_OK && from->size > 0)
        status = gpu_check(
            s->gpu, cuda.copy(buffer_address(copy), buffer_address(from), from->size, s->stream),
            "a copy", err);
    if (status == EMLX_OK) status = stream_hold(s, from, err);
    if (status != EMLX_OK) {
        buffer_release(copy);
        return status;
    }
    buffer_release(from);
    *state = copy;
    return EMLX_OK;
}

// The graph ---------------------------------------------------------------------------------------

typedef struct loop_graph {
    gpu_stream *s;
    const loop_call *call;
    const gpu_kernel *kernels;
    const kernel_loop *turn;
    cuda_graph graph, body;
    cuda_graph_exec exec;
    cuda_conditional handle;
    cuda_node last; // of the body; what comes next is behind it
    device_block left;
    size_t moved_bytes;
    int64_t made, making;  // when the graph was, and how long that took
    bool refused;          // a library cannot be recorded
    emlx_buffer **outputs; // of a turn
    emlx_buffer **moved;   // by part of the state: a copy of what is part of the old one, or NULL
    // The state's memory as the plan sees it: it may take it over for what it makes, and when it
    // lets go of it nothing happens, as the loop has it all the while.
    gpu_buffer *lent;
} loop_graph;

static void end_lent(emlx_buffer *buffer) { (void)buffer; }

// A part that is part of the next state as well, or stays, is not to be taken over.
static void lend_state(loop_graph *l) {
    for (uint32_t i = 0; i < l->call->state_count; i++) {
        gpu_buffer *lent = &l->lent[i];
        *lent = *buffer_of_gpu(l->call->states[i]);
        buffer_init(&lent->base, l->call->states[i]->size, end_lent);
        lent->base.handle = l->call->states[i]->handle;
        lent->base.writable = lent->base.ordered = true;
    }
    for (uint32_t i = 0; i < l->call->state_count; i++)
        if (l->call->next[i].kept) (void)buffer_retain(&l->lent[l->call->next[i].index].base);
}

static bool is_lent(const loop_graph *l, const emlx_buffer *b) {
    for (uint32_t i = 0; i < l->call->state_count; i++)
        if (&l->lent[i].base == b) return true;
    return false;
}

static emlx_status load_turn(gpu *g, cuda_function *out, emlx_error *err) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    cuda_module module = NULL;
    emlx_status status = EMLX_OK;
    pthread_mutex_lock(&lock);
    if (g->turn == NULL) {
        status = gpu_check(g, cuda.module_load(&module, turn_source), "loading a kernel", err);
        if (status == EMLX_OK)
            status = gpu_check(g, cuda.module_function(&g->turn, module, "emlx_turn"),
                               "finding a kernel", err);
    }
    *out = g->turn;
    pthread_mutex_unlock(&lock);
    return status;
}

static emlx_status begin_graph(loop_graph *l, emlx_error *err) {
    const gpu *g = l->s->gpu;
    cuda_node node;
    GPU_TRY(g, "a graph", graphs.create(&l->graph, 0));
    GPU_TRY(g, "a loop",
            loops.conditional(&l->handle, l->graph, g->context, 1, CUDA_CONDITIONAL_SET_AT_LAUNCH));
    cuda_conditional_node loop = {.type = CUDA_NODE_CONDITIONAL,
                                  .handle = l->handle,
                                  .kind = CUDA_CONDITIONAL_WHILE,
                                  .count = 1,
                                  .context = g->context};
    GPU_TRY(g, "a loop", loops.add_node(&node, l->graph, NULL, 0, &loop));
    l->body = loop.bodies[0];
    return EMLX_OK;
}

static emlx_status add_kernel(loop_graph *l, const queued_launch *k, int64_t *words,
                              emlx_error *err) {
    const gpu *g = l->s->gpu;
    void *arguments[] = {words};
    cuda_kernel_node node = launch_node(g, k, arguments);
    cuda_node before = l->last;
    return gpu_check(g,
                     graphs.add_kernel(&l->last, l->body, &before, before != NULL ? 1 : 0, &node),
                     "a kernel of a loop", err);
}

static emlx_status add_copy(loop_graph *l, const emlx_buffer *to, const emlx_buffer *from,
                            emlx_error *err) {
    const gpu *g = l->s->gpu;
    cuda_copy_node copy = {
        .from = {.memory = CUDA_MEMORY_DEVICE, .device = buffer_address(from), .pitch = from->size},
        .to = {.memory = CUDA_MEMORY_DEVICE, .device = buffer_address(to), .pitch = to->size},
        .width = to->size,
        .height = 1,
        .depth = 1};
    cuda_node before = l->last;
    if (to->size == 0) return EMLX_OK;
    return gpu_check(
        g, loops.add_copy(&l->last, l->body, &before, before != NULL ? 1 : 0, &copy, g->context),
        "a copy of a loop", err);
}

static emlx_buffer *next_of(const loop_graph *l, uint32_t part) {
    const loop_next *n = &l->call->next[part];
    return n->kept ? &l->lent[n->index].base : l->outputs[n->index];
}

// Parts of the old state that become others are put aside before any is overwritten.
static emlx_status add_state(loop_graph *l, emlx_error *err) {
    const loop_call *call = l->call;
    for (uint32_t i = 0; i < call->state_count; i++) {
        emlx_buffer *next = next_of(l, i);
        if (next == &l->lent[i].base) continue;
        l->moved_bytes += next->size;
        if (!is_lent(l, next)) continue;
        TRY(gpu_buffer_new(l->s->gpu, next->size, &l->moved[i], err));
        TRY(stream_writes(l->s, buffer_of_gpu(l->moved[i]), err));
        TRY(add_copy(l, l->moved[i], next, err));
    }
    for (uint32_t i = 0; i < call->state_count; i++) {
        emlx_buffer *next = next_of(l, i);
        if (next == &l->lent[i].base) continue;
        TRY(add_copy(l, &l->lent[i].base, l->moved[i] != NULL ? l->moved[i] : next, err));
    }
    return EMLX_OK;
}

static emlx_status add_condition(loop_graph *l, emlx_error *err) {
    const gpu_stream *s = l->s;
    queued_launch turn = {.grid_x = 1, .grid_y = 1, .block = 1, .word_count = TURN_WORDS};
    int64_t words[TURN_WORDS] = {
        (int64_t)l->handle,       (int64_t)buffer_address(l->outputs[l->call->again]),
        (int64_t)l->left.address, (int64_t)l->call->again_size,
        (int64_t)s->claims,       (int64_t)(s->reporter_count * sizeof(int32_t))};
    TRY(load_turn(s->gpu, &turn.function, err));
    return add_kernel(l, &turn, words, err);
}

// What was queued goes into the body instead.
static emlx_status add_queued(loop_graph *l, emlx_error *err) {
    gpu_stream *s = l->s;
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < s->launch_count && status == EMLX_OK; i++)
        status = add_kernel(l, &s->launches[i], s->words + s->launches[i].words, err);
    s->launch_count = s->word_count = 0;
    return status;
}

// What a library queues is a graph of its own within the body.
static emlx_status add_recorded(loop_graph *l, emlx_error *err) {
    const gpu *g = l->s->gpu;
    cuda_graph child = NULL;
    cuda_node before = l->last;
    TRY(stream_record_end(l->s, &child, err));
    emlx_status status =
        gpu_check(g, loops.add_child(&l->last, l->body, &before, before != NULL ? 1 : 0, child),
                  "a library's part of a loop", err);
    graphs.destroy(child);
    return status;
}

// Indices that a report is worded with are those of its turn: what is part of the state is copied.
static emlx_status keep_indices(loop_graph *l, emlx_error *err) {
    gpu_stream *s = l->s;
    reporter *r = s->reporter_count > 0 ? &s->reporters[s->reporter_count - 1] : NULL;
    emlx_buffer *kept;
    if (r == NULL || r->indices == NULL || !is_lent(l, r->indices)) return EMLX_OK;
    TRY(gpu_buffer_new(s->gpu, r->indices->size, &kept, err));
    emlx_status status = stream_writes(s, buffer_of_gpu(kept), err);
    if (status == EMLX_OK) status = add_copy(l, kept, r->indices, err);
    if (status == EMLX_OK) status = stream_hold(s, kept, err);
    if (status == EMLX_OK) r->indices = kept;
    buffer_release(kept);
    return status;
}

static emlx_status add_part(emlx_device *device, void *context, const kernel_call *call,
                            emlx_error *err) {
    loop_graph *l = context;
    const gpu_kernel *k = &l->kernels[call->kernel - call->plan->kernels];
    bool generated = k->run == launch_generated;
    if (k->joined) return EMLX_OK;
    if (!generated) TRY(record_begin(l->s, err));
    emlx_status status = l->turn->run(device, l->turn->context, call, err);
    if (generated && status == EMLX_OK) status = add_queued(l, err);
    if (generated) return status == EMLX_OK ? keep_indices(l, err) : status;
    emlx_error own;
    emlx_status added = add_recorded(l, status == EMLX_OK ? err : &own);
    if (status == EMLX_OK) status = added;
    l->refused = status == EMLX_INTERNAL || status == EMLX_UNSUPPORTED;
    return status;
}

static emlx_status add_turn(loop_graph *l, emlx_device *device, emlx_error *err) {
    const loop_call *call = l->call;
    uint32_t count = call->turn.plan->input_count;
    emlx_buffer **inputs = mem_alloc((count + 1) * sizeof *inputs);
    if (inputs == NULL) return error_no_memory(err, "to run a loop");
    lend_state(l);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t part = call->inputs[i];
        if (part == UINT32_MAX)
            inputs[i] = buffer_retain(call->turn.inputs[i]);
        else
            inputs[i] = &l->lent[part].base;
        // Of what is given twice nothing is taken over.
        for (uint32_t k = 0; k < i && part != UINT32_MAX; k++)
            if (call->inputs[k] == part) (void)buffer_retain(inputs[i]);
    }
    plan_call c = call->turn;
    c.inputs = inputs;
    c.outputs = l->outputs;
    emlx_status status =
        run_kernels(device, &c, &(kernel_loop){.run = add_part, .context = l}, err);
    mem_free(inputs, (count + 1) * sizeof *inputs);
    return status;
}

static emlx_status make_graph(loop_graph *l, emlx_device *device, emlx_error *err) {
    TRY(begin_graph(l, err));
    TRY(add_turn(l, device, err));
    TRY(add_state(l, err));
    TRY(add_condition(l, err));
    return gpu_check(l->s->gpu, graphs.instantiate(&l->exec, l->graph, 0), "a loop", err);
}

// Running -----------------------------------------------------------------------------------------

// So many turns, or fewer. *again: the condition behind the last one.
static emlx_status run_turns(loop_graph *l, unsigned turns, bool *again, emlx_error *err) {
    const loop_call *call = l->call;
    gpu *g = l->s->gpu;
    uint8_t bytes[16];
    *again = false;
    GPU_TRY(g, "a loop", loops.fill_words(l->left.address, turns, 1, l->s->stream));
    GPU_TRY(g, "a loop", graphs.launch(l->exec, l->s->stream));
    TRY(gpu_download(g, l->outputs[call->again], 0, bytes, call->again_size, err));
    TRY(report_look(l->s, err));
    for (size_t i = 0; i < call->again_size; i++) *again = *again || bytes[i] != 0;
    return EMLX_OK;
}

// Whether it is the turn of others, or the device is being opened anew.
static bool is_due(const loop_graph *l) {
    const gpu *g = l->s->gpu;
    int64_t ran = gpu_clock() - l->made;
    if (atomic_load(&g->fault) != 0) return true;
    if (ran < SHORT || ran < WORTH * l->making) return false;
    return streams_wanted(g) || pool_due(g->threads);
}

static emlx_status run_stretches(loop_graph *l, bool *again, emlx_error *err) {
    unsigned turns = FIRST_TURNS;
    *again = true;
    while (*again && !is_due(l)) {
        if (cancel_raised(l->call->turn.cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
        int64_t begun = gpu_clock();
        TRY(run_turns(l, turns, again, err));
        int64_t took = gpu_clock() - begun;
        if (took < SHORT && turns < TURNS_MOST) turns *= 2;
        if (took > LONG && turns > 1) turns /= 2;
    }
    return EMLX_OK;
}

// What the piece holds until its end of what was lent, which ends here: all is done.
static void take_back(loop_graph *l) {
    gpu_stream *s = l->s;
    size_t kept = 0;
    for (size_t i = 0; i < s->held_count; i++)
        if (!is_lent(l, s->held[i])) s->held[kept++] = s->held[i];
    s->held_count = kept;
    s->reporter_count = 0;
}

static void clear_graph(loop_graph *l) {
    take_back(l);
    if (l->exec != NULL) graphs.exec_destroy(l->exec);
    if (l->graph != NULL) graphs.destroy(l->graph);
    for (uint32_t i = 0; i < l->call->turn.plan->output_count; i++) buffer_release(l->outputs[i]);
    for (uint32_t i = 0; i < l->call->state_count; i++) buffer_release(l->moved[i]);
    if (l->left.address != 0) gpu_give(l->s->gpu, &l->left);
}

static emlx_status run_graph(loop_graph *l, emlx_device *device, loop_progress *progress,
                             emlx_error *err) {
    const loop_call *call = l->call;
    int64_t begun = gpu_clock();
    bool again = false;
    TRY(gpu_take(l->s->gpu, sizeof(uint32_t), &l->left, err));
    for (uint32_t i = 0; i < call->state_count; i++) TRY(own_state(l->s, &call->states[i], err));
    TRY(make_graph(l, device, err));
    // Until it has been run the loop may be left to the host.
    if (l->moved_bytes > (size_t)MOVED_MOST * (call->turn.plan->kernel_count + 1)) return EMLX_OK;
    l->made = gpu_clock();
    l->making = l->made - begun;
    TRY(run_stretches(l, &again, err));
    *progress = again ? LOOP_LEFT : LOOP_ENDED;
    return EMLX_OK;
}

emlx_status loop_run(emlx_device *device, gpu_stream *s, const loop_call *call,
                     const gpu_kernel *kernels, const kernel_loop *turn, loop_progress *progress,
                     emlx_error *err) {
    uint32_t outputs = call->turn.plan->output_count, parts = call->state_count;
    size_t pointers = ((size_t)outputs + parts) * sizeof(emlx_buffer *);
    size_t size = pointers + (parts + 1) * sizeof(gpu_buffer);
    gpu_buffer *room = mem_alloc(size);
    if (room == NULL) return error_no_memory(err, "to run a loop");
    loop_graph l = {.s = s, .call = call, .kernels = kernels, .turn = turn, .lent = room};
    l.outputs = (emlx_buffer **)(room + parts + 1);
    l.moved = l.outputs + outputs;
    emlx_status status = run_graph(&l, device, progress, err);
    if (l.refused) status = EMLX_OK;
    clear_graph(&l);
    mem_free(room, size);
    return status;
}
