// SPDX-License-Identifier: Apache-2.0
// device.c - the list of engines, and the devices that are open.
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mutex.h"
#include "engine.h"
#include "plan/cache.h"

// One line an engine.
static const engine_ops *const engines[] = {&cpu_engine};

enum { ENGINE_COUNT = sizeof engines / sizeof *engines };

static struct {
    pthread_mutex_t lock;
    emlx_device devices[ENGINE_COUNT];
    size_t references[ENGINE_COUNT];
} opened = {.lock = PTHREAD_MUTEX_INITIALIZER};

static emlx_status open_engine(size_t i, emlx_error *err) {
    emlx_device *device = &opened.devices[i];
    *device = (emlx_device){.ops = engines[i]};
    TRY(pool_acquire(&device->pool, err));
    emlx_status status = engines[i]->open != NULL ? engines[i]->open(device, err) : EMLX_OK;
    if (status != EMLX_OK) pool_release(device->pool);
    return status;
}

static emlx_status no_device(const char *name, emlx_error *err) {
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < ENGINE_COUNT && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 engines[i]->name);
    return error_set(err, EMLX_UNSUPPORTED, "there is no device \"%.64s\"; this build has: %s",
                     name, names);
}

emlx_status emlx_device_open(const char *name, emlx_device **device, emlx_error *err) {
    if (name == NULL) return error_set(err, EMLX_INVALID, "no device name given");
    size_t i = 0;
    while (i < ENGINE_COUNT && strcmp(engines[i]->name, name) != 0) i++;
    if (i == ENGINE_COUNT) return no_device(name, err);
    mutex_lock(&opened.lock);
    emlx_status status = opened.references[i] > 0 ? EMLX_OK : open_engine(i, err);
    if (status == EMLX_OK) {
        opened.references[i]++;
        *device = &opened.devices[i];
    }
    mutex_unlock(&opened.lock);
    return status;
}

// Plans hold forms made by the engine, so they go first; the threads end last, outside of the lock
// that their jobs may want.
void emlx_device_release(emlx_device *device) {
    if (device == NULL) return;
    thread_pool *pool = NULL;
    size_t i = (size_t)(device - opened.devices);
    mutex_lock(&opened.lock);
    if (--opened.references[i] == 0) {
        plan_cache_clear(device);
        if (device->ops->close != NULL) device->ops->close(device);
        pool = device->pool;
    }
    mutex_unlock(&opened.lock);
    if (pool != NULL) pool_release(pool);
}

const char *emlx_device_name(const emlx_device *device) { return device->ops->name; }

void emlx_device_describe(const emlx_device *device, char *text, size_t size) {
    device->ops->describe(device, text, size);
}

const char *emlx_device_available(size_t index) {
    return index < ENGINE_COUNT ? engines[index]->name : NULL;
}
