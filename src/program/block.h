// SPDX-License-Identifier: Apache-2.0
// block.h - what a block is made of, for those who compile and save it.
#ifndef EMLX_PROGRAM_BLOCK_H
#define EMLX_PROGRAM_BLOCK_H

#include "graph/graph.h"
#include "memory/list.h"
#include "program/ports.h"

// Blocks nest at most this deep, so that walking them by recursion is safe on any stack.
#define BLOCK_DEPTH_MAX 64

typedef enum instr_kind {
    INSTR_INPUT,
    INSTR_TENSOR,
    INSTR_OP,
    INSTR_COND,
    INSTR_WHILE,
    INSTR_HOST_CALL
} instr_kind;

// One entry of a block, in order. It makes the values from `first` on.
typedef struct instr {
    instr_kind kind;
    uint32_t first;
    uint32_t value_count;
    const emlx_op *op;    // OP
    emlx_type type;       // OP: the result type asked for, or EMLX_TYPE_DEFAULT
    emlx_tensor *literal; // TENSOR
    uint32_t host_call;   // HOST_CALL: the number that the host knows it by
    uint32_t *operands;   // OP, COND, WHILE, HOST_CALL
    size_t operand_count;
    emlx_attr *attrs; // OP: an allocation of `attrs_size` bytes that holds all they point to
    size_t attr_count;
    size_t attrs_size;
    emlx_block **blocks; // COND: the predicates, then the branches. WHILE: condition, body
    size_t block_count;
} instr;

// Every value has a symbol: a node without a device that stands for it. Inputs and the results of
// control flow are placeholders, a literal that is there is itself; an op's symbol is what applying
// it to symbols gives. The symbols check types and shapes at once, and they are the lowered graph
// that compiling cuts up, for whatever device.
struct emlx_block {
    uint32_t depth;  // 1, or one more than that of the deepest block inside
    bool owned;      // taken over by another block
    bool host_calls; // it, or a block inside, calls the host
    LIST(emlx_tensor *) symbols;
    LIST(instr) code;
    port_list inputs;
    port_list outputs;
};

// Control flow: what ends a segment of a program.
static inline bool instr_is_control(const instr *i) {
    return i->kind == INSTR_COND || i->kind == INSTR_WHILE || i->kind == INSTR_HOST_CALL;
}
static inline emlx_tensor *block_symbol(const emlx_block *block, uint32_t value) {
    return block->symbols.items[value];
}
// Predicates of a COND: there is one more branch.
static inline size_t cond_predicates(const instr *i) { return i->block_count / 2; }

// Whether a block has neither control flow nor host calls.
bool block_is_plain(const emlx_block *block);
// The body of a loop and then its condition, of what the body gives: a plain block, made of two,
// whose outputs are the next state and the condition.
emlx_status block_merge_loop(const emlx_block *condition, const emlx_block *body, emlx_block **out,
                             emlx_error *err);

// Moves an instruction of `from`, whose operands are numbered as values of `to` by then, with what
// stands for its results. `from` is fit to be released only.
emlx_status block_move_instr(emlx_block *to, const emlx_block *from, instr *in, uint32_t *first,
                             emlx_error *err);
// The two have each other's instructions; the ports stay.
void block_swap_code(emlx_block *a, emlx_block *b);
// Replaces loops whose turns are known and few by the ops of their turns, also in blocks inside.
// Where it fails the block is fit to be released only.
emlx_status block_unroll(emlx_block *block, emlx_error *err);

// Room for signature_print.
#define SIGNATURE_TEXT 384
// "f32 {2, 3}"; returns `text`.
const char *signature_print(emlx_type type, const emlx_shape *shape, char text[SIGNATURE_TEXT]);

#endif
