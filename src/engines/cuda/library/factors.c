// SPDX-License-Identifier: Apache-2.0
// factors.c - factors of large real matrices by cuSOLVER, in double whatever the type. Kernels of
// our own are before and after it.
#include "engines/cuda/library/factors.h"

#include <stdio.h>

#include "base/error.h"
#include "engines/cuda/text/whole/factors.h"

typedef struct solver_handle_st *solver_handle;

// Numbers of the library's own header.
enum { FILL_LOWER = 0, FILL_UPPER = 1, NOT_TRANSPOSED = 0, WITH_VECTORS = 1 };

#define CUSOLVER(XX)                                                                               \
    XX(create, "cusolverDnCreate", (solver_handle * handle))                                       \
    XX(destroy, "cusolverDnDestroy", (solver_handle handle))                                       \
    XX(set_stream, "cusolverDnSetStream", (solver_handle handle, cuda_stream stream))              \
    XX(cholesky_size, "cusolverDnDpotrf_bufferSize",                                               \
       (solver_handle handle, int fill, int n, double *a, int step, int *size))                    \
    XX(cholesky, "cusolverDnDpotrf",                                                               \
       (solver_handle handle, int fill, int n, double *a, int step, double *work, int size,        \
        int *info))                                                                                \
    XX(lu_size, "cusolverDnDgetrf_bufferSize",                                                     \
       (solver_handle handle, int m, int n, double *a, int step, int *size))                       \
    XX(lu, "cusolverDnDgetrf",                                                                     \
       (solver_handle handle, int m, int n, double *a, int step, double *work, int *pivots,        \
        int *info))                                                                                \
    XX(substitute, "cusolverDnDgetrs",                                                             \
       (solver_handle handle, int transposed, int n, int count, const double *a, int step,         \
        const int *pivots, double *b, int b_step, int *info))                                      \
    XX(qr_size, "cusolverDnDgeqrf_bufferSize",                                                     \
       (solver_handle handle, int m, int n, double *a, int step, int *size))                       \
    XX(qr, "cusolverDnDgeqrf",                                                                     \
       (solver_handle handle, int m, int n, double *a, int step, double *taus, double *work,       \
        int size, int *info))                                                                      \
    XX(q_size, "cusolverDnDorgqr_bufferSize",                                                      \
       (solver_handle handle, int m, int n, int k, const double *a, int step, const double *taus,  \
        int *size))                                                                                \
    XX(q, "cusolverDnDorgqr",                                                                      \
       (solver_handle handle, int m, int n, int k, double *a, int step, const double *taus,        \
        double *work, int size, int *info))                                                        \
    XX(eigen_size, "cusolverDnDsyevd_bufferSize",                                                  \
       (solver_handle handle, int vectors, int fill, int n, const double *a, int step,             \
        const double *values, int *size))                                                          \
    XX(eigen, "cusolverDnDsyevd",                                                                  \
       (solver_handle handle, int vectors, int fill, int n, double *a, int step, double *values,   \
        double *work, int size, int *info))

static struct { CUSOLVER(LIBRARY_FUNCTION) } solver;
LIBRARY(library, solver, CUSOLVER, "cuSOLVER", "libcusolver.so.12", "libcusolver.so.11",
        "libcusolver.so");

void factors_describe(char *text, size_t size) { library_describe(&library, text, size); }

void factors_close(void *handle) {
    if (handle != NULL) solver.destroy(handle);
}

static emlx_status solver_check(int result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    emlx_status code = result == 2 ? EMLX_OUT_OF_MEMORY : EMLX_INTERNAL;
    return error_set(err, code, "cuSOLVER: %s failed (error %d)", what, result);
}

// One handle a device; calls with it are made under its lock.
static pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;

static emlx_status open_solver(gpu *g, emlx_error *err) {
    solver_handle handle = NULL;
    if (g->factors != NULL) return EMLX_OK;
    TRY(solver_check(solver.create(&handle), "opening it", err));
    g->factors = handle;
    return EMLX_OK;
}

// Sizes -------------------------------------------------------------------------------------------

typedef struct factor_call {
    factoring f;
    int size; // of the library's working memory, in doubles
} factor_call;

static int query_qr(solver_handle h, int m, int n, int k, int *size) {
    int other = 0, result = solver.qr_size(h, m, n, NULL, m, size);
    if (result == 0) result = solver.q_size(h, m, k, k, NULL, m, NULL, &other);
    if (other > *size) *size = other;
    return result;
}

static int query(solver_handle h, factor_call *c) {
    int m = (int)c->f.rows, n = (int)c->f.columns, k = (int)c->f.shorter;
    switch ((routine_kind)c->f.params->kind) {
    case ROUTINE_cholesky: return solver.cholesky_size(h, FILL_UPPER, n, NULL, n, &c->size);
    case ROUTINE_qr: return query_qr(h, m, n, k, &c->size);
    case ROUTINE_eigh:
        return solver.eigen_size(h, WITH_VECTORS, FILL_LOWER, n, NULL, n, NULL, &c->size);
    default: return solver.lu_size(h, n, n, NULL, n, &c->size);
    }
}

// Calls -------------------------------------------------------------------------------------------

static double *doubles(const factor_call *c, cuda_address memory, factor_place place, int64_t each,
                       int64_t matrix) {
    return (double *)(memory + c->f.places[place]) + each * matrix;
}
static int *integers(const factor_call *c, cuda_address memory, factor_place place, int64_t each,
                     int64_t matrix) {
    return (int *)(memory + c->f.places[place]) + each * matrix;
}

// The first of the library's calls for a matrix, or the only one.
static int factor_one(solver_handle h, const factor_call *c, cuda_address memory, int64_t i) {
    const factoring *f = &c->f;
    int m = (int)f->rows, n = (int)f->columns, k = (int)f->shorter;
    double *a = doubles(c, memory, PLACE_MATRIX, f->rows * f->columns, i);
    double *values = doubles(c, memory, PLACE_VALUES, k, i);
    double *work = doubles(c, memory, PLACE_WORK, 0, i);
    int *info = integers(c, memory, PLACE_INFOS, 1, i);
    switch ((routine_kind)f->params->kind) {
    case ROUTINE_cholesky: return solver.cholesky(h, FILL_UPPER, n, a, n, work, c->size, info);
    case ROUTINE_qr:
        return solver.qr(h, m, n, a, m, doubles(c, memory, PLACE_SECOND, k, i), work, c->size,
                         info);
    case ROUTINE_eigh:
        return solver.eigen(h, WITH_VECTORS, FILL_LOWER, n, a, n, values, work, c->size, info);
    default: return solver.lu(h, n, n, a, n, work, integers(c, memory, PLACE_PIVOTS, n, i), info);
    }
}

// The second, where there is one.
static int finish_one(solver_handle h, const factor_call *c, cuda_address memory, int64_t i) {
    const factoring *f = &c->f;
    int m = (int)f->rows, n = (int)f->columns, k = (int)f->shorter;
    double *a = doubles(c, memory, PLACE_MATRIX, f->rows * f->columns, i);
    int *unused = integers(c, memory, PLACE_MARKS, 1, i);
    if (f->params->kind == ROUTINE_qr)
        return solver.q(h, m, k, k, a, m, doubles(c, memory, PLACE_SECOND, k, i),
                        doubles(c, memory, PLACE_WORK, 0, i), c->size, unused);
    return solver.substitute(h, NOT_TRANSPOSED, n, (int)f->other, a, n,
                             integers(c, memory, PLACE_PIVOTS, n, i),
                             doubles(c, memory, PLACE_SECOND, n * f->other, i), n, unused);
}

static emlx_status call_all(gpu *g, const factor_call *c, cuda_address memory, bool second,
                            emlx_error *err) {
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    pthread_mutex_lock(&calls);
    int result = solver.set_stream(g->factors, stream);
    for (int64_t i = 0; i < c->f.count && result == 0; i++)
        result = (second ? finish_one : factor_one)(g->factors, c, memory, i);
    pthread_mutex_unlock(&calls);
    return solver_check(result, "a factorisation", err);
}

static emlx_status factor_all(gpu *g, const gpu_kernel *k, const kernel_call *call,
                              cuda_address memory, emlx_error *err) {
    const factor_call *c = k->library;
    int kind = c->f.params->kind;
    size_t marks = c->f.places[PLACE_MARKS];
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    CUDA_TRY("clearing marks",
             cuda.fill(memory + marks, 0, c->f.places[PLACE_WORK] - marks, stream));
    TRY(launch_part(g, k, call, memory, 'a', err));
    TRY(call_all(g, c, memory, false, err));
    bool orthogonal = kind == ROUTINE_qr;
    if (kind == ROUTINE_cholesky || kind == ROUTINE_lu || orthogonal)
        TRY(launch_part(g, k, call, memory, 'p', err));
    if (orthogonal) TRY(launch_part(g, k, call, memory, 'r', err));
    if (orthogonal || kind == ROUTINE_solve) TRY(call_all(g, c, memory, true, err));
    return launch_part(g, k, call, memory, 'b', err);
}

static emlx_status run_factors(gpu *g, const gpu_kernel *k, const kernel_call *call,
                               emlx_error *err) {
    const factor_call *c = k->library;
    device_block memory;
    size_t room = c->f.places[PLACE_WORK] + (size_t)c->size * sizeof(double);
    TRY(gpu_take(g, room, &memory, err));
    emlx_status status = factor_all(g, k, call, memory.address, err);
    gpu_give(g, &memory);
    return status;
}

// Preparing ---------------------------------------------------------------------------------------

static void discard_call(gpu_kernel *k) { mem_free(k->library, sizeof(factor_call)); }

static emlx_status prepare_call(gpu *g, factor_call *c, emlx_error *err) {
    pthread_mutex_lock(&calls);
    emlx_status status = open_solver(g, err);
    if (status == EMLX_OK)
        status = solver_check(query(g->factors, c), "asking for its working memory", err);
    pthread_mutex_unlock(&calls);
    return status;
}

emlx_status factors_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan, const plan_kernel *kernel,
                            emlx_error *err) {
    const routine_params *p = kernel->params;
    factoring f;
    if (kernel->kind != KERNEL_ROUTINE || routine_elements[p->kind] != ROUTINE_OF_MATRIX ||
        g->rehearsal || !find_factoring(plan, kernel, &f) ||
        library_open(&library, NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    factor_call *c = mem_alloc(sizeof *c);
    if (c == NULL) return error_no_memory(err, "for a factorisation");
    c->f = f;
    k->library = c;
    k->discard = discard_call;
    TRY(prepare_call(g, c, err));
    TRY(code_factoring(&k->code, plan, kernel, &f, err));
    k->run = run_factors;
    return EMLX_OK;
}
