// SPDX-License-Identifier: Apache-2.0
// window.c - folds over sliding windows: checks and lowerings.
//
// The windows of a tensor are a view of it with more axes: some walk from window to window, the
// others inside of one. A fold of the latter is an ordinary reduction, so that windows round, wrap
// and treat NaN as reductions do.
#include "ops/make.h"

#include <math.h>

// Windows -----------------------------------------------------------------------------------

// By axis, with the defaults filled in. Padding is low, high and interior (none) as make_pad wants.
typedef struct windows {
    int32_t rank;
    bool pads;
    int64_t window[EMLX_MAX_RANK], strides[EMLX_MAX_RANK], dilations[EMLX_MAX_RANK];
    int64_t padding[3 * EMLX_MAX_RANK];
    emlx_shape padded; // the padded operand
    emlx_shape count;  // windows along each axis
} windows;

// The attribute's numbers, one an axis and none below 1, or ones where it is optional and missing.
static emlx_status axis_numbers(const op_call *call, const char *name, int32_t rank, int64_t *out,
                                emlx_error *err) {
    const emlx_attr *attr = attr_get(call, name);
    for (int32_t d = 0; d < rank; d++) out[d] = 1;
    if (attr == NULL) return EMLX_OK;
    if (attr->count != (size_t)rank)
        return error_set(err, EMLX_INVALID, "%s has %zu numbers for rank %d", name, attr->count,
                         rank);
    for (int32_t d = 0; d < rank; d++) {
        out[d] = attr->ints[d];
        if (out[d] < 1)
            return error_set(err, EMLX_INVALID, "%s must be positive, got %lld for axis %d", name,
                             (long long)out[d], d);
    }
    return EMLX_OK;
}

static emlx_status pad_axes(const op_call *call, windows *w, int64_t *dims, emlx_error *err) {
    const emlx_shape *shape = operand_shape(call, 0);
    const emlx_attr *padding = attr_get(call, "padding");
    const int64_t most = INT64_MAX / 4;
    w->pads = false;
    if (padding != NULL && padding->count != 2 * (size_t)w->rank)
        return error_set(err, EMLX_INVALID, "%zu numbers of padding for rank %d, two an axis",
                         padding->count, w->rank);
    for (int32_t d = 0; d < w->rank; d++) {
        int64_t low = padding == NULL ? 0 : padding->ints[2 * d];
        int64_t high = padding == NULL ? 0 : padding->ints[2 * d + 1];
        if (low > most || low < -most || high > most || high < -most)
            return error_set(err, EMLX_INVALID, "padding {%lld, %lld} of axis %d", (long long)low,
                             (long long)high, d);
        w->padding[3 * d] = low;
        w->padding[3 * d + 1] = high;
        w->padding[3 * d + 2] = 0;
        w->pads = w->pads || low != 0 || high != 0;
        dims[d] = shape->dims[d] + low + high;
        if (dims[d] < 0) dims[d] = 0;
    }
    return EMLX_OK;
}

static emlx_status find_windows(const op_call *call, windows *w, emlx_error *err) {
    int64_t dims[EMLX_MAX_RANK] = {0};
    w->rank = operand_shape(call, 0)->rank;
    TRY(axis_numbers(call, "window", w->rank, w->window, err));
    TRY(axis_numbers(call, "strides", w->rank, w->strides, err));
    TRY(axis_numbers(call, "window_dilations", w->rank, w->dilations, err));
    TRY(pad_axes(call, w, dims, err));
    TRY(emlx_shape_make(dims, (size_t)w->rank, &w->padded, err));
    for (int32_t d = 0; d < w->rank; d++) {
        int64_t span; // from the first element of a window to its last
        if (__builtin_mul_overflow(w->window[d] - 1, w->dilations[d], &span) || span >= dims[d])
            return error_set(err, EMLX_INVALID,
                             "a window of %lld with dilation %lld does not fit into axis %d, which "
                             "has length %lld with its padding",
                             (long long)w->window[d], (long long)w->dilations[d], d,
                             (long long)dims[d]);
        dims[d] = (dims[d] - 1 - span) / w->strides[d] + 1;
    }
    return emlx_shape_make(dims, (size_t)w->rank, &w->count, err);
}

// Folds -------------------------------------------------------------------------------------

emlx_status check_window(const op_call *call, op_result *result, emlx_error *err) {
    windows w;
    TRY(find_windows(call, &w, err));
    if (reduce_table[call->op->code].gives == GIVES_CHOSEN) TRY(refuse_complex(call, err));
    result->type = operand_type(call, 0);
    result->shape = w.count;
    return EMLX_OK;
}

// What padding has: the neutral element of the fold.
static emlx_tensor *neutral(maker *m, reduce_kind kind, emlx_type type) {
    emlx_shape scalar = {0};
    emlx_number number = {.kind = EMLX_NUMBER_REAL};
    const reduce_info *info = &reduce_table[kind];
    if (info->gives == GIVES_COMBINED) return make_integer(m, type, (int64_t)info->neutral);
    number.as.f[0] = info->neutral;
    return make_constant(m, type, &scalar, &number);
}

// Shows the windows along the axes whose bit is set; `*folded` tells the axes inside of a window.
// They come before the last one: a fold then runs along rows of neighbouring windows. The maker's
// shape becomes that of the fold.
static emlx_tensor *view_windows(maker *m, const windows *w, emlx_tensor *t, uint32_t mask,
                                 uint32_t *folded) {
    int32_t axes[2 * EMLX_MAX_RANK];
    int64_t steps[2 * EMLX_MAX_RANK], dims[2 * EMLX_MAX_RANK];
    size_t n = 0;
    emlx_shape shape;
    *folded = 0;
    if (t == NULL) return NULL;
    m->shape = *emlx_tensor_shape(t);
    for (int32_t d = 0; d < w->rank; d++) {
        for (int32_t e = 0; d == w->rank - 1 && e < w->rank; e++) {
            if (!(mask >> e & 1) || w->window[e] == 1) continue;
            axes[n] = e;
            steps[n] = w->dilations[e];
            dims[n] = w->window[e];
            *folded |= 1u << n++;
        }
        if (mask >> d & 1) m->shape.dims[d] = w->count.dims[d];
        axes[n] = d;
        steps[n] = mask >> d & 1 ? w->strides[d] : 1;
        dims[n++] = m->shape.dims[d];
    }
    emlx_status status = emlx_shape_make(dims, n, &shape, m->err);
    if (status != EMLX_OK) {
        m->status = status;
        return NULL;
    }
    return view_walk(m, t, axes, steps, &shape);
}

static emlx_tensor *fold_windows(maker *m, const windows *w, emlx_tensor *t, uint32_t mask,
                                 reduce_kind kind, emlx_type fold, emlx_type type) {
    uint32_t folded;
    t = view_windows(m, w, t, mask, &folded);
    return make_reduce(m, kind, fold, type, folded, t);
}

// Whether folding axis by axis pays: it takes as many steps as the lengths have together, not as
// their product, but writes and reads what is between.
static bool axis_by_axis(const windows *w) {
    double product = 1, sum = 0;
    for (int32_t d = 0; d < w->rank; d++) {
        product *= (double)w->window[d];
        if (w->window[d] > 1) sum += (double)w->window[d];
    }
    return product >= 2 * sum;
}

// Padding in front of an engine that reads windows where they are: its operand is not written anew.
static emlx_tensor *either_padded(maker *m, const op_call *call, const windows *w,
                                  emlx_tensor *plain) {
    window_params params = {
        .either = {.function = EITHER_window, .bits = (uint32_t)call->op->code}};
    for (int32_t d = 0; d < w->rank; d++) {
        params.window[d] = w->window[d];
        params.strides[d] = w->strides[d];
        params.dilations[d] = w->dilations[d];
        params.low[d] = w->padding[3 * d];
    }
    return make_either(m, &params.either, plain, call->in, 1);
}

emlx_status lower_window(const op_call *call, const op_result *result, emlx_tensor **out,
                         emlx_error *err) {
    windows w;
    TRY(find_windows(call, &w, err));
    reduce_kind kind = (reduce_kind)call->op->code;
    emlx_type from = operand_type(call, 0), to = result->type, fold = fold_type(kind, from, to);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = call->in[0];
    if (w.pads) t = make_pad(&m, t, neutral(&m, kind, from), w.padding, &w.padded);
    // Only where every order gives the same bits. From the last axis on, so that of equal zeros
    // the first in the window stays.
    bool exact = reduce_table[kind].gives == GIVES_CHOSEN ||
                 (type_is_integer(from) && type_is_integer(fold));
    uint32_t rest = (1u << w.rank) - 1;
    for (int32_t d = EMLX_MAX_RANK - 1; exact && axis_by_axis(&w) && d > 0; d--) {
        if (d >= w.rank || w.window[d] == 1) continue;
        t = fold_windows(&m, &w, t, 1u << d, kind, fold, fold);
        rest &= ~(1u << d);
    }
    t = fold_windows(&m, &w, t, rest, kind, fold, to);
    if (w.pads && from == to) t = either_padded(&m, call, &w, t);
    return make_done(&m, t, out);
}

emlx_status windows_shape(const op_call *call, emlx_shape *shape, emlx_error *err) {
    windows w;
    TRY(find_windows(call, &w, err));
    *shape = w.count;
    return EMLX_OK;
}

emlx_tensor *make_windows(maker *m, const op_call *call, emlx_tensor *t, emlx_tensor *padding,
                          uint32_t *axes) {
    windows w;
    if (m->status == EMLX_OK) m->status = find_windows(call, &w, m->err);
    if (m->status != EMLX_OK) return NULL;
    if (w.pads) t = make_pad(m, t, padding, w.padding, &w.padded);
    return view_windows(m, &w, t, (1u << w.rank) - 1, axes);
}

// Scatter -----------------------------------------------------------------------------------

emlx_status check_window_scatter(const op_call *call, op_result *result, emlx_error *err) {
    windows w;
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    TRY(find_windows(call, &w, err));
    TRY(refuse_complex(call, err));
    if (!shape_equal(operand_shape(call, 1), &w.count))
        return error_set(err, EMLX_INVALID, "the source has shape %s, but there are %s windows",
                         shape_print(operand_shape(call, 1), a), shape_print(&w.count, b));
    if (operand_shape(call, 2)->rank != 0)
        return error_set(err, EMLX_INVALID, "the initial value must be a scalar");
    result->type = type_merge(operand_type(call, 1), operand_type(call, 2));
    result->shape = *operand_shape(call, 0);
    return EMLX_OK;
}

static bool integer_fits(emlx_type type, int64_t value) {
    int digits = type_table[type].digits;
    if (value < 0)
        return type_class_of(type) == CLASS_SIGNED && value >= -1 - (INT64_MAX >> (63 - digits));
    return digits >= 63 || value >> digits == 0;
}

// The type in which elements are compared with each other and, where there is padding, with the
// initial value, which it has. Every element is exact in it, but for 64-bit integers beside a
// float, and beside the padding those of u64 where the initial value is signed and not known.
static emlx_type compared_type(const op_call *call, bool pads) {
    emlx_type type = operand_type(call, 0), init = operand_type(call, 2);
    int64_t value;
    if (type_is_float(type) || !pads) return type;
    if (type_is_float(init)) return EMLX_F64;
    bool fits = known_integer(call->in[2], &value) && integer_fits(type, value);
    return fits ? type : type_merge(type, init);
}

static emlx_tensor *make_pick(maker *m, const windows *w, bool lowest, emlx_tensor *t) {
    if (t == NULL) return NULL;
    pick_params params = {.lowest = lowest};
    for (int32_t d = 0; d < w->rank; d++) {
        params.window[d] = w->window[d];
        params.strides[d] = w->strides[d];
    }
    node_spec spec = {.primitive = PRIM_pick, .type = EMLX_S64, .shape = w->count};
    spec.params = &params;
    spec.params_size = sizeof params;
    spec.inputs = &t;
    spec.input_count = 1;
    return make_node(m, &spec);
}

// Whether no element is in two windows.
static bool are_apart(const windows *w) {
    for (int32_t d = 0; d < w->rank; d++)
        if (w->strides[d] < w->window[d] && w->count.dims[d] > 1) return false;
    return true;
}

// The padded operand's shape, `init` everywhere, with each window's source added to its winner.
static emlx_tensor *add_sources(maker *m, const windows *w, emlx_tensor *winners,
                                emlx_tensor *source, emlx_tensor *init) {
    int64_t count = emlx_shape_count(&w->count);
    emlx_shape flat = {1, {emlx_shape_count(&w->padded)}}, list = {1, {count}},
               column = {2, {count, 1}};
    scatter_params params = {.kind = SCATTER_ADD, .count = 1, .apart = are_apart(w)};
    emlx_tensor *inputs[3] = {view_broadcast(m, init, &flat, NULL),
                              view_reshape(m, winners, &column), view_reshape(m, source, &list)};
    if (m->status != EMLX_OK) return NULL;
    node_spec spec = {.primitive = PRIM_scatter, .type = emlx_tensor_type(init), .shape = flat};
    spec.params = &params;
    spec.params_size = sizeof params;
    spec.inputs = inputs;
    spec.input_count = 3;
    return view_reshape(m, make_node(m, &spec), &w->padded);
}

// Undoes the padding; what it cropped has had no winner.
static emlx_tensor *unpad(maker *m, const windows *w, emlx_tensor *t, emlx_tensor *init,
                          const emlx_shape *shape) {
    int64_t back[3 * EMLX_MAX_RANK] = {0}, low[EMLX_MAX_RANK], ones[EMLX_MAX_RANK];
    bool crops = false;
    for (int32_t d = 0; d < w->rank; d++) {
        low[d] = w->padding[3 * d];
        ones[d] = 1;
        back[3 * d] = -low[d];
        back[3 * d + 1] = -w->padding[3 * d + 1];
        crops = crops || low[d] < 0 || w->padding[3 * d + 1] < 0;
    }
    if (crops) return make_pad(m, t, init, back, shape);
    return w->pads ? view_slice(m, t, low, ones, shape) : t;
}

// A picked position in the padded operand is where the window's source is added.
emlx_status lower_window_scatter(const op_call *call, const op_result *result, emlx_tensor **out,
                                 emlx_error *err) {
    windows w;
    TRY(find_windows(call, &w, err));
    emlx_type compared = compared_type(call, w.pads), compute = type_compute(compared);
    emlx_type added = type_whole(result->type);
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *t = make_cast(&m, make_cast(&m, call->in[0], compared), compute);
    emlx_tensor *value = make_cast(&m, make_cast(&m, call->in[2], compared), compute);
    if (w.pads) t = make_pad(&m, t, value, w.padding, &w.padded);
    emlx_tensor *winners = make_pick(&m, &w, reduce_is_least((reduce_kind)call->op->code), t);
    emlx_tensor *source = make_cast(&m, call->in[1], added);
    emlx_tensor *init = make_cast(&m, call->in[2], added);
    t = add_sources(&m, &w, winners, source, init);
    t = unpad(&m, &w, t, init, &result->shape);
    return make_done(&m, make_cast(&m, t, result->type), out);
}
