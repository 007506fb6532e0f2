// SPDX-License-Identifier: Apache-2.0
// detect.c - which of the kernel tables this CPU runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "engines/cpu/kernels/kernels.h"

#if defined(__x86_64__)
// Not every compiler's __builtin_cpu_supports knows these two.
static bool has_f16c_and_lzcnt(void) {
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
    return f16c && __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT) != 0;
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") &&
           has_f16c_and_lzcnt();
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}
#endif

static bool always(void) { return true; }

static const struct {
    const cpu_kernels *kernels;
    bool (*runs)(void);
} levels[] = {
#define CPU_LEVEL(name, runs) {&cpu_kernels_##name, runs},
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
};

static size_t selected;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// The highest level that runs here and is not above the one asked for. A name that is no level
// asks for nothing.
static void select_level(void) {
    const size_t count = sizeof(levels) / sizeof(levels[0]);
    const char *wanted = getenv("EMLX_CPU_LEVEL");
    selected = count - 1;
    for (size_t i = 0; wanted != NULL && i < count; i++) {
        if (strcmp(wanted, levels[i].kernels->level) == 0) selected = i;
    }
    while (!levels[selected].runs()) selected--;
}

const cpu_kernels *cpu_kernels_level(size_t i) {
    pthread_once(&once, select_level);
    return i <= selected ? levels[i].kernels : NULL;
}

const cpu_kernels *cpu_kernels_select(void) {
    pthread_once(&once, select_level);
    return levels[selected].kernels;
}
