// SPDX-License-Identifier: Apache-2.0
// launches.c - what the host pays for work on a device: small ops, programs, turns of loops,
// copies. `launches [DEVICE]`; every result is looked at before it is timed.
#include <pthread.h>

#include "bench.h"

enum { OPS = 1000, RUNS = 5, THREADS = 8, SUMS = 5, TURNS = 10000 };

static emlx_device *device;

static emlx_tensor *filled(int64_t count, float value) {
    emlx_shape shape = {1, {count}};
    emlx_tensor *t;
    emlx_error err;
    float *data = malloc((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++) data[i] = value;
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, data, (size_t)count * sizeof *data,
                                     &t, &err),
               &err);
    free(data);
    return t;
}

static float first_of(emlx_tensor *t) {
    emlx_error err;
    float value;
    bench_must(emlx_tensor_read(t, 0, &value, sizeof value, &err), &err);
    return value;
}

static void must_be(const char *what, double value, double expected) {
    if (value == expected) return;
    fprintf(stderr, "bench: %s gave %g, not %g\n", what, value, expected);
    exit(1);
}

static void print_row(const char *name, double seconds, const char *unit) {
    printf("%-56s %10.2f %s\n", name, seconds, unit);
    fflush(stdout);
}

// Seconds of the median run of `work`.
static double time_of(void (*work)(void *), void *context) {
    double runs[RUNS];
    work(context);
    for (int i = 0; i < RUNS; i++) {
        double start = bench_now();
        work(context);
        runs[i] = bench_now() - start;
    }
    return bench_median(runs, RUNS);
}

// Ops --------------------------------------------------------------------------------------------

typedef struct chain {
    int read_each, evaluate_each;
} chain;

static void add_ops(void *context) {
    const chain *c = context;
    emlx_error err;
    emlx_tensor *x = filled(16, 0), *one = filled(16, 1);
    for (int i = 0; i < OPS; i++) {
        emlx_tensor *next = bench_apply("add", x, one);
        if (c->evaluate_each) bench_must(emlx_eval(&next, 1, &err), &err);
        if (c->read_each) (void)first_of(next);
        emlx_tensor_release(x);
        x = next;
    }
    must_be("a chain", first_of(x), OPS);
    emlx_tensor_release(x);
    emlx_tensor_release(one);
}

static void *add_in_thread(void *context) {
    add_ops(context);
    return NULL;
}

static void add_in_threads(void *context) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, add_in_thread, context);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void time_ops(void) {
    chain plain = {0, 1}, read = {1, 0};
    print_row("1,000 adds of 16, each evaluated", time_of(add_ops, &plain) / OPS * 1e6, "us an op");
    print_row("the same, each read", time_of(add_ops, &read) / OPS * 1e6, "us an op");
    print_row("8 threads with 1,000 adds each, each evaluated",
              time_of(add_in_threads, &plain) / OPS / THREADS * 1e6, "us an op");
}

// Programs ---------------------------------------------------------------------------------------

static uint32_t apply(emlx_block *b, const char *op, uint32_t x, uint32_t y) {
    emlx_error err;
    uint32_t in[2] = {x, y}, out;
    bench_must(emlx_block_apply(b, emlx_op_find(op), in, y == UINT32_MAX ? 1 : 2, NULL, 0,
                                EMLX_TYPE_DEFAULT, &out, &err),
               &err);
    return out;
}

static uint32_t one_of(emlx_block *b, emlx_type type) {
    emlx_error err;
    uint32_t out;
    emlx_attr attrs[] = {
        {.name = "shape", .kind = EMLX_ATTR_INTS},
        {.name = "value", .kind = EMLX_ATTR_NUMBER, .value = {EMLX_NUMBER_SIGNED, {.s = 1}}}};
    bench_must(emlx_block_apply(b, emlx_op_find("constant"), NULL, 0, attrs, 2, type, &out, &err),
               &err);
    return out;
}

static emlx_program *compile(emlx_block *b) {
    emlx_error err;
    emlx_program *p;
    bench_must(emlx_program_compile(b, device, &p, &err), &err);
    return p;
}

static uint32_t sum_along(emlx_block *b, uint32_t x, int64_t axis) {
    emlx_error err;
    uint32_t out;
    emlx_attr attr = {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = &axis, .count = 1};
    bench_must(
        emlx_block_apply(b, emlx_op_find("sum"), &x, 1, &attr, 1, EMLX_TYPE_DEFAULT, &out, &err),
        &err);
    return out;
}

// x + x, or so many sums, along one axis and the other in turn, each added to what is summed.
static emlx_program *program_of(int sums, int64_t side) {
    emlx_error err;
    emlx_block *b;
    emlx_shape shape = {2, {side, side}};
    uint32_t x;
    bench_must(emlx_block_new(&b, &err), &err);
    bench_must(emlx_block_input(b, NULL, EMLX_F32, &shape, &x, &err), &err);
    for (int i = 0; i < sums; i++) x = apply(b, "add", x, sum_along(b, x, i % 2));
    if (sums == 0) x = apply(b, "add", x, x);
    bench_must(emlx_block_output(b, NULL, x, &err), &err);
    return compile(b);
}

typedef struct runs {
    emlx_program *program;
    int64_t side;
} runs;

static emlx_tensor *filled_square(int64_t side) {
    emlx_error err;
    emlx_shape shape = {2, {side, side}};
    emlx_tensor *t;
    float *data = calloc((size_t)(side * side), sizeof *data);
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, data,
                                     (size_t)(side * side) * sizeof *data, &t, &err),
               &err);
    free(data);
    return t;
}

static void run_program(void *context) {
    const runs *r = context;
    emlx_error err;
    emlx_tensor *x = filled_square(r->side), *out = NULL;
    for (int i = 0; i < OPS; i++) {
        if (out != NULL) emlx_tensor_release(out);
        bench_must(emlx_program_run(r->program, &x, 1, &out, 1, &err), &err);
    }
    must_be("a program", first_of(out), 0);
    emlx_tensor_release(out);
    emlx_tensor_release(x);
}

static void time_programs(void) {
    runs small = {program_of(0, 4), 4}, several = {program_of(SUMS, 64), 64};
    char name[80];
    print_row("a program of one kernel", time_of(run_program, &small) / OPS * 1e6, "us a run");
    snprintf(name, sizeof name, "a program of %zu kernels",
             emlx_program_kernel_count(several.program));
    print_row(name, time_of(run_program, &several) / OPS * 1e6, "us a run");
    emlx_program_release(small.program);
    emlx_program_release(several.program);
}

// Loops ------------------------------------------------------------------------------------------

// while i < n: i, x = i + 1, x + 1
static emlx_program *loop_program(void) {
    emlx_error err;
    emlx_block *b, *blocks[2];
    emlx_shape scalar = {0, {0}}, line = {1, {16}};
    uint32_t v[3], first;
    bench_must(emlx_block_new(&b, &err), &err);
    for (int i = 0; i < 3; i++) {
        emlx_block *in = b;
        if (i < 2) bench_must(emlx_block_new(&blocks[i], &err), &err);
        if (i < 2) in = blocks[i];
        bench_must(emlx_block_input(in, NULL, EMLX_S64, &scalar, &v[0], &err), &err);
        bench_must(emlx_block_input(in, NULL, EMLX_S64, &scalar, &v[1], &err), &err);
        bench_must(emlx_block_input(in, NULL, EMLX_F32, &line, &v[2], &err), &err);
        if (i == 0)
            bench_must(emlx_block_output(in, NULL, apply(in, "less", v[0], v[1]), &err), &err);
        if (i != 1) continue;
        bench_must(emlx_block_output(in, NULL, apply(in, "add", v[0], one_of(in, EMLX_S64)), &err),
                   &err);
        bench_must(emlx_block_output(in, NULL, v[1], &err), &err);
        bench_must(emlx_block_output(in, NULL, apply(in, "add", v[2], one_of(in, EMLX_F32)), &err),
                   &err);
    }
    bench_must(emlx_block_while(b, blocks[0], blocks[1], v, 3, &first, &err), &err);
    bench_must(emlx_block_output(b, NULL, first + 2, &err), &err);
    return compile(b);
}

static emlx_tensor *whole(int64_t value) {
    emlx_shape scalar = {0, {0}};
    emlx_tensor *t;
    emlx_error err;
    bench_must(emlx_tensor_from_data(device, EMLX_S64, &scalar, &value, sizeof value, &t, &err),
               &err);
    return t;
}

typedef struct looping {
    emlx_program *program;
    int64_t turns;
} looping;

static void run_loop(void *context) {
    const looping *l = context;
    emlx_error err;
    emlx_tensor *in[3] = {whole(0), whole(l->turns), filled(16, 0)}, *out;
    bench_must(emlx_program_run(l->program, in, 3, &out, 1, &err), &err);
    must_be("a loop", first_of(out), (double)l->turns);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
}

static void time_loops(void) {
    looping l = {loop_program(), TURNS};
    static const int64_t turns[] = {8, 100};
    char name[80];
    print_row("a loop of 10,000 turns", time_of(run_loop, &l) / TURNS * 1e6, "us a turn");
    for (int i = 0; i < 2; i++) {
        l.turns = turns[i];
        snprintf(name, sizeof name, "a loop of %lld turns", (long long)turns[i]);
        print_row(name, time_of(run_loop, &l) * 1e6, "us");
    }
    emlx_program_release(l.program);
}

// Copies -----------------------------------------------------------------------------------------

typedef struct copying {
    float *data;
    size_t size;
    emlx_tensor *tensor;
} copying;

static void copy_up(void *context) {
    const copying *c = context;
    emlx_shape shape = {1, {(int64_t)(c->size / sizeof(float))}};
    emlx_error err;
    emlx_tensor *t;
    float last;
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, c->data, c->size, &t, &err), &err);
    bench_must(emlx_tensor_read(t, c->size - sizeof last, &last, sizeof last, &err), &err);
    must_be("an upload", last, c->data[c->size / sizeof(float) - 1]);
    emlx_tensor_release(t);
}

static void copy_down(void *context) {
    const copying *c = context;
    emlx_error err;
    bench_must(emlx_tensor_read(c->tensor, 0, c->data, c->size, &err), &err);
}

static void time_copies(void) {
    emlx_error err;
    copying c = {.size = (size_t)256 << 20};
    emlx_shape shape = {1, {(int64_t)(c.size / sizeof(float))}};
    c.data = malloc(c.size);
    for (size_t i = 0; i < c.size / sizeof(float); i++) c.data[i] = (float)(i % 1000);
    print_row("256 MB to the device", (double)c.size / time_of(copy_up, &c) * 1e-9, "GB/s");
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, c.data, c.size, &c.tensor, &err),
               &err);
    print_row("256 MB from the device", (double)c.size / time_of(copy_down, &c) * 1e-9, "GB/s");
    emlx_tensor_release(c.tensor);
    free(c.data);
}

int main(int argc, char **argv) {
    emlx_error err;
    const char *name = argc > 1 ? argv[1] : "cpu";
    if (argc == 1 && emlx_device_open("cuda:0", &device, &err) == EMLX_OK) name = NULL;
    if (name != NULL) bench_must(emlx_device_open(name, &device, &err), &err);
    printf("%s\n", emlx_device_name(device));
    time_ops();
    time_programs();
    time_loops();
    time_copies();
    emlx_device_release(device);
    return 0;
}
