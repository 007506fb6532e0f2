// SPDX-License-Identifier: Apache-2.0
// blas.h - OpenBLAS, which is loaded when a device is opened rather than with the library: it
// starts a thread for each core as it is loaded, and ends the process where the system has none,
// unless it is told before that one will do. Included instead of cblas.h.
#ifndef EMLX_ENGINES_CPU_BLAS_H
#define EMLX_ENGINES_CPU_BLAS_H

#include <cblas.h>

#include "emlx.h"

// Every function of it that is called, but for those of LAPACK, which linalg.inc has.
#define BLAS_MAP(XX)                                                                               \
    XX(cblas_sgemm)                                                                                \
    XX(cblas_dgemm)                                                                                \
    XX(cblas_cgemm)                                                                                \
    XX(cblas_zgemm)                                                                                \
    XX(cblas_sgemv)                                                                                \
    XX(cblas_dgemv)                                                                                \
    XX(cblas_cgemv)                                                                                \
    XX(cblas_zgemv)                                                                                \
    XX(cblas_strsm)                                                                                \
    XX(cblas_dtrsm)                                                                                \
    XX(cblas_ctrsm)                                                                                \
    XX(cblas_ztrsm)                                                                                \
    XX(openblas_set_num_threads)                                                                   \
    XX(openblas_get_config)

typedef struct blas_functions {
#define XX(name) __typeof__(&(name)) call_##name;
    BLAS_MAP(XX)
#undef XX
} blas_functions;

extern blas_functions blas;

#define cblas_sgemm (*blas.call_cblas_sgemm)
#define cblas_dgemm (*blas.call_cblas_dgemm)
#define cblas_cgemm (*blas.call_cblas_cgemm)
#define cblas_zgemm (*blas.call_cblas_zgemm)
#define cblas_sgemv (*blas.call_cblas_sgemv)
#define cblas_dgemv (*blas.call_cblas_dgemv)
#define cblas_cgemv (*blas.call_cblas_cgemv)
#define cblas_zgemv (*blas.call_cblas_zgemv)
#define cblas_strsm (*blas.call_cblas_strsm)
#define cblas_dtrsm (*blas.call_cblas_dtrsm)
#define cblas_ctrsm (*blas.call_cblas_ctrsm)
#define cblas_ztrsm (*blas.call_cblas_ztrsm)
#define openblas_set_num_threads (*blas.call_openblas_set_num_threads)
#define openblas_get_config (*blas.call_openblas_get_config)

// A function by its name, and where its address belongs.
typedef struct blas_symbol {
    const char *name;
    void *slot;
} blas_symbol;

// Those of LAPACK, each list ended by a row without a name.
extern const blas_symbol linalg_symbols_f32[], linalg_symbols_f64[], linalg_symbols_c64[],
    linalg_symbols_c128[];

// Loads OpenBLAS, once. Fails with EMLX_UNSUPPORTED, saying what is missing.
emlx_status blas_load(emlx_error *err);

#endif
