// SPDX-License-Identifier: Apache-2.0
// ending.c - waiting for work that says by a call when it has ended.
#include "ending.h"

#include <time.h>

void end_come(ending *e, emlx_status status) {
    pthread_mutex_lock(&e->lock);
    e->ended = true;
    e->status = status;
    pthread_cond_signal(&e->came);
    pthread_mutex_unlock(&e->lock);
}

emlx_status end_wait(ending *e) {
    pthread_mutex_lock(&e->lock);
    while (!e->ended) pthread_cond_wait(&e->came, &e->lock);
    pthread_mutex_unlock(&e->lock);
    return e->status;
}

bool end_wait_for(ending *e, int64_t milliseconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&e->lock);
    while (!e->ended && pthread_cond_timedwait(&e->came, &e->lock, &until) == 0) {
    }
    bool ended = e->ended;
    pthread_mutex_unlock(&e->lock);
    return ended;
}
