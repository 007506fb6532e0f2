// SPDX-License-Identifier: Apache-2.0
// conv.c - convolution: check and lowering.
#include "ops/make.h"

#include <string.h>

// Strides, dilations and padding are below this, so that sums of a few of them cannot overflow.
#define OPTION_LIMIT ((int64_t)1 << 40)
// Padded and dilated lengths likewise.
#define LENGTH_LIMIT ((int64_t)1 << 60)

// Options -----------------------------------------------------------------------------------

// Fills `list` with the attribute's integers or, where it is not given, with `otherwise`.
static emlx_status take_list(const op_call *call, const char *name, int32_t count, int64_t least,
                             int64_t otherwise, int64_t *list, emlx_error *err) {
    const emlx_attr *attr = attr_get(call, name);
    for (int32_t i = 0; i < count; i++) list[i] = otherwise;
    if (attr == NULL) return EMLX_OK;
    if (attr->count != (size_t)count)
        return error_set(err, EMLX_INVALID, "%s must have %d numbers, got %zu", name, count,
                         attr->count);
    for (int32_t i = 0; i < count; i++) {
        list[i] = attr->ints[i];
        if (list[i] < least || list[i] >= OPTION_LIMIT)
            return error_set(err, EMLX_INVALID, "%s cannot be %lld", name, (long long)list[i]);
    }
    return EMLX_OK;
}

// The order of axes in the attribute, or the order they are in.
static emlx_status take_permutation(const op_call *call, const char *name, int32_t rank,
                                    int64_t *axes, emlx_error *err) {
    const emlx_attr *attr = attr_get(call, name);
    uint32_t seen = 0;
    for (int32_t d = 0; d < rank; d++) axes[d] = d;
    if (attr == NULL) return EMLX_OK;
    if (attr->count != (size_t)rank)
        return error_set(err, EMLX_INVALID, "%s must have %d axes, got %zu", name, rank,
                         attr->count);
    for (int32_t d = 0; d < rank; d++) {
        axes[d] = attr->ints[d];
        if (axes[d] < 0 || axes[d] >= rank || (seen >> axes[d] & 1))
            return error_set(err, EMLX_INVALID, "%s must have every axis of rank %d once", name,
                             rank);
        seen |= 1u << axes[d];
    }
    return EMLX_OK;
}

typedef struct conv_options {
    conv_params params;
    int64_t high[EMLX_MAX_RANK];
    int64_t input_axes[EMLX_MAX_RANK], kernel_axes[EMLX_MAX_RANK], output_axes[EMLX_MAX_RANK];
    emlx_shape input, kernel; // as [batch, channels, spatial...], [filters, channels, spatial...]
} conv_options;

static emlx_status take_groups(const op_call *call, conv_params *p, emlx_error *err) {
    p->feature_groups = attr_int(call, "feature_group_size", 1);
    p->batch_groups = attr_int(call, "batch_group_size", 1);
    if (p->feature_groups < 1 || p->batch_groups < 1)
        return error_set(err, EMLX_INVALID, "there must be at least one group");
    if (p->feature_groups > 1 && p->batch_groups > 1)
        return error_set(err, EMLX_INVALID,
                         "feature_group_size %lld and batch_group_size %lld: one must be 1",
                         (long long)p->feature_groups, (long long)p->batch_groups);
    return EMLX_OK;
}

static emlx_status take_options(const op_call *call, conv_options *o, emlx_error *err) {
    const emlx_shape *x = operand_shape(call, 0), *k = operand_shape(call, 1);
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    int64_t padding[2 * EMLX_MAX_RANK];
    memset(o, 0, sizeof *o);
    if (x->rank < 2 || x->rank != k->rank)
        return error_set(err, EMLX_INVALID,
                         "input %s and kernel %s must have the same rank, 2 at least",
                         shape_print(x, a), shape_print(k, b));
    int32_t spatial = x->rank - 2;
    conv_params *p = &o->params;
    TRY(take_list(call, "strides", spatial, 1, 1, p->strides, err));
    TRY(take_list(call, "input_dilation", spatial, 1, 1, p->input_dilation, err));
    TRY(take_list(call, "kernel_dilation", spatial, 1, 1, p->kernel_dilation, err));
    TRY(take_list(call, "padding", 2 * spatial, -OPTION_LIMIT, 0, padding, err));
    for (int32_t d = 0; d < spatial; d++) {
        p->low[d] = padding[2 * d];
        o->high[d] = padding[2 * d + 1];
    }
    TRY(take_groups(call, p, err));
    TRY(take_permutation(call, "input_permutation", x->rank, o->input_axes, err));
    TRY(take_permutation(call, "kernel_permutation", x->rank, o->kernel_axes, err));
    TRY(take_permutation(call, "output_permutation", x->rank, o->output_axes, err));
    o->input.rank = o->kernel.rank = x->rank;
    for (int32_t d = 0; d < x->rank; d++) {
        o->input.dims[d] = x->dims[o->input_axes[d]];
        o->kernel.dims[d] = k->dims[o->kernel_axes[d]];
    }
    // Where channels go last anyway, the engine writes them there.
    p->channels_last = o->output_axes[1] == x->rank - 1;
    return EMLX_OK;
}

// Check -------------------------------------------------------------------------------------

static emlx_status check_groups(const conv_options *o, emlx_error *err) {
    const conv_params *p = &o->params;
    int64_t batch = o->input.dims[0], channels = o->input.dims[1], filters = o->kernel.dims[0];
    if (batch % p->batch_groups != 0)
        return error_set(err, EMLX_INVALID, "%lld batch groups do not divide batch size %lld",
                         (long long)p->batch_groups, (long long)batch);
    if (filters % p->feature_groups != 0 || filters % p->batch_groups != 0)
        return error_set(err, EMLX_INVALID, "%lld groups do not divide %lld filters",
                         (long long)(p->feature_groups * p->batch_groups), (long long)filters);
    if (channels % p->feature_groups != 0 || channels / p->feature_groups != o->kernel.dims[1])
        return error_set(err, EMLX_INVALID,
                         "%lld input channels in %lld feature groups do not fit %lld kernel "
                         "channels",
                         (long long)channels, (long long)p->feature_groups,
                         (long long)o->kernel.dims[1]);
    return EMLX_OK;
}

// Length with zeros between the elements; false when it is too long.
static bool dilated(int64_t length, int64_t dilation, int64_t *result) {
    *result = 0;
    if (length == 0) return true;
    if (__builtin_mul_overflow(length - 1, dilation, result)) return false;
    return ++*result < LENGTH_LIMIT;
}

static emlx_status output_length(const conv_options *o, int32_t d, int64_t *length,
                                 emlx_error *err) {
    const conv_params *p = &o->params;
    int64_t input = 0, kernel = 0;
    bool fits = dilated(o->input.dims[2 + d], p->input_dilation[d], &input) &&
                dilated(o->kernel.dims[2 + d], p->kernel_dilation[d], &kernel);
    input += p->low[d] + o->high[d];
    if (!fits || input >= LENGTH_LIMIT)
        return error_set(err, EMLX_INVALID, "spatial axis %d is too long", d);
    if (kernel < 1 || input < kernel)
        return error_set(err, EMLX_INVALID,
                         "a kernel of length %lld does not fit into length %lld of spatial axis %d",
                         (long long)kernel, (long long)(input < 0 ? 0 : input), d);
    *length = (input - kernel) / p->strides[d] + 1;
    return EMLX_OK;
}

emlx_status check_conv(const op_call *call, op_result *result, emlx_error *err) {
    conv_options o;
    int64_t dims[EMLX_MAX_RANK];
    TRY(take_options(call, &o, err));
    TRY(check_groups(&o, err));
    dims[o.output_axes[0]] = o.input.dims[0] / o.params.batch_groups;
    dims[o.output_axes[1]] = o.kernel.dims[0];
    for (int32_t d = 0; d + 2 < o.input.rank; d++)
        TRY(output_length(&o, d, &dims[o.output_axes[2 + d]], err));
    result->type = type_floating(type_merge(operand_type(call, 0), operand_type(call, 1)));
    return emlx_shape_make(dims, (size_t)o.input.rank, &result->shape, err);
}

// Lowering ----------------------------------------------------------------------------------

// The primitive gives [batch, filters, spatial...], or filters last.
static emlx_tensor *make_conv(maker *m, const conv_options *o, const emlx_shape *shape,
                              emlx_type type, emlx_tensor *x, emlx_tensor *k) {
    if (x == NULL || k == NULL) return NULL;
    emlx_tensor *inputs[2] = {x, k};
    int64_t axes[EMLX_MAX_RANK];
    node_spec spec = {.primitive = PRIM_conv, .type = type};
    int32_t rank = spec.shape.rank = shape->rank;
    for (int32_t i = 0; i < rank; i++) {
        int32_t at = i;
        if (o->params.channels_last && i > 0) at = i == 1 ? rank - 1 : i - 1;
        spec.shape.dims[at] = shape->dims[o->output_axes[i]];
        axes[o->output_axes[i]] = at;
    }
    spec.params = &o->params;
    spec.params_size = sizeof o->params;
    spec.inputs = inputs;
    spec.input_count = 2;
    return view_transpose(m, make_node(m, &spec), axes);
}

// Complex -----------------------------------------------------------------------------------
//
// A convolution of complex numbers is one of real numbers with twice the channels and filters:
// channel 2c is the real part of channel c and 2c + 1 the imaginary one, likewise the filters. Both
// parts of a result are so sums of real products, rounded once.

// Where a part of the elements goes: to the even or odd places of the first and the second axis.
typedef struct part_place {
    bool imaginary, negative;
    int first, second;
} part_place;

static emlx_tensor *make_part(maker *m, emlx_tensor *t, const part_place *place) {
    emlx_type type = emlx_tensor_type(t), part = type_part(type);
    scalar_op op = place->imaginary ? SCALAR_imag : SCALAR_real;
    m->shape = *emlx_tensor_shape(t);
    emlx_tensor *of = make_map(m, op, type, part, t, NULL, NULL);
    return place->negative ? make_map(m, SCALAR_negate, part, part, of, NULL, NULL) : of;
}

// Makes room along the second axis for two parts; for four, along the first as well.
static emlx_tensor *spread_parts(maker *m, emlx_tensor *t, const part_place *places, size_t count) {
    write_source sources[4] = {0};
    if (t == NULL) return NULL;
    emlx_shape shape = *emlx_tensor_shape(t);
    for (size_t i = 0; i < count; i++) {
        sources[i].tensor = make_part(m, t, &places[i]);
        for (int32_t d = 0; d < shape.rank; d++) sources[i].steps[d] = 1;
        sources[i].starts[0] = places[i].first;
        sources[i].starts[1] = places[i].second;
        sources[i].steps[0] = count == 4 ? 2 : 1;
        sources[i].steps[1] = 2;
    }
    if (count == 4) shape.dims[0] *= 2;
    shape.dims[1] *= 2;
    emlx_number zero = {.kind = EMLX_NUMBER_SIGNED};
    emlx_tensor *base = make_constant(m, type_part(emlx_tensor_type(t)), &shape, &zero);
    return m->status == EMLX_OK ? make_write(m, base, sources, count, true) : NULL;
}

// Every second element along an axis, from `first` on.
static emlx_tensor *every_second(maker *m, emlx_tensor *t, int64_t axis, int64_t first,
                                 const emlx_shape *shape) {
    int64_t starts[EMLX_MAX_RANK] = {0}, steps[EMLX_MAX_RANK];
    for (int32_t d = 0; d < shape->rank; d++) steps[d] = 1;
    starts[axis] = first;
    steps[axis] = 2;
    return view_slice(m, t, starts, steps, shape);
}

static emlx_tensor *make_complex_conv(maker *m, const conv_options *o, const emlx_shape *shape,
                                      emlx_type type, emlx_tensor *x, emlx_tensor *k) {
    static const part_place of_input[] = {{false, false, 0, 0}, {true, false, 0, 1}};
    static const part_place of_kernel[] = {
        {false, false, 0, 0}, {true, true, 0, 1}, {true, false, 1, 0}, {false, false, 1, 1}};
    emlx_type part = type_part(type);
    emlx_shape both = *shape;
    int64_t axis = o->output_axes[1];
    both.dims[axis] *= 2;
    emlx_tensor *parts = make_conv(m, o, &both, part, spread_parts(m, x, of_input, 2),
                                   spread_parts(m, k, of_kernel, 4));
    emlx_tensor *re = every_second(m, parts, axis, 0, shape);
    emlx_tensor *im = every_second(m, parts, axis, 1, shape);
    m->shape = *shape;
    return make_map(m, SCALAR_complex, part, type, re, im, NULL);
}

emlx_status lower_conv(const op_call *call, const op_result *result, emlx_tensor **out,
                       emlx_error *err) {
    conv_options o;
    TRY(take_options(call, &o, err));
    emlx_type type = result->type;
    for (size_t i = 0; i < 2; i++) type = type_holding(type, operand_type(call, i));
    maker m;
    make_start(&m, call, &result->shape, err);
    emlx_tensor *x = view_transpose(&m, make_cast(&m, call->in[0], type), o.input_axes);
    emlx_tensor *k = view_transpose(&m, make_cast(&m, call->in[1], type), o.kernel_axes);
    emlx_tensor *t = type_is_complex(type) ? make_complex_conv(&m, &o, &result->shape, type, x, k)
                                           : make_conv(&m, &o, &result->shape, type, x, k);
    return make_done(&m, make_cast(&m, t, result->type), out);
}
