// SPDX-License-Identifier: Apache-2.0
// spares.c - buffers that one run keeps from step to step.
#include "memory/spares.h"

// Work that is queued may use a buffer still: then it goes its way. Work on larger buffers takes so
// long that a lock now and then is not felt.
#define LARGEST ((size_t)256 << 10)

emlx_buffer *spares_take(buffer_spares *spares, size_t size) {
    if (spares == NULL || size > LARGEST) return NULL;
    for (uint32_t i = 0; i < spares->count; i++) {
        emlx_buffer *found = spares->items[i];
        if (found->size != size) continue;
        spares->items[i] = spares->items[--spares->count];
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
    if (spares->count < SPARE_COUNT) {
        spares->items[spares->count++] = buffer;
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
    uint32_t found = 0;
    for (uint32_t i = 1; i < spares->count; i++)
        if (place_of(spares->items[i]) > place_of(spares->items[found])) found = i;
    return found;
}

// What goes last is taken first: by going in order the same work finds the same memory each time.
bool spares_clear(buffer_spares *spares) {
    if (spares == NULL || spares->count == 0) return false;
    while (spares->count > 0) {
        uint32_t at = find_highest(spares);
        buffer_release(spares->items[at]);
        spares->items[at] = spares->items[--spares->count];
    }
    return true;
}
