// SPDX-License-Identifier: Apache-2.0
// list.c - arrays that grow while something is being built.
#include "program/list.h"

bool list_reserve_bytes(void **items, size_t *capacity, size_t count, size_t extra, size_t size) {
    if (extra <= *capacity - count) return true;
    size_t wanted = *capacity < 4 ? 8 : *capacity * 2;
    if (wanted < count + extra) wanted = count + extra;
    if (wanted > PTRDIFF_MAX / size) return false;
    void *grown = mem_grow(*items, *capacity * size, wanted * size);
    if (grown == NULL) return false;
    *items = grown;
    *capacity = wanted;
    return true;
}
