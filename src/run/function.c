// SPDX-License-Identifier: Apache-2.0
// function.c - functions made of blocks.
#include "graph/function.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "engine.h"
#include "run/run.h"
#include "threads/mutex.h"

typedef struct block_function {
    emlx_function face;
    emlx_block *block;
    emlx_tensor **inputs;
    pthread_mutex_t lock; // guards the making of `program`
    emlx_program program; // of which only the device and the code are there
} block_function;

static void function_destroy(emlx_function *function) {
    block_function *f = (block_function *)function;
    if (f->inputs != NULL) mem_free(f->inputs, (f->face.input_count + 1) * sizeof *f->inputs);
    code_release(f->program.main);
    emlx_device_release(f->program.device);
    f->block->owned = false;
    emlx_block_release(f->block);
    pthread_mutex_destroy(&f->lock);
    mem_free(f, sizeof *f);
}

// Compiled when it is first called: most functions are written out and never are.
static emlx_status compiled(block_function *f, emlx_error *err) {
    emlx_status status = EMLX_OK;
    mutex_lock(&f->lock);
    if (f->program.device == NULL) status = emlx_device_open("cpu", &f->program.device, err);
    if (status == EMLX_OK && f->program.main == NULL)
        status = code_compile(f->block, f->program.device, &f->program.main, err);
    mutex_unlock(&f->lock);
    return status;
}

static emlx_status run_buffers(const block_function *f, emlx_buffer *const *inputs, void *output,
                               emlx_error *err) {
    program_run run = {0};
    emlx_device *device = f->program.device;
    emlx_status status = run_start(&run, &f->program, inputs, err);
    if (status == EMLX_OK) status = run_through(&run, err);
    if (status == EMLX_OK && run.host_call != NULL)
        status = error_set(err, EMLX_UNSUPPORTED, "a function of scalars cannot call the host");
    if (status == EMLX_OK)
        status = device->ops->download(device, run.results[0], 0, output,
                                       emlx_tensor_bytes(f->face.output), err);
    run_clear(&run);
    return status;
}

static emlx_status upload(const block_function *f, size_t i, const void *data, emlx_buffer **out,
                          emlx_error *err) {
    emlx_device *device = f->program.device;
    size_t size = emlx_tensor_bytes(f->inputs[i]);
    TRY(device->ops->allocate(device, size, out, err));
    return device->ops->upload(device, *out, data, size, err);
}

static emlx_status function_call(emlx_function *function, const void *const *inputs, void *output,
                                 emlx_error *err) {
    block_function *f = (block_function *)function;
    size_t count = function->input_count, size = (count + 1) * sizeof(emlx_buffer *);
    TRY(compiled(f, err));
    emlx_buffer **buffers = mem_alloc(size);
    if (buffers == NULL) return error_no_memory(err, "for a function");
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < count && status == EMLX_OK; i++)
        status = upload(f, i, inputs[i], &buffers[i], err);
    if (status == EMLX_OK) status = run_buffers(f, buffers, output, err);
    for (size_t i = 0; i < count; i++) buffer_release(buffers[i]);
    mem_free(buffers, size);
    return status;
}

static emlx_status check_block(const emlx_block *block, emlx_error *err) {
    if (block == NULL) return error_set(err, EMLX_INVALID, "emlx_function_new: block is NULL");
    if (block->owned)
        return error_set(err, EMLX_INVALID, "the program block is part of another one already");
    if (block->outputs.count != 1)
        return error_set(err, EMLX_INVALID, "a function has 1 output, got %zu",
                         block->outputs.count);
    return EMLX_OK;
}

static emlx_status function_fill(block_function *f, emlx_error *err) {
    const emlx_block *block = f->block;
    f->face.block = block;
    f->face.call = function_call;
    f->face.destroy = function_destroy;
    f->face.output = block_symbol(block, block->outputs.items[0].value);
    f->inputs = mem_alloc((block->inputs.count + 1) * sizeof *f->inputs);
    if (f->inputs == NULL) return error_no_memory(err, "for a function");
    f->face.inputs = f->inputs;
    f->face.input_count = block->inputs.count;
    for (size_t i = 0; i < block->inputs.count; i++)
        f->inputs[i] = block_symbol(block, block->inputs.items[i].value);
    return EMLX_OK;
}

emlx_status emlx_function_new(emlx_block *block, emlx_function **out, emlx_error *err) {
    emlx_status status = check_block(block, err);
    if (status == EMLX_OK && out == NULL)
        status = error_set(err, EMLX_INVALID, "emlx_function_new: out is NULL");
    block_function *f = status == EMLX_OK ? mem_alloc(sizeof *f) : NULL;
    if (status == EMLX_OK && f == NULL) status = error_no_memory(err, "for a function");
    if (status != EMLX_OK) {
        emlx_block_release(block);
        return status;
    }
    f->block = block;
    block->owned = true;
    atomic_init(&f->face.references, 1);
    pthread_mutex_init(&f->lock, NULL);
    status = function_fill(f, err);
    if (status == EMLX_OK)
        *out = &f->face;
    else
        function_destroy(&f->face);
    return status;
}
