// SPDX-License-Identifier: Apache-2.0
// random_test.c - random programs with control flow, against a plain interpreter: whatever way a
// program is cut into segments, its results are the same. Values are f32{2, 3}.
#include <stdlib.h>

#include "program/programs.h"

enum { COUNT = 6, VALUES = 64, OUTPUTS = 6 };

typedef struct value {
    float data[COUNT];
} value;

// A block being made, and what each of its values is.
typedef struct trace {
    emlx_block *block;
    emlx_tensor *literal;
    value literal_value;
    uint32_t numbers[VALUES];
    value values[VALUES];
    int count;
} trace;

static uint32_t seed;

static int pick(int below) {
    seed = seed * 1664525u + 1013904223u;
    return (int)((seed >> 8) % (uint32_t)below);
}

static value zip(char what, value a, value b) {
    for (int i = 0; i < COUNT; i++)
        a.data[i] = what == '+' ? a.data[i] + b.data[i] : a.data[i] - b.data[i];
    return a;
}

static value reversed(value a) {
    value out;
    for (int i = 0; i < COUNT; i++) out.data[i] = a.data[COUNT - 1 - i];
    return out;
}

static value filled(float number) {
    value out;
    for (int i = 0; i < COUNT; i++) out.data[i] = number;
    return out;
}

static float largest(value a) {
    float most = a.data[0];
    for (int i = 1; i < COUNT; i++)
        if (a.data[i] > most) most = a.data[i];
    return most;
}

// Building ---------------------------------------------------------------------------------------

static uint32_t reverse(emlx_block *b, uint32_t x) {
    emlx_error err;
    uint32_t out;
    emlx_attr axes = {
        .name = "axes", .kind = EMLX_ATTR_INTS, .ints = (int64_t[]){0, 1}, .count = 2};
    assert_ok(emlx_block_apply(b, emlx_op_find("reverse"), &x, 1, &axes, 1, EMLX_TYPE_DEFAULT, &out,
                               &err),
              err);
    return out;
}

static uint32_t fill(emlx_block *b, double number) {
    emlx_error err;
    uint32_t scalar = real_constant(b, number), out;
    emlx_attr attrs[] = {
        {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = (int64_t[]){2, 3}, .count = 2},
        {.name = "axes", .kind = EMLX_ATTR_INTS}};
    assert_ok(emlx_block_apply(b, emlx_op_find("broadcast"), &scalar, 1, attrs, 2,
                               EMLX_TYPE_DEFAULT, &out, &err),
              err);
    return out;
}

static void add(trace *t, uint32_t number, value v) {
    t->numbers[t->count] = number;
    t->values[t->count++] = v;
}

// if most(a) > 0: a, b - a; else: reverse(b), b
static void add_cond(trace *t, int a, int b) {
    emlx_error err;
    emlx_block *inner[3];
    for (int i = 0; i < 3; i++) {
        inner[i] = new_block();
        uint32_t x = input(inner[i], NULL, EMLX_F32, 2, 2, 3);
        uint32_t y = input(inner[i], NULL, EMLX_F32, 2, 2, 3);
        if (i == 0) {
            uint32_t most = op(inner[i], "reduce_max", 1, x);
            output(inner[i], NULL, op(inner[i], "greater", 2, most, int_constant(inner[i], 0)));
        } else {
            output(inner[i], NULL, i == 1 ? x : reverse(inner[i], y));
            output(inner[i], NULL, i == 1 ? op(inner[i], "subtract", 2, y, x) : y);
        }
    }
    uint32_t first, operands[] = {t->numbers[a], t->numbers[b]};
    assert_ok(emlx_block_cond(t->block, inner, 1, inner + 1, 2, operands, 2, &first, &err), err);
    value x = t->values[a], y = t->values[b];
    bool yes = largest(x) > 0;
    add(t, first, yes ? x : reversed(y));
    add(t, first + 1, yes ? zip('-', y, x) : y);
}

// i = 0; while i < 3: a, b = b, reverse(b) - a
static void add_while(trace *t, int a, int b) {
    emlx_error err;
    emlx_block *inner[2];
    for (int k = 0; k < 2; k++) {
        inner[k] = new_block();
        uint32_t i = input(inner[k], NULL, EMLX_S32, 0);
        uint32_t x = input(inner[k], NULL, EMLX_F32, 2, 2, 3);
        uint32_t y = input(inner[k], NULL, EMLX_F32, 2, 2, 3);
        if (k == 0) {
            output(inner[k], NULL, op(inner[k], "less", 2, i, int_constant(inner[k], 3)));
        } else {
            output(inner[k], NULL, op(inner[k], "add", 2, i, int_constant(inner[k], 1)));
            output(inner[k], NULL, y);
            output(inner[k], NULL, op(inner[k], "subtract", 2, reverse(inner[k], y), x));
        }
    }
    uint32_t first, state[] = {int_constant(t->block, 0), t->numbers[a], t->numbers[b]};
    assert_ok(emlx_block_while(t->block, inner[0], inner[1], state, 3, &first, &err), err);
    value x = t->values[a], y = t->values[b];
    for (int i = 0; i < 3; i++) {
        value next = zip('-', reversed(y), x);
        x = y;
        y = next;
    }
    add(t, first + 1, x);
    add(t, first + 2, y);
}

static void add_step(trace *t) {
    emlx_error err;
    int a = pick(t->count), b = pick(t->count);
    uint32_t x = t->numbers[a], y = t->numbers[b], number;
    switch (pick(8)) {
    case 0: add_cond(t, a, b); break;
    case 1: add_while(t, a, b); break;
    case 2: add(t, reverse(t->block, x), reversed(t->values[a])); break;
    case 3: add(t, fill(t->block, a - 3), filled((float)(a - 3))); break;
    case 4:
        assert_ok(emlx_block_tensor(t->block, t->literal, &number, &err), err);
        add(t, number, t->literal_value);
        break;
    case 5: add(t, op(t->block, "add", 2, x, y), zip('+', t->values[a], t->values[b])); break;
    default: add(t, op(t->block, "subtract", 2, x, y), zip('-', t->values[a], t->values[b]));
    }
}

// Tests ------------------------------------------------------------------------------------------

static void random_value(value *v) {
    for (int i = 0; i < COUNT; i++) v->data[i] = (float)(pick(9) - 4);
}

static void run_and_compare(trace *t, emlx_device *device, const int chosen[OUTPUTS]) {
    emlx_error err;
    emlx_program *program = compile(t->block, device);
    emlx_tensor *inputs[3], *outputs[OUTPUTS];
    for (int i = 0; i < 3; i++) inputs[i] = tensor_f32(device, t->values[i].data, 2, 2, 3);
    assert_ok(emlx_program_run(program, inputs, 3, outputs, OUTPUTS, &err), err);
    for (int i = 0; i < OUTPUTS; i++) {
        assert_f32(outputs[i], t->values[chosen[i]].data, COUNT);
        emlx_tensor_release(outputs[i]);
    }
    // The inputs may be the caller's only copy of their data.
    for (int i = 0; i < 3; i++) {
        assert_f32(inputs[i], t->values[i].data, COUNT);
        emlx_tensor_release(inputs[i]);
    }
    assert_f32(t->literal, t->literal_value.data, COUNT);
    emlx_program_release(program);
}

static void random_programs(void **state) {
    (void)state;
    emlx_device *device = cpu();
    for (uint32_t round = 0; round < 400; round++) {
        seed = round;
        trace t = {.block = new_block()};
        random_value(&t.literal_value);
        t.literal = tensor_f32(device, t.literal_value.data, 2, 2, 3);
        for (int i = 0; i < 3; i++) {
            value v;
            random_value(&v);
            add(&t, input(t.block, NULL, EMLX_F32, 2, 2, 3), v);
        }
        int steps = 1 + pick(25);
        for (int i = 0; i < steps; i++) add_step(&t);
        int chosen[OUTPUTS];
        for (int i = 0; i < OUTPUTS; i++) {
            chosen[i] = i < 4 ? t.count - 1 - pick(t.count) / 2 : pick(t.count);
            output(t.block, NULL, t.numbers[chosen[i]]);
        }
        run_and_compare(&t, device, chosen);
        emlx_tensor_release(t.literal);
    }
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_programs)};
    return RUN_TESTS("run/random", tests);
}
