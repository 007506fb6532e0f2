// SPDX-License-Identifier: Apache-2.0
// event.c - the one observer, and handing events to it.
#include "base/event.h"

#include <pthread.h>
#include <time.h>

atomic_bool event_observed;

// Held for reading while the observer is called, so that whoever takes its place knows that it is
// not called any more.
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static emlx_observer observer;
static void *observer_context;

void emlx_observe(emlx_observer its, void *context) {
    pthread_rwlock_wrlock(&lock);
    observer = its;
    observer_context = context;
    atomic_store(&event_observed, its != NULL);
    pthread_rwlock_unlock(&lock);
}

static uint64_t clock_now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

uint64_t event_begin(void) { return event_wanted() ? clock_now() : 0; }

void event_give(emlx_event event, uint64_t begun) {
    event.size = sizeof event;
    if (begun != 0) event.nanoseconds = clock_now() - begun;
    pthread_rwlock_rdlock(&lock);
    if (observer != NULL) observer(observer_context, &event);
    pthread_rwlock_unlock(&lock);
}
