// SPDX-License-Identifier: Apache-2.0
// transforms.c - Fourier transforms by cuFFT. A line that has to be cut, padded, converted or
// scaled is so by kernels of our own, before and after.
#include "engines/cuda/library/transforms.h"

#include <stdio.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cuda/text/whole/transform.h"

// Numbers of the library's own header. A plan of doubles has the number of floats' and WIDE.
enum {
    COMPLEX_TO_COMPLEX = 0x29,
    REAL_TO_COMPLEX = 0x2a,
    COMPLEX_TO_REAL = 0x2c,
    WIDE = 0x40,
    FORWARD = -1,
    BACKWARD = 1
};

#define CUFFT(XX)                                                                                  \
    XX(create, "cufftCreate", (int *plan))                                                         \
    XX(destroy, "cufftDestroy", (int plan))                                                        \
    XX(own_memory, "cufftSetAutoAllocation", (int plan, int allocates))                            \
    XX(make, "cufftMakePlanMany64",                                                                \
       (int plan, int rank, long long *n, long long *in_embed, long long in_stride,                \
        long long in_distance, long long *out_embed, long long out_stride, long long out_distance, \
        int type, long long batch, size_t *size))                                                  \
    XX(set_stream, "cufftSetStream", (int plan, cuda_stream stream))                               \
    XX(set_memory, "cufftSetWorkArea", (int plan, void *memory))                                   \
    XX(c2c, "cufftExecC2C", (int plan, void *in, void *out, int direction))                        \
    XX(z2z, "cufftExecZ2Z", (int plan, void *in, void *out, int direction))                        \
    XX(r2c, "cufftExecR2C", (int plan, void *in, void *out))                                       \
    XX(d2z, "cufftExecD2Z", (int plan, void *in, void *out))                                       \
    XX(c2r, "cufftExecC2R", (int plan, void *in, void *out))                                       \
    XX(z2d, "cufftExecZ2D", (int plan, void *in, void *out))

static struct { CUFFT(LIBRARY_FUNCTION) } fft;
LIBRARY(library, fft, CUFFT, "cuFFT", "libcufft.so.12", "libcufft.so.11", "libcufft.so");

void transform_describe(char *text, size_t size) { library_describe(&library, text, size); }

static emlx_status fft_check(int result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    emlx_status code = result == 2 ? EMLX_OUT_OF_MEMORY : EMLX_INTERNAL;
    return error_set(err, code, "cuFFT: %s failed (error %d)", what, result);
}

// Preparing ---------------------------------------------------------------------------------------

// Below, our own kernel sums in double, which gives the digits that Nx's documentation prints.
#define SMALL_WORK ((double)(1 << 22))
// What is as good as zero at either precision may stay.
#define ALMOST_NONE 1e-9

typedef struct transform_call {
    int plan, kind;
    bool wide, backward;
    library_lines lines;
    size_t work_place, room; // of working memory in all
} transform_call;

// The library makes lines whose length has a larger prime convolutions, which lose digits in f32:
// they are computed in double, as on the CPU.
enum { PRIME_MOST = 127 };

static bool is_convolved(int64_t length) {
    for (int64_t prime = 2; prime <= PRIME_MOST; prime++)
        while (length % prime == 0) length /= prime;
    return length > 1;
}

// The library keeps a work area and a stream in a plan, so that one thread uses it at a time.
static pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;

static void discard(gpu_kernel *k) {
    transform_call *c = k->library;
    if (c->plan >= 0) fft.destroy(c->plan);
    mem_free(c, sizeof *c);
}

static size_t up(size_t size) {
    return (size + DEVICE_ALIGNMENT - 1) & ~(size_t)(DEVICE_ALIGNMENT - 1);
}

// A real line gives its first half, or is given by it; other lines are complex.
static void choose_lines(transform_call *c, const transform *t, bool real_back) {
    emlx_type pair = c->wide ? EMLX_C128 : EMLX_C64, part = type_part(pair);
    library_lines *l = &c->lines;
    bool halved = t->results <= t->length / 2 + 1 && t->from == (int)part;
    c->kind = real_back ? COMPLEX_TO_REAL : halved ? REAL_TO_COMPLEX : COMPLEX_TO_COMPLEX;
    l->in_type = (int)(c->kind == REAL_TO_COMPLEX ? part : pair);
    l->out_type = (int)(real_back ? part : pair);
    l->in = real_back ? t->length / 2 + 1 : t->length;
    l->out = c->kind == REAL_TO_COMPLEX ? t->length / 2 + 1 : t->length;
    // A real result costs its operand, which is then a copy.
    bool apart = t->beside > 1;
    l->brought = real_back || apart || t->from != l->in_type || t->given != l->in;
    l->taken = apart || t->inverse || t->to != l->out_type || t->results != l->out ||
               t->tolerance > ALMOST_NONE;
    size_t in = l->brought ? up((size_t)(t->lines * l->in) * type_size((emlx_type)l->in_type)) : 0;
    size_t out = l->taken ? up((size_t)(t->lines * l->out) * type_size((emlx_type)l->out_type)) : 0;
    l->out_place = in;
    c->work_place = in + out;
}

static emlx_status make_plan(transform_call *c, const transform *t, emlx_error *err) {
    long long n = t->length;
    size_t size = 0;
    TRY(fft_check(fft.create(&c->plan), "opening it", err));
    TRY(fft_check(fft.own_memory(c->plan, 0), "choosing memory", err));
    int type = c->kind + (c->wide ? WIDE : 0);
    TRY(fft_check(fft.make(c->plan, 1, &n, NULL, 1, c->lines.in, NULL, 1, c->lines.out, type,
                           t->lines, &size),
                  "planning a transform", err));
    c->room = c->work_place + size;
    return EMLX_OK;
}

// Running -----------------------------------------------------------------------------------------

static int transform_lines(const transform_call *c, cuda_stream stream, void *in, void *out,
                           void *memory) {
    int direction = c->backward ? BACKWARD : FORWARD;
    int result = fft.set_stream(c->plan, stream);
    if (result == 0) result = fft.set_memory(c->plan, memory);
    if (result != 0) return result;
    switch (c->kind) {
    case REAL_TO_COMPLEX: return (c->wide ? fft.d2z : fft.r2c)(c->plan, in, out);
    case COMPLEX_TO_REAL: return (c->wide ? fft.z2d : fft.c2r)(c->plan, in, out);
    default: return (c->wide ? fft.z2z : fft.c2c)(c->plan, in, out, direction);
    }
}

static emlx_status run_all(gpu *g, const gpu_kernel *k, const kernel_call *call,
                           cuda_address memory, emlx_error *err) {
    const transform_call *c = k->library;
    const library_lines *l = &c->lines;
    const plan_access *a = &call->kernel->accesses[0];
    cuda_address in = buffer_address(call->buffers[a->value]) +
                      (cuda_address)(a->offset * (int64_t)type_size(a->type));
    cuda_address out = buffer_address(call->buffers[call->kernel->output]);
    if (l->brought) TRY(launch_part(g, k, call, memory, 'a', err));
    if (l->brought) in = memory + l->in_place;
    if (l->taken) out = memory + l->out_place;
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    // Where the library wants no memory there may be none behind the lines.
    cuda_address work = c->room > c->work_place ? memory + c->work_place : 0;
    pthread_mutex_lock(&calls);
    int result = transform_lines(c, stream, (void *)in, (void *)out, (void *)work);
    pthread_mutex_unlock(&calls);
    TRY(fft_check(result, "a transform", err));
    return l->taken ? launch_part(g, k, call, memory, 'b', err) : EMLX_OK;
}

static emlx_status run_transform(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                 emlx_error *err) {
    const transform_call *c = k->library;
    device_block memory = {0};
    if (c->room > 0) TRY(gpu_take(g, c->room, &memory, err));
    emlx_status status = run_all(g, k, call, memory.address, err);
    if (c->room > 0) gpu_give(g, &memory);
    return status;
}

emlx_status transform_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan,
                              const plan_kernel *kernel, emlx_error *err) {
    const routine_params *p = kernel->params;
    if (kernel->kind != KERNEL_ROUTINE || routine_elements[p->kind] != ROUTINE_OF_LINE ||
        g->rehearsal)
        return EMLX_OK;
    transform t = find_transform(plan, kernel);
    double work = (double)t.lines * (double)t.length * (double)t.length;
    if (t.lines == 0 || t.results == 0 || work <= SMALL_WORK ||
        library_open(&library, NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    transform_call *c = mem_alloc(sizeof *c);
    if (c == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a transform");
    c->plan = -1;
    c->wide = type_part((emlx_type)t.from) == EMLX_F64 || type_part((emlx_type)t.to) == EMLX_F64 ||
              is_convolved(t.length);
    c->backward = t.inverse;
    choose_lines(c, &t, p->kind == ROUTINE_irfft);
    k->library = c;
    k->discard = discard;
    TRY(make_plan(c, &t, err));
    TRY(code_around(&k->code, plan, kernel, &t, &c->lines, err));
    k->run = run_transform;
    return EMLX_OK;
}
