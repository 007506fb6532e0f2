// SPDX-License-Identifier: Apache-2.0
// names.c - the names of shared memory that this process has given, and when they are removed.
#include "names.h"

#include <erl_nif.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "jobs/jobs.h"
#include "terms/error.h"

typedef struct shared_name {
    struct shared_name *next;           // of the same tensor, or of those whose tensor is gone
    struct shared_name *after, *before; // of all
    int64_t due;                        // when it is removed
    char name[];
} shared_name;

static const int64_t grace = 2000000; // microseconds

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static shared_name *first_name, *first_due, **last_due = &first_due;

emlx_status names_keep(shared_names *names, const char *name, emlx_error *err) {
    size_t size = strlen(name) + 1;
    shared_name *kept = enif_alloc(sizeof *kept + size);
    if (kept == NULL) return nif_no_memory(err, "for a name");
    memcpy(kept->name, name, size);
    kept->before = NULL;
    pthread_mutex_lock(&names_lock);
    kept->after = first_name;
    if (first_name != NULL) first_name->before = kept;
    first_name = kept;
    kept->next = atomic_load(names);
    atomic_store(names, kept);
    pthread_mutex_unlock(&names_lock);
    return EMLX_OK;
}

static void name_end(shared_name *kept) {
    pthread_mutex_lock(&names_lock);
    if (kept->before == NULL)
        first_name = kept->after;
    else
        kept->before->after = kept->after;
    if (kept->after != NULL) kept->after->before = kept->before;
    pthread_mutex_unlock(&names_lock);
    shm_unlink(kept->name);
    enif_free(kept);
}

static void names_end(void *names) {
    for (shared_name *kept = names, *next; kept != NULL; kept = next) {
        next = kept->next;
        name_end(kept);
    }
}

// The VM's clock is there for its schedulers only.
static int64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// All wait for the same time, so that they are due in the order they came. NULL when there are
// none.
static shared_name *due_take(void) {
    pthread_mutex_lock(&names_lock);
    shared_name *kept = first_due;
    int64_t left = kept == NULL ? 0 : kept->due - microseconds();
    pthread_mutex_unlock(&names_lock);
    if (left > 0) usleep((useconds_t)left);
    return kept;
}

// Only this job takes names from the list, and it runs once as long as there are some.
static void run_due(job *job) {
    (void)job;
    for (shared_name *kept; (kept = due_take()) != NULL; name_end(kept)) {
        pthread_mutex_lock(&names_lock);
        first_due = kept->next;
        if (first_due == NULL) last_due = &first_due;
        bool last = first_due == NULL;
        pthread_mutex_unlock(&names_lock);
        if (!last) continue;
        name_end(kept);
        return;
    }
}

static void names_end_later(shared_name *names) {
    static job due = {NULL, run_due};
    int64_t at = microseconds() + grace;
    pthread_mutex_lock(&names_lock);
    bool start = first_due == NULL;
    *last_due = names;
    for (shared_name *kept = names; kept != NULL; kept = kept->next) {
        kept->due = at;
        last_due = &kept->next;
    }
    pthread_mutex_unlock(&names_lock);
    if (start) job_start(&due, JOB_BLOCKS);
}

void names_drop(shared_names *names, bool now) {
    // Nearly all have none, and an exchange costs as much as the rest of a destructor.
    if (atomic_load_explicit(names, memory_order_acquire) == NULL) return;
    shared_name *dropped = atomic_exchange(names, NULL);
    if (dropped == NULL) return;
    if (now)
        end_later(names_end, dropped);
    else
        names_end_later(dropped);
}

__attribute__((destructor)) static void names_exit(void) {
    pthread_mutex_lock(&names_lock);
    for (shared_name *kept = first_name; kept != NULL; kept = kept->after) shm_unlink(kept->name);
    pthread_mutex_unlock(&names_lock);
}
