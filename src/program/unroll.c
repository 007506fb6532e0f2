// SPDX-License-Identifier: Apache-2.0
// unroll.c - loops of a few turns, whose number is known when a program is compiled, become the ops
// of these turns: kernels then reach over all of them, where a loop has its state in memory after
// each. Known is what is computed from literals of a few integers; ops of such are computed here.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "program/block.h"

enum {
    TURNS_MOST = 32,  // of a loop
    OPS_MOST = 256,   // of all its turns
    KNOWN_MOST = 64,  // elements of what is known
    OPERANDS_MOST = 8 // of an op that is computed here
};
#define NONE UINT32_MAX

// A value while ops are added: where it stands in the block that is written, and its data.
typedef struct value {
    uint32_t id;        // or NONE
    emlx_tensor *known; // on the host, referenced; or NULL
} value;

typedef struct unroller {
    emlx_device *host;
    emlx_block *to; // NULL: ops are only counted
    size_t ops;
} unroller;

static emlx_status no_memory_to_unroll(emlx_error *err) {
    return error_no_memory(err, "for the turns of a loop");
}

static value *values_new(const emlx_block *block) {
    size_t count = block->symbols.count + 1;
    value *values = mem_alloc(count * sizeof *values);
    for (size_t i = 0; i < count && values != NULL; i++) values[i] = (value){.id = NONE};
    return values;
}

static void values_free(const emlx_block *block, value *values) {
    size_t count = block->symbols.count + 1;
    for (size_t i = 0; i < count && values != NULL; i++) emlx_tensor_release(values[i].known);
    mem_free(values, count * sizeof *values);
}

static void value_set(value *to, const value *from) {
    emlx_tensor *known = emlx_tensor_retain(from->known);
    emlx_tensor_release(to->known);
    *to = (value){from->id, known};
}

// What is known ----------------------------------------------------------------------------------

static bool is_few_integers(const emlx_tensor *t) {
    return type_is_integer(emlx_tensor_type(t)) &&
           emlx_shape_count(emlx_tensor_shape(t)) <= KNOWN_MOST;
}

// A literal's data if it is there; what is still to be computed somebody may be computing now.
static emlx_tensor *known_literal(const unroller *u, emlx_tensor *literal) {
    scalar_value number;
    emlx_tensor *out;
    emlx_error ignored;
    bool there = node_buffer(literal) != NULL || node_is_constant(literal, &number);
    if (!there || !is_few_integers(literal)) return NULL;
    return emlx_tensor_copy(literal, u->host, &out, &ignored) == EMLX_OK ? out : NULL;
}

// The result of an op if all its operands are known and it is integers too, which are the same on
// every device. What fails here fails where the op is run.
static emlx_tensor *known_result(const unroller *u, const instr *in, const value *values) {
    emlx_tensor *operands[OPERANDS_MOST] = {NULL}, *out;
    emlx_error ignored;
    size_t count = in->operand_count;
    if (in->value_count != 1 || count > OPERANDS_MOST) return NULL;
    for (size_t i = 0; i < count; i++) {
        operands[i] = values[in->operands[i]].known;
        if (operands[i] == NULL) return NULL;
    }
    if (emlx_apply(in->op, u->host, operands, count, in->attrs, in->attr_count, in->type, &out,
                   &ignored) != EMLX_OK)
        return NULL;
    bool few = count > 0 || emlx_shape_count(emlx_tensor_shape(out)) == 1;
    if (few && is_few_integers(out) && emlx_eval(&out, 1, &ignored) == EMLX_OK) return out;
    emlx_tensor_release(out);
    return NULL;
}

// Adding ops -------------------------------------------------------------------------------------

// Sees to it that the value stands in the block.
static emlx_status value_write(unroller *u, value *v, emlx_error *err) {
    if (v->id != NONE) return EMLX_OK;
    return emlx_block_tensor(u->to, v->known, &v->id, err);
}

static emlx_status add_op(unroller *u, const instr *in, value *values, emlx_error *err) {
    for (size_t i = 0; i < in->operand_count; i++)
        TRY(value_write(u, &values[in->operands[i]], err));
    uint32_t *operands = mem_alloc((in->operand_count + 1) * sizeof *operands), first;
    if (operands == NULL) return no_memory_to_unroll(err);
    for (size_t i = 0; i < in->operand_count; i++) operands[i] = values[in->operands[i]].id;
    emlx_status status = emlx_block_apply(u->to, in->op, operands, in->operand_count, in->attrs,
                                          in->attr_count, in->type, &first, err);
    mem_free(operands, (in->operand_count + 1) * sizeof *operands);
    // An op's results are numbered one after the other.
    for (uint32_t r = 0; r < in->value_count && status == EMLX_OK; r++)
        values[in->first + r].id = first + r;
    return status;
}

static emlx_status add_literal(unroller *u, const instr *in, value *v, emlx_error *err) {
    v->known = known_literal(u, in->literal);
    if (v->known != NULL || u->to == NULL) return EMLX_OK;
    return emlx_block_tensor(u->to, in->literal, &v->id, err);
}

// A literal or an op: added, unless it is known.
static emlx_status take_value(unroller *u, const instr *in, value *values, emlx_error *err) {
    if (in->kind == INSTR_TENSOR) return add_literal(u, in, &values[in->first], err);
    values[in->first].known = known_result(u, in, values);
    if (values[in->first].known != NULL) return EMLX_OK;
    u->ops++;
    return u->to != NULL ? add_op(u, in, values, err) : EMLX_OK;
}

static bool makes_value(const instr *in) {
    return in->kind == INSTR_TENSOR || in->kind == INSTR_OP;
}

// The block's outputs for inputs that are the state; `out` may be the state.
static emlx_status take_block(unroller *u, const emlx_block *block, const value *state, value *out,
                              emlx_error *err) {
    value *values = values_new(block);
    if (values == NULL) return no_memory_to_unroll(err);
    for (size_t i = 0; i < block->inputs.count; i++)
        value_set(&values[block->inputs.items[i].value], &state[i]);
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < block->code.count && status == EMLX_OK; i++)
        if (makes_value(&block->code.items[i]))
            status = take_value(u, &block->code.items[i], values, err);
    for (size_t i = 0; i < block->outputs.count && status == EMLX_OK; i++)
        value_set(&out[i], &values[block->outputs.items[i].value]);
    values_free(block, values);
    return status;
}

// Counting turns ---------------------------------------------------------------------------------

typedef enum answer { ANSWER_NO, ANSWER_YES, ANSWER_UNKNOWN } answer;

static emlx_status ask_condition(unroller *u, const emlx_block *condition, const value *state,
                                 answer *out, emlx_error *err) {
    uint8_t bytes[16] = {0};
    value again = {.id = NONE};
    TRY(take_block(u, condition, state, &again, err));
    *out = ANSWER_UNKNOWN;
    if (again.known == NULL) return EMLX_OK;
    emlx_status status =
        emlx_tensor_read(again.known, 0, bytes, emlx_tensor_bytes(again.known), err);
    *out = ANSWER_NO;
    for (size_t i = 0; i < sizeof bytes; i++)
        if (bytes[i] != 0) *out = ANSWER_YES;
    emlx_tensor_release(again.known);
    return status;
}

// How many turns a loop makes, or -1 where that is not known or they are many.
static emlx_status count_turns(emlx_device *host, const instr *loop, value *state, int *turns,
                               emlx_error *err) {
    unroller u = {.host = host};
    answer again = ANSWER_YES;
    int count = -1;
    do {
        size_t ops = u.ops;
        TRY(ask_condition(&u, loop->blocks[0], state, &again, err));
        u.ops = ops;
        if (again == ANSWER_YES) TRY(take_block(&u, loop->blocks[1], state, state, err));
    } while (++count < TURNS_MOST && u.ops <= OPS_MOST && again == ANSWER_YES);
    *turns = again == ANSWER_NO ? count : -1;
    return EMLX_OK;
}

static bool may_unroll(const instr *in) {
    return in->kind == INSTR_WHILE && block_is_plain(in->blocks[0]) &&
           block_is_plain(in->blocks[1]);
}

// The state that a loop starts with.
static value *state_new(const instr *loop, const value *values) {
    size_t count = loop->operand_count;
    value *state = mem_alloc((count + 1) * sizeof *state);
    for (size_t i = 0; i <= count && state != NULL; i++) state[i] = (value){.id = NONE};
    for (size_t i = 0; i < count && state != NULL; i++)
        value_set(&state[i], &values[loop->operands[i]]);
    return state;
}

static void state_free(const instr *loop, value *state) {
    for (size_t i = 0; i < loop->operand_count; i++) emlx_tensor_release(state[i].known);
    mem_free(state, (loop->operand_count + 1) * sizeof *state);
}

static emlx_status turns_of(emlx_device *host, const instr *in, const value *values, int *turns,
                            emlx_error *err) {
    *turns = -1;
    if (!may_unroll(in)) return EMLX_OK;
    value *state = state_new(in, values);
    if (state == NULL) return no_memory_to_unroll(err);
    emlx_status status = count_turns(host, in, state, turns, err);
    state_free(in, state);
    return status;
}

// Writing a block anew ---------------------------------------------------------------------------

static emlx_status add_turns(unroller *u, const instr *loop, int turns, value *values,
                             emlx_error *err) {
    value *state = state_new(loop, values);
    if (state == NULL) return no_memory_to_unroll(err);
    emlx_status status = EMLX_OK;
    for (int t = 0; t < turns && status == EMLX_OK; t++)
        status = take_block(u, loop->blocks[1], state, state, err);
    for (size_t i = 0; i < loop->operand_count && status == EMLX_OK; i++) {
        status = value_write(u, &state[i], err);
        value_set(&values[loop->first + i], &state[i]);
    }
    state_free(loop, state);
    return status;
}

static emlx_status move_instr(unroller *u, emlx_block *from, instr *in, value *values,
                              emlx_error *err) {
    uint32_t first;
    for (size_t i = 0; i < in->operand_count; i++)
        TRY(value_write(u, &values[in->operands[i]], err));
    for (size_t i = 0; i < in->operand_count; i++) in->operands[i] = values[in->operands[i]].id;
    TRY(block_move_instr(u->to, from, in, &first, err));
    for (uint32_t r = 0; r < in->value_count; r++) values[in->first + r].id = first + r;
    return EMLX_OK;
}

static emlx_status add_instr(unroller *u, emlx_block *from, instr *in, value *values,
                             emlx_error *err) {
    int turns;
    if (makes_value(in)) return take_value(u, in, values, err);
    TRY(turns_of(u->host, in, values, &turns, err));
    if (turns >= 0) return add_turns(u, in, turns, values, err);
    return move_instr(u, from, in, values, err);
}

// The ports stay those of the block, for the values as they are now.
static emlx_status move_ports(unroller *u, port_list *ports, value *values, emlx_error *err) {
    for (size_t i = 0; i < ports->count; i++) {
        value *v = &values[ports->items[i].value];
        TRY(value_write(u, v, err));
        ports->items[i].value = v->id;
    }
    return EMLX_OK;
}

static emlx_status write_block(unroller *u, emlx_block *from, value *values, emlx_error *err) {
    for (size_t i = 0; i < from->code.count; i++)
        TRY(add_instr(u, from, &from->code.items[i], values, err));
    TRY(move_ports(u, &from->inputs, values, err));
    return move_ports(u, &from->outputs, values, err);
}

static emlx_status rewrite(emlx_device *host, emlx_block *block, emlx_error *err) {
    unroller u = {.host = host};
    value *values = values_new(block);
    if (values == NULL) return no_memory_to_unroll(err);
    emlx_status status = emlx_block_new(&u.to, err);
    if (status == EMLX_OK) status = write_block(&u, block, values, err);
    values_free(block, values);
    if (status == EMLX_OK) block_swap_code(block, u.to);
    emlx_block_release(u.to);
    return status;
}

// Whether a loop becomes its turns, starting with literals of the block.
static emlx_status has_few_turns(emlx_device *host, const emlx_block *block, bool *out,
                                 emlx_error *err) {
    unroller u = {.host = host};
    value *values = values_new(block);
    if (values == NULL) return no_memory_to_unroll(err);
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < block->code.count && status == EMLX_OK && !*out; i++) {
        const instr *in = &block->code.items[i];
        int turns = -1;
        if (makes_value(in)) status = take_value(&u, in, values, err);
        if (in->kind == INSTR_WHILE) status = turns_of(host, in, values, &turns, err);
        *out = turns >= 0;
    }
    values_free(block, values);
    return status;
}

static bool has_control(const emlx_block *block) {
    for (size_t i = 0; i < block->code.count; i++)
        if (block->code.items[i].block_count > 0) return true;
    return false;
}

static emlx_status unroll(emlx_device *host, emlx_block *block, emlx_error *err) {
    bool some = false;
    if (!has_control(block)) return EMLX_OK;
    for (size_t i = 0; i < block->code.count; i++)
        for (size_t b = 0; b < block->code.items[i].block_count; b++)
            TRY(unroll(host, block->code.items[i].blocks[b], err));
    TRY(has_few_turns(host, block, &some, err));
    return some ? rewrite(host, block, err) : EMLX_OK;
}

emlx_status block_unroll(emlx_block *block, emlx_error *err) {
    emlx_device *host;
    if (!has_control(block)) return EMLX_OK;
    TRY(emlx_device_open("cpu", &host, err));
    emlx_status status = unroll(host, block, err);
    emlx_device_release(host);
    return status;
}
