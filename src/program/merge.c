// SPDX-License-Identifier: Apache-2.0
// merge.c - puts the body and the condition of a loop into one block, so that a turn is one plan.
#include "base/error.h"
#include "program/block.h"

static emlx_status add_op(emlx_block *to, const instr *in, const uint32_t *values, uint32_t *value,
                          emlx_error *err) {
    uint32_t few[8], *operands = few;
    size_t size = in->operand_count * sizeof *operands;
    if (size > sizeof few) operands = mem_alloc(size);
    if (operands == NULL) return error_no_memory(err, "for a program block");
    for (size_t i = 0; i < in->operand_count; i++) operands[i] = values[in->operands[i]];
    emlx_status status = emlx_block_apply(to, in->op, operands, in->operand_count, in->attrs,
                                          in->attr_count, in->type, value, err);
    if (operands != few) mem_free(operands, size);
    return status;
}

// Adds a block's instructions. `values` has room for its values; its inputs' are there.
static emlx_status add_block(emlx_block *to, const emlx_block *from, uint32_t *values,
                             emlx_error *err) {
    for (size_t i = 0; i < from->code.count; i++) {
        const instr *in = &from->code.items[i];
        if (in->kind == INSTR_TENSOR)
            TRY(emlx_block_tensor(to, in->literal, &values[in->first], err));
        else if (in->kind == INSTR_OP)
            TRY(add_op(to, in, values, &values[in->first], err));
        // An op's results are numbered one after the other.
        for (uint32_t r = 1; r < in->value_count; r++)
            values[in->first + r] = values[in->first] + r;
    }
    return EMLX_OK;
}

// The condition takes what the body gives.
static emlx_status fill_turn(emlx_block *to, const emlx_block *condition, const emlx_block *body,
                             uint32_t *in_body, uint32_t *in_condition, emlx_error *err) {
    for (size_t i = 0; i < body->inputs.count; i++) {
        uint32_t value = body->inputs.items[i].value;
        const emlx_tensor *symbol = block_symbol(body, value);
        TRY(emlx_block_input(to, NULL, emlx_tensor_type(symbol), emlx_tensor_shape(symbol),
                             &in_body[value], err));
    }
    TRY(add_block(to, body, in_body, err));
    for (size_t i = 0; i < body->outputs.count; i++) {
        uint32_t next = in_body[body->outputs.items[i].value];
        in_condition[condition->inputs.items[i].value] = next;
        TRY(emlx_block_output(to, NULL, next, err));
    }
    TRY(add_block(to, condition, in_condition, err));
    return emlx_block_output(to, NULL, in_condition[condition->outputs.items[0].value], err);
}

bool block_is_plain(const emlx_block *block) {
    for (size_t i = 0; i < block->code.count; i++)
        if (instr_is_control(&block->code.items[i])) return false;
    return true;
}

emlx_status block_merge_loop(const emlx_block *condition, const emlx_block *body, emlx_block **out,
                             emlx_error *err) {
    size_t count = body->symbols.count + condition->symbols.count + 1;
    uint32_t *values = mem_alloc(count * sizeof *values);
    if (values == NULL) return error_no_memory(err, "for a program block");
    emlx_block *to = NULL;
    emlx_status status = emlx_block_new(&to, err);
    if (status == EMLX_OK)
        status = fill_turn(to, condition, body, values, values + body->symbols.count, err);
    mem_free(values, count * sizeof *values);
    if (status == EMLX_OK)
        *out = to;
    else
        emlx_block_release(to);
    return status;
}
