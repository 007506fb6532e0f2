// SPDX-License-Identifier: Apache-2.0
// spares.c - buffers that one run keeps from step to step.
#include "memory/spares.h"

// Work that is queued may use a buffer still: then it goes its way. Work on larger buffers takes so
// long that a lock now and then is not felt.
#define LARGEST ((size_t)256 << 10)

emlx_buffer *spares_take(buffer_spares *spares, size_t size) {
    if (spares == NULL || size > LARGEST) return NULL;
    for (uint32_t i = 0; i < SPARE_COUNT; i++) {
        emlx_buffer *found = spares->items[i];
        if (found == NULL || found->size != size) continue;
        spares->items[i] = NULL;
        if (found->known != NULL) buffer_forget(found);
        return found;
    }
    return NULL;
}

void spares_give(buffer_spares *spares, emlx_buffer *buffer) {
    if (buffer == NULL) return;
    bool used = buffer->writer != NULL || buffer->readers != NULL;
    if (spares == NULL || used || buffer->size > LARGEST || !buffer_exclusive(buffer)) {
        buffer_release(buffer);
        return;
    }
    for (uint32_t i = 0; i < SPARE_COUNT; i++) {
        if (spares->items[i] != NULL) continue;
        spares->items[i] = buffer;
        return;
    }
    buffer_release(spares->items[spares->next]);
    spares->items[spares->next] = buffer;
    spares->next = (spares->next + 1) % SPARE_COUNT;
}

static uintptr_t place_of(const emlx_buffer *buffer) {
    return (uintptr_t)(buffer->handle != NULL ? buffer->handle : buffer->data);
}

static uint32_t find_highest(const buffer_spares *spares) {
    uint32_t found = SPARE_COUNT;
    for (uint32_t i = 0; i < SPARE_COUNT; i++) {
        if (spares->items[i] == NULL) continue;
        if (found == SPARE_COUNT || place_of(spares->items[i]) > place_of(spares->items[found]))
            found = i;
    }
    return found;
}

// What goes last is taken first: by going in order the same work finds the same memory each time.
bool spares_clear(buffer_spares *spares) {
    bool any = false;
    if (spares == NULL) return false;
    for (uint32_t at; (at = find_highest(spares)) < SPARE_COUNT; any = true) {
        buffer_release(spares->items[at]);
        spares->items[at] = NULL;
    }
    return any;
}
