// SPDX-License-Identifier: Apache-2.0
// chain.c - the fused chain tanh(a * b + a) * b on 4096 x 4096 f32, beside a triad loop over as
// many bytes on two threads: the time that memory alone takes.
#include <math.h>
#include <pthread.h>

#include "bench.h"

enum { SIDE = 4096, COUNT = SIDE * SIDE, RUNS = 15, THREADS = 2 };

typedef struct share {
    const float *a, *b;
    float *c;
    size_t count;
} share;

static void *triad(void *context) {
    share *s = context;
    for (size_t i = 0; i < s->count; i++) s->c[i] = s->a[i] + 1.5f * s->b[i];
    return NULL;
}

static double time_triad(const float *a, const float *b, float *c) {
    pthread_t threads[THREADS];
    share shares[THREADS];
    double start = bench_now();
    for (size_t t = 0; t < THREADS; t++) {
        size_t first = COUNT / THREADS * t;
        shares[t] = (share){a + first, b + first, c + first, COUNT / THREADS};
        if (pthread_create(&threads[t], NULL, triad, &shares[t]) != 0) exit(1);
    }
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    return bench_now() - start;
}

static emlx_tensor *chain(emlx_tensor *a, emlx_tensor *b) {
    emlx_tensor *product = bench_apply("multiply", a, b);
    emlx_tensor *sum = bench_apply("add", product, a);
    emlx_tensor *tanh = bench_apply("tanh", sum, NULL);
    emlx_tensor *result = bench_apply("multiply", tanh, b);
    emlx_tensor_release(product);
    emlx_tensor_release(sum);
    emlx_tensor_release(tanh);
    return result;
}

static double time_chain(emlx_tensor *a, emlx_tensor *b) {
    emlx_error err;
    double start = bench_now();
    emlx_tensor *result = chain(a, b);
    bench_must(emlx_eval(&result, 1, &err), &err);
    double time = bench_now() - start;
    emlx_tensor_release(result);
    return time;
}

static void check(emlx_tensor *a, emlx_tensor *b, const float *x, const float *y) {
    emlx_error err;
    emlx_tensor *result = chain(a, b);
    const void *data;
    bench_must(emlx_tensor_data(result, &data, &err), &err);
    for (size_t i = 0; i < COUNT; i += 997) {
        double wanted = tanh((double)(x[i] * y[i] + x[i])) * y[i];
        if (fabs(((const float *)data)[i] - wanted) > 1e-6 * (1 + fabs(wanted))) {
            fprintf(stderr, "bench: element %zu is wrong\n", i);
            exit(1);
        }
    }
    emlx_tensor_release(result);
}

int main(void) {
    emlx_error err;
    emlx_device *device;
    emlx_tensor *a, *b;
    emlx_shape shape = {2, {SIDE, SIDE}};
    size_t bytes = (size_t)COUNT * sizeof(float);
    float *x = malloc(bytes), *y = malloc(bytes), *z = calloc(COUNT, sizeof(float));
    if (x == NULL || y == NULL || z == NULL) exit(1);
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (float)(i % 1999) / 1000 - 1;
        y[i] = (float)(i % 1777) / 1000 - 0.9f;
    }
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, x, bytes, &a, &err), &err);
    bench_must(emlx_tensor_from_data(device, EMLX_F32, &shape, y, bytes, &b, &err), &err);
    check(a, b, x, y);
    double triads[RUNS], chains[RUNS], ratios[RUNS];
    for (int i = 0; i < RUNS; i++) {
        triads[i] = time_triad(x, y, z);
        chains[i] = time_chain(a, b);
        ratios[i] = chains[i] / triads[i];
    }
    double triad_time = bench_median(triads, RUNS), chain_time = bench_median(chains, RUNS);
    char text[256];
    emlx_device_describe(device, text, sizeof text);
    printf("%s\n", text);
    printf("triad, %d threads:        %7.2f ms  %5.1f GB/s\n", THREADS, triad_time * 1e3,
           3e-9 * (double)bytes / triad_time);
    printf("tanh(a*b + a)*b, fused:  %7.2f ms  %5.2f times the triad (median of pairs)\n",
           chain_time * 1e3, bench_median(ratios, RUNS));
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    emlx_device_release(device);
    free(x);
    free(y);
    free(z);
    return 0;
}
