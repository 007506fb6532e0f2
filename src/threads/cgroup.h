// SPDX-License-Identifier: Apache-2.0
// cgroup.h - what a container leaves to this process: limits on memory and on time of the cores, of
// control groups of version 1 and 2.
#ifndef EMLX_THREADS_CGROUP_H
#define EMLX_THREADS_CGROUP_H

#include <stdint.h>

// Where the groups are mounted, and the file that says in which ones the process is.
typedef struct cgroup_files {
    const char *root;
    const char *self;
} cgroup_files;

// Those of this process; there are none on other systems than Linux.
extern const cgroup_files cgroup_own;

// The tightest limit in bytes of all groups around the process; 0 when there is none.
uint64_t cgroup_memory(const cgroup_files *files);
// How many cores' time it may take, as a whole number of threads and at least 1; 0 when there is no
// limit. Half a core is one thread, as is a whole one; one and a half are two.
int cgroup_cores(const cgroup_files *files);

#endif
