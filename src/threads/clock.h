// SPDX-License-Identifier: Apache-2.0
// clock.h - the time by which threads wait for one another.
#ifndef EMLX_THREADS_CLOCK_H
#define EMLX_THREADS_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

// The clock of condition variables, where that can be chosen.
#if defined(__APPLE__)
#define WAIT_CLOCK CLOCK_REALTIME
static inline void clock_cond_init(pthread_cond_t *cond) { pthread_cond_init(cond, NULL); }
#else
#define WAIT_CLOCK CLOCK_MONOTONIC
static inline void clock_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, WAIT_CLOCK);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}
#endif

// In nanoseconds, from any beginning.
static inline int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(WAIT_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
