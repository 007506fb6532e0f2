// SPDX-License-Identifier: Apache-2.0
// many.c - what planning costs where there is much of one kind: operands of one op, results of one
// evaluation, readers of one node. Times are per item, so that they stay as they are while the
// number of items grows.
#include <stdlib.h>

#include "bench.h"

enum { RUNS = 3 };

static emlx_device *device;

static emlx_tensor *number_tensor(float value) {
    emlx_error err;
    emlx_tensor *t;
    emlx_shape shape = {1, {1}};
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, &value, sizeof value, &t, &err),
               &err);
    return t;
}

static void release_all(emlx_tensor **tensors, size_t count) {
    for (size_t i = 0; i < count; i++) emlx_tensor_release(tensors[i]);
}

// Pending operands of one concatenate.
static double time_operands(emlx_tensor **items, size_t count) {
    emlx_error err;
    emlx_tensor *whole;
    emlx_attr axis = {.name = "axis", .kind = EMLX_ATTR_INT, .value = {.as.s = 0}};
    for (size_t i = 0; i < count; i++) {
        emlx_tensor *one = number_tensor((float)i);
        items[i] = bench_apply("negate", one, NULL);
        emlx_tensor_release(one);
    }
    double start = bench_now();
    bench_must(emlx_apply(emlx_op_find("concatenate"), NULL, items, count, &axis, 1,
                          EMLX_TYPE_DEFAULT, &whole, &err),
               &err);
    bench_must(emlx_eval(&whole, 1, &err), &err);
    double time = bench_now() - start;
    emlx_tensor_release(whole);
    release_all(items, count);
    return time;
}

// Results of one evaluation, all of which read one pending node.
static double time_results(emlx_tensor **items, size_t count) {
    emlx_error err;
    emlx_tensor *one = number_tensor(1), *shared = bench_apply("exp", one, NULL);
    for (size_t i = 0; i < count; i++) {
        emlx_tensor *other = number_tensor((float)i);
        emlx_tensor *sum = bench_apply("add", shared, other);
        items[i] = bench_apply("sum", sum, NULL);
        emlx_tensor_release(sum);
        emlx_tensor_release(other);
    }
    double start = bench_now();
    bench_must(emlx_eval(items, count, &err), &err);
    double time = bench_now() - start;
    emlx_tensor_release(one);
    emlx_tensor_release(shared);
    release_all(items, count);
    return time;
}

static void report(const char *what, double (*time)(emlx_tensor **, size_t)) {
    for (size_t count = 5000; count <= 80000; count *= 4) {
        double times[RUNS];
        emlx_tensor **items = malloc((count + RUNS) * sizeof(emlx_tensor *));
        if (items == NULL) return;
        // One more each time, so that no plan is there already.
        for (size_t i = 0; i < RUNS; i++) times[i] = time(items, count + i);
        free(items);
        printf("%6zu %-26s %8.3f us each\n", count, what,
               bench_median(times, RUNS) / (double)count * 1e6);
    }
}

int main(void) {
    emlx_error err;
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    report("operands of concatenate:", time_operands);
    report("results of an evaluation:", time_results);
    emlx_device_release(device);
    return 0;
}
