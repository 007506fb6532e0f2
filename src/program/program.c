// SPDX-License-Identifier: Apache-2.0
// program.c - programs as the public interface has them: compile and inspect.
#include "program/program.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "engine.h"

// Compiling --------------------------------------------------------------------------------------

static size_t count_ops(const emlx_block *block) {
    size_t count = 0;
    for (size_t i = 0; i < block->code.count; i++) {
        const instr *in = &block->code.items[i];
        count += in->kind == INSTR_OP;
        for (size_t b = 0; b < in->block_count; b++) count += count_ops(in->blocks[b]);
    }
    return count;
}

// Ports with the names moved over from the block; the array ends with a zeroed one.
static emlx_status take_ports(emlx_block *block, block_port *from, size_t count, emlx_port **out,
                              emlx_error *err) {
    emlx_port *ports = mem_alloc((count + 1) * sizeof *ports);
    if (ports == NULL) return error_no_memory(err, "for a program");
    for (size_t i = 0; i < count; i++) {
        const emlx_tensor *symbol = block_symbol(block, from[i].value);
        ports[i] = (emlx_port){from[i].name, emlx_tensor_type(symbol), *emlx_tensor_shape(symbol)};
        from[i].name = NULL;
    }
    *out = ports;
    return EMLX_OK;
}

static void ports_free(emlx_port *ports) {
    if (ports == NULL) return;
    size_t count = 0;
    for (; ports[count].name != NULL; count++)
        mem_free((char *)ports[count].name, strlen(ports[count].name) + 1);
    mem_free(ports, (count + 1) * sizeof *ports);
}

static emlx_status compile(emlx_block *block, emlx_program *p, emlx_error *err) {
    p->op_count = count_ops(block);
    TRY(block_unroll(block, err));
    TRY(code_compile(block, p->device, &p->main, err));
    TRY(take_ports(block, block->inputs.items, block->inputs.count, &p->inputs, err));
    block->inputs.count = 0;
    TRY(take_ports(block, block->outputs.items, block->outputs.count, &p->outputs, err));
    block->outputs.count = 0;
    return EMLX_OK;
}

emlx_status emlx_program_compile(emlx_block *block, emlx_device *device, emlx_program **out,
                                 emlx_error *err) {
    REQUIRE(block);
    if (block->owned)
        return error_set(err, EMLX_INVALID, "the program block is part of another one already");
    if (device == NULL || out == NULL) {
        emlx_block_release(block);
        return error_set(err, EMLX_INVALID, "emlx_program_compile: %s is NULL",
                         device == NULL ? "device" : "out");
    }
    emlx_program *p = mem_alloc(sizeof *p);
    emlx_status status = p == NULL ? error_no_memory(err, "for a program") : EMLX_OK;
    if (p != NULL) {
        atomic_init(&p->references, 1);
        p->device = emlx_device_retain(device);
        status = compile(block, p, err);
    }
    emlx_block_release(block);
    if (status == EMLX_OK)
        *out = p;
    else
        emlx_program_release(p);
    return status;
}

emlx_program *emlx_program_retain(emlx_program *program) {
    if (program != NULL) atomic_fetch_add_explicit(&program->references, 1, memory_order_relaxed);
    return program;
}

void emlx_program_release(emlx_program *program) {
    if (program == NULL) return;
    if (atomic_fetch_sub_explicit(&program->references, 1, memory_order_acq_rel) != 1) return;
    code_release(program->main);
    ports_free(program->inputs);
    ports_free(program->outputs);
    emlx_device_release(program->device);
    mem_free(program, sizeof *program);
}

// Looking at one ---------------------------------------------------------------------------------

size_t emlx_program_input_count(const emlx_program *program) {
    return program == NULL ? 0 : program->main->input_count;
}
size_t emlx_program_output_count(const emlx_program *program) {
    return program == NULL ? 0 : program->main->output_count;
}

const emlx_port *emlx_program_input(const emlx_program *program, size_t index) {
    return index < emlx_program_input_count(program) ? &program->inputs[index] : NULL;
}

const emlx_port *emlx_program_output(const emlx_program *program, size_t index) {
    return index < emlx_program_output_count(program) ? &program->outputs[index] : NULL;
}

size_t emlx_program_kernel_count(const emlx_program *program) {
    return program == NULL ? 0 : program->main->kernel_count;
}
size_t emlx_program_op_count(const emlx_program *program) {
    return program == NULL ? 0 : program->op_count;
}
