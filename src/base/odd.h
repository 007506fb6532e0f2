// SPDX-License-Identifier: Apache-2.0
// odd.h - rounding to odd, on the way of a number to a type shorter than a double.
#ifndef EMLX_BASE_ODD_H
#define EMLX_BASE_ODD_H

#include <stdint.h>

// An integer of more than 53 bits with its last 12 cleared, and the highest of them set where that
// lost any. It is exact as a double, and rounding that to a type at least two bits shorter gives
// what rounding the integer itself would. For numbers of two's complement as well.
static inline uint64_t integer_to_odd(uint64_t x) {
    return (x & ~UINT64_C(0xfff)) | ((x & 0xfff) != 0 ? 0x800 : 0);
}

#endif
