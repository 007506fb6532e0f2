// SPDX-License-Identifier: Apache-2.0
// runs.c - running programs as the public interface has it: at once, and in the background with
// stops at calls to the host.
#include <stdio.h>

#include "base/error.h"
#include "base/shape.h"
#include "plan/cost.h"
#include "run/eval.h"
#include "run/run.h"
#include "run/work.h"

// So many tensors need no memory of their own.
enum { FEW = 16 };

// Checking ---------------------------------------------------------------------------------------

static bool fits(const emlx_device *device, const emlx_port *port, const emlx_tensor *given) {
    return given != NULL && emlx_tensor_type(given) == port->type &&
           shape_equal(emlx_tensor_shape(given), &port->shape) &&
           emlx_tensor_device(given) == device;
}

// Says why it does not fit; `what` which tensor it is.
static emlx_status refuse(const emlx_device *device, const emlx_port *port,
                          const emlx_tensor *given, const char *what, emlx_error *err) {
    if (given == NULL) return error_set(err, EMLX_INVALID, "%s is missing", what);
    emlx_type type = emlx_tensor_type(given);
    const emlx_shape *shape = emlx_tensor_shape(given);
    char a[SIGNATURE_TEXT], b[SIGNATURE_TEXT];
    if (type != port->type || !shape_equal(shape, &port->shape))
        return error_set(err, EMLX_INVALID, "%.100s is %.170s, %.170s expected", what,
                         signature_print(type, shape, a),
                         signature_print(port->type, &port->shape, b));
    return error_set(err, EMLX_INVALID, "%s is on device %s, %s expected", what,
                     emlx_device_name(emlx_tensor_device(given)), emlx_device_name(device));
}

static emlx_status check_inputs(const emlx_program *p, emlx_tensor *const *inputs, size_t count,
                                emlx_error *err) {
    if (count != p->main->input_count)
        return error_set(err, EMLX_INVALID, "%zu inputs given, the program has %u", count,
                         p->main->input_count);
    for (size_t i = 0; i < count; i++) {
        char what[100];
        if (fits(p->device, &p->inputs[i], inputs[i])) continue;
        snprintf(what, sizeof what, "program input \"%.60s\"", p->inputs[i].name);
        return refuse(p->device, &p->inputs[i], inputs[i], what, err);
    }
    return EMLX_OK;
}

static emlx_status check_results(const emlx_device *device, const step *call,
                                 emlx_tensor *const *results, size_t count, emlx_error *err) {
    if (count != call->output_count)
        return error_set(err, EMLX_INVALID, "%zu results of a call given, %u expected", count,
                         call->output_count);
    for (size_t i = 0; i < count; i++) {
        char what[48];
        const emlx_port *port = &call->ports[call->input_count + i];
        if (fits(device, port, results[i])) continue;
        snprintf(what, sizeof what, "result %zu of a call", i);
        return refuse(device, port, results[i], what, err);
    }
    return EMLX_OK;
}

// Steps of a run ---------------------------------------------------------------------------------

static bool all_ready(emlx_tensor *const *tensors, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!emlx_tensor_ready(tensors[i])) return false;
    return true;
}

// Starts the run with these inputs, or hands it the results of the host call it waits for. They are
// ready.
static emlx_status feed(program_run *run, const emlx_program *p, emlx_tensor *const *tensors,
                        size_t count, emlx_error *err) {
    emlx_buffer *few[FEW], **buffers = few;
    if (count > FEW) buffers = mem_alloc(count * sizeof *buffers);
    if (buffers == NULL) return run_no_memory(err);
    for (size_t i = 0; i < count; i++) buffers[i] = node_buffer(tensors[i]);
    emlx_status status = EMLX_OK;
    if (run->host_call != NULL)
        run_answer(run, buffers);
    else
        status = run_start(run, p, buffers, err);
    if (buffers != few) mem_free(buffers, count * sizeof *buffers);
    return status;
}

// Makes tensors of a run's results, all or none.
static emlx_status make_tensors(const emlx_program *p, program_run *run, emlx_tensor **outputs,
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

// The caller's array is written on success only.
static emlx_status wrap_results(const emlx_program *p, program_run *run, emlx_tensor **outputs,
                                emlx_error *err) {
    emlx_tensor *few[FEW], **made = few;
    size_t count = run->result_count;
    if (count > FEW) made = mem_alloc(count * sizeof *made);
    if (made == NULL) return run_no_memory(err);
    emlx_status status = make_tensors(p, run, made, err);
    for (size_t i = 0; i < count && status == EMLX_OK; i++) outputs[i] = made[i];
    if (made != few) mem_free(made, count * sizeof *made);
    return status;
}

// What the caller has given goes once the run has its own hold on the data, or none.
static void release_given(emlx_tensor *const *tensors, const bool *given, size_t count) {
    for (size_t i = 0; i < count && given != NULL; i++)
        if (given[i]) emlx_tensor_release(tensors[i]);
}

static emlx_status begin(program_run *run, emlx_program *program, emlx_tensor *const *inputs,
                         size_t input_count, size_t output_count, emlx_error *err) {
    TRY(check_inputs(program, inputs, input_count, err));
    if (output_count != program->main->output_count)
        return error_set(err, EMLX_INVALID, "room for %zu outputs given, the program has %u",
                         output_count, program->main->output_count);
    if (program->main->host_calls)
        return error_set(err, EMLX_UNSUPPORTED,
                         "the program calls its host, which emlx_program_start is for");
    if (!all_ready(inputs, input_count))
        TRY(eval_tensors(inputs, input_count, &(eval_how){0}, err));
    return feed(run, program, inputs, input_count, err);
}

emlx_status emlx_program_run_given(emlx_program *program, emlx_tensor *const *inputs,
                                   const bool *given, size_t input_count, emlx_tensor **outputs,
                                   size_t output_count, emlx_error *err) {
    REQUIRE(program);
    REQUIRE_ITEMS(inputs, input_count);
    REQUIRE_ITEMS(outputs, output_count);
    program_run run = {0};
    emlx_status status = begin(&run, program, inputs, input_count, output_count, err);
    release_given(inputs, given, input_count);
    if (status == EMLX_OK) status = run_through(&run, err);
    if (status == EMLX_OK) status = wrap_results(program, &run, outputs, err);
    run_clear(&run);
    return status;
}

emlx_status emlx_program_run(emlx_program *program, emlx_tensor *const *inputs, size_t input_count,
                             emlx_tensor **outputs, size_t output_count, emlx_error *err) {
    return emlx_program_run_given(program, inputs, NULL, input_count, outputs, output_count, err);
}

// In the background ------------------------------------------------------------------------------

struct emlx_run {
    pool_job job;
    work_pause pause;
    bool here;       // it is done on the caller's thread
    eval_state eval; // of those of `tensors` that are pending
    emlx_program *program;
    program_run run;
    emlx_stopped stopped;
    void *context;
    emlx_tensor **tensors; // the inputs, or the results of the call: references
    size_t count;
};

static void drop_tensors(emlx_run *r) {
    for (size_t i = 0; i < r->count; i++) emlx_tensor_release(r->tensors[i]);
    mem_free(r->tensors, (r->count + 1) * sizeof *r->tensors);
    r->tensors = NULL;
    r->count = 0;
}

void emlx_run_release(emlx_run *run) {
    if (run == NULL) return;
    if (run->tensors != NULL) drop_tensors(run);
    run_clear(&run->run);
    emlx_program_release(run->program);
    mem_free(run, sizeof *run);
}

static emlx_status feed_tensors(emlx_run *r, emlx_error *err) {
    if (r->eval.end != NULL || !all_ready(r->tensors, r->count)) TRY(eval_go_on(&r->eval, err));
    if (r->eval.end != NULL) return EMLX_OK;
    emlx_status status = feed(&r->run, r->program, r->tensors, r->count, err);
    // Let go before anything runs, as the run has its own hold on the data.
    drop_tensors(r);
    return status;
}

// Runs to the next stop, or to where it waits for the device.
static emlx_status go_to_stop(emlx_run *r, emlx_error *err) {
    if (r->tensors != NULL) TRY(feed_tensors(r, err));
    return r->eval.end != NULL ? EMLX_OK : run_go(&r->run, err);
}

// Whether it is not there yet, but waits for *end, or, where that is NULL, gave way.
static bool is_between(const emlx_run *r, fence **end) {
    *end = r->eval.end != NULL ? r->eval.end : r->run.waits ? r->run.end : NULL;
    return *end != NULL || r->run.gave_way;
}

// False where it is run once more.
static bool advance_to_stop(emlx_run *r, emlx_status *status, emlx_error *err) {
    fence *end = NULL;
    *status = go_to_stop(r, err);
    while (*status == EMLX_OK && is_between(r, &end)) {
        if (!r->here) {
            work_wait(&r->pause, end);
            return false;
        }
        fence_wait(end, NULL);
        *status = go_to_stop(r, err);
    }
    return true;
}

// Fills stop->tensors, which the caller frees: there is room for one more than stop->count.
static emlx_status stop_tensors(emlx_run *r, emlx_stop *stop, emlx_error *err) {
    const step *call = r->run.host_call;
    size_t count = call != NULL ? call->input_count : r->run.result_count;
    emlx_tensor **tensors = mem_alloc((count + 1) * sizeof *tensors);
    if (tensors == NULL) return run_no_memory(err);
    emlx_status status = call != NULL ? run_operands(&r->run, tensors, err)
                                      : make_tensors(r->program, &r->run, tensors, err);
    if (status != EMLX_OK) {
        mem_free(tensors, (count + 1) * sizeof *tensors);
        return status;
    }
    stop->tensors = tensors;
    stop->count = count;
    return EMLX_OK;
}

// A run that is over is given up before the host hears of it.
static void run_job(pool_job *job) {
    emlx_run *r = (emlx_run *)job;
    emlx_stopped stopped = r->stopped;
    void *context = r->context;
    emlx_error err = {0};
    emlx_stop stop = {.err = &err};
    if (!advance_to_stop(r, &stop.status, &err)) return;
    if (stop.status == EMLX_OK) stop.status = stop_tensors(r, &stop, &err);
    if (stop.status == EMLX_OK && r->run.host_call != NULL) {
        stop.run = r;
        stop.call = r->run.host_call->host_call;
    } else {
        emlx_run_release(r);
    }
    stopped(context, &stop);
    if (stop.tensors != NULL) mem_free(stop.tensors, (stop.count + 1) * sizeof *stop.tensors);
}

static emlx_status submit(emlx_run *r, emlx_tensor *const *tensors, const bool *given, size_t count,
                          const emlx_work *work, emlx_stopped stopped, void *context,
                          emlx_error *err) {
    r->tensors = mem_alloc((count + 1) * sizeof(emlx_tensor *));
    if (r->tensors == NULL) return run_no_memory(err);
    for (size_t i = 0; i < count; i++)
        r->tensors[i] = given != NULL && given[i] ? tensors[i] : emlx_tensor_retain(tensors[i]);
    r->count = count;
    r->pause.device = r->program->device;
    r->pause.queue = work == NULL ? NULL : work->queue;
    r->pause.job = &r->job;
    r->run.cancel = work == NULL ? NULL : work->cancel;
    r->run.stream = queue_stream(r->pause.queue);
    r->eval = (eval_state){r->tensors, count, {r->run.stream, r->run.cancel}, NULL};
    r->here = work != NULL && work->here;
    if (!r->here) r->run.pool = r->program->device->pool;
    r->stopped = stopped;
    r->context = context;
    if (r->here)
        run_job(&r->job);
    else
        work_submit(r->program->device, work, &r->job);
    return EMLX_OK;
}

// Pending tensors are computed first, if that is brief too. One that fails fails again in the run,
// which says so.
static bool is_brief(const emlx_program *p, emlx_tensor *const *tensors, size_t count) {
    if (p->main->cost > COST_BRIEF || !p->device->ops->immediate) return false;
    bool ready = true;
    emlx_error err;
    if (tensors == NULL && count > 0) return false;
    for (size_t i = 0; i < count; i++) ready = ready && emlx_tensor_ready(tensors[i]);
    return ready || (emlx_eval_brief(tensors, count, &ready, &err) == EMLX_OK && ready);
}

bool emlx_program_brief(const emlx_program *program, emlx_tensor *const *inputs,
                        size_t input_count) {
    return program != NULL && is_brief(program, inputs, input_count);
}

bool emlx_run_brief(const emlx_run *run, emlx_tensor *const *results, size_t result_count) {
    return run != NULL && is_brief(run->program, results, result_count);
}

static emlx_status start(emlx_program *program, emlx_tensor *const *inputs, size_t input_count,
                         const emlx_work *work, emlx_stopped stopped, void *context,
                         emlx_error *err) {
    TRY(check_inputs(program, inputs, input_count, err));
    TRY(work_check(program->device, work, err));
    emlx_run *r = mem_alloc(sizeof *r);
    if (r == NULL) return run_no_memory(err);
    r->job.run = run_job;
    r->job.small = program->main->cost <= COST_SMALL;
    r->program = emlx_program_retain(program);
    const bool *given = work != NULL ? work->given : NULL;
    emlx_status status = submit(r, inputs, given, input_count, work, stopped, context, err);
    if (status != EMLX_OK) emlx_run_release(r);
    return status;
}

emlx_status emlx_program_start(emlx_program *program, emlx_tensor *const *inputs,
                               size_t input_count, const emlx_work *work, emlx_stopped stopped,
                               void *context, emlx_error *err) {
    REQUIRE(program);
    REQUIRE(stopped);
    REQUIRE_ITEMS(inputs, input_count);
    emlx_status status = start(program, inputs, input_count, work, stopped, context, err);
    if (status != EMLX_OK && work != NULL) release_given(inputs, work->given, input_count);
    return status;
}

emlx_status emlx_run_resume(emlx_run *run, emlx_tensor *const *results, size_t result_count,
                            const emlx_work *work, emlx_stopped stopped, void *context,
                            emlx_error *err) {
    REQUIRE(run);
    REQUIRE(stopped);
    REQUIRE_ITEMS(results, result_count);
    TRY(check_results(run->program->device, run->run.host_call, results, result_count, err));
    TRY(work_check(run->program->device, work, err));
    return submit(run, results, NULL, result_count, work, stopped, context, err);
}
