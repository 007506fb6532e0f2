// SPDX-License-Identifier: Apache-2.0
// loops.c - loops side by side, and what they leave to other threads: turns that each makes in a
// second, how late a thread wakes up that sleeps for a millisecond at a time, and how often threads
// of the process went to sleep.
#include <sys/resource.h>

#include "bench.h"

enum { TICKS = 1500, MOST_LOOPS = 6, SIZES = 3 };

static uint32_t add_input(emlx_block *b, emlx_type type, int64_t length) {
    emlx_error err;
    uint32_t value;
    emlx_shape shape = {length > 0 ? 1 : 0, {length}};
    bench_must(emlx_block_input(b, NULL, type, &shape, &value, &err), &err);
    return value;
}

static uint32_t add_number(emlx_block *b, emlx_type type, double number) {
    emlx_error err;
    uint32_t value;
    emlx_attr attrs[2] = {{.name = "shape", .kind = EMLX_ATTR_INTS},
                          {.name = "value", .kind = EMLX_ATTR_NUMBER}};
    attrs[1].value = (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {number}};
    bench_must(emlx_block_apply(b, emlx_op_find("constant"), NULL, 0, attrs, 2, type, &value, &err),
               &err);
    return value;
}

static uint32_t add_op(emlx_block *b, const char *op, uint32_t x, uint32_t y) {
    emlx_error err;
    uint32_t value, operands[2] = {x, y};
    bench_must(emlx_block_apply(b, emlx_op_find(op), operands, 2, NULL, 0, EMLX_TYPE_DEFAULT,
                                &value, &err),
               &err);
    return value;
}

static emlx_block *new_block(void) {
    emlx_error err;
    emlx_block *b;
    bench_must(emlx_block_new(&b, &err), &err);
    return b;
}

static void add_output(emlx_block *b, uint32_t value) {
    emlx_error err;
    bench_must(emlx_block_output(b, NULL, value, &err), &err);
}

// while i >= 0: x = x * 0.999 + 1, i += 1
static emlx_program *loop_program(emlx_device *device, int64_t length) {
    emlx_error err;
    emlx_program *program;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t state[2] = {add_input(b, EMLX_F32, length), add_input(b, EMLX_F64, 0)}, first;
    add_input(condition, EMLX_F32, length);
    uint32_t i = add_input(condition, EMLX_F64, 0);
    add_output(condition,
               add_op(condition, "greater_equal", i, add_number(condition, EMLX_F64, 0)));
    uint32_t x = add_input(body, EMLX_F32, length);
    i = add_input(body, EMLX_F64, 0);
    uint32_t scaled = add_op(body, "multiply", x, add_number(body, EMLX_F32, 0.999));
    add_output(body, add_op(body, "add", scaled, add_number(body, EMLX_F32, 1)));
    add_output(body, add_op(body, "add", i, add_number(body, EMLX_F64, 1)));
    bench_must(emlx_block_while(b, condition, body, state, 2, &first, &err), &err);
    add_output(b, first + 1);
    bench_must(emlx_program_compile(b, device, &program, &err), &err);
    return program;
}

static void stopped(void *context, const emlx_stop *stop) {
    (void)stop;
    __atomic_fetch_sub((int *)context, 1, __ATOMIC_RELEASE);
}

static emlx_tensor *zeros(emlx_device *device, emlx_type type, int64_t length) {
    emlx_error err;
    emlx_tensor *t;
    emlx_shape shape = {length > 0 ? 1 : 0, {length}};
    size_t size = (length > 0 ? (size_t)length : 1) * (type == EMLX_F64 ? 8 : 4);
    void *data = calloc(1, size);
    if (data == NULL) exit(1);
    bench_must(emlx_tensor_from_data(device, type, &shape, data, size, &t, &err), &err);
    free(data);
    return t;
}

// Milliseconds from one waking to the next, less the one that was asked for.
static void tick(double *late) {
    struct timespec rest = {0, 1000000};
    for (int i = 0; i < TICKS; i++) {
        double start = bench_now();
        nanosleep(&rest, NULL);
        late[i] = (bench_now() - start) * 1e3 - 1;
    }
    qsort(late, TICKS, sizeof *late, bench_compare);
}

static long sleeps(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

static void measure(emlx_device *device, emlx_program *program, int64_t length, int count) {
    emlx_error err;
    emlx_cancel cancel = {0};
    static double late[TICKS];
    int running = count;
    emlx_tensor *inputs[MOST_LOOPS][2];
    for (int i = 0; i < count; i++) {
        inputs[i][0] = zeros(device, EMLX_F32, length);
        inputs[i][1] = zeros(device, EMLX_F64, 0);
        bench_must(emlx_program_start(program, inputs[i], 2, &(emlx_work){.cancel = &cancel},
                                      stopped, &running, &err),
                   &err);
    }
    long before = sleeps();
    double start = bench_now();
    tick(late);
    double seconds = bench_now() - start;
    long slept = sleeps() - before - TICKS;
    emlx_cancel_raise(&cancel);
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) > 0)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < 2; k++) emlx_tensor_release(inputs[i][k]);
    printf("%d loops over %7lld elements: late by %6.2f ms, 99 of 100 by %6.2f, all by %6.2f; "
           "%7.0f sleeps/s\n",
           count, (long long)length, late[TICKS / 2], late[TICKS * 99 / 100], late[TICKS - 1],
           (double)slept / seconds);
}

int main(void) {
    static const int64_t lengths[SIZES] = {4, 1000, 100000};
    static const int counts[] = {0, 1, 2, 3, 6};
    emlx_error err;
    emlx_device *device;
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    for (int s = 0; s < SIZES; s++) {
        emlx_program *program = loop_program(device, lengths[s]);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            measure(device, program, lengths[s], counts[c]);
        emlx_program_release(program);
    }
    emlx_device_release(device);
    return 0;
}
