// SPDX-License-Identifier: Apache-2.0
// custom_test.c - folds with functions against plain loops: functions that are written out and
// functions that are called, over random shapes, axes and windows.
#include <math.h>
#include <stdlib.h>

#include "graph/function.h"
#include "plan/build.h"
#include "program/programs.h"
#include "tensors.h"

static const emlx_type types[] = {EMLX_U4,  EMLX_U8,  EMLX_S8,   EMLX_S32, EMLX_S64,
                                  EMLX_F16, EMLX_F32, EMLX_BF16, EMLX_F64};
enum { TYPES = sizeof types / sizeof *types };

// Functions -------------------------------------------------------------------------------------

// Rounds to the type as a store does.
static double stored(emlx_type type, double value) {
    emlx_shape scalar = {0};
    if (type == EMLX_F64) return value;
    if (type == EMLX_F32) return (float)value;
    emlx_tensor *t = tensor_of(EMLX_F64, &scalar, &value), *narrow = as_type(t, type);
    double *values = values_of(narrow), result = *values;
    free(values);
    emlx_tensor_release(narrow);
    emlx_tensor_release(t);
    return result;
}

// What the functions of this test compute, none of them in the same way in any order:
// WRITTEN 3 * acc - e; ELEMENT e; FOLDED acc; FIXED 5; CALLED e above 2: acc + e, else e - acc.
enum { WRITTEN, ELEMENT, FOLDED, FIXED, CALLED, KINDS };

static double apply_kind(int kind, emlx_type type, double e, double acc) {
    switch (kind) {
    case WRITTEN: return stored(type, 3 * acc) - e;
    case ELEMENT: return e;
    case FOLDED: return acc;
    case FIXED: return 5;
    default: return e > 2 ? acc + e : e - acc;
    }
}

static uint32_t typed_number(emlx_block *b, emlx_type type, int64_t value) {
    emlx_error err;
    uint32_t out, in = int_constant(b, value);
    assert_ok(emlx_block_apply(b, emlx_op_find("as_type"), &in, 1, NULL, 0, type, &out, &err), err);
    return out;
}

static emlx_block *scalar_block(emlx_type type, uint32_t values[2]) {
    emlx_block *b = new_block();
    for (int i = 0; i < 2; i++) values[i] = input(b, NULL, type, 0);
    return b;
}

static uint32_t chosen(emlx_block *b, emlx_type type, const uint32_t values[2]) {
    emlx_error err;
    uint32_t v[2], first;
    emlx_block *above = scalar_block(type, v), *branches[2];
    output(above, NULL, op(above, "greater", 2, v[0], typed_number(above, type, 2)));
    branches[0] = scalar_block(type, v);
    output(branches[0], NULL, op(branches[0], "add", 2, v[1], v[0]));
    branches[1] = scalar_block(type, v);
    output(branches[1], NULL, op(branches[1], "subtract", 2, v[0], v[1]));
    assert_ok(emlx_block_cond(b, &above, 1, branches, 2, values, 2, &first, &err), err);
    return first;
}

static emlx_function *function(int kind, emlx_type type) {
    emlx_error err;
    emlx_function *f;
    uint32_t v[2];
    emlx_block *b = scalar_block(type, v);
    uint32_t result = kind == ELEMENT ? v[0] : v[1];
    if (kind == WRITTEN)
        result = op(b, "subtract", 2, op(b, "multiply", 2, v[1], typed_number(b, type, 3)), v[0]);
    if (kind == FIXED) result = typed_number(b, type, 5);
    if (kind == CALLED) result = chosen(b, type, v);
    output(b, NULL, result);
    assert_ok(emlx_function_new(b, &f, &err), err);
    return f;
}

// What a chain of steps gives, each rounded; integers are exact until the end.
static double fold(int kind, emlx_type type, const double *elements, int64_t count, double acc) {
    bool exact = type < EMLX_F8 && kind != CALLED;
    for (int64_t i = 0; i < count; i++) {
        acc = apply_kind(kind, type, elements[i], acc);
        if (!exact || fabs(acc) > 1e12) acc = stored(type, acc);
    }
    return stored(type, acc);
}

static void must_equal(const char *what, int kind, emlx_tensor *out, int64_t i, double got,
                       double wanted) {
    if (got != wanted)
        fail_msg("%s, function %d of %s: element %lld is %.17g, not %.17g", what, kind,
                 emlx_type_name(emlx_tensor_type(out)), (long long)i, got, wanted);
}

static emlx_tensor *draw_tensor(emlx_type type, const emlx_shape *shape) {
    return random_tensor(type, shape, type < EMLX_S2 ? 0 : -4, 5);
}

// Axes ------------------------------------------------------------------------------------------

static void check_axes(int kind, emlx_type type, const emlx_shape *s, uint32_t mask, bool turned) {
    emlx_shape scalar = {0}, kept = {0}, inner = {0};
    int64_t axes[EMLX_MAX_RANK], order[EMLX_MAX_RANK], index[EMLX_MAX_RANK];
    size_t count = 0;
    for (int32_t d = 0; d < s->rank; d++) {
        order[d] = s->rank - 1 - d;
        if (mask >> d & 1) axes[count++] = d;
        emlx_shape *part = mask >> d & 1 ? &inner : &kept;
        part->dims[part->rank++] = s->dims[d];
    }
    double start_value = 2;
    emlx_tensor *start = tensor_of(type, &scalar, &start_value), *t = draw_tensor(type, s);
    double *in = values_of(t);
    // The same by way of another order, so that the fold reads through strides.
    emlx_attr turn = with_ints("axes", order, (size_t)s->rank);
    for (int i = 0; turned && i < 2; i++) {
        emlx_tensor *next = apply_to("transpose", &t, 1, &turn, 1, EMLX_TYPE_DEFAULT);
        emlx_tensor_release(t);
        t = next;
    }
    emlx_function *f = function(kind, type);
    emlx_attr attrs[] = {{.name = "function", .kind = EMLX_ATTR_FUNCTION, .function = f},
                         with_ints("axes", axes, count)};
    emlx_tensor *out =
        apply_to("reduce", (emlx_tensor *[]){t, start}, 2, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_function_release(f);
    assert_int_equal(emlx_tensor_type(out), type);
    assert_int_equal(emlx_shape_count(emlx_tensor_shape(out)), emlx_shape_count(&kept));
    int64_t folded = emlx_shape_count(&inner);
    double *got = values_of(out), *elements = malloc(((size_t)folded + 1) * sizeof *elements);
    for (int64_t o = 0; o < emlx_shape_count(&kept); o++) {
        for (int64_t i = 0; i < folded; i++) {
            int64_t outside[EMLX_MAX_RANK], inside[EMLX_MAX_RANK];
            unravel(&kept, o, outside);
            unravel(&inner, i, inside);
            for (int32_t d = 0, a = 0, b = 0; d < s->rank; d++)
                index[d] = mask >> d & 1 ? inside[a++] : outside[b++];
            elements[i] = in[ravel(s, index)];
        }
        must_equal("reduce", kind, out, o, got[o], fold(kind, type, elements, folded, start_value));
    }
    free(elements);
    free(got);
    free(in);
    emlx_tensor_release(out);
    emlx_tensor_release(start);
    emlx_tensor_release(t);
}

static void every_choice_of_axes(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {{0, {0}},       {1, {7}},    {2, {3, 5}},
                                        {3, {4, 1, 6}}, {2, {0, 3}}, {4, {2, 3, 1, 4}}};
    draw_seed(1);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < KINDS; kind++)
            for (uint32_t mask = 0; mask < 1u << shapes[s].rank; mask++)
                check_axes(kind, types[draw(TYPES)], &shapes[s], mask, draw(2));
}

// More results than a tile and a task hold, and folds longer than a task.
static void large_folds(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {{2, {5000, 7}}, {2, {7, 5000}}, {2, {100, 2000}}};
    draw_seed(2);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (uint32_t mask = 0; mask < 4; mask++)
            check_axes(WRITTEN, draw(2) ? EMLX_S32 : EMLX_F64, &shapes[s], mask, false);
}

// Windows ---------------------------------------------------------------------------------------

static void check_windows(int kind, emlx_type type) {
    emlx_shape s = {.rank = 2, .dims = {2 + draw(5), 2 + draw(5)}}, scalar = {0},
               count = {.rank = 2};
    int64_t window[2], strides[2], dilations[2], padding[4];
    for (int d = 0; d < 2; d++) {
        window[d] = 1 + draw(2);
        strides[d] = 1 + draw(2);
        dilations[d] = 1 + draw(2);
        for (int i = 0; i < 2; i++) padding[2 * d + i] = (int)draw(3);
        int64_t room = s.dims[d] + padding[2 * d] + padding[2 * d + 1];
        room -= (window[d] - 1) * dilations[d] + 1;
        if (room < 0) return;
        count.dims[d] = room / strides[d] + 1;
    }
    double start_value = 3, elements[4];
    emlx_tensor *start = tensor_of(type, &scalar, &start_value), *t = draw_tensor(type, &s);
    emlx_function *f = function(kind, type);
    emlx_attr attrs[] = {{.name = "function", .kind = EMLX_ATTR_FUNCTION, .function = f},
                         with_ints("window", window, 2),
                         with_ints("padding", padding, 4),
                         with_ints("strides", strides, 2),
                         with_ints("window_dilations", dilations, 2)};
    emlx_tensor *out =
        apply_to("window_reduce", (emlx_tensor *[]){t, start}, 2, attrs, 5, EMLX_TYPE_DEFAULT);
    emlx_function_release(f);
    double *in = values_of(t), *got = values_of(out);
    assert_int_equal(emlx_shape_count(emlx_tensor_shape(out)), emlx_shape_count(&count));
    for (int64_t o = 0; o < emlx_shape_count(&count); o++) {
        int64_t at[2], n = 0;
        unravel(&count, o, at);
        for (int64_t i = 0; i < window[0]; i++)
            for (int64_t j = 0; j < window[1]; j++) {
                int64_t x[2] = {at[0] * strides[0] + i * dilations[0] - padding[0],
                                at[1] * strides[1] + j * dilations[1] - padding[2]};
                bool inside = x[0] >= 0 && x[0] < s.dims[0] && x[1] >= 0 && x[1] < s.dims[1];
                elements[n++] = inside ? in[ravel(&s, x)] : start_value;
            }
        must_equal("window_reduce", kind, out, o, got[o],
                   fold(kind, type, elements, n, start_value));
    }
    free(in);
    free(got);
    emlx_tensor_release(out);
    emlx_tensor_release(start);
    emlx_tensor_release(t);
}

static void random_windows(void **state) {
    (void)state;
    draw_seed(3);
    for (int round = 0; round < 300; round++) check_windows((int)draw(KINDS), types[draw(TYPES)]);
}

// Plans -----------------------------------------------------------------------------------------

static emlx_tensor *called_fold(emlx_function *f, emlx_tensor *t, emlx_tensor *start) {
    emlx_attr attr = {.name = "function", .kind = EMLX_ATTR_FUNCTION, .function = f};
    return apply_to("reduce", (emlx_tensor *[]){t, start}, 2, &attr, 1, EMLX_TYPE_DEFAULT);
}

// A function that is called is what a plan is run with, as a number is: two have one plan, which
// holds neither. Once its result is there, nobody does.
static void called_functions_are_parameters(void **state) {
    (void)state;
    const emlx_shape three = {1, {3}}, scalar = {0};
    const double values[3] = {1, 2, 3};
    emlx_error err;
    emlx_tensor *leaves[2] = {tensor_of(EMLX_F64, &three, values),
                              tensor_of(EMLX_F64, &scalar, values)};
    emlx_plan *plan = NULL;
    for (int i = 0; i < 2; i++) {
        emlx_function *f = function(CALLED, EMLX_F64);
        emlx_tensor *out = called_fold(f, leaves[0], leaves[1]);
        plan_request request = {test_device, &out, 1, leaves, 2};
        planned found;
        assert_ok(plan_find(&request, &found, &err), err);
        assert_int_equal(found.plan->input_count, 2);
        assert_int_equal(found.plan->function_count, 1);
        assert_int_equal(found.function_count, 1);
        assert_ptr_equal(found.functions[0], f);
        if (i == 0) plan = plan_retain(found.plan);
        assert_ptr_equal(found.plan, plan);
        planned_clear(&found);
        assert_int_equal(atomic_load(&f->references), 2);
        assert_ok(emlx_eval(&out, 1, &err), err);
        assert_int_equal(atomic_load(&f->references), 1);
        emlx_function_release(f);
        emlx_tensor_release(out);
    }
    plan_release(plan);
    for (int i = 0; i < 2; i++) emlx_tensor_release(leaves[i]);
}

// Errors ----------------------------------------------------------------------------------------

static emlx_status try_reduce(emlx_block *b, emlx_type type, emlx_tensor **out, emlx_error *err) {
    emlx_shape three = {1, {3}}, scalar = {0};
    double values[3] = {1, 0, 3};
    emlx_tensor *in[] = {tensor_of(type, &three, values), tensor_of(type, &scalar, values)};
    emlx_attr attr = {.name = "function", .kind = EMLX_ATTR_FUNCTION};
    emlx_status status = emlx_function_new(b, &attr.function, err);
    if (status == EMLX_OK)
        status = emlx_apply(emlx_op_find("reduce"), test_device, in, 2, &attr, 1, EMLX_TYPE_DEFAULT,
                            out, err);
    emlx_function_release(attr.function);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    return status;
}

static void wrong_functions(void **state) {
    (void)state;
    emlx_error err;
    emlx_tensor *out;
    uint32_t v[2];
    emlx_block *b = scalar_block(EMLX_S32, v);
    output(b, NULL, op(b, "divide", 2, v[0], v[1]));
    assert_error(try_reduce(b, EMLX_S32, &out, &err), EMLX_INVALID, err,
                 "reduce: the function gives f32{}, a scalar of s32 expected");
    b = new_block();
    input(b, NULL, EMLX_S32, 0);
    output(b, NULL, input(b, NULL, EMLX_S32, 1, 2));
    assert_error(try_reduce(b, EMLX_S32, &out, &err), EMLX_INVALID, err,
                 "reduce: the function takes s32{2}, a scalar of s32 expected");
    b = new_block();
    output(b, NULL, input(b, NULL, EMLX_S32, 0));
    assert_error(try_reduce(b, EMLX_S32, &out, &err), EMLX_INVALID, err,
                 "reduce: the function takes 1 arguments, 2 expected");
    b = scalar_block(EMLX_S32, v);
    assert_error(try_reduce(b, EMLX_S32, &out, &err), EMLX_INVALID, err,
                 "a function has 1 output, got 0");
}

// A step that fails fails the fold, written out or called.
static void failing_steps(void **state) {
    (void)state;
    for (int called = 0; called < 2; called++) {
        emlx_error err;
        emlx_tensor *out;
        uint32_t v[2];
        emlx_block *b = scalar_block(EMLX_S32, v);
        uint32_t other = called ? chosen(b, EMLX_S32, v) : v[0];
        uint32_t zero = op(b, "subtract", 2, other, other);
        output(b, NULL, op(b, "quotient", 2, v[1], op(b, "add", 2, v[0], zero)));
        assert_ok(try_reduce(b, EMLX_S32, &out, &err), err);
        assert_int_equal(emlx_eval(&out, 1, &err), EMLX_ARITHMETIC);
        emlx_tensor_release(out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_choice_of_axes),
        cmocka_unit_test(large_folds),
        cmocka_unit_test(random_windows),
        cmocka_unit_test(wrong_functions),
        cmocka_unit_test(called_functions_are_parameters),
        cmocka_unit_test(failing_steps),
    };
    return RUN_ON_CPU("ops/custom", tests);
}
