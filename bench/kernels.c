// SPDX-License-Identifier: Apache-2.0
// kernels.c - nanoseconds an element that tile kernels take at each level, on data in L1. An
// argument keeps to the lines that contain it.
#include <string.h>

#include "base/types.h"
#include "bench.h"
#include "engines/cpu/kernels/kernels.h"

enum { TILE = 2048, RUNS = 41, REPEAT = 8 };

static _Alignas(64) char first[TILE * 16], second[TILE * 16], third[TILE * 16], result[TILE * 16];
static const char *wanted = "";

// What is timed; which fields matter depends on `run`.
typedef struct task {
    const cpu_kernels *kernels;
    void (*run)(const struct task *t);
    unsigned op;
    emlx_type type;
    emlx_type other;
    size_t length;
} task;

static void run_scalar(const task *t) {
    cpu_scalar(t->kernels, t->op, t->type)(result, first, second, third, TILE);
}

static void run_cast(const task *t) {
    t->kernels->cast[t->type][t->other](result, first, NULL, NULL, TILE);
}

static void run_rows(const task *t) {
    const reduce_fns *fns = &t->kernels->reduce[t->op][t->type];
    fns->init(result, TILE / t->length);
    fns->rows(result, first, TILE / t->length, t->length, 0);
}

static void run_columns(const task *t) {
    const reduce_fns *fns = &t->kernels->reduce[t->op][t->type];
    fns->init(result, t->length);
    fns->columns(result, first, TILE / t->length, t->length, (int64_t)t->length, 0);
}

static void run_gather(const task *t) {
    t->kernels->gather[2](result, first + (t->other == 1 ? sizeof(float) * TILE : 0),
                          t->other == 0   ? 2
                          : t->other == 1 ? -1
                                          : 0,
                          TILE);
}

static void run_iota(const task *t) { t->kernels->iota[t->type](result, 3, 2, TILE); }

// Positive numbers for the functions that need them.
static void fill(emlx_type type, void *data) {
    unsigned seed = 12345;
    for (size_t i = 0; i < TILE; i++) {
        seed = seed * 1664525u + 1013904223u;
        emlx_number value = {.kind = EMLX_NUMBER_REAL};
        value.as.f[0] = 0.05 + (double)(seed >> 8) * 0x1p-24 * (type_is_integer(type) ? 100 : 0.9);
        type_store(type, &value, (char *)data + i * type_size(type));
    }
}

static double time_task(const task *t) {
    double times[RUNS];
    for (int i = 0; i < RUNS; i++) {
        double start = bench_now();
        for (int j = 0; j < REPEAT; j++) t->run(t);
        times[i] = (bench_now() - start) / (REPEAT * TILE) * 1e9;
    }
    return bench_median(times, RUNS);
}

static void report_task(const char *name, task t) {
    if (strstr(name, wanted) == NULL) return;
    fill(t.type, first);
    fill(t.type, second);
    fill(t.type, third);
    printf("%-32s", name);
    for (size_t i = 0; (t.kernels = cpu_kernels_level(i)) != NULL; i++)
        printf("  %8.3f", time_task(&t));
    printf("\n");
}

static void report_scalar(void) {
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_S32, EMLX_S64, EMLX_U8};
    char name[64];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (unsigned op = 0; op < SCALAR_COUNT; op++) {
            if (cpu_scalar(&cpu_kernels_baseline, op, types[i]) == NULL) continue;
            snprintf(name, sizeof name, "%s %s", scalar_table[op].name, emlx_type_name(types[i]));
            report_task(name, (task){.run = run_scalar, .op = op, .type = types[i]});
        }
    }
}

static void report_casts(void) {
    static const emlx_type types[] = {EMLX_U8,  EMLX_S32,  EMLX_S64, EMLX_F8,
                                      EMLX_F16, EMLX_BF16, EMLX_F32, EMLX_F64};
    char name[64];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (size_t j = 0; j < sizeof types / sizeof types[0]; j++) {
            snprintf(name, sizeof name, "cast %s %s", emlx_type_name(types[i]),
                     emlx_type_name(types[j]));
            if (i == j) continue;
            report_task(name, (task){.run = run_cast, .type = types[i], .other = types[j]});
        }
    }
}

static void report_folds(void) {
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_S32, EMLX_BF16, EMLX_U8};
    static const reduce_kind kinds[] = {REDUCE_SUM, REDUCE_MAX, REDUCE_ARGMAX_LOW};
    static const char *const names[] = {"sum", "max", "argmax"};
    static const size_t lengths[] = {1, 4, 16, 64, 2048};
    char name[64];
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t k = 0; k < 3; k++) {
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                task one = {
                    .run = run_rows, .op = kinds[k], .type = types[t], .length = lengths[l]};
                snprintf(name, sizeof name, "%s %s rows of %zu", names[k], emlx_type_name(types[t]),
                         lengths[l]);
                report_task(name, one);
                if (lengths[l] != 64) continue;
                one.run = run_columns;
                snprintf(name, sizeof name, "%s %s 64 columns", names[k], emlx_type_name(types[t]));
                report_task(name, one);
            }
        }
    }
}

int main(int count, char **arguments) {
    if (count > 1) wanted = arguments[1];
    printf("nanoseconds an element: baseline, then higher levels\n");
    report_scalar();
    report_casts();
    report_folds();
    report_task("gather by 2", (task){.run = run_gather, .type = EMLX_F32, .other = 0});
    report_task("gather reversed", (task){.run = run_gather, .type = EMLX_F32, .other = 1});
    report_task("gather splat", (task){.run = run_gather, .type = EMLX_F32, .other = 2});
    report_task("iota s32", (task){.run = run_iota, .type = EMLX_S32});
    report_task("iota f32", (task){.run = run_iota, .type = EMLX_F32});
    return 0;
}
