// SPDX-License-Identifier: Apache-2.0
// cumulative_test.c - running folds against plain loops: every axis, both directions, shapes around
// the width of a block of lines and the size of a task.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/folds.h"

static const emlx_shape shapes[] = {
    {1, {1}},          {1, {9}},          {1, {70001}},      {2, {3, 5}},     {2, {1, 700}},
    {2, {5, 512}},     {2, {5, 513}},     {2, {30000, 3}},   {2, {3, 30000}}, {3, {4, 1, 6}},
    {3, {20, 70, 60}}, {3, {2, 3, 1100}}, {4, {2, 3, 4, 5}}, {2, {0, 3}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const char *const names[KINDS] = {"cumulative_sum", "cumulative_product", "cumulative_max",
                                         "cumulative_min"};

// Float products stay near 1, so that long ones neither vanish nor overflow.
static emlx_tensor *random_operand(int kind, emlx_type type, const emlx_shape *s, bool special) {
    static const double specials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0};
    int64_t count = emlx_shape_count(s);
    double *values = malloc(((size_t)count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        int whole = (int)draw(19) - (type < EMLX_S8 ? 0 : 9);
        if (type < EMLX_F8)
            values[i] = whole;
        else if (kind == PRODUCT)
            values[i] = (draw(2) ? 1 : -1) * (draw(2) ? 1.0625 : 0.9375);
        else
            values[i] = whole + draw(8) / 8.0;
        if (special && draw(50) == 0) values[i] = specials[draw(5)];
    }
    emlx_tensor *t = tensor_of(type, s, values);
    free(values);
    return t;
}

static void fold_lines(int kind, const emlx_shape *s, int axis, bool reverse, const double *in,
                       double *wanted, uint64_t *integers) {
    int64_t length = s->dims[axis], inner = 1, count = emlx_shape_count(s);
    static const double starts[KINDS] = {0, 1, -INFINITY, INFINITY};
    static const uint64_t integer_starts[KINDS] = {0, 1, (uint64_t)INT64_MIN, INT64_MAX};
    for (int32_t d = axis + 1; d < s->rank; d++) inner *= s->dims[d];
    for (int64_t line = 0; length > 0 && line < count / length; line++) {
        double acc = starts[kind];
        uint64_t integer = integer_starts[kind];
        for (int64_t i = 0; i < length; i++) {
            int64_t at = line / inner * length * inner + line % inner;
            at += (reverse ? length - 1 - i : i) * inner;
            wanted[at] = acc = fold_step(kind, acc, in[at]);
            integers[at] = integer =
                fold_step_integer(kind, integer, isfinite(in[at]) ? (int64_t)in[at] : 0);
        }
    }
}

// Other devices than the CPU put products of doubles together from pieces.
static bool same_number(emlx_type type, double got, double wanted) {
    if (got == wanted || (isnan(got) && isnan(wanted))) return true;
    bool pieces = type == EMLX_F64 && strcmp(emlx_device_name(test_device), "cpu") != 0;
    return pieces && fabs(got - wanted) <= 1e-14 * fabs(wanted);
}

static void check_running(int kind, emlx_type type, const emlx_shape *s, int axis, bool reverse,
                          bool special) {
    int64_t count = emlx_shape_count(s);
    emlx_tensor *t = random_operand(kind, type, s, special);
    emlx_attr attrs[2] = {with_int("axis", axis), with_bool("reverse", reverse)};
    emlx_tensor *out = apply_to(names[kind], &t, 1, attrs, reverse ? 2 : 1, EMLX_TYPE_DEFAULT);
    assert_int_equal(emlx_tensor_type(out), type);
    double *in = values_of(t), *wanted = calloc((size_t)count + 1, sizeof *wanted);
    uint64_t *integers = calloc((size_t)count + 1, sizeof *integers);
    fold_lines(kind, s, axis, reverse, in, wanted, integers);
    emlx_tensor *rounded = tensor_of(type < EMLX_F8 ? EMLX_F64 : type, s, wanted);
    double *floats = values_of(rounded), *got = values_of(out);
    char *data = bytes_of(out);
    size_t size = emlx_type_size(type);
    for (int64_t i = 0; i < count; i++) {
        bool same = type < EMLX_F8 ? memcmp(data + (size_t)i * size, &integers[i], size) == 0
                                   : same_number(type, got[i], floats[i]);
        if (!same)
            fail_msg("%s of %s, rank %d, axis %d, %s: element %lld is %.17g, not %.17g",
                     names[kind], emlx_type_name(type), s->rank, axis,
                     reverse ? "reverse" : "forward", (long long)i, got[i], floats[i]);
    }
    emlx_tensor *all[] = {t, out, rounded};
    for (int i = 0; i < 3; i++) emlx_tensor_release(all[i]);
    free(in);
    free(wanted);
    free(integers);
    free(floats);
    free(got);
    free(data);
}

static void every_running_fold(void **unused) {
    (void)unused;
    draw_seed(1);
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t s = 0; s < SHAPES; s++)
            for (int axis = 0; axis < shapes[s].rank; axis++)
                for (size_t t = 0; t < FOLD_TYPES; t++) {
                    if (emlx_shape_count(&shapes[s]) > 10000 && draw(3) > 0) continue;
                    check_running(kind, fold_types[t], &shapes[s], axis, draw(2), false);
                }
}

static void special_values(void **unused) {
    (void)unused;
    draw_seed(2);
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t s = 0; s < SHAPES; s++)
            for (int axis = 0; axis < shapes[s].rank; axis++) {
                check_running(kind, EMLX_F32, &shapes[s], axis, draw(2), true);
                check_running(kind, EMLX_F64, &shapes[s], axis, draw(2), true);
            }
}

// Rounding each element of an exact running sum, instead of summing rounded ones.
static void floats_are_rounded_once(void **unused) {
    (void)unused;
    const double in[] = {16777216, 1, 1, 1}, sums[] = {16777216, 16777216, 16777218, 16777220};
    emlx_shape s = {1, {4}};
    emlx_tensor *t = tensor_of(EMLX_F32, &s, in);
    emlx_attr axis = with_int("axis", 0);
    emlx_tensor *out = apply_to("cumulative_sum", &t, 1, &axis, 1, EMLX_TYPE_DEFAULT);
    double *got = values_of(out);
    for (int i = 0; i < 4; i++) assert_true(got[i] == sums[i]);
    free(got);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

// u4 wraps in its own width; another result type is that of the fold.
static void types_of_results(void **unused) {
    (void)unused;
    const double in[] = {9, 9, 9}, narrow[] = {9, 2, 11}, wide[] = {9, 18, 27};
    emlx_shape s = {1, {3}};
    emlx_tensor *bytes = tensor_of(EMLX_U8, &s, in), *t = as_type(bytes, EMLX_U4);
    emlx_attr axis = with_int("axis", 0);
    emlx_tensor *same = apply_to("cumulative_sum", &t, 1, &axis, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *wider = apply_to("cumulative_sum", &t, 1, &axis, 1, EMLX_F32);
    double *a = values_of(same), *b = values_of(wider);
    assert_int_equal(emlx_tensor_type(same), EMLX_U4);
    for (int i = 0; i < 3; i++) {
        assert_true(a[i] == narrow[i]);
        assert_true(b[i] == wide[i]);
    }
    emlx_tensor *all[] = {bytes, t, same, wider};
    for (int i = 0; i < 4; i++) emlx_tensor_release(all[i]);
    free(a);
    free(b);
}

static void axis_is_checked(void **unused) {
    (void)unused;
    emlx_tensor *t = random_tensor(EMLX_F32, &(emlx_shape){2, {2, 3}}, 0, 9), *out;
    emlx_error err;
    for (int axis = -1; axis <= 2; axis += 3) {
        emlx_attr attr = with_int("axis", axis);
        assert_int_equal(emlx_apply(emlx_op_find("cumulative_max"), test_device, &t, 1, &attr, 1,
                                    EMLX_TYPE_DEFAULT, &out, &err),
                         EMLX_INVALID);
        assert_non_null(strstr(err.message, "cumulative_max: axis"));
    }
    emlx_tensor_release(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_running_fold),      cmocka_unit_test(special_values),
        cmocka_unit_test(floats_are_rounded_once), cmocka_unit_test(types_of_results),
        cmocka_unit_test(axis_is_checked),
    };
    return RUN_ON_CPU("ops/cumulative", tests);
}
