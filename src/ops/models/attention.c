// SPDX-License-Identifier: Apache-2.0
// attention.c - scaled dot product attention: the scores of queries and keys, without those that
// are not to be seen, and the values weighed by their softmax.
#include "ops/make.h"

// Operands behind the first three, in their order, and the shapes that they may have.
static const struct {
    const char *attr, *shape;
    uint32_t flag;
} extras[] = {{"offset", "{} or {batch}", ATTENTION_OFFSET},
              {"mask", "one that stretches to the scores", ATTENTION_MASK},
              {"key_mask", "{batch, keys}", ATTENTION_KEY_MASK},
              {"sinks", "{heads}", ATTENTION_SINKS}};

enum { EXTRAS = sizeof extras / sizeof *extras, NO_CAUSAL = ~ATTENTION_CAUSAL };

static uint32_t flags_of(const op_call *call) {
    uint32_t flags = attr_int(call, "causal", 0) ? ATTENTION_CAUSAL : 0;
    for (int i = 0; i < EXTRAS; i++)
        if (attr_int(call, extras[i].attr, 0)) flags |= extras[i].flag;
    return flags;
}

// Which operand that is; there is one.
static size_t extra_at(uint32_t flags, uint32_t flag) {
    return 3 + (size_t)__builtin_popcount(flags & (flag - 1) & (uint32_t)NO_CAUSAL);
}

// Checks -----------------------------------------------------------------------------------------

// {batch, heads, queries, keys}
static emlx_shape scores_shape(const op_call *call) {
    emlx_shape shape = *operand_shape(call, 0);
    shape.dims[3] = operand_shape(call, 1)->dims[2];
    return shape;
}

static bool extra_fits(uint32_t flag, const emlx_shape *s, const emlx_shape *scores) {
    const int64_t *dims = scores->dims;
    emlx_shape both;
    switch (flag) {
    case ATTENTION_OFFSET: return s->rank == 0 || (s->rank == 1 && s->dims[0] == dims[0]);
    case ATTENTION_MASK: return shape_broadcast(s, scores, &both) && shape_equal(&both, scores);
    case ATTENTION_KEY_MASK: return s->rank == 2 && s->dims[0] == dims[0] && s->dims[1] == dims[3];
    default: return s->rank == 1 && s->dims[0] == dims[1];
    }
}

static emlx_status check_extras(const op_call *call, uint32_t flags, emlx_error *err) {
    emlx_shape scores = scores_shape(call);
    char text[SHAPE_TEXT];
    for (int i = 0; i < EXTRAS; i++) {
        size_t at = extra_at(flags, extras[i].flag);
        if (!(flags & extras[i].flag)) continue;
        if (!extra_fits(extras[i].flag, operand_shape(call, at), &scores))
            return error_set(err, EMLX_INVALID, "%s has shape %s, %s expected", extras[i].attr,
                             shape_print(operand_shape(call, at), text), extras[i].shape);
        if (extras[i].flag == ATTENTION_OFFSET && !type_is_integer(operand_type(call, at)))
            return error_set(err, EMLX_INVALID, "offset must be an integer, got %s",
                             emlx_type_name(operand_type(call, at)));
    }
    return EMLX_OK;
}

static bool heads_fit(const emlx_shape *q, const emlx_shape *k, const emlx_shape *v) {
    if (q->rank != 4 || k->rank != 4 || v->rank != 4) return false;
    bool groups = k->dims[1] > 0 && q->dims[1] % k->dims[1] == 0;
    return groups && q->dims[0] == k->dims[0] && q->dims[3] == k->dims[3] &&
           k->dims[0] == v->dims[0] && k->dims[1] == v->dims[1] && k->dims[2] == v->dims[2];
}

emlx_status check_attention(const op_call *call, op_result *result, emlx_error *err) {
    const emlx_shape *q = operand_shape(call, 0), *k = operand_shape(call, 1),
                     *v = operand_shape(call, 2);
    uint32_t flags = flags_of(call);
    size_t count = 3 + (size_t)__builtin_popcount(flags & (uint32_t)NO_CAUSAL);
    char a[SHAPE_TEXT], b[SHAPE_TEXT], c[SHAPE_TEXT];
    if (!heads_fit(q, k, v))
        return error_set(err, EMLX_INVALID,
                         "queries %s, keys %s and values %s: {batch, heads, queries, size} and "
                         "{batch, groups, keys, size} expected, heads being a multiple of groups",
                         shape_print(q, a), shape_print(k, b), shape_print(v, c));
    if (k->dims[2] == 0) return error_set(err, EMLX_INVALID, "there is no key");
    if (call->count != count)
        return error_set(err, EMLX_INVALID, "%zu operands given, %zu expected by the attributes",
                         call->count, count);
    TRY(check_real(call, "scale", err));
    TRY(check_extras(call, flags, err));
    TRY(check_first(call, result, err));
    result->shape.dims[3] = v->dims[3];
    return EMLX_OK;
}

// The primitives ---------------------------------------------------------------------------------

// Products of rows with what belongs to their group: heads of one group are rows of one product.
static emlx_tensor *attention_product(maker *m, emlx_tensor *rows, emlx_tensor *of,
                                      int64_t contracted, const emlx_shape *shape) {
    static const int64_t batch[] = {0, 1}, last = 3;
    if (rows == NULL || of == NULL) return NULL;
    emlx_shape groups = rows->shape;
    groups.dims[1] = of->shape.dims[1];
    groups.dims[2] = rows->shape.dims[1] / groups.dims[1] * rows->shape.dims[2];
    emlx_tensor *in[2] = {view_reshape(m, rows, &groups), of};
    const emlx_attr attrs[] = {
        {.name = "contract_left", .kind = EMLX_ATTR_INTS, .ints = &last, .count = 1},
        {.name = "batch_left", .kind = EMLX_ATTR_INTS, .ints = batch, .count = 2},
        {.name = "contract_right", .kind = EMLX_ATTR_INTS, .ints = &contracted, .count = 1},
        {.name = "batch_right", .kind = EMLX_ATTR_INTS, .ints = batch, .count = 2}};
    emlx_tensor *product = make_op_with(m, "dot", EMLX_TYPE_DEFAULT, in, 2, attrs, 4);
    return product == NULL ? NULL : view_reshape(m, product, shape);
}

// The lowest finite number where nothing is to be seen: rows that see nothing at all have equal
// weights rather than NaN.
static emlx_tensor *keep(maker *m, emlx_tensor *scores, emlx_tensor *seen) {
    if (scores == NULL) return NULL;
    emlx_type type = emlx_tensor_type(scores);
    double lowest = type == EMLX_F64 ? -0x1.fffffffffffffp1023 : -0x1.fffffep127;
    return make_op(m, "select", type, 3, seen, scores, make_real(m, type, lowest));
}

// 0, 1, ... along one of four axes.
static emlx_tensor *counted(maker *m, int64_t count, int32_t axis) {
    int64_t dims[4] = {1, 1, 1, 1};
    emlx_tensor *t = NULL;
    dims[axis] = count;
    const emlx_attr attrs[] = {
        {.name = "shape", .kind = EMLX_ATTR_INTS, .ints = dims, .count = 4},
        {.name = "axis", .kind = EMLX_ATTR_INT, .value = {EMLX_NUMBER_SIGNED, {.s = axis}}}};
    if (m->status != EMLX_OK) return NULL;
    emlx_status status =
        op_apply(emlx_op_find("iota"), m->device, NULL, 0, attrs, 2, EMLX_S64, &t, m->err);
    return make_keep(m, status, t);
}

static emlx_tensor *reshaped(maker *m, emlx_tensor *t, int64_t a, int64_t b, int64_t d) {
    const emlx_shape shape = {4, {a, b, 1, d}};
    return t == NULL ? NULL : view_reshape(m, t, &shape);
}

// Keys up to a number that grows with the query.
static emlx_tensor *up_to(maker *m, emlx_tensor *scores, emlx_tensor *first) {
    if (scores == NULL || first == NULL) return NULL;
    const int64_t *dims = scores->shape.dims;
    emlx_tensor *most = make_binary(m, "add", counted(m, dims[2], 2), first);
    return keep(m, scores, make_binary(m, "less_equal", counted(m, dims[3], 3), most));
}

static emlx_tensor *hide(maker *m, const op_call *call, const either_params *p,
                         emlx_tensor *scores) {
    const int64_t *dims = scores->shape.dims;
    emlx_tensor *const *in = call->in;
    if (p->bits & ATTENTION_CAUSAL) scores = up_to(m, scores, make_integer(m, EMLX_S64, p->count));
    if (p->bits & ATTENTION_OFFSET) {
        emlx_tensor *offset = make_cast(m, in[extra_at(p->bits, ATTENTION_OFFSET)], EMLX_S64);
        int64_t batch = offset != NULL && offset->shape.rank == 1 ? dims[0] : 1;
        scores = up_to(m, scores, reshaped(m, offset, batch, 1, 1));
    }
    if (p->bits & ATTENTION_MASK) {
        emlx_tensor *mask = in[extra_at(p->bits, ATTENTION_MASK)];
        bool truth = type_is_integer(emlx_tensor_type(mask));
        scores = truth ? keep(m, scores, mask) : make_binary(m, "add", scores, mask);
    }
    if (p->bits & ATTENTION_KEY_MASK) {
        emlx_tensor *mask = in[extra_at(p->bits, ATTENTION_KEY_MASK)];
        scores = keep(m, scores, reshaped(m, mask, dims[0], 1, dims[3]));
    }
    return scores;
}

static emlx_tensor *weights(maker *m, emlx_tensor *scores, emlx_tensor *sinks) {
    emlx_tensor *most = make_fold(m, "reduce_max", scores, 1u << 3);
    if (most == NULL) return NULL;
    if (sinks != NULL) {
        sinks = make_cast(m, sinks, emlx_tensor_type(scores));
        sinks = reshaped(m, sinks, 1, scores->shape.dims[1], 1);
        most = make_binary(m, "max", most, sinks);
    }
    emlx_tensor *powers = make_unary(m, "exp", make_binary(m, "subtract", scores, most));
    emlx_tensor *sum = make_fold(m, "sum", powers, 1u << 3);
    if (sinks != NULL)
        sum = make_binary(m, "add", sum,
                          make_unary(m, "exp", make_binary(m, "subtract", sinks, most)));
    return make_binary(m, "divide", powers, sum);
}

static emlx_tensor *composed(maker *m, const op_call *call, const either_params *p,
                             const emlx_shape *result) {
    emlx_shape shape = scores_shape(call);
    emlx_tensor *q = make_wide(m, call->in[0]), *k = make_wide(m, call->in[1]);
    emlx_tensor *scores = attention_product(m, q, k, 3, &shape);
    if (scores == NULL) return NULL;
    emlx_type type = emlx_tensor_type(scores);
    scores = make_binary(m, "multiply", scores, make_real(m, type, p->n[0]));
    if (scores == NULL) return NULL;
    scores = hide(m, call, p, scores);
    bool sinks = p->bits & ATTENTION_SINKS;
    scores = weights(m, scores, sinks ? call->in[extra_at(p->bits, ATTENTION_SINKS)] : NULL);
    return attention_product(m, scores, make_wide(m, call->in[2]), 2, result);
}

emlx_status lower_attention(const op_call *call, const op_result *result, emlx_tensor **out,
                            emlx_error *err) {
    either_params params = {.function = EITHER_attention, .bits = flags_of(call)};
    int64_t more = operand_shape(call, 1)->dims[2] - operand_shape(call, 0)->dims[2];
    params.n[0] = attr_real(call, "scale", 1);
    if (params.bits & ATTENTION_CAUSAL) params.count = attr_int(call, "first", more);
    maker m;
    make_start(&m, call, &result->shape, err);
    if (emlx_shape_count(&result->shape) == 0) {
        emlx_number zero = {.kind = EMLX_NUMBER_REAL};
        return make_done(&m, make_constant(&m, result->type, &result->shape, &zero), out);
    }
    emlx_tensor *t = composed(&m, call, &params, &result->shape);
    emlx_tensor *plain = make_cast(&m, t, result->type);
    return make_done(&m, make_either(&m, &params, plain, call->in, call->count), out);
}
