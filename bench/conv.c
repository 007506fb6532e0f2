// SPDX-License-Identifier: Apache-2.0
// conv.c - the speed of convolutions of usual networks in f32, in both layouts, beside a matrix
// product of as many operations by sgemm on all cores. An argument keeps to the lines that contain
// it.
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <cblas.h>

#include "bench.h"

enum { RUNS = 9 };

typedef struct layer {
    const char *name;
    int64_t batch, channels, filters, length, taps, stride, padding, groups;
} layer;

static const layer layers[] = {
    {"3x3, 32x64x56x56 to 64", 32, 64, 64, 56, 3, 1, 1, 1},
    {"3x3, 32x128x28x28 to 128", 32, 128, 128, 28, 3, 1, 1, 1},
    {"3x3, 32x512x7x7 to 512", 32, 512, 512, 7, 3, 1, 1, 1},
    {"3x3, 1x64x56x56 to 64", 1, 64, 64, 56, 3, 1, 1, 1},
    {"3x3 by 2, 32x64x56x56 to 128", 32, 64, 128, 56, 3, 2, 1, 1},
    {"7x7 by 2, 8x3x224x224 to 64", 8, 3, 64, 224, 7, 2, 3, 1},
    {"1x1, 32x64x56x56 to 256", 32, 64, 256, 56, 1, 1, 0, 1},
    {"1x1, 32x1024x7x7 to 512", 32, 1024, 512, 7, 1, 1, 0, 1},
    {"3x3, 32x64x28x28 in 4 groups", 32, 64, 128, 28, 3, 1, 1, 4},
    {"3x3 depthwise, 32x64x56x56", 32, 64, 64, 56, 3, 1, 1, 64},
    {"5x5 by 2 depthwise, 32x96x28x28", 32, 96, 96, 28, 5, 2, 2, 96},
};

static emlx_tensor *make_tensor(emlx_device *device, const int64_t *dims) {
    emlx_shape shape;
    emlx_error err;
    emlx_tensor *t;
    bench_must(emlx_shape_make(dims, 4, &shape, &err), &err);
    size_t count = (size_t)emlx_shape_count(&shape);
    float *data = malloc(count * sizeof *data);
    if (data == NULL) exit(1);
    for (size_t i = 0; i < count; i++) data[i] = (float)(i * 2654435761u % 1024) / 1024 - 0.5f;
    bench_must(
        emlx_tensor_from_data(device, EMLX_F32, &shape, data, count * sizeof *data, &t, &err),
        &err);
    free(data);
    return t;
}

// Seconds of a convolution; with `last` channels are innermost everywhere, as in Axon.
static double time_conv(emlx_device *device, const layer *l, bool last) {
    static const int64_t input[] = {0, 3, 1, 2}, kernel[] = {3, 2, 0, 1};
    int64_t channels = l->channels / l->groups, strides[] = {l->stride, l->stride};
    int64_t padding[] = {l->padding, l->padding, l->padding, l->padding};
    int64_t first[] = {l->batch, l->channels, l->length, l->length};
    int64_t first_kernel[] = {l->filters, channels, l->taps, l->taps};
    int64_t inner[] = {l->batch, l->length, l->length, l->channels};
    int64_t inner_kernel[] = {l->taps, l->taps, channels, l->filters};
    emlx_tensor *in[2] = {make_tensor(device, last ? inner : first),
                          make_tensor(device, last ? inner_kernel : first_kernel)};
    emlx_attr attrs[] = {
        {.name = "strides", .kind = EMLX_ATTR_INTS, .ints = strides, .count = 2},
        {.name = "padding", .kind = EMLX_ATTR_INTS, .ints = padding, .count = 4},
        {.name = "feature_group_size", .kind = EMLX_ATTR_INT, .value = {.as.s = l->groups}},
        {.name = "input_permutation", .kind = EMLX_ATTR_INTS, .ints = input, .count = 4},
        {.name = "output_permutation", .kind = EMLX_ATTR_INTS, .ints = input, .count = 4},
        {.name = "kernel_permutation", .kind = EMLX_ATTR_INTS, .ints = kernel, .count = 4}};
    double times[RUNS];
    emlx_error err;
    for (int i = 0; i < RUNS; i++) {
        emlx_tensor *out;
        const void *data;
        double start = bench_now();
        bench_must(emlx_apply(emlx_op_find("conv"), device, in, 2, attrs, last ? 6 : 3,
                              EMLX_TYPE_DEFAULT, &out, &err),
                   &err);
        bench_must(emlx_tensor_data(out, &data, &err), &err);
        times[i] = bench_now() - start;
        emlx_tensor_release(out);
    }
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    return bench_median(times, RUNS);
}

// A product of square matrices with as many operations, rows divided among the cores.
typedef struct share {
    const float *a, *b;
    float *c;
    int rows, n;
} share;

static void *multiply_share(void *context) {
    const share *s = context;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->rows, s->n, s->n, 1.0f, s->a, s->n,
                s->b, s->n, 0.0f, s->c, s->n);
    return NULL;
}

static double time_product(double operations) {
    enum { MOST = 64 };
    int n = 16, threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const char *given = getenv("EMLX_NUM_THREADS");
    if (given != NULL) threads = atoi(given);
    if (threads < 1 || threads > MOST) threads = 1;
    while (2.0 * n * n * n < operations && n < 2048) n += 16;
    float *data = calloc((size_t)n * (size_t)n * 3, sizeof *data);
    if (data == NULL) exit(1);
    float *a = data, *c = data + 2 * n * n;
    double times[RUNS];
    for (int i = 0; i < RUNS; i++) {
        pthread_t ids[MOST];
        share shares[MOST];
        double start = bench_now();
        for (int t = 0; t < threads; t++) {
            int first = n * t / threads, rows = n * (t + 1) / threads - first;
            shares[t] = (share){a + first * n, data + n * n, c + first * n, rows, n};
            if (pthread_create(&ids[t], NULL, multiply_share, &shares[t]) != 0) exit(1);
        }
        for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
        times[i] = bench_now() - start;
    }
    free(data);
    return bench_median(times, RUNS) * operations / (2.0 * n * n * n);
}

int main(int count, char **arguments) {
    const char *wanted = count > 1 ? arguments[1] : "";
    emlx_device *device;
    emlx_error err;
    bench_must(emlx_device_open("cpu", &device, &err), &err);
    printf("convolutions in f32, GFLOP/s: channels first, channels last, sgemm\n");
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const layer *l = &layers[i];
        if (strstr(l->name, wanted) == NULL) continue;
        int64_t length = (l->length + 2 * l->padding - l->taps) / l->stride + 1;
        int64_t terms = l->channels / l->groups * l->taps * l->taps;
        double operations = 2 * (double)(l->batch * l->filters * length * length) * (double)terms;
        printf("%-34s  %8.1f  %8.1f  %8.1f\n", l->name,
               operations / time_conv(device, l, false) / 1e9,
               operations / time_conv(device, l, true) / 1e9,
               operations / time_product(operations) / 1e9);
    }
    emlx_device_release(device);
    return 0;
}
