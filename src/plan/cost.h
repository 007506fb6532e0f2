// SPDX-License-Identifier: Apache-2.0
// cost.h - how long work takes, roughly, before it is done. Knows shapes only.
#ifndef EMLX_PLAN_COST_H
#define EMLX_PLAN_COST_H

#include <math.h>

#include "emlx.h"

// Work is counted in element operations, roughly: what nobody knows is WORK_UNKNOWN. A small job
// takes about a millisecond at most, a brief one some microseconds.
#define WORK_UNKNOWN ((int64_t)1 << 56)
#define SMALL_WORK ((int64_t)1 << 20)
#define BRIEF_WORK ((int64_t)1 << 14)
// What starting a kernel costs, and planning a node.
#define KERNEL_WORK 256
#define NODE_WORK 512

// The elements of a shape, as far as they matter here: sums of these cannot overflow.
static inline int64_t work_count(const emlx_shape *shape) {
    int64_t count = emlx_shape_count(shape);
    return count > SMALL_WORK ? SMALL_WORK + 1 : count;
}

// Products, sorts and so on, of which only the number of operands' elements is looked at: as much
// as the longest that these kernels can take.
static inline int64_t whole_work(int64_t elements) {
    return elements > SMALL_WORK ? WORK_UNKNOWN : KERNEL_WORK + elements * elements / 16;
}

// A matrix product, of which only the elements of both sides and of the result are known: with m, n
// and k the lengths of its axes, (m k) (k n) (m n) is the square of its multiplications.
static inline int64_t product_work(int64_t left, int64_t right, int64_t result) {
    if (left > SMALL_WORK || right > SMALL_WORK || result > SMALL_WORK) return WORK_UNKNOWN;
    double multiplications = sqrt((double)left * (double)right * (double)result);
    return KERNEL_WORK + left + right + result + (int64_t)(multiplications / 8);
}

#endif
