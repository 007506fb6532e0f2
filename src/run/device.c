// SPDX-License-Identifier: Apache-2.0
// device.c - the list of engines, the devices that they have, and which of those are open.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine.h"
#include "plan/cache.h"
#include "threads/mutex.h"

enum { MOST_ENGINES = 16, MOST_DEVICES = 64 };

// One line an engine; those of files come behind.
static const engine_ops *engines[MOST_ENGINES] = {
#define ENGINE(name) &name##_engine,
#include "engines.def"
#undef ENGINE
};

// What an engine has, found when it is first asked for.
typedef struct engine_devices {
    bool asked;
    emlx_device *first;
    int count;
    char why[200]; // it has none
} engine_devices;

// Guarded by the lock; names are there for good once they are.
static struct {
    pthread_mutex_t lock;
    bool loaded;
    size_t engine_count;
    engine_devices of[MOST_ENGINES];
    emlx_device devices[MOST_DEVICES];
    int count;
    char refused[256]; // the file that could not be opened last, and why
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

// Devices that are open and have memory of their own.
static atomic_int memories;

// All from here to the public part is done under the lock.

static const engine_entry *entry_in(void *file) {
    const engine_entry *entry = dlsym(file, "emlx_engine"), own = ENGINE_ENTRY(NULL);
    if (entry == NULL || strcmp(entry->version, own.version) != 0) return NULL;
    return memcmp(entry->sizes, own.sizes, sizeof own.sizes) == 0 ? entry : NULL;
}

// Stays open for good: its code may be run until the process ends.
static void load_engine(const char *path) {
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const engine_entry *entry = file != NULL ? entry_in(file) : NULL;
    if (entry != NULL && all.engine_count < MOST_ENGINES)
        engines[all.engine_count++] = entry->ops;
    else
        snprintf(all.refused, sizeof all.refused, "%.100s: %.140s", path,
                 file == NULL ? dlerror() : "no engine of this version of the library");
}

static void load_engines(void) {
    const char *list = getenv("EMLX_ENGINES");
    if (all.loaded) return;
    all.loaded = true;
    while (engines[all.engine_count] != NULL) all.engine_count++;
    for (size_t length; list != NULL && *list != '\0'; list += length + (list[length] == ':')) {
        char path[1024];
        length = strcspn(list, ":");
        if (length > 0 && length < sizeof path) {
            snprintf(path, sizeof path, "%.*s", (int)length, list);
            load_engine(path);
        }
    }
}

static engine_devices *devices_of(size_t engine) {
    const engine_ops *ops = engines[engine];
    engine_devices *d = &all.of[engine];
    if (d->asked) return d;
    d->asked = true;
    d->first = &all.devices[all.count];
    d->count = ops->count != NULL ? ops->count(d->why, sizeof d->why) : 1;
    if (d->count > MOST_DEVICES - all.count) d->count = MOST_DEVICES - all.count;
    for (int i = 0; i < d->count; i++) {
        d->first[i] = (emlx_device){.ops = ops, .number = i};
        if (ops->count != NULL)
            snprintf(d->first[i].name, sizeof d->first->name, "%s:%d", ops->name, i);
        else
            snprintf(d->first[i].name, sizeof d->first->name, "%s", ops->name);
    }
    all.count += d->count;
    return d;
}

// The engine that a name begins with, or MOST_ENGINES; "name" is the first of its devices.
static size_t find_engine(const char *name, long *number) {
    size_t length = strcspn(name, ":"), i = 0;
    char *end = NULL;
    *number = name[length] == ':' ? strtol(name + length + 1, &end, 10) : 0;
    bool valid = end == NULL || (end != name + length + 1 && *end == '\0');
    while (i < all.engine_count &&
           !(strncmp(engines[i]->name, name, length) == 0 && engines[i]->name[length] == '\0'))
        i++;
    return valid && i < all.engine_count ? i : MOST_ENGINES;
}

static emlx_device *device_at(size_t index) {
    for (size_t i = 0; i < all.engine_count; i++) {
        engine_devices *d = devices_of(i);
        if (index < (size_t)d->count) return &d->first[index];
        index -= (size_t)d->count;
    }
    return NULL;
}

static emlx_status no_device(const char *name, size_t engine, emlx_error *err) {
    char names[256] = "";
    size_t used = 0;
    if (engine < MOST_ENGINES && all.of[engine].count == 0)
        return error_set(err, EMLX_UNSUPPORTED, "there is no device \"%.64s\": %s", name,
                         all.of[engine].why);
    for (size_t i = 0; device_at(i) != NULL && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 device_at(i)->name);
    return error_set(err, EMLX_UNSUPPORTED, "there is no device \"%.64s\"; this build has: %s%s%s",
                     name, names, all.refused[0] != '\0' ? "; not opened: " : "", all.refused);
}

static emlx_status find_and_open(const char *name, emlx_device **device, emlx_error *err);

// The CPU does what it cannot.
static emlx_status open_host(emlx_device *device, emlx_error *err) {
    return device->ops->can == NULL ? EMLX_OK : find_and_open("cpu", &device->host, err);
}

static emlx_status open_device(emlx_device *device, emlx_error *err) {
    TRY(pool_acquire(&device->pool, err));
    device->host_memory = device->ops->host_memory;
    emlx_status status = device->ops->open != NULL ? device->ops->open(device, err) : EMLX_OK;
    if (status == EMLX_OK) status = open_host(device, err);
    if (status != EMLX_OK) pool_release(device->pool);
    if (status == EMLX_OK && device->memory != NULL) {
        device->memory->device = device->name;
        device->memory->tell = account_tell;
        atomic_fetch_add(&memories, 1);
    }
    return status;
}

static emlx_status find_and_open(const char *name, emlx_device **device, emlx_error *err) {
    long number;
    load_engines();
    size_t engine = find_engine(name, &number);
    engine_devices *d = engine < MOST_ENGINES ? devices_of(engine) : NULL;
    if (d == NULL || number < 0 || number >= d->count) return no_device(name, engine, err);
    emlx_device *found = &d->first[number];
    if (found->references == 0) TRY(open_device(found, err));
    found->references++;
    *device = found;
    return EMLX_OK;
}

// Public -----------------------------------------------------------------------------------------

emlx_status emlx_device_open(const char *name, emlx_device **device, emlx_error *err) {
    REQUIRE(device);
    if (name == NULL) return error_set(err, EMLX_INVALID, "no device name given");
    mutex_lock(&all.lock);
    emlx_status status = find_and_open(name, device, err);
    mutex_unlock(&all.lock);
    return status;
}

emlx_device *emlx_device_retain(emlx_device *device) {
    if (device == NULL) return NULL;
    mutex_lock(&all.lock);
    device->references++;
    mutex_unlock(&all.lock);
    return device;
}

// Under the lock. Plans hold forms made by the engine, so they go first.
static void close_device(emlx_device *device) {
    plan_cache_clear(device);
    if (device->memory != NULL) atomic_fetch_sub(&memories, 1);
    if (device->ops->close != NULL) device->ops->close(device);
    while (device->handed != NULL) {
        handover *gone = device->handed;
        device->handed = gone->next;
        mem_free(gone, sizeof *gone);
    }
}

// The threads end last, outside of the lock that their jobs may want.
void emlx_device_release(emlx_device *device) {
    if (device == NULL) return;
    thread_pool *pool = NULL;
    emlx_device *host = NULL;
    mutex_lock(&all.lock);
    if (--device->references == 0) {
        close_device(device);
        pool = device->pool;
        host = device->host;
        device->host = NULL;
    }
    mutex_unlock(&all.lock);
    if (pool != NULL) pool_release(pool);
    emlx_device_release(host);
}

emlx_status emlx_device_reset(emlx_device *device, emlx_error *err) {
    REQUIRE(device);
    return device->ops->reset == NULL ? EMLX_OK : device->ops->reset(device, err);
}

const char *emlx_device_name(const emlx_device *device) {
    return device == NULL ? "?" : device->name;
}

bool emlx_device_host_memory(const emlx_device *device) {
    return device != NULL && device->host_memory;
}

// Those that compute in the host's memory have none of their own.
static bool has_memory(const emlx_device *device) {
    return device != NULL && device->memory != NULL;
}

void emlx_device_memory_info(const emlx_device *device, emlx_memory *info) {
    if (!has_memory(device))
        emlx_memory_info(info);
    else if (info != NULL)
        account_info(device->memory, info);
}

uint64_t emlx_memory_held(void) {
    emlx_memory host;
    emlx_memory_info(&host);
    uint64_t held = host.active;
    if (atomic_load_explicit(&memories, memory_order_relaxed) == 0 || !mutex_try_lock(&all.lock))
        return held;
    for (int i = 0; i < all.count; i++) {
        const emlx_device *device = &all.devices[i];
        if (device->references > 0 && device->memory != NULL)
            held += atomic_load(&device->memory->active);
    }
    mutex_unlock(&all.lock);
    return held;
}

uint64_t emlx_device_memory_set_limit(emlx_device *device, uint64_t bytes) {
    if (!has_memory(device)) return emlx_memory_set_limit(bytes);
    return account_set_limit(device->memory, bytes);
}

uint64_t emlx_device_memory_set_cache_limit(emlx_device *device, uint64_t bytes) {
    if (!has_memory(device)) return emlx_memory_set_cache_limit(bytes);
    return account_set_cache_limit(device->memory, bytes);
}

void emlx_device_memory_clear_cache(emlx_device *device) {
    if (has_memory(device))
        account_shrink(device->memory, 0);
    else
        emlx_memory_clear_cache();
}

void emlx_device_memory_reset_peak(emlx_device *device) {
    if (has_memory(device))
        account_reset_peak(device->memory);
    else
        emlx_memory_reset_peak();
}

static emlx_status capture(emlx_device *device, const char *path, emlx_error *err) {
    if (device->ops->capture != NULL) return device->ops->capture(device, path, err);
    return error_set(err, EMLX_UNSUPPORTED,
                     "device %s cannot be captured: frame captures are Metal's, of device mlx",
                     device->name);
}

emlx_status emlx_device_capture_start(emlx_device *device, const char *path, emlx_error *err) {
    REQUIRE(device);
    REQUIRE(path);
    return capture(device, path, err);
}

emlx_status emlx_device_capture_stop(emlx_device *device, emlx_error *err) {
    REQUIRE(device);
    return capture(device, NULL, err);
}

void emlx_device_describe(const emlx_device *device, char *text, size_t size) {
    if (text == NULL || size == 0) return;
    text[0] = '\0';
    if (device != NULL) device->ops->describe(device, text, size);
}

const char *emlx_device_available(size_t index) {
    mutex_lock(&all.lock);
    load_engines();
    const emlx_device *device = device_at(index);
    mutex_unlock(&all.lock);
    return device != NULL ? device->name : NULL;
}

const char *emlx_engine_missing(size_t index, char *why, size_t size) {
    const char *name = NULL;
    mutex_lock(&all.lock);
    load_engines();
    for (size_t i = 0; i < all.engine_count && name == NULL; i++) {
        const engine_devices *d = devices_of(i);
        if (d->count > 0 || index-- > 0) continue;
        name = engines[i]->name;
        snprintf(why, size, "%s", d->why);
    }
    mutex_unlock(&all.lock);
    return name;
}
