// SPDX-License-Identifier: Apache-2.0
// mutex.c - the count of locks that a thread has taken.
#include "threads/mutex.h"

_Thread_local uint64_t mutex_count;
