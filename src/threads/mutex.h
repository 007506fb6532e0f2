// SPDX-License-Identifier: Apache-2.0
// mutex.h - locks, counted: what a thread does over and over is to take none that others take, and
// tests look at the count.
#ifndef EMLX_THREADS_MUTEX_H
#define EMLX_THREADS_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

// How many locks the running thread has taken.
extern _Thread_local uint64_t mutex_count;

static inline void mutex_lock(pthread_mutex_t *mutex) {
    mutex_count++;
    pthread_mutex_lock(mutex);
}

static inline bool mutex_try_lock(pthread_mutex_t *mutex) {
    if (pthread_mutex_trylock(mutex) != 0) return false;
    mutex_count++;
    return true;
}

static inline void mutex_unlock(pthread_mutex_t *mutex) { pthread_mutex_unlock(mutex); }

#endif
