// SPDX-License-Identifier: Apache-2.0
// convolutions.c - convolutions of floats by cuDNN, as products of matrices whose results are the
// same each time. Little work, and what the library does not know (dilated inputs, groups of the
// batch, padding that differs from side to side), is left to our own kernel.
#include "engines/cuda/library/convolutions.h"

#include <stdio.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cuda/text/product/depthwise.h"

typedef struct dnn_handle_st *dnn_handle;
typedef struct dnn_tensor_st *dnn_tensor;
typedef struct dnn_filter_st *dnn_filter;
typedef struct dnn_conv_st *dnn_conv;

typedef struct dnn_algorithm {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
} dnn_algorithm;

// Numbers of the library's own header.
enum {
    NCHW = 0,
    NHWC = 1,
    CROSS_CORRELATION = 1,
    MATH_TENSOR = 1,
    MATH_FMA = 3, // f32 stays f32
    ALGORITHM_IMPLICIT = 0,
    ALGORITHM_PRECOMPUTED = 1,
    ALGORITHMS = 8
};

#define CUDNN(XX)                                                                                  \
    XX(create, "cudnnCreate", (dnn_handle * handle))                                               \
    XX(destroy, "cudnnDestroy", (dnn_handle handle))                                               \
    XX(set_stream, "cudnnSetStream", (dnn_handle handle, cuda_stream stream))                      \
    XX(tensor_create, "cudnnCreateTensorDescriptor", (dnn_tensor * tensor))                        \
    XX(tensor_destroy, "cudnnDestroyTensorDescriptor", (dnn_tensor tensor))                        \
    XX(tensor_set, "cudnnSetTensorNdDescriptor",                                                   \
       (dnn_tensor tensor, int type, int rank, const int *dims, const int *strides))               \
    XX(filter_create, "cudnnCreateFilterDescriptor", (dnn_filter * filter))                        \
    XX(filter_destroy, "cudnnDestroyFilterDescriptor", (dnn_filter filter))                        \
    XX(filter_set, "cudnnSetFilterNdDescriptor",                                                   \
       (dnn_filter filter, int type, int format, int rank, const int *dims))                       \
    XX(conv_create, "cudnnCreateConvolutionDescriptor", (dnn_conv * conv))                         \
    XX(conv_destroy, "cudnnDestroyConvolutionDescriptor", (dnn_conv conv))                         \
    XX(conv_set, "cudnnSetConvolutionNdDescriptor",                                                \
       (dnn_conv conv, int rank, const int *padding, const int *strides, const int *dilations,     \
        int mode, int compute))                                                                    \
    XX(conv_groups, "cudnnSetConvolutionGroupCount", (dnn_conv conv, int count))                   \
    XX(conv_math, "cudnnSetConvolutionMathType", (dnn_conv conv, int math))                        \
    XX(choose, "cudnnGetConvolutionForwardAlgorithm_v7",                                           \
       (dnn_handle handle, dnn_tensor x, dnn_filter w, dnn_conv conv, dnn_tensor y, int asked,     \
        int *found, dnn_algorithm *algorithms))                                                    \
    XX(workspace, "cudnnGetConvolutionForwardWorkspaceSize",                                       \
       (dnn_handle handle, dnn_tensor x, dnn_filter w, dnn_conv conv, dnn_tensor y, int algorithm, \
        size_t *size))                                                                             \
    XX(forward, "cudnnConvolutionForward",                                                         \
       (dnn_handle handle, const void *alpha, dnn_tensor x_tensor, const void *x,                  \
        dnn_filter w_filter, const void *w, dnn_conv conv, int algorithm, void *workspace,         \
        size_t size, const void *beta, dnn_tensor y_tensor, void *y))

static struct { CUDNN(LIBRARY_FUNCTION) } dnn;
LIBRARY(library, dnn, CUDNN, "cuDNN", "libcudnn.so.9", "libcudnn.so");

void convolution_describe(char *text, size_t size) { library_describe(&library, text, size); }

void convolution_close(void *handle) {
    if (handle != NULL) dnn.destroy(handle);
}

static emlx_status dnn_check(int result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    return error_set(err, EMLX_INTERNAL, "cuDNN: %s failed (error %d)", what, result);
}

// One handle a device; calls with it are made under its lock.
static pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;

static emlx_status open_handle(gpu *g, emlx_error *err) {
    dnn_handle handle = NULL;
    if (g->convolutions != NULL) return EMLX_OK;
    TRY(dnn_check(dnn.create(&handle), "opening it", err));
    g->convolutions = handle;
    return EMLX_OK;
}

// Shapes ------------------------------------------------------------------------------------------

enum { RANK_MOST = 5 };

// The library has at least two spatial axes, and counts in int.
typedef struct conv_shape {
    int rank, x[RANK_MOST], x_strides[RANK_MOST], w[RANK_MOST], y[RANK_MOST], y_strides[RANK_MOST];
    int padding[RANK_MOST], strides[RANK_MOST], dilations[RANK_MOST];
    int format; // of the filter
} conv_shape;

static bool set_int(int *out, int64_t value) {
    *out = (int)value;
    return value >= 0 && value <= INT32_MAX;
}

// Whether a filter lies [filters, channels, ...], or with channels last.
static bool find_format(const plan_kernel *k, int *format) {
    const emlx_shape *w = &k->shapes[1];
    const int64_t *strides = k->accesses[1].strides;
    int64_t first = 1, last = w->dims[1];
    bool is_first = true, is_last = strides[1] == 1 || w->dims[1] == 1;
    for (int32_t d = w->rank - 1; d >= 0; d--) {
        is_first = is_first && (w->dims[d] == 1 || strides[d] == first);
        first *= w->dims[d];
        if (d == 1) continue;
        is_last = is_last && (w->dims[d] == 1 || strides[d] == last);
        last *= w->dims[d];
    }
    *format = is_first ? NCHW : NHWC;
    return is_first || is_last;
}

// One spatial axis; false where the library's way to count results gives another number.
static bool set_axis(conv_shape *s, int at, const plan_kernel *k, const emlx_shape *out,
                     int32_t d) {
    const conv_params *p = k->params;
    int64_t results = out->dims[(p->channels_last ? 1 : 2) + d];
    int64_t span = (k->shapes[1].dims[2 + d] - 1) * p->kernel_dilation[d] + 1;
    int64_t room = k->shapes[0].dims[2 + d] + 2 * p->low[d] - span;
    if (p->low[d] < 0 || p->input_dilation[d] != 1 || room < 0) return false;
    return set_int(&s->x[at], k->shapes[0].dims[2 + d]) &&
           set_int(&s->x_strides[at], k->accesses[0].strides[2 + d]) &&
           set_int(&s->w[at], k->shapes[1].dims[2 + d]) && set_int(&s->y[at], results) &&
           set_int(&s->padding[at - 2], p->low[d]) && set_int(&s->strides[at - 2], p->strides[d]) &&
           set_int(&s->dilations[at - 2], p->kernel_dilation[d]) &&
           room / p->strides[d] + 1 == results;
}

static void set_results(conv_shape *s, bool channels_last) {
    int64_t step = channels_last ? s->y[1] : 1;
    for (int d = s->rank - 1; d >= 2; d--) {
        s->y_strides[d] = (int)step;
        step *= s->y[d];
    }
    s->y_strides[1] = channels_last ? 1 : (int)step;
    s->y_strides[0] = channels_last ? (int)step : (int)(step * s->y[1]);
}

static bool find_shape(const plan_kernel *k, const emlx_shape *out, conv_shape *s) {
    const conv_params *p = k->params;
    int32_t spatial = k->shapes[0].rank - 2, added = spatial == 1;
    if (spatial < 1 || spatial > 3 || p->batch_groups != 1) return false;
    *s = (conv_shape){.rank = spatial + 2 + added};
    if (added) {
        s->x[2] = s->w[2] = s->y[2] = s->strides[0] = s->dilations[0] = 1;
        s->x_strides[2] = 1;
    }
    for (int32_t d = 0; d < spatial; d++)
        if (!set_axis(s, 2 + added + d, k, out, d)) return false;
    for (int d = 0; d < 2; d++)
        if (!set_int(&s->x[d], k->shapes[0].dims[d]) || !set_int(&s->w[d], k->shapes[1].dims[d]) ||
            !set_int(&s->x_strides[d], k->accesses[0].strides[d]))
            return false;
    if (!set_int(&s->y[0], out->dims[0]) ||
        !set_int(&s->y[1], out->dims[p->channels_last ? out->rank - 1 : 1]))
        return false;
    set_results(s, p->channels_last != 0);
    return find_format(k, &s->format);
}

// Preparing ---------------------------------------------------------------------------------------

// Below, our own kernel sums in double, as the CPU does.
#define SMALL_WORK 65536.0

typedef struct convolution {
    dnn_tensor x, y;
    dnn_filter w;
    dnn_conv conv;
    int algorithm;
    size_t workspace;
    bool wide;
} convolution;

static void free_convolution(convolution *c) {
    if (c->x != NULL) dnn.tensor_destroy(c->x);
    if (c->y != NULL) dnn.tensor_destroy(c->y);
    if (c->w != NULL) dnn.filter_destroy(c->w);
    if (c->conv != NULL) dnn.conv_destroy(c->conv);
    mem_free(c, sizeof *c);
}

static void discard(gpu_kernel *k) { free_convolution(k->library); }

static bool find_type(emlx_type type, int *out) {
    static const int types[EMLX_TYPE_COUNT] = {
        [EMLX_F32] = 1, [EMLX_F64] = 2, [EMLX_F16] = 3, [EMLX_BF16] = 10};
    *out = types[type] - 1;
    return types[type] != 0;
}

static int math_of(emlx_type type) {
    return type == EMLX_F32 || type == EMLX_F64 ? MATH_FMA : MATH_TENSOR;
}

static emlx_status describe(convolution *c, const conv_shape *s, const conv_params *p,
                            emlx_type type, emlx_error *err) {
    int number;
    find_type(type, &number);
    c->wide = type == EMLX_F64;
    const char *what = "describing a convolution";
    TRY(dnn_check(dnn.tensor_create(&c->x), what, err));
    TRY(dnn_check(dnn.tensor_create(&c->y), what, err));
    TRY(dnn_check(dnn.filter_create(&c->w), what, err));
    TRY(dnn_check(dnn.conv_create(&c->conv), what, err));
    TRY(dnn_check(dnn.tensor_set(c->x, number, s->rank, s->x, s->x_strides), what, err));
    TRY(dnn_check(dnn.tensor_set(c->y, number, s->rank, s->y, s->y_strides), what, err));
    TRY(dnn_check(dnn.filter_set(c->w, number, s->format, s->rank, s->w), what, err));
    TRY(dnn_check(dnn.conv_set(c->conv, s->rank - 2, s->padding, s->strides, s->dilations,
                               CROSS_CORRELATION, c->wide),
                  what, err));
    TRY(dnn_check(dnn.conv_groups(c->conv, (int)p->feature_groups), what, err));
    return dnn_check(dnn.conv_math(c->conv, math_of(type)), what, err);
}

// The fastest of the plain ways, by the library's estimate, on tensor cores where the type is for
// them: others transform f32 to what has fewer digits. False when it has none for this.
static bool choose_algorithm(gpu *g, convolution *c, int math) {
    dnn_algorithm found[ALGORITHMS];
    const dnn_algorithm *best = NULL;
    int count = 0;
    if (dnn.choose(g->convolutions, c->x, c->w, c->conv, c->y, ALGORITHMS, &count, found) != 0)
        return false;
    for (int i = 0; i < count; i++) {
        int way = found[i].algorithm;
        if (found[i].status != 0) continue;
        if (way != ALGORITHM_IMPLICIT && way != ALGORITHM_PRECOMPUTED) continue;
        bool better = best == NULL || (best->math != math && found[i].math == math);
        if (better) best = &found[i];
    }
    if (best == NULL) return false;
    c->algorithm = best->algorithm;
    dnn.conv_math(c->conv, best->math);
    return dnn.workspace(g->convolutions, c->x, c->w, c->conv, c->y, c->algorithm, &c->workspace) ==
           0;
}

static emlx_status forward(gpu *g, const convolution *c, const cuda_address at[3],
                           cuda_address workspace, emlx_error *err) {
    const double one = 1, none = 0;
    const float one_f32 = 1, none_f32 = 0;
    const void *alpha = c->wide ? (const void *)&one : &one_f32;
    const void *beta = c->wide ? (const void *)&none : &none_f32;
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    pthread_mutex_lock(&calls);
    int result = dnn.set_stream(g->convolutions, stream);
    if (result == 0)
        result = dnn.forward(g->convolutions, alpha, c->x, (const void *)at[0], c->w,
                             (const void *)at[1], c->conv, c->algorithm, (void *)workspace,
                             c->workspace, beta, c->y, (void *)at[2]);
    pthread_mutex_unlock(&calls);
    return dnn_check(result, "a convolution", err);
}

static emlx_status run_convolution(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                   emlx_error *err) {
    const convolution *c = k->library;
    const plan_kernel *kernel = call->kernel;
    device_block workspace = {0};
    cuda_address at[3];
    for (int i = 0; i < 2; i++) {
        const plan_access *a = &kernel->accesses[i];
        at[i] = buffer_address(call->buffers[a->value]) +
                (cuda_address)(a->offset * (int64_t)type_size(a->type));
    }
    at[2] = buffer_address(call->buffers[kernel->output]);
    if (c->workspace > 0) TRY(gpu_take(g, c->workspace, &workspace, err));
    emlx_status status = forward(g, c, at, workspace.address, err);
    if (c->workspace > 0) gpu_give(g, &workspace);
    return status;
}

static bool is_suitable(const emlx_plan *plan, const plan_kernel *k, conv_shape *s) {
    const plan_access *x = &k->accesses[0], *w = &k->accesses[1];
    const plan_value *out = &plan->values[k->output];
    int number;
    double work = (double)emlx_shape_count(&out->shape);
    for (int32_t d = 1; d < k->shapes[1].rank; d++) work *= (double)k->shapes[1].dims[d];
    return x->type == w->type && x->type == out->type && find_type(x->type, &number) &&
           x->start_count + w->start_count == 0 && work > SMALL_WORK &&
           find_shape(k, &out->shape, s);
}

emlx_status convolution_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan,
                                const plan_kernel *kernel, emlx_error *err) {
    conv_shape shape;
    if (kernel->kind != KERNEL_CONV || g->rehearsal || depthwise_suits(plan, kernel) ||
        !is_suitable(plan, kernel, &shape) || library_open(&library, NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    convolution *c = mem_alloc(sizeof *c);
    if (c == NULL) return error_no_memory(err, "for a convolution");
    pthread_mutex_lock(&calls);
    emlx_status status = open_handle(g, err);
    if (status == EMLX_OK)
        status = describe(c, &shape, kernel->params, kernel->accesses[0].type, err);
    bool found = status == EMLX_OK && choose_algorithm(g, c, math_of(kernel->accesses[0].type));
    pthread_mutex_unlock(&calls);
    if (!found) {
        free_convolution(c);
        return status;
    }
    k->run = run_convolution;
    k->library = c;
    k->discard = discard;
    return EMLX_OK;
}
