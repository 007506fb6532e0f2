// SPDX-License-Identifier: Apache-2.0
// run.c - what running kernels share: tasks of the pool, their errors, and small working memory.
#include "engines/cpu/run.h"

#include "base/error.h"
#include "threads/cancel.h"

emlx_status run_tasks(const cpu_run *run, int64_t count, pool_body body, void *work,
                      emlx_error *err) {
    bool all = pool_for_unless(run->device->pool, run->call->cancel, count, body, work);
    // A task may have ended early, too.
    if (all && !cancel_raised(run->call->cancel)) return EMLX_OK;
    return error_set(err, EMLX_CANCELLED, "cancelled");
}

// The tasks that are left of a stretch: the first one, and, in the upper half, the end.
typedef struct stretch {
    _Alignas(64) _Atomic uint64_t left;
} stretch;

enum { MOST_STRETCHES = 64 };

typedef struct stretches {
    pool_body body;
    void *work;
    uint64_t number; // of all there ever were
    int count;
    atomic_int begun;
    stretch of[MOST_STRETCHES];
} stretches;

// Which stretch the thread works on, and of which loop.
static _Thread_local struct {
    uint64_t number;
    int at;
} mine;

static bool take_of(stretch *s, bool first, int64_t *task) {
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed), rest;
    do {
        uint64_t begin = (uint32_t)left, end = left >> 32;
        if (begin == end) return false;
        *task = (int64_t)(first ? begin : end - 1);
        rest = first ? left + 1 : left - ((uint64_t)1 << 32);
    } while (!atomic_compare_exchange_weak_explicit(&s->left, &left, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static stretch *longest(stretches *s) {
    uint64_t most = 0;
    stretch *found = &s->of[0];
    for (int i = 0; i < s->count; i++) {
        uint64_t left = atomic_load_explicit(&s->of[i].left, memory_order_relaxed);
        uint64_t length = (left >> 32) - (uint32_t)left;
        if (length > most) most = length, found = &s->of[i];
    }
    return found;
}

// From the thread's stretch, else from one that nobody has begun, else the last one of the longest.
// There are as many calls as tasks, so that each finds one.
static int64_t take_task(stretches *s) {
    int64_t task;
    if (mine.number == s->number && take_of(&s->of[mine.at], true, &task)) return task;
    while (atomic_load_explicit(&s->begun, memory_order_relaxed) < s->count) {
        int at = atomic_fetch_add_explicit(&s->begun, 1, memory_order_relaxed);
        if (at >= s->count) break;
        mine.number = s->number;
        mine.at = at;
        if (take_of(&s->of[at], true, &task)) return task;
    }
    while (!take_of(longest(s), false, &task)) continue;
    return task;
}

static void stretch_task(void *context, int64_t index) {
    stretches *s = context;
    (void)index;
    s->body(s->work, take_task(s));
}

emlx_status run_tasks_in_order(const cpu_run *run, int64_t count, pool_body body, void *work,
                               emlx_error *err) {
    static _Atomic uint64_t loops;
    int threads = pool_threads(run->device->pool);
    stretches s = {.body = body, .work = work};
    s.number = atomic_fetch_add_explicit(&loops, 1, memory_order_relaxed) + 1;
    s.count = threads < MOST_STRETCHES ? threads : MOST_STRETCHES;
    for (int i = 0; i < s.count; i++)
        s.of[i].left = (uint64_t)(count * i / s.count) | (uint64_t)(count * (i + 1) / s.count)
                                                             << 32;
    return run_tasks(run, count, stretch_task, &s, err);
}

bool task_goes_on(const cpu_run *run) {
    pool_turn(run->device->pool);
    return !cancel_raised(run->call->cancel);
}

void task_failed(task_errors *errors, const emlx_error *err) {
    int expected = 0;
    if (!atomic_compare_exchange_strong(&errors->failed, &expected, 1)) return;
    errors->error = *err;
    atomic_store_explicit(&errors->failed, 2, memory_order_release);
}

// All tasks have ended, so that the one which failed first has written its error.
emlx_status task_result(task_errors *errors, emlx_error *err) {
    if (atomic_load_explicit(&errors->failed, memory_order_acquire) == 0) return EMLX_OK;
    if (err != NULL) *err = errors->error;
    return errors->error.code;
}

emlx_status room_take(char *room, size_t size, void **out, emlx_error *err) {
    if (size > ROOM_SIZE) return data_alloc(size, out, err);
    *out = room;
    return EMLX_OK;
}

void room_end(const char *room, void *memory, size_t size) {
    if (memory != room) data_free(memory, size);
}
