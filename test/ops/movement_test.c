// SPDX-License-Identifier: Apache-2.0
// movement_test.c - the ops that move elements, against the formula of each: for every element of
// the result, where it comes from.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

static const emlx_type types[] = {EMLX_U8, EMLX_S16, EMLX_F32, EMLX_S64};
enum { TYPES = sizeof types / sizeof *types, ROUNDS = 60 };

static emlx_shape random_shape(int least_rank) {
    static const int64_t lengths[] = {1, 2, 3, 5, 8, 17, 40};
    emlx_shape s = {.rank = least_rank + (int32_t)draw(3)};
    for (int32_t d = 0; d < s.rank; d++) s.dims[d] = lengths[draw(7)];
    if (draw(6) == 0 && s.rank > 0) s.dims[draw((uint32_t)s.rank)] = 1500;
    return s;
}

// Compares with a result whose element at `index` must be source(context, index).
typedef double (*source_fn)(const void *context, const int64_t *index);

static void check(emlx_tensor *out, source_fn source, const void *context, const char *name) {
    double *got = values_of(out);
    int64_t index[EMLX_MAX_RANK];
    const emlx_shape *s = emlx_tensor_shape(out);
    for (int64_t i = 0; i < emlx_shape_count(s); i++) {
        unravel(s, i, index);
        double wanted = source(context, index);
        if (got[i] != wanted)
            fail_msg("%s: element %lld is %g, not %g", name, (long long)i, got[i], wanted);
    }
    free(got);
    emlx_tensor_release(out);
}

typedef struct moved {
    const emlx_shape *shape;
    const double *values, *other;
    const emlx_shape *other_shape;
    int64_t list[3 * EMLX_MAX_RANK], steps[EMLX_MAX_RANK];
    double fill;
    int64_t axis;
} moved;

static double from_pad(const void *context, const int64_t *index) {
    const moved *m = context;
    int64_t from[EMLX_MAX_RANK];
    for (int32_t d = 0; d < m->shape->rank; d++) {
        int64_t at = index[d] - m->list[3 * d], step = m->list[3 * d + 2] + 1;
        if (at < 0 || at % step != 0 || at / step >= m->shape->dims[d]) return m->fill;
        from[d] = at / step;
    }
    return m->values[ravel(m->shape, from)];
}

static double from_slice(const void *context, const int64_t *index) {
    const moved *m = context;
    int64_t from[EMLX_MAX_RANK];
    for (int32_t d = 0; d < m->shape->rank; d++) from[d] = m->list[d] + index[d] * m->steps[d];
    return m->values[ravel(m->shape, from)];
}

static double from_put_slice(const void *context, const int64_t *index) {
    const moved *m = context;
    int64_t from[EMLX_MAX_RANK];
    for (int32_t d = 0; d < m->shape->rank; d++) {
        from[d] = index[d] - m->list[d];
        if (from[d] < 0 || from[d] >= m->other_shape->dims[d])
            return m->values[ravel(m->shape, index)];
    }
    return m->other[ravel(m->other_shape, from)];
}

static double from_transpose(const void *context, const int64_t *index) {
    const moved *m = context;
    int64_t from[EMLX_MAX_RANK];
    for (int32_t d = 0; d < m->shape->rank; d++) from[m->list[d]] = index[d];
    return m->values[ravel(m->shape, from)];
}

static double from_concatenate(const void *context, const int64_t *index) {
    const moved *m = context;
    int64_t from[EMLX_MAX_RANK];
    memcpy(from, index, sizeof from);
    if (index[m->axis] < m->shape->dims[m->axis]) return m->values[ravel(m->shape, from)];
    from[m->axis] -= m->shape->dims[m->axis];
    return m->other[ravel(m->other_shape, from)];
}

static emlx_tensor *scalar(emlx_type type, double value) {
    emlx_shape s = {0};
    return tensor_of(type, &s, &value);
}

// Random padding of each axis: low, high and gaps. No more is removed than there is.
static void draw_padding(const emlx_shape *s, int64_t *list) {
    for (int32_t d = 0; d < s->rank; d++) {
        int64_t *p = &list[3 * d];
        p[0] = (int64_t)draw(7) - 3;
        p[1] = (int64_t)draw(7) - 3;
        p[2] = draw(3);
        int64_t length = s->dims[d] + (s->dims[d] - 1) * p[2] + p[0] + p[1];
        if (length < 0) p[1] -= length;
    }
}

static void pad_and_slice(emlx_type type) {
    emlx_shape s = random_shape(1);
    emlx_tensor *in[2] = {random_tensor(type, &s, 0, 50), scalar(type, 99)};
    double *values = values_of(in[0]);
    moved m = {.shape = &s, .values = values, .fill = 99};
    draw_padding(&s, m.list);
    emlx_attr padding = with_ints("padding", m.list, 3 * (size_t)s.rank);
    check(apply_to("pad", in, 2, &padding, 1, EMLX_TYPE_DEFAULT), from_pad, &m, "pad");

    // Starts reach past both ends and are clamped, static or computed alike.
    int64_t starts[EMLX_MAX_RANK], lengths[EMLX_MAX_RANK];
    emlx_tensor *operands[1 + EMLX_MAX_RANK] = {in[0]}, *zero = scalar(EMLX_S32, 0);
    for (int32_t d = 0; d < s.rank; d++) {
        lengths[d] = 1 + draw((uint32_t)s.dims[d]);
        m.steps[d] = 1 + draw(3);
        starts[d] = (int64_t)draw((uint32_t)s.dims[d] + 4) - 2;
        int64_t limit = s.dims[d] - lengths[d];
        m.list[d] = starts[d] < 0 ? 0 : starts[d] > limit ? limit : starts[d];
        emlx_tensor *both[2] = {scalar(EMLX_S32, (double)starts[d]), zero};
        operands[1 + d] = apply_to("add", both, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(both[0]);
    }
    size_t rank = (size_t)s.rank;
    emlx_attr attrs[3] = {with_ints("lengths", lengths, rank), with_ints("strides", m.steps, rank),
                          with_ints("starts", starts, rank)};
    check(apply_to("slice", in, 1, attrs, 3, EMLX_TYPE_DEFAULT), from_slice, &m, "slice");
    check(apply_to("slice", operands, 1 + rank, attrs, 2, EMLX_TYPE_DEFAULT), from_slice, &m,
          "slice at computed starts");
    for (size_t d = 0; d < rank; d++) emlx_tensor_release(operands[1 + d]);
    emlx_tensor_release(zero);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    free(values);
}

static void put_and_join(emlx_type type) {
    emlx_shape s = random_shape(1), part = s;
    moved m = {.shape = &s, .other_shape = &part};
    int64_t starts[EMLX_MAX_RANK];
    emlx_tensor *operands[2 + EMLX_MAX_RANK], *zero = scalar(EMLX_S32, 0);
    for (int32_t d = 0; d < s.rank; d++) {
        part.dims[d] = 1 + draw((uint32_t)s.dims[d]);
        starts[d] = (int64_t)draw((uint32_t)s.dims[d] + 4) - 2;
        int64_t limit = s.dims[d] - part.dims[d];
        m.list[d] = starts[d] < 0 ? 0 : starts[d] > limit ? limit : starts[d];
        emlx_tensor *both[2] = {scalar(EMLX_S32, (double)starts[d]), zero};
        operands[2 + d] = apply_to("add", both, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(both[0]);
    }
    operands[0] = random_tensor(type, &s, 0, 50);
    operands[1] = random_tensor(type, &part, 51, 99);
    double *values = values_of(operands[0]), *other = values_of(operands[1]);
    m.values = values;
    m.other = other;
    emlx_attr attr = with_ints("starts", starts, (size_t)s.rank);
    check(apply_to("put_slice", operands, 2, &attr, 1, EMLX_TYPE_DEFAULT), from_put_slice, &m,
          "put_slice");
    check(apply_to("put_slice", operands, 2 + (size_t)s.rank, NULL, 0, EMLX_TYPE_DEFAULT),
          from_put_slice, &m, "put_slice at computed starts");
    for (int32_t d = 0; d < s.rank; d++) emlx_tensor_release(operands[2 + d]);
    emlx_tensor_release(operands[1]);
    free(other);

    m.axis = draw((uint32_t)s.rank);
    part = s;
    part.dims[m.axis] = 1 + draw(9);
    operands[1] = random_tensor(type, &part, 51, 99);
    m.other = other = values_of(operands[1]);
    attr = with_int("axis", m.axis);
    check(apply_to("concatenate", operands, 2, &attr, 1, EMLX_TYPE_DEFAULT), from_concatenate, &m,
          "concatenate");
    emlx_tensor_release(operands[0]);
    emlx_tensor_release(operands[1]);
    emlx_tensor_release(zero);
    free(values);
    free(other);
}

static void turn(emlx_type type) {
    emlx_shape s = random_shape(1);
    emlx_tensor *t = random_tensor(type, &s, 0, 99);
    double *values = values_of(t);
    moved m = {.shape = &s, .values = values};
    int32_t shift = (int32_t)draw((uint32_t)s.rank);
    for (int32_t d = 0; d < s.rank; d++) m.list[d] = (d + shift) % s.rank;
    emlx_attr axes = with_ints("axes", m.list, (size_t)s.rank);
    emlx_tensor *turned = apply_to("transpose", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    // A second turn makes a view of a view, a reshape between them one that must be copied.
    check(emlx_tensor_retain(turned), from_transpose, &m, "transpose");
    int64_t flat = emlx_shape_count(&s);
    emlx_attr shape = with_ints("shape", &flat, 1);
    emlx_tensor *line = apply_to("reshape", &turned, 1, &shape, 1, EMLX_TYPE_DEFAULT);
    double *a = values_of(turned), *b = values_of(line);
    assert_memory_equal(a, b, (size_t)flat * sizeof *a);
    for (int32_t d = 0; d < s.rank; d++) {
        m.list[d] = s.dims[d] - 1;
        m.steps[d] = -1;
    }
    int64_t all[EMLX_MAX_RANK];
    for (int32_t d = 0; d < s.rank; d++) all[d] = d;
    axes = with_ints("axes", all, (size_t)s.rank);
    check(apply_to("reverse", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT), from_slice, &m, "reverse");
    emlx_tensor_release(t);
    emlx_tensor_release(turned);
    emlx_tensor_release(line);
    free(a);
    free(b);
    free(values);
}

// A transpose that is large enough to be walked in blocks, beside operands that are not transposed
// and an iota; and stored as a part of something larger.
static double from_turned_sum(const void *context, const int64_t *index) {
    const moved *m = context;
    double wanted = from_transpose(context, index) + m->other[ravel(m->other_shape, index)];
    return fmod(wanted + (double)index[m->axis], m->fill); // as the type wraps
}

static void turn_in_blocks(emlx_type type, const emlx_shape *s, const int64_t *axes) {
    moved m = {.shape = s, .axis = s->rank - 1, .fill = type == EMLX_U8 ? 256 : 1e9};
    emlx_shape turned = *s;
    for (int32_t d = 0; d < s->rank; d++) turned.dims[d] = s->dims[m.list[d] = axes[d]];
    emlx_tensor *t = random_tensor(type, s, 0, 9), *other = random_tensor(type, &turned, 0, 9);
    double *values = values_of(t), *others = values_of(other);
    m.values = values;
    m.other = others;
    m.other_shape = &turned;
    emlx_attr attr = with_ints("axes", axes, (size_t)s->rank);
    emlx_attr count[2] = {with_ints("shape", turned.dims, (size_t)s->rank),
                          with_int("axis", m.axis)};
    emlx_tensor *by = apply_to("transpose", &t, 1, &attr, 1, EMLX_TYPE_DEFAULT), *up, *sum;
    emlx_error err;
    assert_ok(emlx_apply(emlx_op_find("iota"), test_device, NULL, 0, count, 2, type, &up, &err),
              err);
    sum = apply_to("add", (emlx_tensor *[]){by, other}, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    check(apply_to("add", (emlx_tensor *[]){sum, up}, 2, NULL, 0, EMLX_TYPE_DEFAULT),
          from_turned_sum, &m, "sum of a transpose");
    emlx_attr axis = with_int("axis", 0);
    emlx_tensor *both = apply_to("concatenate", (emlx_tensor *[]){other, by}, 2, &axis, 1, type);
    double *got = values_of(both);
    int64_t index[EMLX_MAX_RANK], n = emlx_shape_count(&turned);
    for (int64_t i = 0; i < n; i++) {
        unravel(&turned, i, index);
        assert_true(got[i] == others[i] && got[n + i] == from_transpose(&m, index));
    }
    emlx_tensor *all[] = {t, other, by, up, sum, both};
    for (int i = 0; i < 6; i++) emlx_tensor_release(all[i]);
    free(values);
    free(others);
    free(got);
}

static void every_block(void **state) {
    (void)state;
    static const struct {
        emlx_shape shape;
        int64_t axes[4];
    } cases[] = {
        {{2, {70, 45}}, {1, 0}},
        {{2, {32, 32}}, {1, 0}},
        {{2, {3, 400}}, {1, 0}},
        {{2, {400, 3}}, {1, 0}},
        {{2, {1031, 2}}, {1, 0}},
        {{3, {3, 70, 45}}, {0, 2, 1}},
        {{3, {33, 2, 65}}, {2, 1, 0}},
        {{3, {5, 64, 33}}, {1, 2, 0}},
        {{3, {5, 64, 33}}, {2, 0, 1}},
        {{4, {2, 17, 3, 31}}, {3, 2, 1, 0}},
        {{4, {2, 17, 3, 31}}, {0, 3, 1, 2}},
    };
    static const emlx_type types[] = {EMLX_U8, EMLX_S16, EMLX_F32, EMLX_F64};
    draw_seed(11);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            turn_in_blocks(types[t], &cases[c].shape, cases[c].axes);
}

static void every_move(void **unused) {
    (void)unused;
    draw_seed(7);
    for (int round = 0; round < ROUNDS; round++)
        for (size_t t = 0; t < TYPES; t++) {
            pad_and_slice(types[t]);
            put_and_join(types[t]);
            turn(types[t]);
        }
}

// Order and indices ----------------------------------------------------------------------------

typedef struct keyed {
    double value;
    int64_t position;
} keyed;

static bool comes_after(double a, double b, bool descending) {
    if (isnan(a) || isnan(b)) return descending ? isnan(b) && !isnan(a) : isnan(a) && !isnan(b);
    return descending ? a < b : a > b;
}

static void check_sort(emlx_type type, int64_t length, int64_t inner, bool descending) {
    emlx_shape s = {3, {2, length, inner}};
    int64_t count = emlx_shape_count(&s);
    emlx_tensor *t = random_tensor(type, &s, type < EMLX_S2 ? 0 : -20, 20);
    if (type == EMLX_F32) {
        double *v = values_of(t);
        for (int64_t i = 0; i < count; i += 5) v[i] = i % 2 ? NAN : i % 3 ? -INFINITY : -0.0;
        emlx_tensor_release(t);
        t = tensor_of(type, &s, v);
        free(v);
    }
    emlx_attr attrs[2] = {with_int("axis", 1), with_text("direction", descending ? "desc" : "asc")};
    emlx_tensor *sorted = apply_to("sort", &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_tensor *order = apply_to("argsort", &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    double *in = values_of(t), *values = values_of(sorted), *positions = values_of(order);
    keyed *line = malloc((size_t)length * sizeof *line);
    for (int64_t l = 0; l < 2 * inner; l++) {
        int64_t start = l / inner * length * inner + l % inner;
        // A plain stable insertion sort.
        for (int64_t i = 0; i < length; i++) {
            keyed item = {in[start + i * inner], i};
            int64_t j = i;
            for (; j > 0 && comes_after(line[j - 1].value, item.value, descending); j--)
                line[j] = line[j - 1];
            line[j] = item;
        }
        for (int64_t i = 0; i < length; i++) {
            int64_t at = start + i * inner;
            bool same = values[at] == line[i].value || (isnan(values[at]) && isnan(line[i].value));
            if (!same || positions[at] != (double)line[i].position)
                fail_msg("sort of %s, length %lld: %g at %g, not %g at %lld", emlx_type_name(type),
                         (long long)length, values[at], positions[at], line[i].value,
                         (long long)line[i].position);
        }
    }
    free(line);
    free(in);
    free(values);
    free(positions);
    emlx_tensor_release(t);
    emlx_tensor_release(sorted);
    emlx_tensor_release(order);
}

static void every_sort(void **unused) {
    (void)unused;
    static const emlx_type sorted[] = {EMLX_U8, EMLX_S8, EMLX_S32, EMLX_U64, EMLX_F32, EMLX_F64};
    static const int64_t lengths[] = {1, 2, 7, 48, 49, 300, 1500};
    draw_seed(9);
    for (size_t t = 0; t < sizeof sorted / sizeof *sorted; t++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
            for (int mode = 0; mode < 4; mode++)
                check_sort(sorted[t], lengths[l], mode & 1 ? 3 : 1, mode & 2);
}

// The greatest of a line are the first ones when all of it is sorted downwards.
static void check_top_k(emlx_type type, int64_t length, int64_t k) {
    emlx_shape s = {2, {3, length}};
    emlx_tensor *t = random_tensor(type, &s, 0, length < 100 ? 3 : 100), *out[EMLX_MAX_RESULTS];
    emlx_attr sorting[2] = {with_int("axis", 1), with_text("direction", "desc")};
    emlx_attr attr = with_int("k", k);
    emlx_error err;
    emlx_tensor *sorted = apply_to("sort", &t, 1, sorting, 2, EMLX_TYPE_DEFAULT);
    emlx_tensor *order = apply_to("argsort", &t, 1, sorting, 2, EMLX_TYPE_DEFAULT);
    assert_ok(emlx_apply(emlx_op_find("top_k"), test_device, &t, 1, &attr, 1, EMLX_TYPE_DEFAULT,
                         out, &err),
              err);
    assert_int_equal(emlx_tensor_type(out[0]), type);
    assert_int_equal(emlx_tensor_type(out[1]), EMLX_S32);
    double *values = values_of(sorted), *places = values_of(order);
    double *top = values_of(out[0]), *found = values_of(out[1]);
    for (int64_t i = 0; i < 3 * k; i++) {
        int64_t at = i / k * length + i % k;
        if (top[i] != values[at] || found[i] != places[at])
            fail_msg("top %lld of %lld %s: %g at %g, not %g at %g", (long long)k, (long long)length,
                     emlx_type_name(type), top[i], found[i], values[at], places[at]);
    }
    double *all[] = {values, places, top, found};
    emlx_tensor *tensors[] = {t, sorted, order, out[0], out[1]};
    for (int i = 0; i < 4; i++) free(all[i]);
    for (int i = 0; i < 5; i++) emlx_tensor_release(tensors[i]);
}

static void every_top_k(void **unused) {
    (void)unused;
    static const emlx_type types[] = {EMLX_U8,   EMLX_S16, EMLX_S32, EMLX_U64,
                                      EMLX_BF16, EMLX_F32, EMLX_F64};
    static const int64_t lengths[] = {1, 2, 7, 300, 1500, 9000, 140000};
    draw_seed(10);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
            for (int64_t k = 1; k <= lengths[l]; k = k * 5 + 1)
                check_top_k(types[t], lengths[l], k);
}

static void bad_top_k(void **unused) {
    (void)unused;
    emlx_shape s = {2, {3, 4}}, scalar = {0};
    emlx_tensor *t = random_tensor(EMLX_F32, &s, 0, 3),
                *one = random_tensor(EMLX_F32, &scalar, 0, 3);
    emlx_tensor *out[EMLX_MAX_RESULTS];
    const int64_t counts[] = {5, 0, -1};
    emlx_error err;
    for (int i = 0; i < 4; i++) {
        emlx_attr attr = with_int("k", i < 3 ? counts[i] : 1);
        assert_error(emlx_apply(emlx_op_find("top_k"), test_device, i < 3 ? &t : &one, 1, &attr, 1,
                                EMLX_TYPE_DEFAULT, out, &err),
                     EMLX_INVALID, err, "elements along the last axis of");
    }
    emlx_tensor_release(t);
    emlx_tensor_release(one);
}

// target {4, 5, 6}, indexed on two of its axes.
static void check_indexing(const int64_t axes[2], bool add) {
    emlx_shape s = {3, {4, 5, 6}}, is = {2, {30, 2}}, us = {2, {30, 0}};
    int64_t other = 3 - axes[0] - axes[1];
    us.dims[1] = s.dims[other];
    double indices[60];
    for (int i = 0; i < 60; i++) indices[i] = draw((uint32_t)s.dims[axes[i % 2]]);
    emlx_tensor *in[3] = {random_tensor(EMLX_F32, &s, 0, 9), tensor_of(EMLX_S32, &is, indices),
                          random_tensor(EMLX_F32, &us, 10, 99)};
    emlx_attr attr = with_ints("axes", axes, 2);
    emlx_tensor *gathered = apply_to("gather", in, 2, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *scattered =
        apply_to(add ? "indexed_add" : "indexed_put", in, 3, &attr, 1, EMLX_TYPE_DEFAULT);
    double *target = values_of(in[0]), *updates = values_of(in[2]);
    double *picked = values_of(gathered), *result = values_of(scattered);
    double *source = values_of(in[0]);
    for (int i = 0; i < 30; i++)
        for (int64_t k = 0; k < us.dims[1]; k++) {
            int64_t at[3];
            at[axes[0]] = (int64_t)indices[2 * i];
            at[axes[1]] = (int64_t)indices[2 * i + 1];
            at[other] = k;
            assert_true(picked[i * us.dims[1] + k] == source[ravel(&s, at)]);
            double update = updates[i * us.dims[1] + k];
            target[ravel(&s, at)] = add ? target[ravel(&s, at)] + update : update;
        }
    assert_memory_equal(target, result, 120 * sizeof *target);
    free(target);
    free(updates);
    free(picked);
    free(result);
    free(source);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(gathered);
    emlx_tensor_release(scattered);
}

static void every_indexing(void **unused) {
    (void)unused;
    static const int64_t axes[3][2] = {{0, 1}, {0, 2}, {1, 2}};
    draw_seed(11);
    for (int a = 0; a < 3; a++)
        for (int add = 0; add < 2; add++) check_indexing(axes[a], add);
}

static void bad_indices(void **unused) {
    (void)unused;
    emlx_shape s = {2, {2, 3}}, is = {2, {1, 1}};
    double five = 5, zero = 0;
    int64_t axis = 1;
    emlx_error err;
    emlx_tensor *in[2] = {random_tensor(EMLX_F32, &s, 0, 9), tensor_of(EMLX_S64, &is, &five)}, *out;
    emlx_attr attr = with_ints("axes", &axis, 1);
    const char *text = "index 5 is out of bounds for axis 0 in shape {3, 2}";
    assert_error(emlx_apply(emlx_op_find("gather"), test_device, in, 2, &attr, 1, EMLX_TYPE_DEFAULT,
                            &out, &err),
                 EMLX_OUT_OF_BOUNDS, err, text);
    emlx_tensor *none = tensor_of(EMLX_S64, &is, &zero), *both[2] = {in[1], none};
    emlx_tensor *pending = apply_to("add", both, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    both[0] = in[0];
    both[1] = pending;
    out = apply_to("gather", both, 2, &attr, 1, EMLX_TYPE_DEFAULT);
    assert_error(emlx_eval(&out, 1, &err), EMLX_OUT_OF_BOUNDS, err, text);
    emlx_tensor *all[] = {in[0], in[1], none, pending, out};
    for (int i = 0; i < 5; i++) emlx_tensor_release(all[i]);
}

// Element (lead, index, trail) of the result is element (lead, indices[index], trail) of the
// operand.
static void every_take(void **unused) {
    (void)unused;
    static const emlx_shape lists[] = {{0, {0}}, {1, {4}}, {1, {1}}, {2, {3, 5}}};
    emlx_shape s = {3, {4, 3, 5}};
    draw_seed(12);
    for (int64_t axis = 0; axis < 3; axis++)
        for (int i = 0; i < 4; i++) {
            int64_t count = emlx_shape_count(&lists[i]), trail = 1, at = 0;
            for (int32_t d = (int32_t)axis + 1; d < 3; d++) trail *= s.dims[d];
            emlx_tensor *in[2] = {
                random_tensor(EMLX_F32, &s, 0, 99),
                random_tensor(i % 2 ? EMLX_U8 : EMLX_S64, &lists[i], 0, (int)s.dims[axis] - 1)};
            emlx_attr attr = with_int("axis", axis);
            emlx_tensor *out = apply_to("take", in, 2, &attr, 1, EMLX_TYPE_DEFAULT);
            assert_int_equal(emlx_tensor_shape(out)->rank, 2 + lists[i].rank);
            double *source = values_of(in[0]), *indices = values_of(in[1]), *got = values_of(out);
            for (int64_t lead = 0; lead < 60 / s.dims[axis] / trail; lead++)
                for (int64_t k = 0; k < count; k++)
                    for (int64_t t = 0; t < trail; t++) {
                        int64_t from = lead * s.dims[axis] + (int64_t)indices[k];
                        assert_true(got[at++] == source[from * trail + t]);
                    }
            assert_int_equal(at, emlx_shape_count(emlx_tensor_shape(out)));
            emlx_error err;
            emlx_tensor *none;
            attr = with_int("axis", (axis + 1) % 3);
            emlx_tensor *many = tensor_of(EMLX_S64, &(emlx_shape){0}, &(double){7});
            emlx_tensor *bad[2] = {in[0], many};
            assert_int_equal(emlx_apply(emlx_op_find("take"), test_device, bad, 2, &attr, 1,
                                        EMLX_TYPE_DEFAULT, &none, &err),
                             EMLX_OUT_OF_BOUNDS);
            emlx_tensor *all[] = {in[0], in[1], out, many};
            for (int t = 0; t < 4; t++) emlx_tensor_release(all[t]);
            free(source);
            free(indices);
            free(got);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_move),  cmocka_unit_test(every_block),
        cmocka_unit_test(every_sort),  cmocka_unit_test(every_indexing),
        cmocka_unit_test(bad_indices), cmocka_unit_test(every_take),
        cmocka_unit_test(every_top_k), cmocka_unit_test(bad_top_k),
    };
    return RUN_ON_CPU("ops/movement", tests);
}
