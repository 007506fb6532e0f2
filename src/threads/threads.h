// SPDX-License-Identifier: Apache-2.0
// threads.h - how many threads there are to be and how far they step back: what the environment,
// the system and the container say.
#ifndef EMLX_THREADS_THREADS_H
#define EMLX_THREADS_THREADS_H

#define MAX_THREADS 1024

// As many as cores that this process may use, or as EMLX_NUM_THREADS says.
int threads_wanted(void);
// The nice value of threads that step back, or -1.
int threads_nice(void);

#endif
