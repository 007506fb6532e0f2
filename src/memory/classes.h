// SPDX-License-Identifier: Apache-2.0
// classes.h - the size classes of blocks, for the host's memory and that of devices.
#ifndef EMLX_MEMORY_CLASSES_H
#define EMLX_MEMORY_CLASSES_H

#include <stddef.h>

// Sizes are counted in units of an alignment. Up to 2 * STEPS units there is a class for each
// number; above, STEPS classes between a power of two and the next, so rounding adds at most 1/8.
#define STEP_BITS 3
#define STEPS (1 << STEP_BITS)
// More than any machine has; keeps all sums of sizes far from overflow.
#define MAX_SIZE ((size_t)1 << 48)
#define CLASS_COUNT 336

// The class of a size, which is at most MAX_SIZE, and the bytes of its blocks.
static inline unsigned size_class(size_t size, size_t unit, size_t *block) {
    size_t units = size == 0 ? 1 : (size + unit - 1) / unit;
    unsigned shift = 0;
    if (units > 2 * STEPS) {
        shift = 63 - (unsigned)__builtin_clzll((unsigned long long)(units - 1)) - STEP_BITS;
    }
    size_t steps = (units + ((size_t)1 << shift) - 1) >> shift;
    *block = (steps << shift) * unit;
    return shift * STEPS + (unsigned)steps - 1;
}

static inline size_t size_class_block(unsigned index, size_t unit) {
    if (index < 2 * STEPS) return (size_t)(index + 1) * unit;
    unsigned shift = (index - STEPS) / STEPS;
    return ((size_t)(index + 1 - shift * STEPS) << shift) * unit;
}

#endif
