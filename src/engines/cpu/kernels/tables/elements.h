// SPDX-License-Identifier: Apache-2.0
// elements.h - kernels that go over elements one by one, and how a level's names are made. A kernel
// gets pointers and counts that the caller has checked; it cannot fail. Each family of kernels has
// its header in this folder, so that a change in one leaves the others as they were compiled.
#ifndef EMLX_CPU_TABLES_ELEMENTS_H
#define EMLX_CPU_TABLES_ELEMENTS_H

#include "emlx.h"

// dst[i] = f(a[i], b[i], c[i]) for i < n. Operands that f does not have are ignored. `dst` may be
// the same array as an operand with elements of the same size, never a shifted one. Pointers are
// aligned to an element only.
typedef void (*tile_fn)(void *dst, const void *a, const void *b, const void *c, size_t n);

// Copies n elements of one size whose distance (in elements) is a stride of any sign or zero:
// dst[i] = src[i * stride], or dst[i * stride] = src[i].
typedef void (*stride_fn)(void *dst, const void *src, int64_t stride, size_t n);

// dst[r * length + i] = src[r * step] for all r < rows, i < length.
typedef void (*repeat_fn)(void *dst, const void *src, int64_t step, size_t rows, size_t length);

// dst[i] = start + i * step, computed in 64-bit wrapping integers, then converted to the type.
typedef void (*iota_fn)(void *dst, int64_t start, int64_t step, size_t n);

// In sources that are compiled once per CPU level LEVEL is the name of the level.
#define KERNELS_JOIN_(a, b, c) a##_##b##_##c
#define KERNELS_JOIN(a, b, c) KERNELS_JOIN_(a, b, c)
// avx2_f32_add and so on.
#define KERNEL(type, op) KERNELS_JOIN(LEVEL, type, op)

#ifdef LEVEL
extern const tile_fn KERNEL(cast, table)[EMLX_TYPE_COUNT][EMLX_TYPE_COUNT];
extern const iota_fn KERNEL(iota, table)[EMLX_TYPE_COUNT];
extern const stride_fn KERNEL(gather, table)[5];
extern const stride_fn KERNEL(scatter, table)[5];
extern const repeat_fn KERNEL(repeat, table)[5];
#endif

#endif
