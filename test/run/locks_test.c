// SPDX-License-Identifier: Apache-2.0
// locks_test.c - a loop's turns take no lock: more turns take as many as fewer do, whatever kinds
// of kernels they run, alone and beside another loop. Locks that two loops take at every turn make
// them meet there, and their threads go to sleep and wake each other up all the time.
#include <pthread.h>

#include "program/programs.h"
#include "tensors.h"
#include "threads/mutex.h"

// How the pool of blocks was left decides over a few locks at the beginning and the end of a run.
enum { SIDE = 8, CHANCE = 20 };

// What a loop does to its state, f32{SIDE, SIDE}, at each turn: it gives that again.
typedef uint32_t (*turn_fn)(emlx_block *b, uint32_t x);

static uint32_t along_rows(emlx_block *b, const char *name, uint32_t x) {
    emlx_attr axis = with_int("axis", 1);
    return op_with(b, name, &axis, 1, 1, x);
}

static uint32_t turn_map(emlx_block *b, uint32_t x) {
    return op(b, "tanh", 1, op(b, "add", 2, x, real_constant(b, 0.25)));
}

static uint32_t turn_fold(emlx_block *b, uint32_t x) {
    int64_t axis = 0;
    emlx_attr attrs[2] = {with_ints("axes", &axis, 1), with_bool("keep_axes", true)};
    uint32_t rows = op_with(b, "reduce_max", attrs, 2, 1, x);
    return op(b, "subtract", 2, op(b, "subtract", 2, x, rows), sum_all(b, x));
}

static uint32_t turn_dot(emlx_block *b, uint32_t x) {
    int64_t zero = 0, one = 1;
    emlx_attr attrs[4] = {with_ints("contract_left", &one, 1),
                          with_ints("contract_right", &zero, 1), with_ints("batch_left", NULL, 0),
                          with_ints("batch_right", NULL, 0)};
    return op_with(b, "dot", attrs, 4, 2, x, op(b, "tanh", 1, x));
}

static uint32_t turn_sort(emlx_block *b, uint32_t x) { return along_rows(b, "sort", x); }
static uint32_t turn_scan(emlx_block *b, uint32_t x) {
    return op(b, "tanh", 1, along_rows(b, "cumulative_sum", x));
}

static uint32_t first_rows(emlx_block *b) {
    int64_t shape[2] = {SIDE, 1};
    emlx_attr attrs[2] = {with_ints("shape", shape, 2), with_int("axis", 0)};
    uint32_t value;
    emlx_error err;
    assert_ok(emlx_block_apply(b, emlx_op_find("iota"), NULL, 0, attrs, 2, EMLX_S64, &value, &err),
              err);
    return value;
}

static uint32_t turn_gather(emlx_block *b, uint32_t x) {
    int64_t axis = 0;
    emlx_attr axes = with_ints("axes", &axis, 1);
    return op_with(b, "gather", &axes, 1, 2, x, first_rows(b));
}

static uint32_t turn_scatter(emlx_block *b, uint32_t x) {
    int64_t axis = 0;
    emlx_attr axes = with_ints("axes", &axis, 1);
    return op_with(b, "indexed_add", &axes, 1, 3, x, first_rows(b), op(b, "negate", 1, x));
}

static uint32_t turn_window(emlx_block *b, uint32_t x) {
    int64_t window[2] = {3, 1}, padding[4] = {1, 1, 0, 0};
    emlx_attr attrs[2] = {with_ints("window", window, 2), with_ints("padding", padding, 4)};
    return op_with(b, "window_sum", attrs, 2, 1, x);
}

// Over images of one channel, and with a filter for each of the result's eight.
static uint32_t turn_conv(emlx_block *b, uint32_t x) {
    int64_t image[4] = {1, 1, SIDE, SIDE}, filters[4] = {SIDE, 1, 1, SIDE}, whole[2] = {SIDE, SIDE};
    emlx_attr as_image = with_ints("shape", image, 4), as_filters = with_ints("shape", filters, 4);
    emlx_attr back = with_ints("shape", whole, 2);
    uint32_t made = op(b, "conv", 2, op_with(b, "reshape", &as_image, 1, 1, x),
                       op_with(b, "reshape", &as_filters, 1, 1, x));
    return op(b, "tanh", 1, op_with(b, "reshape", &back, 1, 1, made));
}

static uint32_t turn_transform(emlx_block *b, uint32_t x) {
    return op(b, "real", 1, op(b, "fft", 1, x));
}

static uint32_t turn_factor(emlx_block *b, uint32_t x) {
    return op(b, "cholesky", 1, op(b, "exp", 1, op(b, "negate", 1, op(b, "abs", 1, x))));
}

static uint32_t turn_cond(emlx_block *b, uint32_t x) {
    emlx_error err;
    uint32_t first;
    emlx_block *blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = new_block();
        uint32_t y = input(blocks[i], NULL, EMLX_F32, 2, SIDE, SIDE);
        output(blocks[i], NULL, i == 0 ? sum_all(blocks[i], y) : turn_map(blocks[i], y));
    }
    assert_ok(emlx_block_cond(b, blocks, 1, blocks + 1, 2, &x, 1, &first, &err), err);
    return first;
}

// while i < n: x = turn(x), i += 1
static uint32_t add_loop(emlx_block *b, turn_fn turn, uint32_t x, uint32_t n) {
    emlx_error err;
    uint32_t first, state[3] = {x, int_constant(b, 0), n}, v[3];
    emlx_block *blocks[2];
    for (int which = 0; which < 2; which++) {
        emlx_block *inner = blocks[which] = new_block();
        v[0] = input(inner, NULL, EMLX_F32, 2, SIDE, SIDE);
        v[1] = input(inner, NULL, EMLX_S32, 0);
        v[2] = input(inner, NULL, EMLX_S32, 0);
        if (which == 0) {
            output(inner, NULL, op(inner, "less", 2, v[1], v[2]));
        } else {
            output(inner, NULL, turn(inner, v[0]));
            output(inner, NULL, op(inner, "add", 2, v[1], int_constant(inner, 1)));
            output(inner, NULL, v[2]);
        }
    }
    assert_ok(emlx_block_while(b, blocks[0], blocks[1], state, 3, &first, &err), err);
    return first;
}

static uint32_t turn_loop(emlx_block *b, uint32_t x) {
    return add_loop(b, turn_map, x, int_constant(b, 3));
}

static const struct {
    const char *name;
    turn_fn turn;
} turns[] = {
    {"map", turn_map},         {"fold", turn_fold},     {"dot", turn_dot},
    {"sort", turn_sort},       {"scan", turn_scan},     {"gather", turn_gather},
    {"scatter", turn_scatter}, {"window", turn_window}, {"transform", turn_transform},
    {"factor", turn_factor},   {"conv", turn_conv},     {"cond", turn_cond},
    {"loop", turn_loop},
};

enum { TURNS = sizeof turns / sizeof *turns };

static emlx_program *loop_program(emlx_device *device, turn_fn turn) {
    emlx_block *b = new_block();
    uint32_t x = input(b, NULL, EMLX_F32, 2, SIDE, SIDE), n = input(b, NULL, EMLX_S32, 0);
    output(b, NULL, add_loop(b, turn, x, n));
    return compile(b, device);
}

// Locks that the calling thread takes in so many turns.
static uint64_t locks_of(emlx_program *program, emlx_device *device, int32_t count) {
    float data[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) data[i] = i % (SIDE + 1) == 0 ? 0.0f : 5.0f;
    emlx_tensor *inputs[2] = {tensor_f32(device, data, 2, SIDE, SIDE), scalar_s32(device, count)};
    emlx_tensor *out;
    emlx_error err;
    uint64_t before = mutex_count;
    emlx_status status = emlx_program_run(program, inputs, 2, &out, 1, &err);
    uint64_t taken = mutex_count - before;
    assert_ok(status, err);
    emlx_tensor_release(out);
    for (int i = 0; i < 2; i++) emlx_tensor_release(inputs[i]);
    return taken;
}

static void turns_take_no_lock(void **state) {
    (void)state;
    emlx_device *device = cpu();
    int wrong = 0;
    for (size_t t = 0; t < TURNS; t++) {
        emlx_program *program = loop_program(device, turns[t].turn);
        locks_of(program, device, 5);
        uint64_t few = locks_of(program, device, 10), many = locks_of(program, device, 110);
        bool more = many > few + CHANCE;
        if (more) print_error("%s: %g locks a turn\n", turns[t].name, (double)(many - few) / 100);
        wrong += more;
        emlx_program_release(program);
    }
    assert_int_equal(wrong, 0);
    emlx_device_release(device);
}

typedef struct side_by_side {
    emlx_program *program;
    emlx_device *device;
    uint64_t few, many;
} side_by_side;

static void *count_locks(void *context) {
    side_by_side *s = context;
    s->few = locks_of(s->program, s->device, 1000);
    s->many = locks_of(s->program, s->device, 20000);
    return NULL;
}

static void loops_do_not_meet(void **state) {
    (void)state;
    enum { LOOPS = 3 };
    emlx_device *device = cpu();
    emlx_program *program = loop_program(device, turn_map);
    side_by_side sides[LOOPS];
    pthread_t threads[LOOPS];
    for (int i = 0; i < LOOPS; i++) {
        sides[i] = (side_by_side){.program = program, .device = device};
        assert_int_equal(pthread_create(&threads[i], NULL, count_locks, &sides[i]), 0);
    }
    for (int i = 0; i < LOOPS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < LOOPS; i++) assert_in_range(sides[i].many, 0, sides[i].few + CHANCE);
    emlx_program_release(program);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_take_no_lock),
        cmocka_unit_test(loops_do_not_meet),
    };
    return RUN_TESTS("run/locks", tests);
}
