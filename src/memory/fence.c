// SPDX-License-Identifier: Apache-2.0
// fence.c - the end of work that goes on elsewhere.
#include "memory/fence.h"

#include <pthread.h>

#include "base/error.h"
#include "memory/memory.h"

// What the list of waiters is once the fence is signalled. Not an address: engines in shared
// objects have a copy of this file.
#define SIGNALLED ((fence_waiter *)1)

void fence_init(fence *f, void (*destroy)(fence *f)) {
    atomic_init(&f->references, 2);
    atomic_init(&f->left, 1);
    atomic_init(&f->failed, 0);
    atomic_init(&f->again, 0);
    atomic_init(&f->waiters, NULL);
    f->destroy = destroy;
    f->error.code = EMLX_OK;
}

static void destroy_plain(fence *f) { mem_free(f, sizeof *f); }

emlx_status fence_new(fence **out, emlx_error *err) {
    fence *f = mem_alloc(sizeof *f);
    if (f == NULL) return error_no_memory(err, "for a fence");
    fence_init(f, destroy_plain);
    *out = f;
    return EMLX_OK;
}

fence *fence_retain(fence *f) {
    if (f != NULL) atomic_fetch_add_explicit(&f->references, 1, memory_order_relaxed);
    return f;
}

void fence_release(fence *f) {
    if (f == NULL) return;
    if (atomic_fetch_sub_explicit(&f->references, 1, memory_order_acq_rel) == 1) f->destroy(f);
}

// Whoever came first is called first.
static fence_waiter *in_order(fence_waiter *last) {
    fence_waiter *first = NULL;
    while (last != NULL) {
        fence_waiter *next = last->next;
        last->next = first;
        first = last;
        last = next;
    }
    return first;
}

static const emlx_error again = {.code = STATUS_AGAIN, .message = "to be started over"};

static void signal_all(fence *f) {
    if (atomic_load_explicit(&f->again, memory_order_relaxed)) f->error = again;
    if (f->settle != NULL) f->settle(f);
    fence_waiter *waiter = in_order(atomic_exchange(&f->waiters, SIGNALLED));
    while (waiter != NULL) {
        fence_waiter *next = waiter->next;
        waiter->run(waiter, f);
        waiter = next;
    }
    fence_release(f);
}

void fence_arrive(fence *f, const emlx_error *err) {
    int none = 0;
    if (err != NULL && err->code == STATUS_AGAIN)
        atomic_store_explicit(&f->again, 1, memory_order_relaxed);
    else if (err != NULL && atomic_compare_exchange_strong(&f->failed, &none, 1))
        f->error = *err;
    if (atomic_fetch_sub_explicit(&f->left, 1, memory_order_acq_rel) == 1) signal_all(f);
}

static void end_part(fence_waiter *waiter, const fence *ended) {
    fence_link *link = (fence_link *)waiter;
    const emlx_error *err = link->others ? &again : &ended->error;
    fence_arrive(link->follower, ended->error.code == EMLX_OK ? NULL : err);
}

void fence_follow(fence *f, fence *on, bool others, fence_link *link) {
    *link = (fence_link){.waiter.run = end_part, .follower = f, .others = others};
    atomic_fetch_add_explicit(&f->left, 1, memory_order_relaxed);
    if (!fence_then(on, &link->waiter)) end_part(&link->waiter, on);
}

typedef struct both_ends {
    fence base;
    fence_link links[2];
} both_ends;

static void destroy_both(fence *f) { mem_free(f, sizeof(both_ends)); }

fence *fence_both(fence *first, fence *second) {
    both_ends *both = mem_alloc(sizeof *both);
    if (both == NULL) return NULL;
    fence_init(&both->base, destroy_both);
    fence_follow(&both->base, first, false, &both->links[0]);
    fence_follow(&both->base, second, false, &both->links[1]);
    fence_arrive(&both->base, NULL);
    return &both->base;
}

bool fence_signalled(const fence *f) {
    return f == NULL || atomic_load(&((fence *)f)->waiters) == SIGNALLED;
}

emlx_status fence_status(const fence *f, emlx_error *err) {
    if (f == NULL || f->error.code == EMLX_OK) return EMLX_OK;
    if (err != NULL) *err = f->error;
    return f->error.code;
}

bool fence_then(fence *f, fence_waiter *waiter) {
    fence_waiter *last = atomic_load(&f->waiters);
    do {
        if (last == SIGNALLED) return false;
        waiter->next = last;
    } while (!atomic_compare_exchange_weak(&f->waiters, &last, waiter));
    return true;
}

// Waiting ----------------------------------------------------------------------------------------

typedef struct sleeper {
    fence_waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool ended;
} sleeper;

static void wake(fence_waiter *waiter, const fence *ended) {
    (void)ended;
    sleeper *s = (sleeper *)waiter;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_signal(&s->woken);
    pthread_mutex_unlock(&s->lock);
}

static void sleep_until(fence *f) {
    sleeper s = {.waiter.run = wake};
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.woken, NULL);
    if (fence_then(f, &s.waiter)) {
        pthread_mutex_lock(&s.lock);
        while (!s.ended) pthread_cond_wait(&s.woken, &s.lock);
        pthread_mutex_unlock(&s.lock);
    }
    pthread_cond_destroy(&s.woken);
    pthread_mutex_destroy(&s.lock);
}

emlx_status fence_wait(fence *f, emlx_error *err) {
    if (!fence_signalled(f)) sleep_until(f);
    return fence_status(f, err);
}
