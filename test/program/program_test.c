// SPDX-License-Identifier: Apache-2.0
// program_test.c - compiling and running: control flow, sharing, wrong inputs, many at once,
// cancelling, and running out of memory anywhere.
#include <math.h>
#include <pthread.h>

#include "memory/memory.h"
#include "program/programs.h"
#include "run/run.h"

static const float literal_data[3] = {10, 20, 30};
static const float sample_x[3][6] = {
    {1, 2, 3, 4, 5, 6}, {1, 2, -3, 4, 1, -2}, {-1, -2, -3, 4, -5, 1}};

static emlx_program *sample(emlx_device *device) {
    emlx_tensor *literal = tensor_f32(device, literal_data, 1, 3);
    emlx_program *program = compile(sample_block(literal), device);
    emlx_tensor_release(literal);
    return program;
}

static void the_sample_runs(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    for (int c = 0; c < 3; c++)
        for (int32_t n = 0; n < 5; n++)
            assert_sample(program, device, sample_x[c], n, literal_data);
    emlx_program_release(program);
    emlx_device_release(device);
}

static void ports_are_described(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    assert_int_equal(emlx_program_input_count(program), 2);
    assert_int_equal(emlx_program_output_count(program), 7);
    assert_string_equal(emlx_program_input(program, 1)->name, "n");
    assert_int_equal(emlx_program_input(program, 1)->type, EMLX_S32);
    assert_string_equal(emlx_program_output(program, 1)->name, "choice");
    assert_int_equal(emlx_program_output(program, 1)->shape.dims[1], 3);
    assert_null(emlx_program_input(program, 2));
    assert_null(emlx_program_output(program, 7));
    assert_true(emlx_program_kernel_count(program) > 5);
    assert_true(emlx_program_op_count(program) > 20);
    emlx_program_release(program);
    emlx_device_release(device);
}

static size_t unprepared(const code *c) {
    size_t count = 0;
    for (size_t i = 0; i < c->steps.count; i++) {
        const step *st = &c->steps.items[i];
        if (st->kind == STEP_SEGMENT) count += atomic_load(&st->planned.plan->prepared) == NULL;
        for (uint32_t b = 0; b < st->block_count; b++) count += unprepared(st->blocks[b]);
    }
    return count;
}

// The first run is no longer than others.
static void plans_are_prepared_when_compiled(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    assert_int_equal(unprepared(program->main), 0);
    emlx_program_release(program);
    emlx_device_release(device);
}

// exp is used before, inside and after a cond: it must be in one kernel of one segment only.
static void shared_values_are_computed_once(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block(), *p = new_block(), *t = new_block(), *f = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), e = op(b, "exp", 1, x), first;
    emlx_block *inner[] = {p, t, f};
    for (int i = 0; i < 3; i++) input(inner[i], NULL, EMLX_F32, 0);
    output(p, NULL, 0);
    output(t, NULL, 0);
    output(f, NULL, 0);
    uint32_t sum = sum_all(b, e);
    assert_ok(emlx_block_cond(b, &p, 1, (emlx_block *[]){t, f}, 2, &sum, 1, &first, &err), err);
    output(b, NULL, op(b, "add", 2, op(b, "negate", 1, e), first));
    emlx_program *program = compile(b, device);
    // One kernel for exp with its sum (or one each), one for the rest; none in the blocks.
    assert_in_range(emlx_program_kernel_count(program), 2, 3);
    assert_int_equal(emlx_program_op_count(program), 4);
    emlx_program_release(program);
    emlx_device_release(device);
}

// What no output needs is neither planned nor run: the loop would never end.
static void unused_control_flow_is_dropped(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_S32, 0), first;
    input(condition, NULL, EMLX_S32, 0);
    output(condition, NULL, int_constant(condition, 1));
    output(body, NULL, input(body, NULL, EMLX_S32, 0));
    assert_ok(emlx_block_while(b, condition, body, &x, 1, &first, &err), err);
    output(b, "y", op(b, "add", 2, x, x));
    emlx_program *program = compile(b, device);
    emlx_tensor *in = scalar_s32(device, 21), *out;
    assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
    assert_s32(out, (int32_t[]){42}, 1);
    emlx_tensor_release(in);
    emlx_tensor_release(out);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Outputs without any kernel: an input, a literal, a constant, a view.
static void outputs_may_be_anything(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *literal = tensor_f32(device, literal_data, 1, 3), *outputs[5], *in;
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), c, t;
    input(b, "unused", EMLX_F32, 0);
    assert_ok(emlx_block_tensor(b, literal, &c, &err), err);
    emlx_attr axes = {
        .name = "axes", .kind = EMLX_ATTR_INTS, .ints = (int64_t[]){1, 0}, .count = 2};
    assert_ok(emlx_block_apply(b, emlx_op_find("transpose"), &x, 1, &axes, 1, EMLX_TYPE_DEFAULT, &t,
                               &err),
              err);
    output(b, NULL, x);
    output(b, NULL, c);
    output(b, NULL, int_constant(b, 7));
    output(b, NULL, t);
    output(b, NULL, x);
    emlx_program *program = compile(b, device);
    in = tensor_f32(device, sample_x[0], 2, 2, 3);
    emlx_tensor *inputs[] = {in, tensor_f32(device, literal_data, 0)};
    assert_ok(emlx_program_run(program, inputs, 2, outputs, 5, &err), err);
    assert_f32(outputs[0], sample_x[0], 6);
    assert_f32(outputs[1], literal_data, 3);
    assert_s32(outputs[2], (int32_t[]){7}, 1);
    assert_f32(outputs[3], (float[]){1, 4, 2, 5, 3, 6}, 6);
    assert_f32(outputs[4], sample_x[0], 6);
    for (int i = 0; i < 5; i++) emlx_tensor_release(outputs[i]);
    for (int i = 0; i < 2; i++) emlx_tensor_release(inputs[i]);
    emlx_tensor_release(literal);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Literals and inputs that are not computed yet.
static void pending_tensors_are_computed(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_tensor *ready = tensor_f32(device, literal_data, 1, 3), *pending, *out;
    assert_ok(emlx_apply(emlx_op_find("negate"), device, &ready, 1, NULL, 0, EMLX_TYPE_DEFAULT,
                         &pending, &err),
              err);
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 1, 3), c;
    assert_ok(emlx_block_tensor(b, pending, &c, &err), err);
    output(b, "y", op(b, "multiply", 2, x, c));
    emlx_tensor_release(pending);
    emlx_program *program = compile(b, device);
    assert_ok(emlx_apply(emlx_op_find("add"), device, (emlx_tensor *[]){ready, ready}, 2, NULL, 0,
                         EMLX_TYPE_DEFAULT, &pending, &err),
              err);
    assert_ok(emlx_program_run(program, &pending, 1, &out, 1, &err), err);
    assert_f32(out, (float[]){-200, -800, -1800}, 3);
    emlx_tensor_release(pending);
    emlx_tensor_release(out);
    emlx_tensor_release(ready);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Predicates of any type; NaN is not zero.
static void predicates_may_be_of_any_type(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    static const emlx_type types[] = {EMLX_U8, EMLX_S16, EMLX_S64, EMLX_F16, EMLX_F64};
    static const double values[] = {0, 1, -3, 0.5, NAN};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        emlx_block *b = new_block(), *inner[3];
        uint32_t x = input(b, "x", EMLX_F64, 0), value, first;
        assert_ok(
            emlx_block_apply(b, emlx_op_find("as_type"), &x, 1, NULL, 0, types[i], &value, &err),
            err);
        for (int k = 0; k < 3; k++) {
            inner[k] = new_block();
            uint32_t v = input(inner[k], NULL, types[i], 0);
            output(inner[k], NULL, k == 0 ? v : int_constant(inner[k], k));
        }
        assert_ok(emlx_block_cond(b, inner, 1, inner + 1, 2, &value, 1, &first, &err), err);
        output(b, NULL, first);
        emlx_program *program = compile(b, device);
        bool real = types[i] == EMLX_F16 || types[i] == EMLX_F64;
        for (size_t k = 0; k < 5; k++) {
            if (isnan(values[k]) && !real) continue;
            if (values[k] < 0 && types[i] == EMLX_U8) continue;
            emlx_tensor *in, *out;
            emlx_shape scalar = {0};
            assert_ok(emlx_tensor_from_data(device, EMLX_F64, &scalar, &values[k], 8, &in, &err),
                      err);
            assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
            bool yes = real ? values[k] != 0 : (int)values[k] != 0;
            assert_s32(out, (int32_t[]){yes ? 1 : 2}, 1);
            emlx_tensor_release(in);
            emlx_tensor_release(out);
        }
        emlx_program_release(program);
    }
    emlx_device_release(device);
}

static void wrong_inputs_are_named(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    emlx_tensor *x = tensor_f32(device, sample_x[0], 2, 2, 3), *n = scalar_s32(device, 2);
    emlx_tensor *flat = tensor_f32(device, sample_x[0], 1, 6), *outputs[7];
    assert_error(emlx_program_run(program, (emlx_tensor *[]){x}, 1, outputs, 7, &err), EMLX_INVALID,
                 err, "1 inputs given, the program has 2");
    assert_error(emlx_program_run(program, (emlx_tensor *[]){x, x}, 2, outputs, 7, &err),
                 EMLX_INVALID, err, "program input \"n\" is f32 {2, 3}, s32 {} expected");
    assert_error(emlx_program_run(program, (emlx_tensor *[]){flat, n}, 2, outputs, 7, &err),
                 EMLX_INVALID, err, "program input \"x\" is f32 {6}, f32 {2, 3} expected");
    assert_error(emlx_program_run(program, (emlx_tensor *[]){x, NULL}, 2, outputs, 7, &err),
                 EMLX_INVALID, err, "\"n\" is missing");
    assert_error(emlx_program_run(program, (emlx_tensor *[]){x, n}, 2, outputs, 5, &err),
                 EMLX_INVALID, err, "room for 5 outputs");
    emlx_tensor_release(x);
    emlx_tensor_release(n);
    emlx_tensor_release(flat);
    emlx_program_release(program);
    emlx_device_release(device);
}

// A failure in the middle names the op, and nothing is lost.
static void failures_name_the_op(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_S32, 0), y = input(b, "y", EMLX_S32, 0);
    output(b, NULL, op(b, "quotient", 2, x, y));
    emlx_program *program = compile(b, device);
    emlx_tensor *inputs[] = {scalar_s32(device, 1), scalar_s32(device, 0)}, *out;
    assert_error(emlx_program_run(program, inputs, 2, &out, 1, &err), EMLX_ARITHMETIC, err,
                 "quotient");
    emlx_tensor_release(inputs[0]);
    emlx_tensor_release(inputs[1]);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Concurrency ------------------------------------------------------------------------------------

typedef struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int left, failed;
} waiting;

static void run_stopped(void *context, const emlx_stop *stop) {
    waiting *w = context;
    float loop[6] = {0};
    bool right = stop->status == EMLX_OK && stop->run == NULL && stop->count == 7 &&
                 emlx_tensor_read(stop->tensors[0], 0, loop, sizeof loop, NULL) == EMLX_OK &&
                 loop[0] == sample_x[0][0] + 6;
    for (size_t i = 0; i < stop->count; i++) emlx_tensor_release(stop->tensors[i]);
    pthread_mutex_lock(&w->lock);
    w->left--;
    w->failed += !right;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void a_hundred_runs_at_once(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    waiting w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 100, 0};
    for (int i = 0; i < 100; i++) {
        emlx_tensor *inputs[] = {tensor_f32(device, sample_x[0], 2, 2, 3), scalar_s32(device, 4)};
        assert_ok(emlx_program_start(program, inputs, 2, NULL, run_stopped, &w, &err), err);
        emlx_tensor_release(inputs[0]);
        emlx_tensor_release(inputs[1]);
    }
    emlx_program_release(program);
    pthread_mutex_lock(&w.lock);
    while (w.left > 0) pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    assert_int_equal(w.failed, 0);
    emlx_device_release(device);
}

static void *run_often(void *context) {
    emlx_program *program = context;
    emlx_device *device;
    emlx_shape shape = {.rank = 2, .dims = {2, 3}}, scalar = {0};
    int32_t n = 4;
    intptr_t wrong = 0;
    if (emlx_device_open("cpu", &device, NULL) != EMLX_OK) return (void *)1;
    for (int i = 0; i < 20; i++) {
        emlx_tensor *inputs[2] = {NULL}, *outputs[7] = {NULL};
        float loop[6] = {0};
        wrong += emlx_tensor_from_data(device, EMLX_F32, &shape, sample_x[0], 24, &inputs[0], NULL);
        wrong += emlx_tensor_from_data(device, EMLX_S32, &scalar, &n, 4, &inputs[1], NULL);
        wrong += emlx_program_run(program, inputs, 2, outputs, 7, NULL);
        wrong += emlx_tensor_read(outputs[0], 0, loop, sizeof loop, NULL);
        wrong += loop[0] != sample_x[0][0] + 6;
        for (int k = 0; k < 2; k++) emlx_tensor_release(inputs[k]);
        for (int k = 0; k < 7; k++) emlx_tensor_release(outputs[k]);
    }
    emlx_device_release(device);
    return (void *)wrong;
}

static void threads_share_a_program(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_often, program), 0);
    for (int i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    emlx_program_release(program);
    emlx_device_release(device);
}

static void a_run_can_be_cancelled(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program = sample(device);
    emlx_tensor *inputs[] = {tensor_f32(device, sample_x[0], 2, 2, 3), scalar_s32(device, 4)};
    emlx_buffer *buffers[] = {node_buffer(inputs[0]), node_buffer(inputs[1])};
    emlx_cancel cancel = {0};
    program_run run = {.cancel = &cancel};
    assert_ok(run_start(&run, program, buffers, &err), err);
    emlx_cancel_raise(&cancel);
    assert_error(run_go(&run, &err), EMLX_CANCELLED, err, "cancelled");
    run_clear(&run);
    emlx_tensor_release(inputs[0]);
    emlx_tensor_release(inputs[1]);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Memory -----------------------------------------------------------------------------------------

// while x > 0: y = tanh(y) + y, x = x - 1
static emlx_program *countdown(emlx_device *device) {
    emlx_error err;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    emlx_block *inner[] = {condition, body};
    uint32_t state[2] = {input(b, "x", EMLX_S32, 0), input(b, "y", EMLX_F32, 1, 300)}, first;
    uint32_t x[2], y[2];
    for (int i = 0; i < 2; i++) {
        x[i] = input(inner[i], NULL, EMLX_S32, 0);
        y[i] = input(inner[i], NULL, EMLX_F32, 1, 300);
    }
    output(condition, NULL, op(condition, "greater", 2, x[0], int_constant(condition, 0)));
    output(body, NULL, op(body, "subtract", 2, x[1], int_constant(body, 1)));
    output(body, NULL, op(body, "add", 2, op(body, "tanh", 1, y[1]), y[1]));
    assert_ok(emlx_block_while(b, condition, body, state, 2, &first, &err), err);
    output(b, "y", first + 1);
    return compile(b, device);
}

// How many allocations a run asks for, of structures and of buffers alike: the first number of them
// that suffices.
static size_t allocations(emlx_program *program, emlx_device *device, int32_t turns) {
    static const float zeros[300];
    emlx_error err;
    emlx_tensor *in[2] = {scalar_s32(device, turns), tensor_f32(device, zeros, 1, 300)}, *out;
    size_t n = 0;
    emlx_status status = EMLX_OUT_OF_MEMORY;
    while (status != EMLX_OK && n < 1000) {
        mem_fail_from(++n);
        status = emlx_program_run(program, in, 2, &out, 1, &err);
        mem_fail_from(0);
    }
    assert_ok(status, err);
    emlx_tensor_release(out);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    return n;
}

// Plans that are run again ask for nothing: a thousand turns take as many allocations as ten.
static void turns_allocate_nothing(void **state) {
    (void)state;
    emlx_device *device = cpu();
    emlx_program *program = countdown(device);
    size_t few = allocations(program, device, 10);
    assert_int_equal(allocations(program, device, 1000), few);
    emlx_program_release(program);
    emlx_device_release(device);
}

// A state that only the loop holds is updated in place: memory stays bounded by a few copies.
static void loops_reuse_their_state(void **state) {
    (void)state;
    emlx_error err;
    enum { COUNT = 1 << 18 };
    emlx_device *device = cpu();
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 0), first;
    uint32_t zeros = op(b, "multiply", 2, x, int_constant(b, 0)), wide;
    emlx_attr attrs[] = {
        {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = (int64_t[]){COUNT}, .count = 1},
        {.name = "axes", .kind = EMLX_ATTR_INTS}};
    assert_ok(emlx_block_apply(b, emlx_op_find("broadcast"), &zeros, 1, attrs, 2, EMLX_TYPE_DEFAULT,
                               &wide, &err),
              err);
    uint32_t i = input(condition, NULL, EMLX_S32, 0);
    input(condition, NULL, EMLX_F32, 1, COUNT);
    output(condition, NULL, op(condition, "less", 2, i, int_constant(condition, 50)));
    i = input(body, NULL, EMLX_S32, 0);
    uint32_t acc = input(body, NULL, EMLX_F32, 1, COUNT);
    output(body, NULL, op(body, "add", 2, i, int_constant(body, 1)));
    output(body, NULL, op(body, "add", 2, acc, real_constant(body, 1)));
    uint32_t start[] = {int_constant(b, 0), wide};
    assert_ok(emlx_block_while(b, condition, body, start, 2, &first, &err), err);
    output(b, "y", op(b, "reduce_max", 1, first + 1));
    emlx_program *program = compile(b, device);
    float one = 1;
    emlx_tensor *in = tensor_f32(device, &one, 0), *out;
    emlx_memory before, after;
    emlx_memory_reset_peak();
    emlx_memory_info(&before);
    assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
    emlx_memory_info(&after);
    assert_f32(out, (float[]){50}, 1);
    assert_true(after.peak - before.active <= 2 * COUNT * sizeof(float) + 4096);
    emlx_tensor_release(in);
    emlx_tensor_release(out);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Everything from the block to the results, giving up at the first failure.
static emlx_status whole_life(emlx_device *device, emlx_tensor *literal, emlx_error *err) {
    emlx_block *b;
    uint32_t x, c, sum, first, inner_x;
    emlx_shape shape = {.rank = 1, .dims = {3}};
    emlx_block *inner[3] = {NULL};
    emlx_status status = emlx_block_new(&b, err);
    if (status != EMLX_OK) return status;
    status = emlx_block_input(b, "x", EMLX_F32, &shape, &x, err);
    if (status == EMLX_OK) status = emlx_block_tensor(b, literal, &c, err);
    if (status == EMLX_OK)
        status =
            emlx_block_apply(b, emlx_op_find("sum"), &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, &sum, err);
    for (int i = 0; i < 3 && status == EMLX_OK; i++) {
        status = emlx_block_new(&inner[i], err);
        if (status == EMLX_OK)
            status = emlx_block_input(inner[i], NULL, EMLX_F32, &(emlx_shape){0}, &inner_x, err);
        if (status == EMLX_OK) status = emlx_block_output(inner[i], NULL, inner_x, err);
    }
    if (status == EMLX_OK)
        status = emlx_block_cond(b, inner, 1, inner + 1, 2, &sum, 1, &first, err);
    if (status != EMLX_OK)
        for (int i = 0; i < 3; i++) emlx_block_release(inner[i]);
    uint32_t pair[] = {c, first}, y;
    if (status == EMLX_OK)
        status =
            emlx_block_apply(b, emlx_op_find("add"), pair, 2, NULL, 0, EMLX_TYPE_DEFAULT, &y, err);
    if (status == EMLX_OK) status = emlx_block_output(b, "y", y, err);
    if (status != EMLX_OK) {
        emlx_block_release(b);
        return status;
    }
    emlx_program *program;
    status = emlx_program_compile(b, device, &program, err);
    if (status != EMLX_OK) return status;
    emlx_tensor *out;
    status = emlx_program_run(program, &literal, 1, &out, 1, err);
    emlx_program_release(program);
    if (status != EMLX_OK) return status;
    float data[3];
    status = emlx_tensor_read(out, 0, data, sizeof data, err);
    assert_true(status != EMLX_OK || data[1] == 80);
    emlx_tensor_release(out);
    return status;
}

// The device keeps plans between runs, so it is opened anew for every attempt.
static void no_allocation_may_fail_unnoticed(void **state) {
    (void)state;
    emlx_error err;
    size_t held = mem_held();
    emlx_status status = EMLX_OUT_OF_MEMORY;
    for (size_t n = 1; status != EMLX_OK && n < 2000; n++) {
        emlx_device *device = cpu();
        emlx_tensor *literal = tensor_f32(device, literal_data, 1, 3);
        mem_fail_from(n);
        status = whole_life(device, literal, &err);
        mem_fail_from(0);
        if (status != EMLX_OK && status != EMLX_OUT_OF_MEMORY)
            fail_msg("allocation %zu: %s", n, err.message);
        emlx_tensor_release(literal);
        emlx_device_release(device);
        if (mem_held() != held) fail_msg("allocation %zu: memory was lost", n);
    }
    assert_int_equal(status, EMLX_OK);
}

// Outputs are written on success only, so that a caller may release what it put there itself.
static void failing_runs_write_no_outputs(void **state) {
    (void)state;
    enum { COUNT = 24 };
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block();
    emlx_tensor *in[COUNT], *out[COUNT];
    for (int i = 0; i < COUNT; i++) {
        output(b, NULL, input(b, NULL, EMLX_S32, 0));
        in[i] = scalar_s32(device, i);
    }
    emlx_program *program = compile(b, device);
    emlx_status status = EMLX_OUT_OF_MEMORY;
    size_t n = 1;
    for (; status != EMLX_OK && n < 200; n++) {
        memset(out, 0x5a, sizeof out);
        mem_fail_from(n);
        status = emlx_program_run(program, in, COUNT, out, COUNT, &err);
        mem_fail_from(0);
        for (size_t i = 0; i < sizeof out && status != EMLX_OK; i++)
            assert_int_equal(((uint8_t *)out)[i], 0x5a);
    }
    assert_int_equal(status, EMLX_OK);
    assert_true(n > COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_s32(out[i], &(int32_t){i}, 1);
        emlx_tensor_release(out[i]);
        emlx_tensor_release(in[i]);
    }
    emlx_program_release(program);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_runs),
        cmocka_unit_test(ports_are_described),
        cmocka_unit_test(shared_values_are_computed_once),
        cmocka_unit_test(unused_control_flow_is_dropped),
        cmocka_unit_test(failing_runs_write_no_outputs),
        cmocka_unit_test(outputs_may_be_anything),
        cmocka_unit_test(pending_tensors_are_computed),
        cmocka_unit_test(predicates_may_be_of_any_type),
        cmocka_unit_test(wrong_inputs_are_named),
        cmocka_unit_test(failures_name_the_op),
        cmocka_unit_test(a_hundred_runs_at_once),
        cmocka_unit_test(threads_share_a_program),
        cmocka_unit_test(plans_are_prepared_when_compiled),
        cmocka_unit_test(a_run_can_be_cancelled),
        cmocka_unit_test(turns_allocate_nothing),
        cmocka_unit_test(loops_reuse_their_state),
        cmocka_unit_test(no_allocation_may_fail_unnoticed),
    };
    return RUN_TESTS("program/program", tests);
}
