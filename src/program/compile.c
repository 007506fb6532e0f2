// SPDX-License-Identifier: Apache-2.0
// compile.c - cuts the graph of a block into segments around its control flow and plans each.
//
// Before a control-flow instruction stands a segment that computes only what the instruction needs
// and is not there yet; the last segment computes the outputs. A node is computed by the first
// segment that needs it and kept in a slot when a later one reads it. Constants, iotas and views
// cost a kernel nothing and are not kept: each segment has its own.
#include <string.h>

#include "base/error.h"
#include "plan/cost.h"
#include "plan/submit.h"
#include "program/nodes.h"
#include "program/program.h"

typedef struct kept {
    emlx_tensor *node;
    uint32_t slot;
} kept;

typedef struct segment {
    LIST(kept) roots;
    LIST(kept) leaves;
} segment;

typedef struct compiler {
    const emlx_block *block;
    emlx_device *device;
    bool *needed; // by instruction: control flow that has to run
    node_notes notes;
    LIST(segment) segments; // segment i comes before the i-th control step
    LIST(emlx_tensor *) stack;
    code *code;
} compiler;

static emlx_status no_memory_to_compile(emlx_error *err) {
    return error_no_memory(err, "for compiling a program");
}

static emlx_tensor *symbol_of(const compiler *c, uint32_t value) {
    return block_symbol(c->block, value);
}

// What calls the host is not left out, whether its results are needed or not.
static bool has_effect(const instr *i) {
    if (i->kind == INSTR_HOST_CALL) return true;
    for (size_t b = 0; b < i->block_count; b++)
        if (i->blocks[b]->host_calls) return true;
    return false;
}

static bool is_free(const emlx_tensor *t) {
    return t->primitive == PRIM_constant || t->primitive == PRIM_iota || t->primitive == PRIM_view;
}

static emlx_status push_nodes(compiler *c, emlx_tensor *const *nodes, size_t count,
                              emlx_error *err) {
    if (!list_reserve(&c->stack, count)) return no_memory_to_compile(err);
    for (size_t i = 0; i < count; i++) c->stack.items[c->stack.count++] = nodes[i];
    return EMLX_OK;
}

// Where data comes from, and what is needed ------------------------------------------------------

// Notes which nodes are provided rather than computed.
static emlx_status note_sources(compiler *c, emlx_error *err) {
    uint32_t input = 0;
    for (size_t i = 0; i < c->block->code.count; i++) {
        const instr *in = &c->block->code.items[i];
        if (in->kind == INSTR_OP) continue;
        for (uint32_t v = 0; v < in->value_count; v++) {
            emlx_tensor *symbol = symbol_of(c, in->first + v);
            if (symbol->primitive == PRIM_constant && node_buffer(symbol) == NULL) continue;
            node_note *note = notes_get(&c->notes, symbol);
            if (note == NULL) return no_memory_to_compile(err);
            note->source = (uint32_t)i;
            if (in->kind == INSTR_INPUT) note->slot = input++;
        }
    }
    return EMLX_OK;
}

static emlx_status reach_control(compiler *c, uint32_t index, emlx_error *err) {
    const instr *in = &c->block->code.items[index];
    if (!instr_is_control(in) || c->needed[index]) return EMLX_OK;
    c->needed[index] = true;
    for (size_t i = 0; i < in->operand_count; i++)
        TRY(push_nodes(c, &c->block->symbols.items[in->operands[i]], 1, err));
    return EMLX_OK;
}

// Finds the control flow that the outputs or calls depend on.
static emlx_status reach_outputs(compiler *c, emlx_error *err) {
    for (size_t i = 0; i < c->block->code.count; i++)
        if (has_effect(&c->block->code.items[i])) TRY(reach_control(c, (uint32_t)i, err));
    for (size_t i = 0; i < c->block->outputs.count; i++)
        TRY(push_nodes(c, &c->block->symbols.items[c->block->outputs.items[i].value], 1, err));
    while (c->stack.count > 0) {
        emlx_tensor *t = c->stack.items[--c->stack.count];
        node_note *note = notes_get(&c->notes, t);
        if (note == NULL) return no_memory_to_compile(err);
        if (note->reached) continue;
        note->reached = true;
        if (note->source != NODE_NONE)
            TRY(reach_control(c, note->source, err));
        else
            TRY(push_nodes(c, t->inputs, t->input_count, err));
    }
    return EMLX_OK;
}

// Assigning work to segments ---------------------------------------------------------------------

static uint32_t new_slot(compiler *c) { return c->code->slot_count++; }

static emlx_status add_bound(compiler *c, emlx_tensor *data, uint32_t slot, emlx_error *err) {
    if (!list_reserve(&c->code->bounds, 1)) return no_memory_to_compile(err);
    bound b = {slot, buffer_retain(node_buffer(data))};
    c->code->bounds.items[c->code->bounds.count++] = b;
    return EMLX_OK;
}

// Puts a literal's data into a slot.
static emlx_status bind_literal(compiler *c, emlx_tensor *literal, node_note *note,
                                emlx_error *err) {
    emlx_tensor *data;
    TRY(emlx_tensor_copy(literal, c->device, &data, err));
    emlx_status status = emlx_eval(&data, 1, err);
    if (status == EMLX_OK) status = add_bound(c, data, c->code->slot_count, err);
    if (status == EMLX_OK) note->slot = new_slot(c);
    emlx_tensor_release(data);
    return status;
}

// Gives the node a slot if its data is provided, or computed by an earlier segment than `s`.
static emlx_status find_slot(compiler *c, uint32_t s, node_note *note, emlx_error *err) {
    if (note->slot != NODE_NONE) return EMLX_OK;
    if (note->source != NODE_NONE)
        return bind_literal(c, c->block->code.items[note->source].literal, note, err);
    if (node_buffer(note->node) != NULL) return bind_literal(c, note->node, note, err);
    if (note->node->primitive == PRIM_input)
        return error_set(err, EMLX_INTERNAL, "a program value has no source");
    if (note->owner == NODE_NONE || note->owner == s || is_free(note->node)) return EMLX_OK;
    segment *owner = &c->segments.items[note->owner];
    if (!list_reserve(&owner->roots, 1)) return no_memory_to_compile(err);
    note->slot = new_slot(c);
    owner->roots.items[owner->roots.count++] = (kept){note->node, note->slot};
    return EMLX_OK;
}

static emlx_status add_read(compiler *c, uint32_t s, node_note *note, emlx_error *err) {
    segment *reader = &c->segments.items[s];
    if (note->read_by == s) return EMLX_OK;
    if (!list_reserve(&reader->leaves, 1)) return no_memory_to_compile(err);
    note->read_by = s;
    reader->leaves.items[reader->leaves.count++] = (kept){note->node, note->slot};
    return EMLX_OK;
}

// Makes segment `s` compute everything below the nodes on the stack that has no slot.
static emlx_status claim_nodes(compiler *c, uint32_t s, emlx_error *err) {
    while (c->stack.count > 0) {
        emlx_tensor *t = c->stack.items[--c->stack.count];
        node_note *note = notes_get(&c->notes, t);
        if (note == NULL) return no_memory_to_compile(err);
        if (note->owner == s) continue;
        TRY(find_slot(c, s, note, err));
        if (note->slot != NODE_NONE) {
            TRY(add_read(c, s, note, err));
            continue;
        }
        note->owner = s;
        TRY(push_nodes(c, t->inputs, t->input_count, err));
    }
    return EMLX_OK;
}

// Sees to it that the node's value is in a slot once segment `s` has run.
static emlx_status require(compiler *c, uint32_t s, emlx_tensor *t, emlx_error *err) {
    node_note *note = notes_get(&c->notes, t);
    if (note == NULL) return no_memory_to_compile(err);
    TRY(find_slot(c, s, note, err));
    if (note->slot != NODE_NONE) return EMLX_OK;
    TRY(push_nodes(c, &t, 1, err));
    TRY(claim_nodes(c, s, err));
    note = notes_get(&c->notes, t);
    segment *owner = &c->segments.items[s];
    if (note == NULL || !list_reserve(&owner->roots, 1)) return no_memory_to_compile(err);
    note->slot = new_slot(c);
    owner->roots.items[owner->roots.count++] = (kept){t, note->slot};
    return EMLX_OK;
}

// The slot of a node that has one.
static emlx_status slot_of(compiler *c, emlx_tensor *t, uint32_t *slot, emlx_error *err) {
    const node_note *note = notes_get(&c->notes, t);
    if (note == NULL) return no_memory_to_compile(err);
    *slot = note->slot;
    return EMLX_OK;
}

// Steps ------------------------------------------------------------------------------------------

static emlx_status uses_new(size_t count, slot_use **out, emlx_error *err) {
    *out = NULL;
    if (count == 0) return EMLX_OK;
    *out = mem_alloc(count * sizeof **out);
    return *out == NULL ? no_memory_to_compile(err) : EMLX_OK;
}

static emlx_status step_slots(step *st, size_t inputs, size_t outputs, emlx_error *err) {
    TRY(uses_new(inputs, &st->inputs, err));
    st->input_count = (uint32_t)inputs;
    TRY(uses_new(outputs, &st->outputs, err));
    st->output_count = (uint32_t)outputs;
    return EMLX_OK;
}

// Appends a step that is empty yet, so that releasing the code releases it in whatever state.
static emlx_status append_step(compiler *c, step_kind kind, step **out, emlx_error *err) {
    if (!list_reserve(&c->code->steps, 1)) return no_memory_to_compile(err);
    *out = &c->code->steps.items[c->code->steps.count++];
    **out = (step){.kind = kind};
    return EMLX_OK;
}

static emlx_status add_segment(compiler *c, emlx_error *err) {
    if (!list_reserve(&c->segments, 1)) return no_memory_to_compile(err);
    c->segments.items[c->segments.count++] = (segment){0};
    step *st;
    return append_step(c, STEP_SEGMENT, &st, err);
}

// A loop's body together with its condition.
static emlx_status compile_merged(compiler *c, const instr *in, code **out, emlx_error *err) {
    emlx_block *merged;
    TRY(block_merge_loop(in->blocks[0], in->blocks[1], &merged, err));
    emlx_status status = code_compile(merged, c->device, out, err);
    emlx_block_release(merged);
    return status;
}

static emlx_status compile_blocks(compiler *c, step *st, const instr *in, emlx_error *err) {
    if (in->block_count == 0) return EMLX_OK;
    st->blocks = mem_alloc(in->block_count * sizeof *st->blocks);
    if (st->blocks == NULL) return no_memory_to_compile(err);
    st->block_count = (uint32_t)in->block_count;
    bool loops = in->kind == INSTR_WHILE;
    st->merged = loops && block_is_plain(in->blocks[1]) && block_is_plain(in->blocks[0]);
    for (size_t b = 0; b < in->block_count; b++) {
        if (st->merged && b == 1)
            TRY(compile_merged(c, in, &st->blocks[b], err));
        else
            TRY(code_compile(in->blocks[b], c->device, &st->blocks[b], err));
        c->code->kernel_count += st->blocks[b]->kernel_count;
        c->code->host_calls |= st->blocks[b]->host_calls;
    }
    return EMLX_OK;
}

static const step_kind control_steps[] = {
    [INSTR_COND] = STEP_COND, [INSTR_WHILE] = STEP_WHILE, [INSTR_HOST_CALL] = STEP_HOST_CALL};

static emlx_port port_of(const emlx_tensor *symbol) {
    return (emlx_port){NULL, emlx_tensor_type(symbol), *emlx_tensor_shape(symbol)};
}

// What the host is given and what it is to give, by which it is checked.
static emlx_status host_call_ports(const compiler *c, const instr *in, step *st, emlx_error *err) {
    size_t count = in->operand_count + in->value_count;
    st->ports = mem_alloc((count + 1) * sizeof *st->ports);
    if (st->ports == NULL) return no_memory_to_compile(err);
    for (size_t i = 0; i < in->operand_count; i++)
        st->ports[i] = port_of(symbol_of(c, in->operands[i]));
    for (uint32_t v = 0; v < in->value_count; v++)
        st->ports[in->operand_count + v] = port_of(symbol_of(c, in->first + v));
    c->code->host_calls = true;
    return EMLX_OK;
}

// The step of a control-flow instruction, whose operands are in slots by now.
static emlx_status add_control(compiler *c, const instr *in, emlx_error *err) {
    step *st = NULL;
    TRY(append_step(c, control_steps[in->kind], &st, err));
    TRY(step_slots(st, in->operand_count, in->value_count, err));
    st->host_call = in->host_call;
    if (in->kind == INSTR_HOST_CALL) TRY(host_call_ports(c, in, st, err));
    for (size_t i = 0; i < in->operand_count; i++)
        TRY(slot_of(c, symbol_of(c, in->operands[i]), &st->inputs[i].slot, err));
    for (uint32_t v = 0; v < in->value_count; v++) {
        node_note *note = notes_get(&c->notes, symbol_of(c, in->first + v));
        if (note == NULL) return no_memory_to_compile(err);
        note->slot = st->outputs[v].slot = new_slot(c);
    }
    return compile_blocks(c, st, in, err);
}

// Walks the needed control flow in order, then the outputs.
static emlx_status cut_segments(compiler *c, emlx_error *err) {
    uint32_t s = 0;
    TRY(add_segment(c, err));
    for (size_t i = 0; i < c->block->code.count; i++) {
        const instr *in = &c->block->code.items[i];
        if (!c->needed[i]) continue;
        for (size_t o = 0; o < in->operand_count; o++)
            TRY(require(c, s, symbol_of(c, in->operands[o]), err));
        TRY(add_control(c, in, err));
        TRY(add_segment(c, err));
        s++;
    }
    for (size_t i = 0; i < c->block->outputs.count; i++) {
        emlx_tensor *symbol = symbol_of(c, c->block->outputs.items[i].value);
        TRY(require(c, s, symbol, err));
        TRY(slot_of(c, symbol, &c->code->outputs[i].slot, err));
    }
    return EMLX_OK;
}

// Planning ---------------------------------------------------------------------------------------

static void split(const kept *from, size_t count, emlx_tensor **nodes, slot_use *slots) {
    for (size_t i = 0; i < count; i++) {
        nodes[i] = from[i].node;
        slots[i].slot = from[i].slot;
    }
}

static emlx_status plan_segment(compiler *c, const segment *seg, step *st, emlx_error *err) {
    size_t roots = seg->roots.count, leaves = seg->leaves.count;
    TRY(step_slots(st, leaves, roots, err));
    emlx_tensor **nodes = mem_alloc((roots + leaves) * sizeof *nodes);
    if (nodes == NULL) return no_memory_to_compile(err);
    split(seg->roots.items, roots, nodes, st->outputs);
    split(seg->leaves.items, leaves, nodes + roots, st->inputs);
    plan_request request = {c->device, nodes, roots, nodes + roots, leaves};
    emlx_status status = plan_find(&request, &st->planned, err);
    if (status == EMLX_OK) status = plan_prepare(st->planned.plan, err);
    if (status == EMLX_OK) c->code->kernel_count += plan_kernel_count(st->planned.plan);
    mem_free(nodes, (roots + leaves) * sizeof *nodes);
    return status;
}

// Plans the segments that compute something and closes the gaps that the others leave.
static emlx_status plan_segments(compiler *c, emlx_error *err) {
    code *out = c->code;
    size_t kept_steps = 0, s = 0, count = out->steps.count;
    for (size_t i = 0; i < count; i++) {
        step *st = &out->steps.items[i];
        if (st->kind == STEP_SEGMENT) {
            const segment *seg = &c->segments.items[s++];
            if (seg->roots.count == 0) continue;
            TRY(plan_segment(c, seg, st, err));
        }
        if (kept_steps != i) {
            out->steps.items[kept_steps] = *st;
            *st = (step){0};
        }
        kept_steps++;
    }
    out->steps.count = kept_steps;
    return EMLX_OK;
}

// Cost -------------------------------------------------------------------------------------------

// A loop may take any time. Of branches only one is run, but which is not known.
static int64_t code_cost(const code *c) {
    int64_t cost = 0;
    for (size_t i = 0; i < c->steps.count && cost < COST_SMALL; i++) {
        const step *st = &c->steps.items[i];
        if (st->kind == STEP_WHILE) return COST_NO_END;
        if (st->kind == STEP_SEGMENT) cost += cost_of_plan(st->planned.plan);
        for (uint32_t b = 0; b < st->block_count && cost < COST_SMALL; b++)
            cost += st->blocks[b]->cost;
    }
    return cost;
}

// Liveness ---------------------------------------------------------------------------------------

static void mark_uses(slot_use *uses, size_t count, bool *read_later) {
    for (size_t i = count; i-- > 0;) {
        uses[i].last = !read_later[uses[i].slot];
        read_later[uses[i].slot] = true;
    }
}

static void mark_writes(slot_use *uses, size_t count, const bool *read_later) {
    for (size_t i = 0; i < count; i++) uses[i].last = !read_later[uses[i].slot];
}

// Finds the last use of every slot, from the end backwards.
static emlx_status mark_last_uses(code *out, emlx_error *err) {
    size_t size = out->slot_count + 1;
    bool *read_later = mem_alloc(size);
    if (read_later == NULL) return no_memory_to_compile(err);
    mark_uses(out->outputs, out->output_count, read_later);
    for (size_t i = out->steps.count; i-- > 0;) {
        step *st = &out->steps.items[i];
        mark_writes(st->outputs, st->output_count, read_later);
        mark_uses(st->inputs, st->input_count, read_later);
    }
    for (uint32_t i = 0; i < out->input_count; i++) out->inputs[i].slot = i;
    mark_writes(out->inputs, out->input_count, read_later);
    mem_free(read_later, size);
    return EMLX_OK;
}

// A block ----------------------------------------------------------------------------------------

static emlx_status code_new(const emlx_block *block, code **out, emlx_error *err) {
    code *c = mem_alloc(sizeof *c);
    if (c == NULL) return no_memory_to_compile(err);
    emlx_status status = uses_new(block->inputs.count, &c->inputs, err);
    if (status == EMLX_OK) {
        c->input_count = (uint32_t)block->inputs.count;
        status = uses_new(block->outputs.count, &c->outputs, err);
    }
    if (status != EMLX_OK) {
        code_release(c);
        return status;
    }
    c->output_count = (uint32_t)block->outputs.count;
    c->slot_count = c->input_count;
    if (c->output_count > 0)
        c->decides =
            emlx_tensor_type(block_symbol(block, block->outputs.items[c->output_count - 1].value));
    *out = c;
    return EMLX_OK;
}

static emlx_status compile_symbols(compiler *c, emlx_error *err) {
    TRY(note_sources(c, err));
    TRY(reach_outputs(c, err));
    TRY(cut_segments(c, err));
    TRY(plan_segments(c, err));
    c->code->cost = code_cost(c->code);
    return mark_last_uses(c->code, err);
}

static void compiler_clear(compiler *c) {
    for (size_t i = 0; i < c->segments.count; i++) {
        list_free(&c->segments.items[i].roots);
        list_free(&c->segments.items[i].leaves);
    }
    list_free(&c->segments);
    list_free(&c->stack);
    notes_clear(&c->notes);
    mem_free(c->needed, c->block->code.count);
}

emlx_status code_compile(const emlx_block *block, emlx_device *device, code **out,
                         emlx_error *err) {
    compiler c = {.block = block, .device = device};
    TRY(code_new(block, &c.code, err));
    if (block->code.count > 0) c.needed = mem_alloc(block->code.count);
    emlx_status status = EMLX_OK;
    if (c.needed == NULL && block->code.count > 0) status = no_memory_to_compile(err);
    if (status == EMLX_OK) status = compile_symbols(&c, err);
    compiler_clear(&c);
    if (status == EMLX_OK)
        *out = c.code;
    else
        code_release(c.code);
    return status;
}

static void step_clear(step *st) {
    mem_free(st->inputs, st->input_count * sizeof *st->inputs);
    mem_free(st->outputs, st->output_count * sizeof *st->outputs);
    if (st->planned.plan != NULL) planned_clear(&st->planned);
    for (uint32_t b = 0; b < st->block_count; b++) code_release(st->blocks[b]);
    mem_free(st->blocks, st->block_count * sizeof *st->blocks);
    mem_free(st->ports, ((size_t)st->input_count + st->output_count + 1) * sizeof *st->ports);
}

void code_release(code *c) {
    if (c == NULL) return;
    for (size_t i = 0; i < c->steps.count; i++) step_clear(&c->steps.items[i]);
    for (size_t i = 0; i < c->bounds.count; i++) buffer_release(c->bounds.items[i].buffer);
    list_free(&c->steps);
    list_free(&c->bounds);
    mem_free(c->inputs, c->input_count * sizeof *c->inputs);
    mem_free(c->outputs, c->output_count * sizeof *c->outputs);
    mem_free(c, sizeof *c);
}
