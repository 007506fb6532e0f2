// SPDX-License-Identifier: Apache-2.0
// blas.c - making OpenBLAS ready.
#include <string.h>

#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/run.h"

// OpenBLAS copies what it multiplies into buffers of its own and asks the CPU to fetch a little
// more ahead than there is. As long as no product has been large enough to touch that memory, each
// such wish costs a walk through the page tables, which on a virtual machine makes products up to
// four times slower (seen with OpenBLAS 0.3.21 on Zen). A product of this form touches it.
#define LEAST_WORK 1e7
enum { ROWS = 64, COLUMNS = 512, TERMS = 384, OPERAND = COLUMNS * TERMS };

static void touch_kernels(void *context, int64_t index) {
    double *a = context;
    (void)index;
    void *memory;
    size_t size = (size_t)ROWS * COLUMNS * sizeof(double);
    if (data_alloc(size, &memory, NULL) != EMLX_OK) return;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ROWS, COLUMNS, TERMS, 1.0, a, TERMS, a,
                COLUMNS, 0.0, memory, COLUMNS);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ROWS, COLUMNS, TERMS, 1.0f,
                (const float *)a, TERMS, (const float *)a, COLUMNS, 0.0f, memory, COLUMNS);
    data_free(memory, size);
}

// There is a buffer for each call that runs at the same time, so all threads go at once.
void blas_ready(const cpu_run *run, double work) {
    static atomic_bool done;
    void *operand;
    size_t size = OPERAND * sizeof(double);
    if (work < LEAST_WORK || atomic_load(&done) || atomic_exchange(&done, true)) return;
    if (data_alloc(size, &operand, NULL) != EMLX_OK) return;
    memset(operand, 0, size);
    pool_for(run->device->pool, 2 * (int64_t)pool_threads(run->device->pool), touch_kernels,
             operand);
    data_free(operand, size);
}
