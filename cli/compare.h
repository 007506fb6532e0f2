// SPDX-License-Identifier: Apache-2.0
// compare.h - whether a result is the recorded one, within the tolerance of its class.
#ifndef EMLX_CLI_COMPARE_H
#define EMLX_CLI_COMPARE_H

#include "emlx.h"

typedef struct tolerance tolerance;

// That of the device's engine where it has one of its own. NULL when there is no such class.
const tolerance *tolerance_find(const char *device, const char *name);

// f32 elements that were compared by the last place, and those that differed in it.
typedef struct last_places {
    uint64_t compared;
    uint64_t different;
} last_places;

// Whether the whole run has few enough different last places.
bool last_places_fit(const last_places *counted);

// The largest magnitude among the finite numbers of some data.
double compare_largest(emlx_type type, const void *data, int64_t count);
// Index of the first element that is not the expected one, or -1. `largest` is the scale of
// classes that go by it. Adds to `counted`.
int64_t compare_first_difference(const tolerance *t, emlx_type type, const void *actual,
                                 const void *expected, int64_t count, double largest,
                                 last_places *counted);

#endif
