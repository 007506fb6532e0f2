// SPDX-License-Identifier: Apache-2.0
// program.h - a compiled program: steps over numbered slots, each slot holding one buffer.
#ifndef EMLX_PROGRAM_PROGRAM_H
#define EMLX_PROGRAM_PROGRAM_H

#include "plan/build.h"
#include "program/block.h"

// A slot read or written; `last` when nobody reads it afterwards, so that a read may move the
// buffer out and a write may be dropped.
typedef struct slot_use {
    uint32_t slot;
    bool last;
} slot_use;

typedef enum step_kind { STEP_SEGMENT, STEP_COND, STEP_WHILE, STEP_HOST_CALL } step_kind;

typedef struct code code;

typedef struct step {
    step_kind kind;
    uint32_t input_count, output_count, block_count;
    uint32_t host_call; // HOST_CALL: its number
    slot_use *inputs;   // SEGMENT: of the plan. COND, WHILE: what each block gets
    slot_use *outputs;  // WHILE: they hold the state while it runs
    planned planned;    // SEGMENT
    bool merged;        // WHILE: the body gives the next condition as well, after the state
    code **blocks;      // COND: the predicates, then the branches. WHILE: condition, body
    emlx_port *ports;   // HOST_CALL: of the inputs, then of the outputs; one more than there are
} step;

// A literal's data, in its slot from the start.
typedef struct bound {
    uint32_t slot;
    emlx_buffer *buffer;
} bound;

// One compiled block. Slots from 0 on hold the inputs.
struct code {
    uint32_t slot_count, input_count, output_count;
    slot_use *inputs, *outputs;
    emlx_type decides; // type of the last output, for a block that is a predicate
    LIST(step) steps;
    LIST(bound) bounds;
    size_t kernel_count; // blocks inside included
    bool host_calls;     // it, or a block inside, calls the host
    int64_t cost;        // what a run takes at most, as plan/cost.h counts it
};

struct emlx_program {
    atomic_int references;
    emlx_device *device;
    code *main;
    emlx_port *inputs, *outputs; // their names are the program's own
    size_t op_count;
};

emlx_status code_compile(const emlx_block *block, emlx_device *device, code **out, emlx_error *err);
void code_release(code *c);

#endif
