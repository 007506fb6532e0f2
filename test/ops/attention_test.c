// SPDX-License-Identifier: Apache-2.0
// attention_test.c - attention against plain loops in double: masks of all kinds, groups, sinks,
// offsets, views as operands; few rows and many, around the blocks that they are worked on in.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tensors.h"

enum { OFFSET = 1, TRUTH = 2, ADDED = 4, KEYS = 8, SINKS = 16, CAUSAL = 32, KINDS = 64 };

typedef struct sizes {
    int64_t batch, heads, groups, queries, keys, size, width;
} sizes;

// The operands behind the first three as tensors, and their numbers.
typedef struct given {
    emlx_tensor *in[7];
    size_t count;
    double *q, *k, *v, *offset, *mask, *seen, *sinks;
    emlx_attr attrs[8];
    size_t attr_count;
} given;

static double *take(given *g, emlx_tensor *t, const char *attr) {
    g->in[g->count++] = t;
    if (attr != NULL) g->attrs[g->attr_count++] = with_bool(attr, true);
    return values_of(t);
}

static emlx_tensor *truths(const emlx_shape *shape, emlx_type type) {
    int64_t count = emlx_shape_count(shape);
    double *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = draw(4) > 0 ? 256 : 0;
    for (int64_t i = 0; i < count && type == EMLX_U8; i++) values[i] = values[i] > 0;
    emlx_tensor *t = tensor_of(type, shape, values);
    free(values);
    return t;
}

static void give(given *g, emlx_type type, const sizes *s, int kind) {
    const emlx_shape q = {4, {s->batch, s->heads, s->queries, s->size}},
                     k = {4, {s->batch, s->groups, s->keys, s->size}},
                     v = {4, {s->batch, s->groups, s->keys, s->width}}, batch = {1, {s->batch}},
                     mask = {3, {s->heads, s->queries, s->keys}}, row = {2, {1, s->keys}},
                     keys = {2, {s->batch, s->keys}}, heads = {1, {s->heads}};
    *g = (given){.attr_count = 1};
    g->attrs[0] = (emlx_attr){.name = "scale", .kind = EMLX_ATTR_NUMBER};
    g->attrs[0].value = (emlx_number){EMLX_NUMBER_REAL, {.f = {0.5}}};
    g->q = take(g, random_tensor(type, &q, -2, 2), NULL);
    g->k = take(g, random_tensor(type, &k, -2, 2), NULL);
    g->v = take(g, random_tensor(type, &v, -3, 3), NULL);
    if (kind & CAUSAL) g->attrs[g->attr_count++] = with_bool("causal", true);
    if (kind & OFFSET) g->offset = take(g, random_tensor(EMLX_S32, &batch, -2, 40), "offset");
    if (kind & TRUTH) g->mask = take(g, truths(&mask, EMLX_U8), "mask");
    if (kind & ADDED) g->mask = take(g, random_tensor(EMLX_F32, &row, -3, 3), "mask");
    if (kind & KEYS) g->seen = take(g, truths(&keys, EMLX_S32), "key_mask");
    if (kind & SINKS) g->sinks = take(g, random_tensor(EMLX_F32, &heads, -2, 2), "sinks");
}

static void let_go(given *g) {
    double *all[] = {g->q, g->k, g->v, g->offset, g->mask, g->seen, g->sinks};
    for (int i = 0; i < 7; i++) free(all[i]);
    for (size_t i = 0; i < g->count; i++) emlx_tensor_release(g->in[i]);
}

static double score(const given *g, const sizes *s, int kind, int64_t b, int64_t h, int64_t i,
                    int64_t j) {
    const double *q = g->q + ((b * s->heads + h) * s->queries + i) * s->size;
    int64_t group = h / (s->heads / s->groups);
    const double *k = g->k + ((b * s->groups + group) * s->keys + j) * s->size;
    double sum = 0;
    for (int64_t e = 0; e < s->size; e++) sum += q[e] * k[e];
    sum *= 0.5;
    if (kind & CAUSAL && j > s->keys - s->queries + i) sum = -FLT_MAX;
    if (kind & OFFSET && (double)(j - i) > g->offset[b]) sum = -FLT_MAX;
    if (kind & TRUTH && g->mask[(h * s->queries + i) * s->keys + j] == 0) sum = -FLT_MAX;
    if (kind & ADDED) sum += g->mask[j];
    if (kind & KEYS && g->seen[b * s->keys + j] == 0) sum = -FLT_MAX;
    return sum;
}

// The result for one query; `weights` has room for one a key.
static void attend(const given *g, const sizes *s, int kind, int64_t b, int64_t h, int64_t i,
                   double *weights, double *out) {
    int64_t group = h / (s->heads / s->groups);
    double most = kind & SINKS ? g->sinks[h] : -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->keys; j++) weights[j] = score(g, s, kind, b, h, i, j);
    for (int64_t j = 0; j < s->keys; j++) most = fmax(most, weights[j]);
    for (int64_t j = 0; j < s->keys; j++) sum += weights[j] = exp(weights[j] - most);
    if (kind & SINKS) sum += exp(g->sinks[h] - most);
    for (int64_t w = 0; w < s->width; w++) {
        out[w] = 0;
        for (int64_t j = 0; j < s->keys; j++)
            out[w] +=
                weights[j] / sum * g->v[((b * s->groups + group) * s->keys + j) * s->width + w];
    }
}

static void compare(const double *got, const double *wanted, int64_t n, emlx_type type,
                    const char *what) {
    double slack = type == EMLX_F32 ? 4e-6 : type == EMLX_F16 ? 2e-3 : 1.6e-2;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - wanted[i]) <= slack * fmax(1, fabs(wanted[i]))))
            fail_msg("%s, %s, element %lld: %g, %g expected", emlx_type_name(type), what,
                     (long long)i, got[i], wanted[i]);
}

static void check(emlx_type type, const sizes *s, int kind) {
    given g;
    char what[128];
    give(&g, type, s, kind);
    snprintf(what, sizeof what, "kind %d, %lld queries, %lld keys, size %lld", kind,
             (long long)s->queries, (long long)s->keys, (long long)s->size);
    emlx_tensor *t = apply_to("attention", g.in, g.count, g.attrs, g.attr_count, EMLX_TYPE_DEFAULT);
    double *got = values_of(t), *weights = calloc((size_t)s->keys, sizeof *weights);
    double *wanted = calloc((size_t)s->width, sizeof *wanted);
    for (int64_t row = 0; row < s->batch * s->heads * s->queries; row++) {
        int64_t i = row % s->queries, h = row / s->queries % s->heads;
        attend(&g, s, kind, row / s->queries / s->heads, h, i, weights, wanted);
        compare(got + row * s->width, wanted, s->width, type, what);
    }
    free(got);
    free(wanted);
    free(weights);
    emlx_tensor_release(t);
    let_go(&g);
}

static void every_kind_of_mask(void **unused) {
    (void)unused;
    static const sizes few = {2, 4, 2, 2, 33, 8, 8}, many = {2, 3, 1, 19, 41, 8, 5};
    draw_seed(1);
    for (int kind = 0; kind < KINDS; kind++) {
        if ((kind & TRUTH) && (kind & ADDED)) continue;
        check(EMLX_F32, &few, kind);
        check(EMLX_F32, &many, kind);
    }
}

static void around_blocks(void **unused) {
    (void)unused;
    static const emlx_type types[] = {EMLX_F32, EMLX_F16, EMLX_BF16};
    static const sizes all[] = {
        {1, 1, 1, 1, 1, 1, 1},      {1, 2, 1, 1, 95, 7, 33},    {1, 1, 1, 1, 96, 64, 64},
        {1, 2, 2, 4, 97, 31, 32},   {1, 1, 1, 1, 961, 16, 16},  {1, 8, 1, 1, 1921, 4, 4},
        {1, 1, 1, 9, 95, 64, 64},   {1, 2, 1, 48, 96, 33, 65},  {1, 2, 1, 33, 191, 33, 65},
        {1, 1, 1, 12, 192, 64, 64}, {1, 1, 1, 97, 97, 32, 1},   {1, 4, 2, 97, 193, 16, 24},
        {2, 1, 1, 12, 200, 1, 40},  {1, 1, 1, 12, 384, 33, 64}, {1, 2, 1, 33, 383, 16, 24},
        {1, 4, 2, 97, 385, 16, 24}, {1, 1, 1, 20, 800, 8, 33}};
    draw_seed(2);
    for (int t = 0; t < 3; t++)
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            check(types[t], &all[i], 0);
            check(types[t], &all[i], CAUSAL | SINKS);
            check(types[t], &all[i], CAUSAL | KEYS);
        }
}

// {batch, length, heads, size} as {batch, heads, length, size}: read where they are.
static void operands_may_be_views(void **unused) {
    (void)unused;
    static const emlx_shape inner = {4, {2, 40, 3, 8}};
    const int64_t order[] = {0, 2, 1, 3};
    emlx_attr axes = with_ints("axes", order, 4), scale = {.name = "scale"};
    scale.kind = EMLX_ATTR_NUMBER;
    scale.value = (emlx_number){EMLX_NUMBER_REAL, {.f = {0.5}}};
    for (int views = 0; views < 2; views++) {
        emlx_error err;
        draw_seed(3);
        emlx_tensor *in[3], *out[2];
        for (int i = 0; i < 3; i++) {
            emlx_tensor *t = random_tensor(EMLX_F32, &inner, -2, 2);
            in[i] = apply_to("transpose", &t, 1, &axes, 1, EMLX_TYPE_DEFAULT);
            emlx_tensor_release(t);
        }
        out[0] = apply_to("attention", in, 3, &scale, 1, EMLX_TYPE_DEFAULT);
        // The same of dense ones.
        for (int i = 0; i < 3; i++) assert_ok(emlx_eval(&in[i], 1, &err), err);
        out[1] = apply_to("attention", in, 3, &scale, 1, EMLX_TYPE_DEFAULT);
        double *a = values_of(out[0]), *b = values_of(out[1]);
        for (int64_t i = 0; i < emlx_shape_count(&inner); i++) assert_true(a[i] == b[i]);
        free(a);
        free(b);
        for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
        for (int i = 0; i < 2; i++) emlx_tensor_release(out[i]);
    }
}

// Values that dot instructions of bf16 take for 0, or that twice a number would not be.
static void values_below_and_above_all_others(void **unused) {
    (void)unused;
    static const double odd[] = {INFINITY, -INFINITY, 0x1p-130};
    static const emlx_shape q = {4, {1, 1, 40, 8}}, k = {4, {1, 1, 3, 8}}, v = {4, {1, 1, 3, 1}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        const double values[] = {odd[i], odd[i], odd[i]};
        emlx_tensor *in[3] = {random_tensor(EMLX_BF16, &q, -2, 2),
                              random_tensor(EMLX_BF16, &k, -2, 2),
                              tensor_of(EMLX_BF16, &v, values)};
        emlx_attr scale = {.name = "scale", .kind = EMLX_ATTR_NUMBER};
        scale.value = (emlx_number){EMLX_NUMBER_REAL, {.f = {0.5}}};
        emlx_tensor *out = apply_to("attention", in, 3, &scale, 1, EMLX_TYPE_DEFAULT);
        double *got = values_of(out);
        for (int64_t row = 0; row < 40; row++) assert_true(got[row] == odd[i]);
        free(got);
        emlx_tensor_release(out);
        for (int t = 0; t < 3; t++) emlx_tensor_release(in[t]);
    }
}

// NaN goes where it is seen, and no further.
static void what_is_not_seen_does_not_matter(void **unused) {
    (void)unused;
    static const emlx_shape keys = {4, {1, 1, 3, 1}}, mask = {2, {1, 3}};
    for (int64_t queries = 1; queries < 20; queries += 18) {
        const emlx_shape q = {4, {1, 1, queries, 1}};
        const double nan[] = {1, 2, NAN}, values[] = {1, 1, 5}, seen[] = {1, 1, 0};
        emlx_tensor *in[4] = {random_tensor(EMLX_F32, &q, 1, 2), tensor_of(EMLX_F32, &keys, nan),
                              tensor_of(EMLX_F32, &keys, values), tensor_of(EMLX_U8, &mask, seen)};
        emlx_attr attrs[2] = {{.name = "scale", .kind = EMLX_ATTR_NUMBER},
                              with_bool("key_mask", true)};
        emlx_tensor *hidden = apply_to("attention", in, 4, attrs, 2, EMLX_TYPE_DEFAULT);
        emlx_tensor *shown = apply_to("attention", in, 3, attrs, 1, EMLX_TYPE_DEFAULT);
        double *a = values_of(hidden), *b = values_of(shown);
        for (int64_t i = 0; i < queries; i++) assert_true(fabs(a[i] - 1) < 1e-6 && isnan(b[i]));
        free(a);
        free(b);
        emlx_tensor_release(hidden);
        emlx_tensor_release(shown);
        for (int i = 0; i < 4; i++) emlx_tensor_release(in[i]);
    }
}

static void what_does_not_fit_is_said(void **unused) {
    (void)unused;
    emlx_error err;
    emlx_tensor *out;
    static const emlx_shape q = {4, {1, 4, 2, 8}}, k = {4, {1, 3, 5, 8}}, v = {4, {1, 2, 5, 8}},
                            none = {4, {1, 2, 0, 8}}, row = {2, {1, 4}};
    emlx_tensor *in[4] = {random_tensor(EMLX_F32, &q, 0, 3), random_tensor(EMLX_F32, &v, 0, 3),
                          random_tensor(EMLX_F32, &v, 0, 3), random_tensor(EMLX_U8, &row, 0, 2)};
    emlx_tensor *odd = random_tensor(EMLX_F32, &k, 0, 3), *empty = tensor_of(EMLX_F32, &none, NULL);
    emlx_attr attrs[2] = {{.name = "scale", .kind = EMLX_ATTR_NUMBER}, with_bool("key_mask", true)};
    emlx_tensor *uneven[3] = {in[0], odd, odd}, *nothing[3] = {in[0], empty, empty};
    const emlx_op *op = emlx_op_find("attention");
#define REFUSED(in, count, attr_count, text)                                                       \
    assert_error(                                                                                  \
        emlx_apply(op, NULL, in, count, attrs, attr_count, EMLX_TYPE_DEFAULT, &out, &err),         \
        EMLX_INVALID, err, text)
    REFUSED(uneven, 3, 1, "heads being a multiple of groups");
    REFUSED(nothing, 3, 1, "there is no key");
    REFUSED(in, 3, 2, "3 operands given, 4 expected by the attributes");
    REFUSED(in, 4, 2, "key_mask has shape {1, 4}, {batch, keys} expected");
    for (int i = 0; i < 4; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(odd);
    emlx_tensor_release(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_mask),
        cmocka_unit_test(around_blocks),
        cmocka_unit_test(operands_may_be_views),
        cmocka_unit_test(values_below_and_above_all_others),
        cmocka_unit_test(what_is_not_seen_does_not_matter),
        cmocka_unit_test(what_does_not_fit_is_said),
    };
    return RUN_ON_CPU("ops/attention", tests);
}
