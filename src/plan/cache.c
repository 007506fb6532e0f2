// SPDX-License-Identifier: Apache-2.0
// cache.c - plans by the structure that they are for: a hash table with a list from the most to the
// least recently used.
#include "plan/cache.h"

#include <pthread.h>
#include <string.h>

#include "base/event.h"
#include "base/mutex.h"
#include "engine.h"
#include "plan/build.h"

enum { BUCKETS = 1024, MOST_PLANS = 2048 };

typedef struct entry {
    struct entry *next_in_bucket, *newer, *older;
    uint64_t hash;
    const emlx_device *device;
    emlx_plan *plan;
    size_t size;
    unsigned char bytes[];
} entry;

static struct {
    pthread_mutex_t lock;
    entry *buckets[BUCKETS];
    entry *newest, *oldest;
    size_t count;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t hash_key(const plan_key *key) {
    const unsigned char *p = key->bytes;
    uint64_t hash = (uintptr_t)key->device, word;
    size_t i = 0;
    for (; i + 8 <= key->size; i += 8) {
        memcpy(&word, p + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    for (; i < key->size; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

static void unlink_age(entry *e) {
    *(e->newer != NULL ? &e->newer->older : &cache.newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &cache.oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void link_newest(entry *e) {
    e->older = cache.newest;
    e->newer = NULL;
    if (cache.newest != NULL)
        cache.newest->newer = e;
    else
        cache.oldest = e;
    cache.newest = e;
}

static entry *find_entry(const plan_key *key, uint64_t hash) {
    for (entry *e = cache.buckets[hash % BUCKETS]; e != NULL; e = e->next_in_bucket)
        if (e->hash == hash && e->device == key->device && e->size == key->size &&
            memcmp(e->bytes, key->bytes, key->size) == 0)
            return e;
    return NULL;
}

static entry *remove_entry(entry *e) {
    entry **at = &cache.buckets[e->hash % BUCKETS];
    while (*at != e) at = &(*at)->next_in_bucket;
    *at = e->next_in_bucket;
    unlink_age(e);
    cache.count--;
    return e;
}

// Outside of the lock, since releasing a plan runs engine code.
static void free_entry(entry *e) {
    if (e == NULL) return;
    plan_release(e->plan);
    mem_free(e, sizeof *e + e->size);
}

emlx_plan *plan_cache_get(const plan_key *key) {
    uint64_t hash = hash_key(key);
    emlx_plan *plan = NULL;
    mutex_lock(&cache.lock);
    entry *e = find_entry(key, hash);
    if (e != NULL) {
        unlink_age(e);
        link_newest(e);
        plan = plan_retain(e->plan);
    }
    mutex_unlock(&cache.lock);
    return plan;
}

void plan_cache_put(const plan_key *key, emlx_plan *plan) {
    entry *e = mem_alloc(sizeof *e + key->size), *gone = NULL;
    if (e == NULL) return;
    e->hash = hash_key(key);
    e->device = key->device;
    e->plan = plan_retain(plan);
    e->size = key->size;
    memcpy(e->bytes, key->bytes, key->size);
    mutex_lock(&cache.lock);
    if (find_entry(key, e->hash) != NULL) {
        gone = e;
    } else {
        e->next_in_bucket = cache.buckets[e->hash % BUCKETS];
        cache.buckets[e->hash % BUCKETS] = e;
        link_newest(e);
        if (++cache.count > MOST_PLANS) gone = remove_entry(cache.oldest);
    }
    mutex_unlock(&cache.lock);
    if (gone != NULL && gone != e)
        event_send(
            (emlx_event){.kind = EMLX_EVENT_EVICTED, .device = gone->device->name, .count = 1}, 0);
    free_entry(gone);
}

void plan_cache_clear(const emlx_device *device) {
    for (;;) {
        mutex_lock(&cache.lock);
        entry *e = cache.newest;
        while (e != NULL && device != NULL && e->device != device) e = e->older;
        if (e != NULL) remove_entry(e);
        mutex_unlock(&cache.lock);
        if (e == NULL) return;
        free_entry(e);
    }
}
