// SPDX-License-Identifier: Apache-2.0
// ending.h - waiting for work that says by a call when it has ended.
#ifndef EMLX_TEST_ENDING_H
#define EMLX_TEST_ENDING_H

#include <pthread.h>
#include <stdbool.h>

#include "emlx.h"

typedef struct ending {
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool ended;
    emlx_status status;
} ending;

#define NO_END                                                                                     \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, EMLX_OK }

void end_come(ending *e, emlx_status status);
emlx_status end_wait(ending *e);
// False where it did not come in that time.
bool end_wait_for(ending *e, int64_t milliseconds);

#endif
