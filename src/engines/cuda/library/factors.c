// SPDX-License-Identifier: Apache-2.0
// factors.c - factors of large real matrices by cuSOLVER, in double whatever the type but for
// Cholesky's. Kernels of our own are before and after it.
#include "engines/cuda/library/factors.h"

#include <stdio.h>

#include "base/error.h"
#include "engines/cuda/stream.h"
#include "engines/cuda/text/whole/factors.h"

typedef struct solver_handle_st *solver_handle;
typedef struct solver_options_st *solver_options;

// Numbers of the library's own header.
enum { FILL_LOWER = 0, NOT_TRANSPOSED = 0, WITH_VECTORS = 1, DOUBLE = 1 };

#define CUSOLVER(XX)                                                                               \
    XX(create, "cusolverDnCreate", (solver_handle * handle))                                       \
    XX(destroy, "cusolverDnDestroy", (solver_handle handle))                                       \
    XX(set_stream, "cusolverDnSetStream", (solver_handle handle, cuda_stream stream))              \
    XX(cholesky_size, "cusolverDnDpotrf_bufferSize",                                               \
       (solver_handle handle, int fill, int n, double *a, int step, int *size))                    \
    XX(cholesky, "cusolverDnDpotrf",                                                               \
       (solver_handle handle, int fill, int n, double *a, int step, double *work, int size,        \
        int *info))                                                                                \
    XX(cholesky_f32_size, "cusolverDnSpotrf_bufferSize",                                           \
       (solver_handle handle, int fill, int n, float *a, int step, int *size))                     \
    XX(cholesky_f32, "cusolverDnSpotrf",                                                           \
       (solver_handle handle, int fill, int n, float *a, int step, float *work, int size,          \
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
        double *work, int size, int *info))                                                        \
    XX(options_create, "cusolverDnCreateParams", (solver_options * options))                       \
    XX(options_destroy, "cusolverDnDestroyParams", (solver_options options))                       \
    XX(polar_size, "cusolverDnXgesvdp_bufferSize",                                                 \
       (solver_handle handle, solver_options options, int vectors, int thin, int64_t m, int64_t n, \
        int a_type, const void *a, int64_t a_step, int values_type, const void *values,            \
        int u_type, const void *u, int64_t u_step, int v_type, const void *v, int64_t v_step,      \
        int compute, size_t *size, size_t *host_size))                                             \
    XX(polar, "cusolverDnXgesvdp",                                                                 \
       (solver_handle handle, solver_options options, int vectors, int thin, int64_t m, int64_t n, \
        int a_type, void *a, int64_t a_step, int values_type, void *values, int u_type, void *u,   \
        int64_t u_step, int v_type, void *v, int64_t v_step, int compute, void *work, size_t size, \
        void *host_work, size_t host_size, int *info, double *moved))                              \
    XX(svd_size, "cusolverDnDgesvd_bufferSize", (solver_handle handle, int m, int n, int *size))   \
    XX(svd, "cusolverDnDgesvd",                                                                    \
       (solver_handle handle, signed char left, signed char right, int m, int n, double *a,        \
        int step, double *values, double *u, int u_step, double *vt, int vt_step, double *work,    \
        int size, double *other, int *info))

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
    int size;               // of the library's working memory, in doubles
    solver_options options; // svd: of its first way, with
    size_t host_size;       // working memory of the host's
} factor_call;

static int query_qr(solver_handle h, int m, int n, int k, int *size) {
    int other = 0, result = solver.qr_size(h, m, n, NULL, m, size);
    if (result == 0) result = solver.q_size(h, m, k, k, NULL, m, NULL, &other);
    if (other > *size) *size = other;
    return result;
}

// Working memory is for both ways.
static int query_svd(solver_handle h, factor_call *c) {
    int64_t m = c->f.longer, n = c->f.shorter;
    size_t size = 0;
    int result = solver.options_create(&c->options);
    if (result == 0)
        result = solver.polar_size(h, c->options, WITH_VECTORS, c->f.vectors == n, m, n, DOUBLE,
                                   NULL, m, DOUBLE, NULL, DOUBLE, NULL, m, DOUBLE, NULL, n, DOUBLE,
                                   &size, &c->host_size);
    if (result == 0) result = solver.svd_size(h, (int)m, (int)n, &c->size);
    size = (size + sizeof(double) - 1) / sizeof(double);
    if (size > (size_t)c->size) c->size = size > INT32_MAX ? INT32_MAX : (int)size;
    return result;
}

static int query_cholesky(solver_handle h, factor_call *c) {
    int n = (int)c->f.rows;
    return c->f.single ? solver.cholesky_f32_size(h, FILL_LOWER, n, NULL, n, &c->size)
                       : solver.cholesky_size(h, FILL_LOWER, n, NULL, n, &c->size);
}

static int query(solver_handle h, factor_call *c) {
    int m = (int)c->f.rows, n = (int)c->f.columns, k = (int)c->f.shorter;
    switch ((routine_kind)c->f.params->kind) {
    case ROUTINE_cholesky: return query_cholesky(h, c);
    case ROUTINE_qr: return query_qr(h, m, n, k, &c->size);
    case ROUTINE_eigh:
        return solver.eigen_size(h, WITH_VECTORS, FILL_LOWER, n, NULL, n, NULL, &c->size);
    case ROUTINE_svd: return query_svd(h, c);
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

// Singular values by two ways, of tall matrices. The first, by a polar decomposition, is the
// quicker one. It moves values a little where columns are not independent, and says how far.
static int factor_polar(solver_handle h, const factor_call *c, cuda_address memory, int64_t i,
                        void *host_work, double *moved) {
    const factoring *f = &c->f;
    int64_t m = f->longer, n = f->shorter;
    double one = 0;
    int result =
        solver.polar(h, c->options, WITH_VECTORS, f->vectors == n, m, n, DOUBLE,
                     doubles(c, memory, PLACE_MATRIX, m * n, i), m, DOUBLE,
                     doubles(c, memory, PLACE_VALUES, n, i), DOUBLE,
                     doubles(c, memory, PLACE_SECOND, m * f->vectors, i), m, DOUBLE,
                     doubles(c, memory, PLACE_THIRD, n * n, i), n, DOUBLE,
                     doubles(c, memory, PLACE_WORK, 0, i), (size_t)c->size * sizeof(double),
                     host_work, c->host_size, integers(c, memory, PLACE_INFOS, 1, i), &one);
    if (one > *moved) *moved = one;
    return result;
}

static int factor_svd(solver_handle h, const factor_call *c, cuda_address memory, int64_t i) {
    const factoring *f = &c->f;
    int m = (int)f->longer, n = (int)f->shorter;
    return solver.svd(h, f->vectors > n ? 'A' : 'S', 'S', m, n,
                      doubles(c, memory, PLACE_MATRIX, f->longer * f->shorter, i), m,
                      doubles(c, memory, PLACE_VALUES, n, i),
                      doubles(c, memory, PLACE_SECOND, f->longer * f->vectors, i), m,
                      doubles(c, memory, PLACE_THIRD, f->shorter * f->shorter, i), n,
                      doubles(c, memory, PLACE_WORK, 0, i), c->size, NULL,
                      integers(c, memory, PLACE_INFOS, 1, i));
}

// The library is twice as quick with the lower half as with the upper one.
static int factor_cholesky(solver_handle h, const factor_call *c, double *a, double *work,
                           int *info) {
    int n = (int)c->f.rows;
    return c->f.single
               ? solver.cholesky_f32(h, FILL_LOWER, n, (float *)a, n, (float *)work, c->size, info)
               : solver.cholesky(h, FILL_LOWER, n, a, n, work, c->size, info);
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
    case ROUTINE_cholesky: return factor_cholesky(h, c, a, work, info);
    case ROUTINE_qr:
        return solver.qr(h, m, n, a, m, doubles(c, memory, PLACE_SECOND, k, i), work, c->size,
                         info);
    case ROUTINE_eigh:
        return solver.eigen(h, WITH_VECTORS, FILL_LOWER, n, a, n, values, work, c->size, info);
    case ROUTINE_svd: return factor_svd(h, c, memory, i);
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

// Words of a call: its working memory, and whether it is the second.
enum { CALL_MEMORY, CALL_SECOND, CALL_WORDS };

static emlx_status call_library(gpu *g, const void *context, const int64_t *words,
                                cuda_stream stream, emlx_error *err) {
    const factor_call *c = context;
    cuda_address memory = (cuda_address)words[CALL_MEMORY];
    pthread_mutex_lock(&calls);
    int result = solver.set_stream(g->factors, stream);
    for (int64_t i = 0; i < c->f.count && result == 0; i++)
        result = (words[CALL_SECOND] ? finish_one : factor_one)(g->factors, c, memory, i);
    pthread_mutex_unlock(&calls);
    return solver_check(result, "a factorisation", err);
}

// What iterates asks the device on its way, and is called at once.
static emlx_status call_all(gpu *g, const factor_call *c, cuda_address memory, bool second,
                            emlx_error *err) {
    const int64_t words[CALL_WORDS] = {[CALL_MEMORY] = (int64_t)memory, [CALL_SECOND] = second};
    int kind = c->f.params->kind;
    cuda_stream stream;
    if (kind != ROUTINE_eigh && kind != ROUTINE_svd)
        return stream_call(stream_now(g), call_library, c, words, CALL_WORDS, err);
    TRY(gpu_queue(g, &stream, err));
    return call_library(g, c, words, stream, err);
}

static emlx_status call_polar(gpu *g, const factor_call *c, cuda_address memory, double *moved,
                              emlx_error *err) {
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    void *host_work = mem_alloc(c->host_size + 1);
    if (host_work == NULL) return error_no_memory(err, "for a factorisation");
    pthread_mutex_lock(&calls);
    int result = solver.set_stream(g->factors, stream);
    for (int64_t i = 0; i < c->f.count && result == 0; i++)
        result = factor_polar(g->factors, c, memory, i, host_work, moved);
    pthread_mutex_unlock(&calls);
    mem_free(host_work, c->host_size + 1);
    return solver_check(result, "a factorisation", err);
}

// f64 is computed anew, the other way, where values were moved: to f32 that does not show.
static emlx_status factor_values(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                 cuda_address memory, emlx_error *err) {
    const factor_call *c = k->library;
    double moved = 0;
    TRY(launch_part(g, k, call, memory, 'a', err));
    TRY(call_polar(g, c, memory, &moved, err));
    if (moved == 0 || c->f.type == EMLX_F32) return launch_part(g, k, call, memory, 'b', err);
    TRY(launch_part(g, k, call, memory, 'a', err));
    TRY(call_all(g, c, memory, false, err));
    return launch_part(g, k, call, memory, 'r', err);
}

static emlx_status clear_marks(gpu *g, const factor_call *c, cuda_address memory, emlx_error *err) {
    size_t marks = c->f.places[PLACE_MARKS];
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    return gpu_check(g, cuda.fill(memory + marks, 0, c->f.places[PLACE_WORK] - marks, stream),
                     "clearing marks", err);
}

static emlx_status factor_all(gpu *g, const gpu_kernel *k, const kernel_call *call,
                              cuda_address memory, emlx_error *err) {
    const factor_call *c = k->library;
    int kind = c->f.params->kind;
    if (kind == ROUTINE_svd || kind == ROUTINE_eigh) TRY(clear_marks(g, c, memory, err));
    if (kind == ROUTINE_svd) return factor_values(g, k, call, memory, err);
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

static void discard_call(gpu_kernel *k) {
    factor_call *c = k->library;
    if (c->options != NULL) solver.options_destroy(c->options);
    mem_free(c, sizeof *c);
}

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
        g->rehearsal || !find_factoring(plan, kernel, &f) || f.panels ||
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
