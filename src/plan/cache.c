// SPDX-License-Identifier: Apache-2.0
// cache.c - plans by the structure that they are for, in a list from the most to the least recently
// used.
#include "plan/cache.h"

#include <pthread.h>
#include <string.h>

#include "base/event.h"
#include "base/hash.h"
#include "engine.h"
#include "threads/mutex.h"

enum { SLOTS = 4096, MOST_PLANS = 2048 };

typedef struct entry {
    struct entry *newer, *older;
    uint64_t hash;
    const emlx_device *device;
    emlx_plan *plan;
    size_t size;
    unsigned char bytes[];
} entry;

static struct {
    pthread_mutex_t lock;
    hash_slot slots[SLOTS];
    hash_table entries;
    entry *newest, *oldest;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER, .entries = {.slots = cache.slots, .size = SLOTS}};

static uint64_t hash_key(const plan_key *key) {
    return hash_bytes((uintptr_t)key->device, key->bytes, key->size);
}

static bool is_for(const void *context, uintptr_t item, const void *key) {
    (void)context;
    const entry *e = (const entry *)item;
    const plan_key *k = key;
    return e->device == k->device && e->size == k->size && memcmp(e->bytes, k->bytes, k->size) == 0;
}

static hash_slot *find_entry(const plan_key *key, uint64_t hash) {
    return hash_find(&cache.entries, hash, is_for, NULL, key);
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

static entry *remove_entry(entry *e) {
    const plan_key key = {.device = e->device, .bytes = e->bytes, .size = e->size};
    hash_remove(&cache.entries, find_entry(&key, e->hash));
    unlink_age(e);
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
    entry *e = (entry *)find_entry(key, hash)->item;
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
    hash_slot *slot = find_entry(key, e->hash);
    if (slot->item != 0) {
        gone = e;
    } else {
        hash_take(&cache.entries, slot, e->hash, (uintptr_t)e);
        link_newest(e);
        if (cache.entries.count > MOST_PLANS) gone = remove_entry(cache.oldest);
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
