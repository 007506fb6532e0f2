// SPDX-License-Identifier: Apache-2.0
// threads.c - what the environment, the system and the container say of threads.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // sched_getaffinity
#endif
#include "threads/threads.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#include "emlx.h"
#include "threads/cgroup.h"

#define MAX_NICE 19

// How far workers step back behind other threads of the process.
static atomic_int yielding;

void emlx_threads_yield(int steps) { atomic_store(&yielding, steps); }

// A whole number of the environment between `least` and `most`, else `otherwise`.
static int setting(const char *name, int least, int most, int otherwise) {
    const char *text = getenv(name);
    char *end = NULL;
    long value = text == NULL ? 0 : strtol(text, &end, 10);
    bool valid = end != NULL && end != text && *end == '\0' && value >= least && value <= most;
    return valid ? (int)value : otherwise;
}

int threads_nice(void) {
#if defined(__linux__)
    int steps = setting("EMLX_NICE", 0, MAX_NICE, atomic_load(&yielding));
    if (steps > 0) return getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)) + steps;
#endif
    return -1;
}

// Cores that this process may use.
static int core_count(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
    static atomic_int quota_known = -1; // files are read once
    int quota = atomic_load(&quota_known);
    if (quota < 0) atomic_store(&quota_known, quota = cgroup_cores(&cgroup_own));
    if (quota > 0 && quota < cores) cores = quota;
    return cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (int)cores;
}

int threads_wanted(void) { return setting("EMLX_NUM_THREADS", 1, MAX_THREADS, core_count()); }
