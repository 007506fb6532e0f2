// SPDX-License-Identifier: Apache-2.0
// cache.h - plans by the structure that they are for.
#ifndef EMLX_PLAN_CACHE_H
#define EMLX_PLAN_CACHE_H

#include "plan/plan.h"

typedef struct plan_key {
    const emlx_device *device;
    const void *bytes;
    size_t size;
} plan_key;

// One more reference on the plan, or NULL.
emlx_plan *plan_cache_get(const plan_key *key);
// Remembers a plan (with a reference of its own), forgetting the one used longest ago when full.
// Does nothing when there is no memory.
void plan_cache_put(const plan_key *key, emlx_plan *plan);
// Forgets the plans of a device; of all devices when NULL.
void plan_cache_clear(const emlx_device *device);

#endif
