// SPDX-License-Identifier: Apache-2.0
// kernels.h - the CPU engine's tile kernels: plain loops over contiguous elements, one table of
// them per CPU level. Know types and scalar ops only: nothing of plans or threads. Whoever calls
// those of a family includes its header in tables/.
#ifndef EMLX_CPU_KERNELS_H
#define EMLX_CPU_KERNELS_H

#include "engines/cpu/kernels/tables/fold.h"
#include "engines/cpu/kernels/tables/scalar.h"

enum { SCALAR_TABLES = 4 };

typedef struct cpu_kernels {
    const char *level;
    // [function][type it is computed in]: each is in one of the tables, or in none where it makes
    // no sense. `cpu_scalar` looks.
    const tile_fn (*scalars[SCALAR_TABLES])[EMLX_TYPE_COUNT];
    // All that there are; one without a function is the last.
    const chain_fn *chains;
    const fork_fn *forks;
    // cast[from][to], by Nx's rules for casts; floats below 32 bits round once, to nearest even.
    // A copy on the diagonal.
    const tile_fn (*cast)[EMLX_TYPE_COUNT];
    // iota[type]
    const iota_fn *iota;
    // By log2 of the element's size in bytes (1, 2, 4, 8, 16).
    const stride_fn *gather;
    const stride_fn *scatter;
    const repeat_fn *repeat;
    // reduce[kind][element type]; `init` is NULL where there is none.
    const reduce_fns (*reduce)[EMLX_TYPE_COUNT];
    // windows[kind][element type], or NULL.
    const window_fn (*windows)[EMLX_TYPE_COUNT];
    // conv[element type]: sums in f64 for floats, in u32 or u64 for integers (which wrap alike for
    // both signs). `rows` is NULL for types that are computed in another one.
    const struct conv_fns *conv;
    // The same for f32 with sums in f32.
    const struct conv_fns *conv_quick;
    const struct conv_tiles *conv_tiles; // of f32 and of f64
    // Of f32 and of f64.
    const struct fft_fns *fft;
    // By the matrix's element type. `across` is NULL for types that have none; so is `tile`.
    const struct vector_fns *vector;
    const struct product_fns *product; // and behind them others: see tables/product.h
    const struct attention_fns *attention;
    const struct packed_fns *packed; // by packed_kind
} cpu_kernels;

static inline tile_fn cpu_scalar(const cpu_kernels *kernels, size_t op, emlx_type type) {
    tile_fn found = NULL;
    for (size_t i = 0; i < SCALAR_TABLES && found == NULL; i++)
        found = kernels->scalars[i][op][type];
    return found;
}

// The tables that this build has; each is complete.
#define CPU_LEVEL(name, ...) extern const cpu_kernels cpu_kernels_##name;
#define CPU_DOTS(...)
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
#undef CPU_DOTS

// The best table for this CPU; EMLX_CPU_LEVEL forces a lower one, by the name that it has in
// levels.def.
const cpu_kernels *cpu_kernels_select(void);
// The tables from the lowest up to that one; NULL past the last.
const cpu_kernels *cpu_kernels_level(size_t i);

#endif
