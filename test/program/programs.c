// SPDX-License-Identifier: Apache-2.0
// programs.c - building small programs in tests, tersely.
#include "program/programs.h"

#include <math.h>
#include <stdlib.h>

emlx_block *new_block(void) {
    emlx_error err;
    emlx_block *b;
    assert_ok(emlx_block_new(&b, &err), err);
    return b;
}

static emlx_shape shape_of(int rank, va_list lengths) {
    emlx_shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) shape.dims[i] = va_arg(lengths, int);
    return shape;
}

uint32_t input(emlx_block *b, const char *name, emlx_type type, int rank, ...) {
    emlx_error err;
    uint32_t value;
    va_list lengths;
    va_start(lengths, rank);
    emlx_shape shape = shape_of(rank, lengths);
    va_end(lengths);
    assert_ok(emlx_block_input(b, name, type, &shape, &value, &err), err);
    return value;
}

static uint32_t apply_list(emlx_block *b, const char *name, const emlx_attr *attrs,
                           size_t attr_count, int operands, va_list list) {
    emlx_error err;
    uint32_t values[8], value;
    for (int i = 0; i < operands; i++) values[i] = va_arg(list, uint32_t);
    assert_ok(emlx_block_apply(b, emlx_op_find(name), values, (size_t)operands, attrs, attr_count,
                               EMLX_TYPE_DEFAULT, &value, &err),
              err);
    return value;
}

uint32_t op(emlx_block *b, const char *name, int operands, ...) {
    va_list list;
    va_start(list, operands);
    uint32_t value = apply_list(b, name, NULL, 0, operands, list);
    va_end(list);
    return value;
}

uint32_t op_with(emlx_block *b, const char *name, const emlx_attr *attrs, size_t attr_count,
                 int operands, ...) {
    va_list list;
    va_start(list, operands);
    uint32_t value = apply_list(b, name, attrs, attr_count, operands, list);
    va_end(list);
    return value;
}

static uint32_t constant(emlx_block *b, emlx_number number, emlx_type type) {
    emlx_error err;
    uint32_t value;
    emlx_attr attrs[] = {{.name = "shape", .kind = EMLX_ATTR_INTS},
                         {.name = "value", .kind = EMLX_ATTR_NUMBER, .value = number}};
    assert_ok(emlx_block_apply(b, emlx_op_find("constant"), NULL, 0, attrs, 2, type, &value, &err),
              err);
    return value;
}

uint32_t int_constant(emlx_block *b, int64_t value) {
    return constant(b, (emlx_number){EMLX_NUMBER_SIGNED, {.s = value}}, EMLX_S32);
}

uint32_t real_constant(emlx_block *b, double value) {
    return constant(b, (emlx_number){EMLX_NUMBER_REAL, {.f = {value, 0}}}, EMLX_F32);
}

uint32_t fold_all(emlx_block *b, uint32_t value, uint32_t start, emlx_block *function) {
    emlx_error err;
    uint32_t operands[] = {value, start}, out;
    emlx_attr attr = {.name = "function", .kind = EMLX_ATTR_FUNCTION};
    assert_ok(emlx_function_new(function, &attr.function, &err), err);
    assert_ok(emlx_block_apply(b, emlx_op_find("reduce"), operands, 2, &attr, 1, EMLX_TYPE_DEFAULT,
                               &out, &err),
              err);
    emlx_function_release(attr.function);
    return out;
}

uint32_t sum_all(emlx_block *b, uint32_t value) { return op(b, "sum", 1, value); }

void output(emlx_block *b, const char *name, uint32_t value) {
    emlx_error err;
    assert_ok(emlx_block_output(b, name, value, &err), err);
}

emlx_device *cpu(void) {
    emlx_error err;
    emlx_device *device;
    assert_ok(emlx_device_open("cpu", &device, &err), err);
    return device;
}

emlx_tensor *tensor_f32(emlx_device *device, const float *data, int rank, ...) {
    emlx_error err;
    emlx_tensor *tensor;
    va_list lengths;
    va_start(lengths, rank);
    emlx_shape shape = shape_of(rank, lengths);
    va_end(lengths);
    size_t size = (size_t)emlx_shape_count(&shape) * sizeof *data;
    assert_ok(emlx_tensor_from_data(device, EMLX_F32, &shape, data, size, &tensor, &err), err);
    return tensor;
}

emlx_tensor *scalar_s32(emlx_device *device, int32_t value) {
    emlx_error err;
    emlx_tensor *tensor;
    emlx_shape shape = {0};
    assert_ok(emlx_tensor_from_data(device, EMLX_S32, &shape, &value, sizeof value, &tensor, &err),
              err);
    return tensor;
}

static void read_all(emlx_tensor *tensor, emlx_type type, void *data, size_t size) {
    emlx_error err;
    assert_int_equal(emlx_tensor_type(tensor), type);
    assert_int_equal(emlx_tensor_bytes(tensor), size);
    assert_ok(emlx_tensor_read(tensor, 0, data, size, &err), err);
}

void assert_f32(emlx_tensor *tensor, const float *expected, size_t count) {
    float data[64];
    assert_true(count <= 64);
    read_all(tensor, EMLX_F32, data, count * sizeof *data);
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(data[i] - expected[i]) <= 1e-5f * fabsf(expected[i])))
            fail_msg("element %zu is %g, %g expected", i, (double)data[i], (double)expected[i]);
}

void assert_s32(emlx_tensor *tensor, const int32_t *expected, size_t count) {
    int32_t data[64];
    assert_true(count <= 64);
    read_all(tensor, EMLX_S32, data, count * sizeof *data);
    assert_memory_equal(data, expected, count * sizeof *data);
}

emlx_program *compile(emlx_block *b, emlx_device *device) {
    emlx_error err;
    emlx_program *program;
    assert_ok(emlx_program_compile(b, device, &program, &err), err);
    return program;
}

// The sample -------------------------------------------------------------------------------------

// while j < i: acc += 1, j += 1
static void add_inner_loop(emlx_block *b, uint32_t i, uint32_t acc, uint32_t *result) {
    emlx_error err;
    emlx_block *condition = new_block(), *body = new_block();
    for (int which = 0; which < 2; which++) {
        emlx_block *inner = which == 0 ? condition : body;
        uint32_t j = input(inner, NULL, EMLX_S32, 0), limit = input(inner, NULL, EMLX_S32, 0);
        uint32_t sum = input(inner, NULL, EMLX_F32, 2, 2, 3);
        if (which == 0) {
            output(inner, NULL, op(inner, "less", 2, j, limit));
        } else {
            output(inner, NULL, op(inner, "add", 2, j, int_constant(inner, 1)));
            output(inner, NULL, limit);
            output(inner, NULL, op(inner, "add", 2, sum, real_constant(inner, 1)));
        }
    }
    uint32_t first, state[] = {int_constant(b, 0), i, acc};
    assert_ok(emlx_block_while(b, condition, body, state, 3, &first, &err), err);
    *result = first + 2;
}

// while i < n: run the inner loop, i += 1
static uint32_t add_outer_loop(emlx_block *b, uint32_t x, uint32_t n) {
    emlx_error err;
    emlx_block *condition = new_block(), *body = new_block();
    uint32_t i = input(condition, NULL, EMLX_S32, 0), limit = input(condition, NULL, EMLX_S32, 0);
    input(condition, NULL, EMLX_F32, 2, 2, 3);
    output(condition, NULL, op(condition, "less", 2, i, limit));

    i = input(body, NULL, EMLX_S32, 0);
    limit = input(body, NULL, EMLX_S32, 0);
    uint32_t acc = input(body, NULL, EMLX_F32, 2, 2, 3);
    add_inner_loop(body, i, acc, &acc);
    output(body, NULL, op(body, "add", 2, i, int_constant(body, 1)));
    output(body, NULL, limit);
    output(body, NULL, acc);

    uint32_t first, state[] = {int_constant(b, 0), n, x};
    assert_ok(emlx_block_while(b, condition, body, state, 3, &first, &err), err);
    return first + 2;
}

// A block of the cond: its inputs are x, the sum of x and the literal.
static emlx_block *choice_block(uint32_t values[3]) {
    emlx_block *b = new_block();
    values[0] = input(b, NULL, EMLX_F32, 2, 2, 3);
    values[1] = input(b, NULL, EMLX_F32, 0);
    values[2] = input(b, NULL, EMLX_F32, 1, 3);
    return b;
}

static uint32_t add_choice(emlx_block *b, uint32_t x, uint32_t literal) {
    emlx_error err;
    uint32_t v[3], first, operands[] = {x, sum_all(b, x), literal};
    emlx_block *predicates[2], *branches[3];
    for (int p = 0; p < 2; p++) {
        predicates[p] = choice_block(v);
        output(predicates[p], NULL,
               op(predicates[p], "greater", 2, v[1], real_constant(predicates[p], p ? 0 : 10)));
    }
    branches[0] = choice_block(v);
    output(branches[0], NULL, op(branches[0], "multiply", 2, v[0], real_constant(branches[0], 2)));
    branches[1] = choice_block(v);
    output(branches[1], NULL, op(branches[1], "add", 2, v[0], v[2]));
    branches[2] = choice_block(v);
    output(branches[2], NULL, op(branches[2], "negate", 1, v[0]));
    assert_ok(emlx_block_cond(b, predicates, 2, branches, 3, operands, 3, &first, &err), err);
    return first;
}

// One block of the function, or of the cond in it: its inputs are an element and what was folded.
static emlx_block *step_block(uint32_t values[2]) {
    emlx_block *b = new_block();
    for (int i = 0; i < 2; i++) values[i] = input(b, NULL, EMLX_F32, 0);
    return b;
}

static uint32_t add_fold(emlx_block *b, uint32_t x) {
    emlx_error err;
    uint32_t v[2], first;
    emlx_block *differ = step_block(v), *branches[2];
    output(differ, NULL, op(differ, "subtract", 2, v[0], v[1]));
    for (int i = 0; i < 2; i++) {
        branches[i] = step_block(v);
        output(branches[i], NULL, op(branches[i], i == 0 ? "subtract" : "add", 2, v[0], v[1]));
    }
    emlx_block *step = step_block(v);
    assert_ok(emlx_block_cond(step, &differ, 1, branches, 2, v, 2, &first, &err), err);
    output(step, NULL, first);
    return fold_all(b, x, real_constant(b, 1), step);
}

emlx_block *sample_block(emlx_tensor *literal) {
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), n = input(b, "n", EMLX_S32, 0), c;
    assert_ok(emlx_block_tensor(b, literal, &c, &err), err);
    uint32_t e = op(b, "exp", 1, x);
    uint32_t choice = add_choice(b, x, c), loop = add_outer_loop(b, x, n);
    uint32_t sum = op(b, "add", 2, c, n);
    output(b, "loop", loop);
    output(b, "choice", choice);
    output(b, "same", x);
    output(b, "sum", sum);
    output(b, "again", sum);
    output(b, "exp", op(b, "add", 2, e, op(b, "multiply", 2, choice, real_constant(b, 0))));
    output(b, "folded", add_fold(b, x));
    return b;
}

void assert_sample(emlx_program *program, emlx_device *device, const float x[6], int32_t n,
                   const float literal[3]) {
    emlx_error err;
    emlx_tensor *inputs[] = {tensor_f32(device, x, 2, 2, 3), scalar_s32(device, n)}, *outputs[7];
    assert_ok(emlx_program_run(program, inputs, 2, outputs, 7, &err), err);
    float loop[6], choice[6], sum[3], expected[6], total = 0, folded = 1;
    for (int i = 0; i < 6; i++) total += x[i];
    int32_t rounds = n * (n - 1) / 2;
    for (int i = 0; i < 6; i++) {
        loop[i] = x[i] + (float)rounds;
        choice[i] = total > 10 ? x[i] * 2 : total > 0 ? x[i] + literal[i % 3] : -x[i];
        expected[i] = expf(x[i]);
    }
    for (int i = 0; i < 3; i++) sum[i] = literal[i] + (float)n;
    assert_f32(outputs[0], loop, 6);
    assert_f32(outputs[1], choice, 6);
    assert_f32(outputs[2], x, 6);
    assert_f32(outputs[3], sum, 3);
    assert_f32(outputs[4], sum, 3);
    assert_f32(outputs[5], expected, 6);
    for (int i = 0; i < 6; i++) folded = x[i] != folded ? x[i] - folded : x[i] + folded;
    assert_f32(outputs[6], &folded, 1);
    for (int i = 0; i < 7; i++) emlx_tensor_release(outputs[i]);
    for (int i = 0; i < 2; i++) emlx_tensor_release(inputs[i]);
}
