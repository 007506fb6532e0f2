// SPDX-License-Identifier: Apache-2.0
// fused_test.c - functions of several steps against plain loops in double: softmax, norms, gates.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

static const emlx_type types[] = {EMLX_F64, EMLX_F32, EMLX_F16, EMLX_BF16};
static const double slack[] = {1e-13, 4e-7, 1e-3, 8e-3}; // of the larger of 1 and the result

static const emlx_shape shapes[] = {{1, {1}},    {1, {37}},       {2, {3, 8}},
                                    {2, {5, 1}}, {3, {2, 3, 65}}, {4, {2, 1, 3, 16}}};

enum { TYPES = 4, SHAPES = sizeof shapes / sizeof *shapes };

typedef struct sums {
    double most, exps, mean, squares, variance;
} sums;

// Over `length` numbers, `step` apart.
static sums sums_of(const double *x, int64_t length, int64_t step) {
    sums s = {.most = -INFINITY};
    for (int64_t i = 0; i < length; i++) {
        s.most = fmax(s.most, x[i * step]);
        s.mean += x[i * step] / (double)length;
        s.squares += x[i * step] * x[i * step] / (double)length;
    }
    for (int64_t i = 0; i < length; i++) {
        double d = x[i * step] - s.mean;
        s.exps += exp(x[i * step] - s.most);
        s.variance += d * d / (double)length;
    }
    return s;
}

static void compare(emlx_tensor *t, const double *wanted, int type) {
    double *got = values_of(t);
    assert_int_equal(emlx_tensor_type(t), types[type]);
    for (int64_t i = 0; i < emlx_shape_count(emlx_tensor_shape(t)); i++) {
        double distance = fabs(got[i] - wanted[i]);
        if (distance <= slack[type] * fmax(1, fabs(wanted[i]))) continue;
        fail_msg("type %d, element %lld: %.10g, %.10g expected", type, (long long)i, got[i],
                 wanted[i]);
    }
    free(got);
    emlx_tensor_release(t);
}

static emlx_attr number(const char *name, double value) {
    return (emlx_attr){
        .name = name, .kind = EMLX_ATTR_NUMBER, .value = {EMLX_NUMBER_REAL, {.f = {value, 0}}}};
}

// Around one axis: how many lines there are before it, and how far apart its elements are.
static void around(const emlx_shape *shape, int axis, int64_t *before, int64_t *step) {
    *before = *step = 1;
    for (int d = 0; d < axis; d++) *before *= shape->dims[d];
    for (int d = axis + 1; d < shape->rank; d++) *step *= shape->dims[d];
}

static void softmax_of(int type, const emlx_shape *shape, int axis) {
    int64_t before, step, length = shape->dims[axis], list = axis;
    emlx_attr axes = with_ints("axes", &list, 1);
    emlx_tensor *x = random_tensor(types[type], shape, -6, 6);
    double *in = values_of(x), *soft = calloc((size_t)emlx_shape_count(shape), sizeof *soft);
    double *logs = calloc((size_t)emlx_shape_count(shape), sizeof *logs);
    around(shape, axis, &before, &step);
    for (int64_t line = 0; line < before * step; line++) {
        int64_t at = line / step * length * step + line % step;
        sums s = sums_of(in + at, length, step);
        logs[line] = s.most + log(s.exps);
        for (int64_t i = 0; i < length; i++)
            soft[at + i * step] = exp(in[at + i * step] - s.most) / s.exps;
    }
    bool last = axis == shape->rank - 1;
    compare(apply_to("softmax", &x, 1, &axes, !last, EMLX_TYPE_DEFAULT), soft, type);
    compare(apply_to("logsumexp", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT), logs, type);
    free(in);
    free(soft);
    free(logs);
    emlx_tensor_release(x);
}

static void softmax_and_logsumexp(void **unused) {
    (void)unused;
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SHAPES; s++)
            for (int axis = 0; axis < shapes[s].rank; axis++) softmax_of(t, &shapes[s], axis);
}

static void infinities_stay_what_they_are(void **unused) {
    (void)unused;
    const emlx_shape shape = {2, {3, 2}};
    const double values[] = {-INFINITY, 1, INFINITY, 1, -INFINITY, -INFINITY};
    emlx_tensor *x = tensor_of(EMLX_F32, &shape, values);
    const int64_t last = 1;
    emlx_attr axes = with_ints("axes", &last, 1);
    emlx_tensor *soft = apply_to("softmax", &x, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *logs = apply_to("logsumexp", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    double *s = values_of(soft), *l = values_of(logs);
    assert_true(s[0] == 0 && s[1] == 1 && isnan(s[2]) && isnan(s[3]) && isnan(s[4]));
    assert_true(l[0] == 1 && l[1] == INFINITY && l[2] == -INFINITY);
    free(s);
    free(l);
    emlx_tensor_release(soft);
    emlx_tensor_release(logs);
    emlx_tensor_release(x);
}

static void norms_of(int type, const emlx_shape *shape) {
    int64_t length = shape->dims[shape->rank - 1], count = emlx_shape_count(shape);
    const emlx_shape row = {1, {length}};
    emlx_tensor *in[3] = {random_tensor(types[type], shape, -4, 4),
                          random_tensor(types[type], &row, -2, 2),
                          random_tensor(types[type], &row, -2, 2)};
    double *x = values_of(in[0]), *w = values_of(in[1]), *b = values_of(in[2]);
    double *wanted[3];
    for (int k = 0; k < 3; k++) wanted[k] = calloc((size_t)count, sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        sums s = sums_of(x + i / length * length, length, 1);
        wanted[0][i] = x[i] / sqrt(s.squares + 0.01) * w[i % length];
        wanted[1][i] = (x[i] - s.mean) / sqrt(s.variance + 0.01) * w[i % length];
        wanted[2][i] = wanted[1][i] + b[i % length];
    }
    emlx_attr eps = number("eps", 0.01);
    compare(apply_to("rms_norm", in, 2, &eps, 1, EMLX_TYPE_DEFAULT), wanted[0], type);
    compare(apply_to("layer_norm", in, 2, &eps, 1, EMLX_TYPE_DEFAULT), wanted[1], type);
    compare(apply_to("layer_norm", in, 3, &eps, 1, EMLX_TYPE_DEFAULT), wanted[2], type);
    for (int k = 0; k < 3; k++) {
        free(wanted[k]);
        emlx_tensor_release(in[k]);
    }
    free(x);
    free(w);
    free(b);
}

static void norms(void **unused) {
    (void)unused;
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SHAPES; s++) norms_of(t, &shapes[s]);
}

static void gates(void **unused) {
    (void)unused;
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SHAPES; s++) {
            int64_t count = emlx_shape_count(&shapes[s]);
            emlx_tensor *in[2] = {random_tensor(types[t], &shapes[s], -5, 5),
                                  random_tensor(types[t], &shapes[s], -3, 3)};
            double *gate = values_of(in[0]), *up = values_of(in[1]);
            for (int64_t i = 0; i < count; i++) gate[i] *= up[i] / (1 + exp(-gate[i]));
            compare(apply_to("swiglu", in, 2, NULL, 0, EMLX_TYPE_DEFAULT), gate, t);
            free(gate);
            free(up);
            emlx_tensor_release(in[0]);
            emlx_tensor_release(in[1]);
        }
}

static void what_does_not_fit_is_said(void **unused) {
    (void)unused;
    emlx_error err;
    emlx_tensor *out;
    const emlx_shape matrix = {2, {2, 3}}, row = {1, {2}}, none = {2, {2, 0}};
    emlx_tensor *in[2] = {random_tensor(EMLX_F32, &matrix, 0, 3),
                          random_tensor(EMLX_F32, &row, 0, 3)};
    emlx_tensor *c = random_tensor(EMLX_C64, &row, 0, 3), *empty = tensor_of(EMLX_F32, &none, NULL);
    emlx_attr eps = number("eps", 0.01);
    const int64_t far = 2;
    emlx_attr axes = with_ints("axes", &far, 1);
#define REFUSED(op, in, count, attrs, attr_count, text)                                            \
    assert_error(emlx_apply(emlx_op_find(op), NULL, in, count, attrs, attr_count,                  \
                            EMLX_TYPE_DEFAULT, &out, &err),                                        \
                 EMLX_INVALID, err, text)
    REFUSED("rms_norm", in, 2, &eps, 1, "rms_norm: operand 1 has shape {2}");
    REFUSED("rms_norm", in, 2, NULL, 0, "attribute eps is missing");
    REFUSED("swiglu", in, 2, NULL, 0, "{2, 3} and {2} are not the same");
    REFUSED("softmax", &c, 1, NULL, 0, "operands must be real");
    REFUSED("softmax", in, 1, &axes, 1, "axis 2 is outside of rank 2");
    REFUSED("logsumexp", &empty, 1, NULL, 0, "no element to choose from");
    out = apply_to("softmax", &empty, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    assert_int_equal(emlx_tensor_bytes(out), 0);
    emlx_tensor_release(out);
    emlx_tensor_release(empty);
    emlx_tensor_release(c);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_and_logsumexp),
        cmocka_unit_test(infinities_stay_what_they_are),
        cmocka_unit_test(norms),
        cmocka_unit_test(gates),
        cmocka_unit_test(what_does_not_fit_is_said),
    };
    return RUN_ON_CPU("ops/fused", tests);
}
