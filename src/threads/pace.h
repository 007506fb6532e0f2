// SPDX-License-Identifier: Apache-2.0
// pace.h - how long the tasks of loops take, as far as was seen: whether it is worth waking a
// thread up for what is left of one.
#ifndef EMLX_THREADS_PACE_H
#define EMLX_THREADS_PACE_H

#include "threads/pool.h"

// Nanoseconds of a call of the body, by what the last ones took; 0: it was not seen yet.
int64_t pace_of(pool_body body);
void pace_note(pool_body body, int64_t nanoseconds);
// How many threads `rest` calls are worth waking up for, at most one each.
int64_t pace_worth(int64_t pace, int64_t rest);

#endif
