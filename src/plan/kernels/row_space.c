// SPDX-License-Identifier: Apache-2.0
// row_space.c - the axes that several kernels have in common.
#include <string.h>

#include "plan/kernels/rows.h"

// Axis d becomes two, the second of length `inner`.
static bool cut_axis(row_space *s, int32_t d, int64_t inner) {
    if (s->rank == EMLX_MAX_RANK) return false;
    memmove(&s->dims[d + 1], &s->dims[d], (size_t)(s->rank - d) * sizeof *s->dims);
    s->dims[d] /= inner;
    s->dims[d + 1] = inner;
    uint32_t below = (1u << d) - 1, from = s->axes & ~below;
    s->axes = (s->axes & below) | from << 1 | (from & 1u << d);
    s->rank++;
    return true;
}

// The next axis outwards of those that the stage has.
static int32_t next_axis(const row_space *s, const row_stage *stage, int32_t d) {
    do d--;
    while (stage->single && d >= 0 && runs_along(s, d));
    return d;
}

static bool axis_fits(const row_space *s, const row_stage *stage, int32_t axis, int32_t d) {
    const plan_kernel *k = stage->kernel;
    return d >= 0 && (k->kind != KERNEL_REDUCE || (k->axes >> axis & 1) == runs_along(s, d));
}

bool space_refine(row_space *s, const row_stage *stage) {
    int32_t d = s->rank;
    for (int32_t axis = stage->kernel->rank - 1; axis >= 0; axis--) {
        int64_t left = stage->kernel->dims[axis];
        while (left > 1) {
            d = next_axis(s, stage, d);
            if (!axis_fits(s, stage, axis, d)) return false;
            if (left % s->dims[d] == 0) {
                left /= s->dims[d];
                continue;
            }
            if (s->dims[d] % left != 0 || !cut_axis(s, d, left)) return false;
            d++;
            left = 1;
        }
    }
    return next_axis(s, stage, d) < 0;
}

int64_t space_count(const row_space *s, bool along) {
    int64_t count = 1;
    for (int32_t d = 0; d < s->rank; d++)
        if (runs_along(s, d) == along) count *= s->dims[d];
    return count;
}

plan_access space_access(const row_space *s, const row_stage *stage, uint32_t access) {
    const plan_kernel *k = stage->kernel;
    plan_access out = k->accesses[access];
    int32_t d = s->rank;
    memset(out.strides, 0, sizeof out.strides);
    for (int32_t axis = k->rank - 1; axis >= 0; axis--) {
        int64_t stride = k->accesses[access].strides[axis];
        for (int64_t run = 1; run < k->dims[axis]; run *= s->dims[d]) {
            d = next_axis(s, stage, d);
            out.strides[d] = stride * run;
        }
    }
    return out;
}

plan_access space_output(const row_space *s, const row_stage *stage, const emlx_plan *plan) {
    uint32_t value = stage->kernel->output;
    plan_access out = {.value = value, .type = plan->values[value].type};
    int64_t dense = 1;
    for (int32_t d = s->rank - 1; d >= 0; d--) {
        if (runs_along(s, d)) continue;
        out.strides[d] = dense;
        dense *= s->dims[d];
    }
    return out;
}
