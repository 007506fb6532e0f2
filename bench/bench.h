// SPDX-License-Identifier: Apache-2.0
// bench.h - what the benchmarks share: a clock and medians.
#ifndef EMLX_BENCH_H
#define EMLX_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "emlx.h"

static inline double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench_median(double *times, int count) {
    qsort(times, (size_t)count, sizeof *times, bench_compare);
    return times[count / 2];
}

static inline void bench_must(emlx_status status, const emlx_error *err) {
    if (status == EMLX_OK) return;
    fprintf(stderr, "bench: %s\n", err->message);
    exit(1);
}

static inline emlx_tensor *bench_apply(const char *op, emlx_tensor *a, emlx_tensor *b) {
    emlx_tensor *operands[2] = {a, b}, *out;
    emlx_error err;
    bench_must(emlx_apply(emlx_op_find(op), NULL, operands, b != NULL ? 2 : 1, NULL, 0,
                          EMLX_TYPE_DEFAULT, &out, &err),
               &err);
    return out;
}

#endif
