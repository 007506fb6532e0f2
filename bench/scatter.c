// SPDX-License-Identifier: Apache-2.0
// scatter.c - updates at random places: of single elements, of rows, and along inner axes.
#include <string.h>

#include "bench.h"

enum { RUNS = 7 };

typedef struct scatter_case {
    const char *name, *op;
    int64_t target[2], updates, axes[2];
    size_t rank, indexed;
} scatter_case;

static const scatter_case cases[] = {
    {"add 1M numbers into 1M", "indexed_add", {1 << 20}, 1 << 20, {0}, 1, 1},
    {"add 1M numbers into 1k", "indexed_add", {1 << 10}, 1 << 20, {0}, 1, 1},
    {"add 1M numbers into 1024x1024", "indexed_add", {1024, 1024}, 1 << 20, {0, 1}, 2, 2},
    {"add 1k numbers into 16M", "indexed_add", {1 << 24}, 1 << 10, {0}, 1, 1},
    {"put 1M numbers into 1M", "indexed_put", {1 << 20}, 1 << 20, {0}, 1, 1},
    {"add 16k rows of 256 into 4k", "indexed_add", {4096, 256}, 1 << 14, {0}, 2, 1},
    {"put 16k rows of 256 into 4k", "indexed_put", {4096, 256}, 1 << 14, {0}, 2, 1},
    {"add 64 rows of 65536 into 16", "indexed_add", {16, 65536}, 64, {0}, 2, 1},
    {"add 1k columns of 1024 into 1024", "indexed_add", {1024, 1024}, 1 << 10, {1}, 2, 1},
};

static emlx_tensor *random_tensor(emlx_device *device, emlx_type type, const int64_t *dims,
                                  size_t rank, const int64_t *limits, size_t limit_count) {
    emlx_shape shape;
    emlx_error err;
    emlx_tensor *t;
    uint64_t state = 1;
    bench_must(emlx_shape_make(dims, rank, &shape, &err), &err);
    size_t count = (size_t)emlx_shape_count(&shape), size = emlx_type_size(type);
    char *data = malloc(count * size);
    if (data == NULL) exit(1);
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t number = state >> 33;
        float real = (float)(number % 1024) / 1024;
        int64_t index = limits == NULL ? 0 : (int64_t)(number % (uint64_t)limits[i % limit_count]);
        memcpy(data + i * size, limits == NULL ? (void *)&real : (void *)&index, size);
    }
    bench_must(emlx_tensor_from_data(device, type, &shape, data, count * size, &t, &err), &err);
    free(data);
    return t;
}

static double time_case(emlx_device *device, const scatter_case *c) {
    int64_t updates[2] = {c->updates}, indices[2] = {c->updates, (int64_t)c->indexed},
            limits[2] = {1, 1};
    size_t rank = 1;
    for (size_t d = 0, i = 0; d < c->rank; d++) {
        if (i < c->indexed && c->axes[i] == (int64_t)d)
            limits[i++] = c->target[d];
        else
            updates[rank++] = c->target[d];
    }
    emlx_tensor *in[3] = {random_tensor(device, EMLX_F32, c->target, c->rank, NULL, 0),
                          random_tensor(device, EMLX_S64, indices, 2, limits, c->indexed),
                          random_tensor(device, EMLX_F32, updates, rank, NULL, 0)};
    emlx_attr axes = {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = c->axes, .count = c->indexed};
    double times[RUNS];
    emlx_error err;
    for (int i = 0; i < RUNS; i++) {
        emlx_tensor *out;
        double start = bench_now();
        bench_must(
            emlx_apply(emlx_op_find(c->op), device, in, 3, &axes, 1, EMLX_TYPE_DEFAULT, &out, &err),
            &err);
        bench_must(emlx_eval(&out, 1, &err), &err);
        times[i] = bench_now() - start;
        emlx_tensor_release(out);
    }
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    return bench_median(times, RUNS);
}

int main(void) {
    emlx_device *device;
    emlx_error err;
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    printf("scatter in f32, ms\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        printf("%-34s  %8.3f\n", cases[i].name, time_case(device, &cases[i]) * 1e3);
    emlx_device_release(device);
    return 0;
}
