// SPDX-License-Identifier: Apache-2.0
// append.c - what an eager op costs: appending it to the graph, and appending with evaluation.
#include "bench.h"

enum { OPS = 100000, EVALS = OPS / 10, RUNS = 9 };

static double time_appends(emlx_tensor *a, emlx_tensor *b) {
    double start = bench_now();
    for (int i = 0; i < OPS; i++) emlx_tensor_release(bench_apply("add", a, b));
    return (bench_now() - start) / OPS;
}

static double time_evals(emlx_tensor *a, emlx_tensor *b) {
    emlx_error err;
    double start = bench_now();
    for (int i = 0; i < EVALS; i++) {
        emlx_tensor *t = bench_apply("add", a, b);
        bench_must(emlx_eval(&t, 1, &err), &err);
        emlx_tensor_release(t);
    }
    return (bench_now() - start) / EVALS;
}

int main(void) {
    emlx_error err;
    emlx_device *device;
    emlx_tensor *a, *b;
    emlx_shape shape = {1, {4}};
    float data[4] = {1, 2, 3, 4};
    double appends[RUNS], evals[RUNS];
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, data, sizeof data, &a, &err), &err);
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, data, sizeof data, &b, &err), &err);
    for (int i = 0; i < RUNS; i++) {
        appends[i] = time_appends(a, b);
        evals[i] = time_evals(a, b);
    }
    printf("add of 4 elements, appended:  %7.3f us\n", bench_median(appends, RUNS) * 1e6);
    printf("the same, and evaluated:      %7.3f us\n", bench_median(evals, RUNS) * 1e6);
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    emlx_device_release(device);
    return 0;
}
