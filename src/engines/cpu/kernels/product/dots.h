// SPDX-License-Identifier: Apache-2.0
// dots.h - what the files of dot instructions share.
#ifndef EMLX_CPU_PRODUCT_DOTS_H
#define EMLX_CPU_PRODUCT_DOTS_H

#include "engines/cpu/kernels/level.h"
#include "engines/cpu/kernels/tables/product.h"

// Whether there is a bf16 below the normal numbers.
ALWAYS_INLINE bool any_below_normal(const uint16_t *x, size_t count) {
    uint16_t found = 0;
    // The exponent is 0, the rest is not.
    for (size_t i = 0; i < count; i++) found |= (uint16_t)((uint16_t)((x[i] & 0x7fff) - 1) < 0x7f);
    return found != 0;
}

#if defined(__x86_64__)

// Right panels of 32 lines, in groups of 32 bits.
void vnni_right_bf16_pack(void *panel, const void *side, int64_t line_step, int64_t term_step,
                          size_t lines, size_t terms);
void vnni_right_u8_pack(void *panel, const void *side, int64_t line_step, int64_t term_step,
                        size_t lines, size_t terms);
// Dot instructions of bf16 take numbers below the normal ones for 0.
bool vnni_flushes(const void *panel, size_t count);

#endif
#endif
