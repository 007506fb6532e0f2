// SPDX-License-Identifier: Apache-2.0
// narrowed_baseline.c - computes in f32, and in f64 what lies in the middle of two results.
#include "engines/cpu/kernels/tables/narrowed.h"

#include "base/types.h"
#include "engines/cpu/kernels/math/narrow.h"

enum { PART = 256 };
#define LEAST_NORMAL_F16 0x38800000u // 2^-14

static bool is_half(emlx_type type) { return type == EMLX_BF16 || type == EMLX_F16; }

bool narrowed_find(const cpu_kernels *kernels, uint8_t op, emlx_type from, emlx_type type,
                   narrowed_fn *out) {
    bool exact = from == EMLX_F32 || is_half(from);
    if (!exact || !is_half(type) || scalar_table[op].operands != 1 ||
        scalar_table[op].loop != LOOP_LONG)
        return false;
    *out = (narrowed_fn){.widen = kernels->cast[from][EMLX_F32],
                         .in_f32 = cpu_scalar(kernels, op, EMLX_F32),
                         .in_f64 = cpu_scalar(kernels, op, EMLX_F64),
                         .round = kernels->cast[EMLX_F32][type],
                         .type = type,
                         .from_size = (uint8_t)type_size(from),
                         .size = (uint8_t)type_size(type)};
    return out->in_f32 != NULL && out->in_f64 != NULL;
}

// Numbers of f16 below the least normal one have fewer digits.
static bool is_middle(float x, emlx_type type) {
    uint32_t size = narrow_bits(x) & 0x7fffffff;
    if (type == EMLX_BF16) return (size & 0xffff) == 0x8000;
    if (size >= LEAST_NORMAL_F16) return (size & 0x1fff) == 0x1000;
    float halves = narrow_from_bits(size) * 0x1p25f;
    return (float)(int)halves == halves && ((int)halves & 1) != 0;
}

// Whether one of them may be.
static bool any_middle(const float *x, size_t count, emlx_type type) {
    uint32_t any = 0;
    if (type == EMLX_BF16)
        for (size_t i = 0; i < count; i++) any |= (narrow_bits(x[i]) & 0xffff) == 0x8000;
    else
        for (size_t i = 0; i < count; i++) {
            uint32_t size = narrow_bits(x[i]) & 0x7fffffff;
            any |= ((size & 0x1fff) == 0x1000) | (size - 1 < LEAST_NORMAL_F16 - 1);
        }
    return any != 0;
}

void narrowed_apply(const narrowed_fn *n, char *to, const char *from, size_t count) {
    float x[PART], y[PART];
    for (size_t at = 0; at < count; at += PART) {
        size_t part = count - at < PART ? count - at : PART;
        n->widen(x, from + at * n->from_size, NULL, NULL, part);
        n->in_f32(y, x, x, x, part);
        bool any = any_middle(y, part, n->type);
        for (size_t i = 0; any && i < part; i++) {
            double exact, of = (double)x[i];
            if (!is_middle(y[i], n->type)) continue;
            n->in_f64(&exact, &of, &of, &of, 1);
            y[i] = narrow_to_odd(exact);
        }
        n->round(to + at * n->size, y, NULL, NULL, part);
    }
}
