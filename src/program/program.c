// SPDX-License-Identifier: Apache-2.0
// program.c - programs as the public interface has them: compile, inspect, run.
#include "program/program.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "engine.h"
#include "program/run.h"

static emlx_status no_memory(emlx_error *err) {
    return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a program");
}

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
    if (ports == NULL) return no_memory(err);
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

static emlx_status compile(emlx_block *block, emlx_program *p, const char *device,
                           emlx_error *err) {
    TRY(emlx_device_open(device, &p->device, err));
    TRY(code_compile(block, p->device, &p->main, err));
    p->op_count = count_ops(block);
    TRY(take_ports(block, block->inputs.items, block->inputs.count, &p->inputs, err));
    block->inputs.count = 0;
    TRY(take_ports(block, block->outputs.items, block->outputs.count, &p->outputs, err));
    block->outputs.count = 0;
    return EMLX_OK;
}

emlx_status emlx_program_compile(emlx_block *block, emlx_device *device, emlx_program **out,
                                 emlx_error *err) {
    if (block->owned)
        return error_set(err, EMLX_INVALID, "the program block is part of another one already");
    emlx_program *p = mem_alloc(sizeof *p);
    emlx_status status = p == NULL ? no_memory(err) : EMLX_OK;
    if (p != NULL) {
        atomic_init(&p->references, 1);
        status = compile(block, p, emlx_device_name(device), err);
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

size_t emlx_program_input_count(const emlx_program *program) { return program->main->input_count; }
size_t emlx_program_output_count(const emlx_program *program) {
    return program->main->output_count;
}

const emlx_port *emlx_program_input(const emlx_program *program, size_t index) {
    return index < program->main->input_count ? &program->inputs[index] : NULL;
}

const emlx_port *emlx_program_output(const emlx_program *program, size_t index) {
    return index < program->main->output_count ? &program->outputs[index] : NULL;
}

size_t emlx_program_kernel_count(const emlx_program *program) {
    return program->main->kernel_count;
}
size_t emlx_program_op_count(const emlx_program *program) { return program->op_count; }

// Running ----------------------------------------------------------------------------------------

static emlx_status check_input(const emlx_program *p, size_t index, const emlx_tensor *given,
                               emlx_error *err) {
    const emlx_port *port = &p->inputs[index];
    if (given == NULL)
        return error_set(err, EMLX_INVALID, "program input \"%s\" is missing", port->name);
    emlx_type type = emlx_tensor_type(given);
    const emlx_shape *shape = emlx_tensor_shape(given);
    char a[SIGNATURE_TEXT], b[SIGNATURE_TEXT];
    if (type != port->type || !shape_equal(shape, &port->shape))
        return error_set(err, EMLX_INVALID, "program input \"%.60s\" is %.170s, %.170s expected",
                         port->name, signature_print(type, shape, a),
                         signature_print(port->type, &port->shape, b));
    if (emlx_tensor_device(given) != p->device)
        return error_set(err, EMLX_INVALID, "program input \"%s\" is on device %s, %s expected",
                         port->name, emlx_device_name(emlx_tensor_device(given)),
                         emlx_device_name(p->device));
    return EMLX_OK;
}

static emlx_status check_inputs(const emlx_program *p, emlx_tensor *const *inputs, size_t count,
                                emlx_error *err) {
    if (count != p->main->input_count)
        return error_set(err, EMLX_INVALID, "%zu inputs given, the program has %u", count,
                         p->main->input_count);
    for (size_t i = 0; i < count; i++) TRY(check_input(p, i, inputs[i], err));
    return EMLX_OK;
}

static emlx_status evaluate(emlx_tensor *const *inputs, size_t count, emlx_error *err) {
    for (size_t i = 0; i < count; i++)
        if (!emlx_tensor_ready(inputs[i])) return emlx_eval(inputs, count, err);
    return EMLX_OK;
}

// Makes tensors of a run's results, all or none.
static emlx_status wrap_results(const emlx_program *p, program_run *run, emlx_tensor **outputs,
                                emlx_error *err) {
    size_t done = 0;
    emlx_status status = EMLX_OK;
    for (; done < run->result_count; done++) {
        const emlx_port *port = &p->outputs[done];
        status = node_from_buffer(p->device, port->type, &port->shape, run->results[done],
                                  &outputs[done], err);
        if (status != EMLX_OK) break;
        run->results[done] = NULL;
    }
    while (status != EMLX_OK && done > 0) emlx_tensor_release(outputs[--done]);
    return status;
}

static emlx_status run_buffers(const emlx_program *p, emlx_buffer *const *buffers,
                               emlx_tensor **outputs, emlx_error *err) {
    program_run run = {0};
    emlx_status status = run_start(&run, p, buffers, err);
    if (status == EMLX_OK) status = run_finish(&run, err);
    if (status == EMLX_OK) status = wrap_results(p, &run, outputs, err);
    run_clear(&run);
    return status;
}

// Inputs have been checked; `outputs` has room for one more than there are.
static emlx_status run_inputs(const emlx_program *p, emlx_tensor *const *inputs,
                              emlx_tensor **outputs, emlx_error *err) {
    size_t count = p->main->input_count, size = (count + 1) * sizeof(emlx_buffer *);
    TRY(evaluate(inputs, count, err));
    emlx_buffer **buffers = mem_alloc(size);
    if (buffers == NULL) return no_memory(err);
    for (size_t i = 0; i < count; i++) buffers[i] = node_buffer(inputs[i]);
    emlx_status status = run_buffers(p, buffers, outputs, err);
    mem_free(buffers, size);
    return status;
}

emlx_status emlx_program_run(emlx_program *program, emlx_tensor *const *inputs, size_t input_count,
                             emlx_tensor **outputs, size_t output_count, emlx_error *err) {
    TRY(check_inputs(program, inputs, input_count, err));
    if (output_count != program->main->output_count)
        return error_set(err, EMLX_INVALID, "room for %zu outputs given, the program has %u",
                         output_count, program->main->output_count);
    return run_inputs(program, inputs, outputs, err);
}

// In the background ------------------------------------------------------------------------------

typedef struct run_job {
    pool_job job;
    emlx_program *program;
    emlx_program_done done;
    void *context;
    emlx_tensor **tensors; // the inputs, then room for the outputs
} run_job;

static size_t tensors_size(const emlx_program *p) {
    return ((size_t)p->main->input_count + p->main->output_count + 1) * sizeof(emlx_tensor *);
}

// Everything but the outputs is given up before the caller hears of the end.
static void run_job_run(pool_job *job) {
    run_job *r = (run_job *)job;
    size_t inputs = r->program->main->input_count, outputs = r->program->main->output_count;
    size_t size = tensors_size(r->program);
    emlx_tensor **tensors = r->tensors;
    emlx_program_done done = r->done;
    void *context = r->context;
    emlx_error err = {0};
    emlx_status status = run_inputs(r->program, tensors, tensors + inputs, &err);
    for (size_t i = 0; i < inputs; i++) emlx_tensor_release(tensors[i]);
    emlx_program_release(r->program);
    mem_free(r, sizeof *r);
    if (status == EMLX_OK)
        done(context, status, tensors + inputs, outputs, &err);
    else
        done(context, status, NULL, 0, &err);
    mem_free(tensors, size);
}

emlx_status emlx_program_run_async(emlx_program *program, emlx_tensor *const *inputs,
                                   size_t input_count, emlx_program_done done, void *context,
                                   emlx_error *err) {
    TRY(check_inputs(program, inputs, input_count, err));
    run_job *r = mem_alloc(sizeof *r);
    if (r == NULL) return no_memory(err);
    r->tensors = mem_alloc(tensors_size(program));
    if (r->tensors == NULL) {
        mem_free(r, sizeof *r);
        return no_memory(err);
    }
    for (size_t i = 0; i < input_count; i++) r->tensors[i] = emlx_tensor_retain(inputs[i]);
    r->job.run = run_job_run;
    r->program = emlx_program_retain(program);
    r->done = done;
    r->context = context;
    pool_submit(program->device->pool, &r->job);
    return EMLX_OK;
}
