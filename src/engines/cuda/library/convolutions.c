// SPDX-License-Identifier: Apache-2.0
// convolutions.c - convolutions of floats, and their gradients, by cuDNN. What lies in another
// order than the library's is copied first, and so is a filter's gradient behind. Little work, and
// what the library does not know (padding that takes elements away), is left to our own kernels.
#include "engines/cuda/library/convolutions.h"

#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cuda/library/dnn.h"
#include "engines/cuda/text/product/copies.h"
#include "engines/cuda/text/product/depthwise.h"

void convolution_describe(char *text, size_t size) { dnn_describe(text, size); }

void convolution_close(void *handle) {
    if (handle != NULL) dnn_destroy(handle);
}

// One handle a device; calls with it are made under its lock.
static pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;

static emlx_status dnn_check(int result, const char *what, emlx_error *err) {
    if (result == 0) return EMLX_OK;
    return error_set(err, EMLX_INTERNAL, "cuDNN: %s failed (error %d)", what, result);
}

static emlx_status open_handle(gpu *g, emlx_error *err) {
    dnn_handle handle = NULL;
    if (g->convolutions != NULL) return EMLX_OK;
    TRY(dnn_check(dnn_create(&handle), "opening it", err));
    g->convolutions = handle;
    return EMLX_OK;
}

// What it is to the library -----------------------------------------------------------------------

enum { SIDES = 3 }; // both operands and the result

// A tensor of the plan, with the library's axes.
typedef struct side {
    int64_t dims[DNN_RANK_MOST], steps[DNN_RANK_MOST];
    int64_t offset; // of the first element
    bool copied;    // from or to working memory
    size_t place;
} side;

typedef struct conv_form {
    dnn_convolution c;
    side sides[SIDES];
    bool channels_last;
    size_t memory; // of what is copied, in bytes
} conv_form;

// The plan's numbers of an axis.
enum { STRIDE, DILATION, APART, NUMBERS };

// By way: what the plan's tensors and numbers are to the library, and which numbers must be 1.
static const struct {
    int tensors[SIDES], strides, dilations, one;
} ways[] = {
    [DNN_FORWARD] = {{DNN_IMAGE, DNN_FILTER, DNN_RESULTS}, STRIDE, DILATION, APART},
    [DNN_OF_IMAGE] = {{DNN_RESULTS, DNN_FILTER, DNN_IMAGE}, APART, DILATION, STRIDE},
    [DNN_OF_FILTER] = {{DNN_IMAGE, DNN_RESULTS, DNN_FILTER}, DILATION, STRIDE, APART},
};

// An image of one axis gets another in front.
static void set_side(side *s, const emlx_shape *shape, const int64_t *steps) {
    int32_t added = shape->rank == 3;
    *s = (side){.dims = {[2] = 1}};
    for (int32_t d = 0; d < shape->rank; d++) {
        int32_t at = d < 2 ? d : d + added;
        s->dims[at] = shape->dims[d];
        s->steps[at] = steps[d];
    }
}

static void set_result_of(side *s, const emlx_shape *out, bool channels_last) {
    emlx_shape shape = {.rank = out->rank};
    int64_t steps[EMLX_MAX_RANK], step = 1;
    for (int32_t d = out->rank - 1; d >= 0; d--) {
        int32_t axis = !channels_last || d == 0 ? d : d == out->rank - 1 ? 1 : d + 1;
        shape.dims[axis] = out->dims[d];
        steps[axis] = step;
        step *= out->dims[d];
    }
    set_side(s, &shape, steps);
}

// Gradients have the first two axes the other way round.
static void swap_axes(side *s) {
    int64_t dim = s->dims[0], step = s->steps[0];
    s->dims[0] = s->dims[1];
    s->steps[0] = s->steps[1];
    s->dims[1] = dim;
    s->steps[1] = step;
}

// And that of an image has a filter from its end to its beginning.
static void turn_spatial(side *s, int rank) {
    for (int d = 2; d < rank; d++) {
        s->offset += (s->dims[d] - 1) * s->steps[d];
        s->steps[d] = -s->steps[d];
    }
}

static bool is_outmost(const side *s, int rank, int axis) {
    for (int d = 0; d < rank; d++)
        if (s->dims[d] > 1 && s->steps[d] > s->steps[axis]) return false;
    return true;
}

// What has elements that are apart is the gradient of an image. That of a filter sums over the
// batch, which lies outside of all else, and which the plan calls channels.
static dnn_way find_way(const conv_form *f, const conv_params *p) {
    int rank = f->c.rank;
    for (int d = 0; d < rank - 2; d++)
        if (p->input_dilation[d] > 1) return DNN_OF_IMAGE;
    bool of_batch = is_outmost(&f->sides[0], rank, 1) && is_outmost(&f->sides[1], rank, 1);
    return p->batch_groups > 1 || (of_batch && p->feature_groups == 1) ? DNN_OF_FILTER
                                                                       : DNN_FORWARD;
}

// Groups of an image's gradient are known where they have one channel each.
static bool knows_groups(const conv_form *f, const conv_params *p) {
    if (f->c.way != DNN_OF_IMAGE) return true;
    return p->batch_groups == 1 && (p->feature_groups == 1 || f->sides[1].dims[1] == 1);
}

// [groups * filters of one, 1] becomes [groups, filters of one].
static void split_groups(side *s, int64_t groups) {
    s->dims[1] = s->dims[0] / groups;
    s->steps[1] = s->steps[0];
    s->dims[0] = groups;
    s->steps[0] *= s->dims[1];
}

static void turn_sides(conv_form *f, int64_t groups) {
    if (f->c.way == DNN_OF_IMAGE) {
        if (groups == 1)
            swap_axes(&f->sides[1]);
        else
            split_groups(&f->sides[1], groups);
        turn_spatial(&f->sides[1], f->c.rank);
    } else if (f->c.way == DNN_OF_FILTER) {
        for (int i = 0; i < SIDES; i++) swap_axes(&f->sides[i]);
    }
}

// Padding behind, with which the library counts as many results: as much as before if that does.
static bool set_high(dnn_convolution *c, int d, const int64_t sizes[DNN_TENSORS]) {
    int64_t span = (sizes[DNN_FILTER] - 1) * c->dilations[d] + 1;
    int64_t room = sizes[DNN_IMAGE] + c->low[d] - span;
    int64_t needed = (sizes[DNN_RESULTS] - 1) * c->strides[d] - room;
    int64_t tries[] = {c->low[d], needed > 0 ? needed : 0};
    for (int i = 0; i < 2; i++) {
        c->high[d] = tries[i];
        if (room + tries[i] >= 0 && (room + tries[i]) / c->strides[d] + 1 == sizes[DNN_RESULTS])
            return true;
    }
    return false;
}

static bool set_axis(conv_form *f, int d, const int64_t numbers[NUMBERS], int64_t low) {
    dnn_convolution *c = &f->c;
    int64_t sizes[DNN_TENSORS];
    for (int i = 0; i < SIDES; i++) sizes[ways[c->way].tensors[i]] = f->sides[i].dims[2 + d];
    c->strides[d] = numbers[ways[c->way].strides];
    c->dilations[d] = numbers[ways[c->way].dilations];
    c->low[d] = c->way == DNN_OF_IMAGE ? (sizes[DNN_FILTER] - 1) * c->dilations[d] - low : low;
    return numbers[ways[c->way].one] == 1 && c->low[d] >= 0 && set_high(c, d, sizes);
}

static bool set_axes(conv_form *f, const conv_params *p, int added) {
    static const int64_t ones[NUMBERS] = {1, 1, 1};
    bool fits = !added || set_axis(f, 0, ones, 0);
    for (int d = 0; d < f->c.rank - 2 - added; d++) {
        const int64_t numbers[NUMBERS] = {p->strides[d], p->kernel_dilation[d],
                                          p->input_dilation[d]};
        fits = fits && set_axis(f, d + added, numbers, p->low[d]);
    }
    return fits;
}

// Layouts -----------------------------------------------------------------------------------------

// The steps of a dense tensor; true if the side has them.
static bool pack(const conv_form *f, const side *s, bool last, int64_t steps[DNN_RANK_MOST]) {
    int rank = f->c.rank;
    bool same = true;
    int64_t step = last ? s->dims[1] : 1;
    steps[1] = 1;
    for (int d = rank - 1; d >= 0; d--) {
        if (d == 1 && last) continue;
        steps[d] = step;
        step *= s->dims[d];
    }
    for (int d = 0; d < rank; d++) same = same && (s->dims[d] == 1 || s->steps[d] == steps[d]);
    return same;
}

// What is not dense, or not as the others, is copied.
static void set_tensors(conv_form *f, const plan_kernel *k) {
    enum { ALIGNMENT = 16, BLOCK = 256 };
    size_t size = type_size(f->c.type);
    for (int i = 0; i < SIDES; i++) {
        side *s = &f->sides[i];
        dnn_tensor *t = &f->c.tensors[ways[f->c.way].tensors[i]];
        int64_t bytes = (s->offset + (i < 2 ? k->accesses[i].offset : 0)) * (int64_t)size;
        s->copied = !pack(f, s, f->channels_last, t->strides) || bytes % ALIGNMENT != 0;
        memcpy(t->dims, s->dims, sizeof t->dims);
        t->alignment = ALIGNMENT;
        if (!s->copied) continue;
        size_t count = size;
        for (int d = 0; d < f->c.rank; d++) count *= (size_t)s->dims[d];
        s->place = f->memory;
        f->memory += (count + BLOCK - 1) & ~(size_t)(BLOCK - 1);
    }
}

// Axes by the steps that they are written with, the longest first.
static void order_of_memory(const int64_t *steps, int rank, int order[DNN_RANK_MOST]) {
    for (int d = 0; d < rank; d++) {
        int at = d;
        for (; at > 0 && steps[order[at - 1]] < steps[d]; at--) order[at] = order[at - 1];
        order[at] = d;
    }
}

// Operands are read where they lie and written dense, the result the other way round.
static int find_copies(const conv_form *f, tensor_copy copies[SIDES]) {
    int count = 0;
    for (int i = 0; i < SIDES; i++) {
        const side *s = &f->sides[i];
        const int64_t *dense = f->c.tensors[ways[f->c.way].tensors[i]].strides;
        int order[DNN_RANK_MOST];
        if (!s->copied) continue;
        bool result = i == 2;
        tensor_copy *c = &copies[count++];
        *c = (tensor_copy){.suffix = result ? 'b' : 'a',
                           .access = result ? UINT32_MAX : (uint32_t)i,
                           .offset = s->offset,
                           .place = s->place,
                           .type = f->c.type,
                           .rank = f->c.rank};
        order_of_memory(result ? s->steps : dense, f->c.rank, order);
        for (int d = 0; d < f->c.rank; d++) {
            c->dims[d] = s->dims[order[d]];
            c->steps[d] = (result ? dense : s->steps)[order[d]];
        }
    }
    return count;
}

// Preparing ---------------------------------------------------------------------------------------

// Below, our own kernel sums in double, as the CPU does.
#define SMALL_WORK 65536.0

static bool is_suitable(const emlx_plan *plan, const plan_kernel *k) {
    const plan_access *x = &k->accesses[0], *w = &k->accesses[1];
    const plan_value *out = &plan->values[k->output];
    double work = (double)emlx_shape_count(&out->shape);
    for (int32_t d = 1; d < k->shapes[1].rank; d++) work *= (double)k->shapes[1].dims[d];
    return x->type == w->type && x->type == out->type && dnn_knows(x->type) &&
           x->start_count + w->start_count == 0 && work > SMALL_WORK;
}

// A filter a channel, which is no work for tensor cores.
static bool has_own_filters(const conv_form *f) {
    return f->c.way == DNN_FORWARD && f->sides[1].dims[1] == 1 && f->sides[0].dims[1] > 1;
}

static bool find_form(const emlx_plan *plan, const plan_kernel *k, conv_form *f) {
    const conv_params *p = k->params;
    const emlx_shape *out = &plan->values[k->output].shape;
    int32_t spatial = out->rank - 2, added = spatial == 1;
    if (spatial < 1 || spatial > DNN_SPATIAL_MOST) return false;
    *f = (conv_form){.c = {.type = k->accesses[0].type, .rank = out->rank + added},
                     .channels_last = p->channels_last != 0};
    for (int i = 0; i < 2; i++) set_side(&f->sides[i], &k->shapes[i], k->accesses[i].strides);
    set_result_of(&f->sides[2], out, f->channels_last);
    f->c.way = find_way(f, p);
    if (!knows_groups(f, p)) return false;
    turn_sides(f, p->feature_groups);
    int64_t steps[DNN_RANK_MOST];
    if (type_size(f->c.type) == 2 && !has_own_filters(f))
        f->channels_last = true; // for tensor cores
    else if (f->c.way == DNN_OF_FILTER)
        f->channels_last = pack(f, &f->sides[0], true, steps);
    if (!set_axes(f, p, added)) return false;
    set_tensors(f, k);
    return true;
}

typedef struct convolution {
    conv_form form;
    dnn_plan plan;
} convolution;

static void free_convolution(convolution *c) {
    dnn_plan_clear(&c->plan);
    mem_free(c, sizeof *c);
}

static void discard(gpu_kernel *k) { free_convolution(k->library); }

static emlx_status plan_convolution(gpu *g, convolution *c, emlx_error *err) {
    pthread_mutex_lock(&calls);
    emlx_status status = open_handle(g, err);
    if (status == EMLX_OK)
        dnn_plan_make(g->convolutions, g->major * 10 + g->minor, &c->form.c, &c->plan);
    pthread_mutex_unlock(&calls);
    return status;
}

// Running -----------------------------------------------------------------------------------------

static emlx_status convolve(gpu *g, const convolution *c, const cuda_address at[DNN_TENSORS],
                            cuda_address workspace, emlx_error *err) {
    cuda_stream stream;
    TRY(gpu_queue(g, &stream, err));
    pthread_mutex_lock(&calls);
    int result = dnn_plan_run(g->convolutions, stream, &c->plan, at, workspace);
    pthread_mutex_unlock(&calls);
    return dnn_check(result, "a convolution", err);
}

static cuda_address side_address(const convolution *c, const kernel_call *call, int i,
                                 cuda_address memory) {
    const side *s = &c->form.sides[i];
    const plan_kernel *k = call->kernel;
    if (s->copied) return memory + s->place;
    if (i == 2) return buffer_address(call->buffers[k->output]);
    const plan_access *a = &k->accesses[i];
    return buffer_address(call->buffers[a->value]) +
           (cuda_address)((a->offset + s->offset) * (int64_t)type_size(a->type));
}

static emlx_status convolve_copied(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                   cuda_address memory, emlx_error *err) {
    const convolution *c = k->library;
    cuda_address at[DNN_TENSORS];
    for (int i = 0; i < SIDES; i++)
        at[ways[c->form.c.way].tensors[i]] = side_address(c, call, i, memory);
    if (c->form.sides[0].copied || c->form.sides[1].copied)
        TRY(launch_part(g, k, call, memory, 'a', err));
    TRY(convolve(g, c, at, memory + c->form.memory, err));
    return c->form.sides[2].copied ? launch_part(g, k, call, memory, 'b', err) : EMLX_OK;
}

static emlx_status run_convolution(gpu *g, const gpu_kernel *k, const kernel_call *call,
                                   emlx_error *err) {
    const convolution *c = k->library;
    device_block memory = {0};
    size_t room = c->form.memory + (size_t)c->plan.workspace;
    if (room > 0) TRY(gpu_take(g, room, &memory, err));
    emlx_status status = convolve_copied(g, k, call, memory.address, err);
    if (room > 0) gpu_give(g, &memory);
    return status;
}

emlx_status convolution_prepare(gpu *g, gpu_kernel *k, const emlx_plan *plan,
                                const plan_kernel *kernel, emlx_error *err) {
    tensor_copy copies[SIDES];
    conv_form form;
    if (kernel->kind != KERNEL_CONV || g->rehearsal || !is_suitable(plan, kernel) ||
        !find_form(plan, kernel, &form) || dnn_open(NULL) != EMLX_OK)
        return EMLX_OK;
    TRY(gpu_enter(g, err));
    convolution *c = mem_alloc(sizeof *c);
    if (c == NULL) return error_no_memory(err, "for a convolution");
    c->form = form;
    c->form.c.tf32 = g->tf32;
    emlx_status status = plan_convolution(g, c, err);
    // Where filters have one channel, what comes with the library is slow.
    bool found = status == EMLX_OK && c->plan.plan != NULL &&
                 (c->plan.compiled || !depthwise_suits(plan, kernel));
    int count = find_copies(&form, copies);
    if (found && count > 0) status = code_copies(&k->code, plan, kernel, copies, count, err);
    if (status != EMLX_OK || !found) {
        free_convolution(c);
        return status;
    }
    k->run = run_convolution;
    k->library = c;
    k->discard = discard;
    return EMLX_OK;
}
