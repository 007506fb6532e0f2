// SPDX-License-Identifier: Apache-2.0
// shape_test.c - making, counting, broadcasting and printing shapes, and their overflow checks.
#include "base/shape.h"

#include "test.h"

static emlx_shape shape_of(size_t rank, const int64_t *dims) {
    emlx_shape shape;
    emlx_error err;
    assert_ok(emlx_shape_make(dims, rank, &shape, &err), err);
    return shape;
}

#define SHAPE(...)                                                                                 \
    shape_of(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static void makes_and_counts(void **state) {
    (void)state;
    emlx_shape scalar = shape_of(0, NULL), matrix = SHAPE(2, 3), empty = SHAPE(4, 0);
    assert_int_equal(emlx_shape_count(&scalar), 1);
    assert_int_equal(emlx_shape_count(&matrix), 6);
    assert_int_equal(emlx_shape_count(&empty), 0);
}

static void refuses_wrong_lengths(void **state) {
    (void)state;
    emlx_shape shape = {.rank = 7};
    emlx_error err;
    int64_t many[EMLX_MAX_RANK + 1] = {0};
    assert_error(emlx_shape_make(many, EMLX_MAX_RANK + 1, &shape, &err), EMLX_INVALID, err, "17");
    int64_t negative[] = {2, -3};
    assert_error(emlx_shape_make(negative, 2, &shape, &err), EMLX_INVALID, err, "-3");
    assert_int_equal(emlx_shape_make(negative, 2, &shape, NULL), EMLX_INVALID);
    assert_int_equal(shape.rank, 7);
}

static void refuses_too_many_elements(void **state) {
    (void)state;
    static const struct {
        size_t rank;
        int64_t dims[4];
        bool fits;
    } rows[] = {
        {1, {INT64_MAX / 16}, true},
        {1, {INT64_MAX / 16 + 1}, false},
        {1, {INT64_MAX}, false},
        {2, {(int64_t)1 << 32, (int64_t)1 << 32}, false},
        {4, {(int64_t)1 << 62, 4, 1, 1}, false},
        {3, {(int64_t)1 << 29, (int64_t)1 << 29, 1}, true},
        // Nothing in it, but its strides would not fit.
        {3, {0, (int64_t)1 << 40, (int64_t)1 << 40}, false},
        {2, {0, (int64_t)1 << 40}, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        emlx_shape shape;
        emlx_error err;
        emlx_status status = emlx_shape_make(rows[i].dims, rows[i].rank, &shape, &err);
        assert_int_equal(status, rows[i].fits ? EMLX_OK : EMLX_INVALID);
    }
}

static void strides_are_row_major(void **state) {
    (void)state;
    emlx_shape shape = SHAPE(2, 3, 4);
    int64_t strides[EMLX_MAX_RANK];
    shape_strides(&shape, strides);
    assert_int_equal(strides[0], 12);
    assert_int_equal(strides[1], 4);
    assert_int_equal(strides[2], 1);
}

static void compares(void **state) {
    (void)state;
    emlx_shape a = SHAPE(2, 3), b = SHAPE(2, 3), c = SHAPE(3, 2), d = SHAPE(2, 3, 1);
    assert_true(shape_equal(&a, &b));
    assert_false(shape_equal(&a, &c));
    assert_false(shape_equal(&a, &d));
}

static void broadcasts(void **state) {
    (void)state;
    emlx_shape scalar = shape_of(0, NULL), row = SHAPE(3), column = SHAPE(2, 1);
    emlx_shape matrix = SHAPE(2, 3), other = SHAPE(2), empty = SHAPE(0), out;
    assert_true(shape_broadcast(&row, &column, &out));
    assert_true(shape_equal(&out, &matrix));
    assert_true(shape_broadcast(&scalar, &matrix, &out));
    assert_true(shape_equal(&out, &matrix));
    assert_false(shape_broadcast(&matrix, &other, &out));
    assert_true(shape_broadcast(&scalar, &empty, &out));
    assert_true(shape_equal(&out, &empty));
    // The result may replace an operand.
    out = row;
    assert_true(shape_broadcast(&out, &column, &out));
    assert_true(shape_equal(&out, &matrix));
    emlx_shape tall = SHAPE((int64_t)1 << 40, 1), wide = SHAPE(1, (int64_t)1 << 40);
    assert_false(shape_broadcast(&tall, &wide, &out));
}

static void check_axes(const int64_t (*axes)[2], size_t count, axis_list expected) {
    axis_list made = {.count = 1};
    for (size_t i = 0; i < count; i++) axes_add(&made, axes[i][0], axes[i][1]);
    assert_int_equal(made.count, expected.count);
    assert_int_equal(made.rank, expected.rank);
    assert_memory_equal(made.dims, expected.dims, sizeof made.dims);
    assert_memory_equal(made.strides, expected.strides, sizeof made.strides);
}
#define CHECK_AXES(axes, ...)                                                                      \
    check_axes(axes, sizeof(axes) / sizeof *(axes), (axis_list){__VA_ARGS__})

static void merges_axes(void **state) {
    (void)state;
    const int64_t dense[][2] = {{2, 12}, {1, 5}, {3, 4}, {4, 1}, {1, 0}};
    CHECK_AXES(dense, 24, 1, {24}, {1});
    const int64_t cut[][2] = {{2, 20}, {3, 4}, {4, 1}};
    CHECK_AXES(cut, 24, 2, {2, 12}, {20, 1});
    const int64_t turned[][2] = {{4, 1}, {3, 4}, {2, 12}};
    CHECK_AXES(turned, 24, 3, {4, 3, 2}, {1, 4, 12});
    const int64_t backwards[][2] = {{2, -3}, {3, -1}};
    CHECK_AXES(backwards, 6, 1, {6}, {-1});
    const int64_t repeated[][2] = {{5, 0}, {2, 0}, {3, 1}};
    CHECK_AXES(repeated, 30, 2, {10, 3}, {0, 1});
    const int64_t empty[][2] = {{2, 3}, {0, 3}};
    CHECK_AXES(empty, 0, 2, {2, 0}, {3, 3});
}

static void knows_dense_arrays(void **state) {
    (void)state;
    const emlx_shape shape = {3, {2, 1, 3}}, none = {2, {0, 4}}, scalar = {0};
    // The stride of an axis of one element is never used.
    assert_true(shape_is_dense(&shape, (const int64_t[]){3, 99, 1}));
    assert_false(shape_is_dense(&shape, (const int64_t[]){4, 3, 1}));
    assert_false(shape_is_dense(&shape, (const int64_t[]){3, 3, -1}));
    assert_true(shape_is_dense(&none, (const int64_t[]){7, 1}));
    assert_true(shape_is_dense(&scalar, NULL));
}

static void finds_one_step(void **state) {
    (void)state;
    int64_t step = 7;
    axis_list axes = {.count = 1};
    axes_add(&axes, 1, 3);
    assert_true(axes_step(&axes, &step));
    assert_int_equal(step, 7);
    axes_add(&axes, 4, 6);
    axes_add(&axes, 3, 2);
    assert_true(axes_step(&axes, &step));
    assert_int_equal(step, 2);
    axes_add(&axes, 3, 2);
    assert_false(axes_step(&axes, &step));
}

static void prints(void **state) {
    (void)state;
    char text[SHAPE_TEXT];
    emlx_shape scalar = shape_of(0, NULL), matrix = SHAPE(2, 3);
    assert_string_equal(shape_print(&scalar, text), "{}");
    assert_string_equal(shape_print(&matrix, text), "{2, 3}");
    emlx_shape longest = {.rank = EMLX_MAX_RANK};
    for (int i = 0; i < EMLX_MAX_RANK; i++) longest.dims[i] = INT64_MIN;
    assert_true(strlen(shape_print(&longest, text)) < SHAPE_TEXT);
    assert_int_equal(text[strlen(text) - 1], '}');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_and_counts),
        cmocka_unit_test(refuses_wrong_lengths),
        cmocka_unit_test(refuses_too_many_elements),
        cmocka_unit_test(strides_are_row_major),
        cmocka_unit_test(compares),
        cmocka_unit_test(broadcasts),
        cmocka_unit_test(merges_axes),
        cmocka_unit_test(knows_dense_arrays),
        cmocka_unit_test(finds_one_step),
        cmocka_unit_test(prints),
    };
    return RUN_TESTS("base/shape", tests);
}
