// SPDX-License-Identifier: Apache-2.0
// table_level.c - the table of a level, of what its files have.
#include "engines/cpu/kernels/kernels.h"
#include "engines/cpu/kernels/tables/attention.h"
#include "engines/cpu/kernels/tables/conv.h"
#include "engines/cpu/kernels/tables/fft.h"
#include "engines/cpu/kernels/tables/packed.h"
#include "engines/cpu/kernels/tables/product.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const cpu_kernels KERNELS_JOIN(cpu, kernels, LEVEL) = {
    .level = TEXT(LEVEL),
    .scalars = {KERNEL(scalar, table), KERNEL(math, table), narrow_scalars, complex_scalars},
    .chains = KERNEL(chain, table),
    .forks = KERNEL(fork, table),
    .cast = KERNEL(cast, table),
    .iota = KERNEL(iota, table),
    .gather = KERNEL(gather, table),
    .repeat = KERNEL(repeat, table),
    .scatter = KERNEL(scatter, table),
    .reduce = KERNEL(reduce, table),
    .windows = KERNEL(window, table),
    .conv = KERNEL(conv, table),
    .conv_quick = &KERNEL(conv, quick),
    .conv_tiles = KERNEL(conv, tiles),
    .fft = KERNEL(fft, table),
    .vector = KERNEL(vector, table),
    .product = KERNEL(product, table),
    .attention = &KERNEL(attention, table),
    .packed = KERNEL(packed, table),
};
