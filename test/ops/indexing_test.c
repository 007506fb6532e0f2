// SPDX-License-Identifier: Apache-2.0
// indexing_test.c - scattering and taking along an axis against plain loops, over every choice of
// axes and numbers of updates around the sizes of tasks.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

static const emlx_type types[] = {EMLX_U2,  EMLX_U8,  EMLX_S8,  EMLX_U16,  EMLX_S32,
                                  EMLX_S64, EMLX_F16, EMLX_F32, EMLX_BF16, EMLX_F64};
enum { TYPES = sizeof types / sizeof *types };

// What an element becomes when it is stored.
static double *stored(emlx_type type, const double *values, int64_t count) {
    emlx_shape flat = {1, {count}};
    emlx_tensor *wide = tensor_of(EMLX_F64, &flat, values), *t = as_type(wide, type);
    double *out = values_of(t);
    emlx_tensor_release(t);
    emlx_tensor_release(wide);
    return out;
}

static emlx_tensor *draw_numbers(emlx_type type, const emlx_shape *s) {
    return random_tensor(type, s, type < EMLX_S2 || type >= EMLX_F8 ? 0 : -3, 3);
}

// Scatter ---------------------------------------------------------------------------------------

typedef struct scatter {
    emlx_shape target, updates, indices;
    int64_t axes[EMLX_MAX_RANK];
    size_t axis_count;
    int32_t others[EMLX_MAX_RANK]; // axes of the target that the updates have
} scatter;

static scatter make_scatter(const emlx_shape *target, uint32_t mask, int64_t count, bool smaller) {
    scatter c = {.target = *target, .updates = {1, {count}}};
    for (int32_t d = 0; d < target->rank; d++) {
        if (mask >> d & 1) {
            c.axes[c.axis_count++] = d;
            continue;
        }
        int64_t length = target->dims[d];
        if (smaller && length > 1) length = 1 + draw((uint32_t)length);
        c.others[c.updates.rank] = d;
        c.updates.dims[c.updates.rank++] = length;
    }
    c.indices = (emlx_shape){2, {count, (int64_t)c.axis_count}};
    return c;
}

static double *draw_indices(const scatter *c) {
    int64_t count = emlx_shape_count(&c->indices);
    double *indices = malloc(((size_t)count + 1) * sizeof *indices);
    assert_non_null(indices);
    for (int64_t i = 0; i < count; i++) {
        int64_t axis = c->axes[(size_t)i % c->axis_count], limit = c->target.dims[axis];
        indices[i] = draw((uint32_t)limit);
    }
    return indices;
}

static void expect(const scatter *c, bool adds, const double *indices, const double *updates,
                   double *target) {
    for (int64_t i = 0; i < emlx_shape_count(&c->updates); i++) {
        int64_t at[EMLX_MAX_RANK], place[EMLX_MAX_RANK] = {0};
        unravel(&c->updates, i, at);
        for (int32_t d = 1; d < c->updates.rank; d++) place[c->others[d]] = at[d];
        for (size_t a = 0; a < c->axis_count; a++)
            place[c->axes[a]] = (int64_t)indices[at[0] * (int64_t)c->axis_count + (int64_t)a];
        double *element = &target[ravel(&c->target, place)];
        *element = adds ? *element + updates[i] : updates[i];
    }
}

static void check_scatter(const scatter *c, bool adds, emlx_type type) {
    double *places = draw_indices(c);
    emlx_tensor *in[] = {draw_numbers(type, &c->target), tensor_of(EMLX_S64, &c->indices, places),
                         draw_numbers(type, &c->updates)};
    emlx_attr axes = with_ints("axes", c->axes, c->axis_count);
    const char *op = adds ? "indexed_add" : "indexed_put";
    emlx_tensor *out = apply_to(op, in, 3, &axes, 1, EMLX_TYPE_DEFAULT);
    double *target = values_of(in[0]), *updates = values_of(in[2]), *got = values_of(out);
    int64_t count = emlx_shape_count(&c->target);
    expect(c, adds, places, updates, target);
    double *wanted = stored(type, target, count);
    for (int64_t i = 0; i < count; i++)
        if (got[i] != wanted[i])
            fail_msg("%s of %s, %lld updates: element %lld is %g, not %g", op, emlx_type_name(type),
                     (long long)c->updates.dims[0], (long long)i, got[i], wanted[i]);
    double *all[] = {places, target, updates, got, wanted};
    for (int i = 0; i < 5; i++) free(all[i]);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
}

static void every_choice_of_axes(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {
        {1, {7}}, {2, {5, 6}}, {2, {1, 9}}, {3, {3, 4, 5}}, {4, {2, 3, 2, 4}}};
    draw_seed(1);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (uint32_t mask = 1; mask < 1u << shapes[s].rank; mask++)
            for (int round = 0; round < 8; round++) {
                scatter c = make_scatter(&shapes[s], mask, draw(30), round % 2);
                check_scatter(&c, draw(2), types[draw(TYPES)]);
            }
}

// More updates than a task sorts, more parts than there may be, slices longer than a part.
static void large_scatters(void **state) {
    (void)state;
    static const struct {
        emlx_shape shape;
        uint32_t mask;
        int64_t count;
    } cases[] = {{{1, {50}}, 1, 70000},         {{1, {100000}}, 1, 70000},
                 {{1, {9000000}}, 1, 1000},     {{2, {300, 400}}, 3, 40000},
                 {{2, {7, 20000}}, 1, 25},      {{2, {3000, 50}}, 1, 2000},
                 {{2, {70, 300}}, 2, 200},      {{3, {60, 20, 40}}, 2, 50},
                 {{3, {5, 2000, 10}}, 3, 9000}, {{2, {20, 16500}}, 1, 3}};
    draw_seed(2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int adds = 0; adds < 2; adds++) {
            scatter c = make_scatter(&cases[i].shape, cases[i].mask, cases[i].count, i % 3 == 2);
            check_scatter(&c, adds, i % 2 ? EMLX_F32 : types[draw(TYPES)]);
        }
}

// The first of them, whichever task finds it.
static void the_first_bad_index_is_named(void **state) {
    (void)state;
    enum { COUNT = 100000 };
    for (uint32_t mask = 1; mask < 3; mask++) {
        scatter c = make_scatter(&(emlx_shape){2, {40, 3}}, mask, COUNT, false);
        double *places = draw_indices(&c);
        places[50001] = -7;
        places[99000] = 41;
        places[99001] = -1;
        emlx_tensor *in[] = {draw_numbers(EMLX_F32, &c.target),
                             tensor_of(EMLX_S64, &c.indices, places),
                             draw_numbers(EMLX_F32, &c.updates)};
        emlx_attr axes = with_ints("axes", c.axes, 1);
        emlx_tensor *out = apply_to("indexed_add", in, 3, &axes, 1, EMLX_TYPE_DEFAULT);
        emlx_error err;
        assert_error(emlx_eval(&out, 1, &err), EMLX_OUT_OF_BOUNDS, err,
                     mask == 1 ? "index -7 is out of bounds for axis 0 in shape {40, 3}"
                               : "index -7 is out of bounds for axis 0 in shape {3, 40}");
        for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
        emlx_tensor_release(out);
        free(places);
    }
}

// Along an axis ---------------------------------------------------------------------------------

static void check_along(emlx_type type, const emlx_shape *s, int32_t axis, int64_t length) {
    emlx_shape shape = *s;
    shape.dims[axis] = length;
    emlx_tensor *in[] = {draw_numbers(type, s),
                         random_tensor(EMLX_S32, &shape, 0, (int)s->dims[axis] - 1)};
    emlx_attr attr = with_int("axis", axis);
    emlx_tensor *out = apply_to("take_along_axis", in, 2, &attr, 1, EMLX_TYPE_DEFAULT);
    assert_int_equal(emlx_tensor_type(out), type);
    double *source = values_of(in[0]), *indices = values_of(in[1]), *got = values_of(out);
    for (int64_t i = 0; i < emlx_shape_count(&shape); i++) {
        int64_t at[EMLX_MAX_RANK];
        unravel(&shape, i, at);
        at[axis] = (int64_t)indices[i];
        double wanted = source[ravel(s, at)];
        if (got[i] != wanted)
            fail_msg("%s: element %lld is %g, not %g", emlx_type_name(type), (long long)i, got[i],
                     wanted);
    }
    free(source);
    free(indices);
    free(got);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(out);
}

static void along_every_axis(void **state) {
    (void)state;
    static const emlx_shape shapes[] = {{1, {9}},        {2, {4, 5}},     {3, {3, 4, 5}},
                                        {2, {3, 70000}}, {2, {70000, 3}}, {3, {40, 70, 50}}};
    draw_seed(3);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int32_t axis = 0; axis < shapes[s].rank; axis++) {
            check_along(types[draw(TYPES)], &shapes[s], axis, 1 + draw(9));
            check_along(types[draw(TYPES)], &shapes[s], axis, shapes[s].dims[axis]);
        }
}

static void wrong_indices_along_an_axis(void **state) {
    (void)state;
    emlx_shape s = {2, {2, 70000}}, other = {2, {3, 4}};
    emlx_error err;
    emlx_tensor *in[] = {draw_numbers(EMLX_F32, &s), random_tensor(EMLX_S64, &s, 0, 1)}, *out;
    emlx_attr axis = with_int("axis", 0);
    emlx_tensor *moved = apply_to("negate", &in[1], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    out = apply_to("take_along_axis", (emlx_tensor *[]){in[0], moved}, 2, &axis, 1,
                   EMLX_TYPE_DEFAULT);
    assert_error(emlx_eval(&out, 1, &err), EMLX_OUT_OF_BOUNDS, err,
                 "index -1 is out of bounds for axis 0 in shape {2, 70000}");
    emlx_tensor_release(out);
    emlx_tensor_release(moved);
    moved = random_tensor(EMLX_S64, &other, 0, 1);
    assert_error(emlx_apply(emlx_op_find("take_along_axis"), NULL, (emlx_tensor *[]){in[0], moved},
                            2, &axis, 1, EMLX_TYPE_DEFAULT, &out, &err),
                 EMLX_INVALID, err, "differ in more than axis 0");
    emlx_tensor_release(moved);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
}

// Indices beyond those of s64 are named as they are, known or computed.
static void unsigned_indices_are_named(void **state) {
    (void)state;
    emlx_shape s = {1, {4}}, one = {1, {1}}, vector = {2, {1, 1}};
    static const char message[] = "index 18446744073709551615 is out of bounds for axis 0";
    emlx_error err;
    int64_t zero = 0;
    uint64_t most = UINT64_MAX;
    emlx_attr axis = with_int("axis", 0), axes = with_ints("axes", &zero, 1);
    static const struct {
        const char *op;
        size_t operands;
        bool vector, one_axis;
    } cases[] = {{"take", 2, false, true},
                 {"take_along_axis", 2, false, true},
                 {"gather", 2, true, false},
                 {"indexed_add", 3, true, false},
                 {"indexed_put", 3, true, false}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const char *op = cases[i / 2].op;
        emlx_tensor *known, *in[3], *out;
        assert_ok(emlx_tensor_from_data(test_device, EMLX_U64, cases[i / 2].vector ? &vector : &one,
                                        &most, sizeof most, &known, &err),
                  err);
        emlx_tensor *moved =
            apply_to("bitwise_or", (emlx_tensor *[]){known, known}, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        in[0] = draw_numbers(EMLX_F32, &s);
        in[1] = i % 2 ? known : moved;
        in[2] = draw_numbers(EMLX_F32, &one);
        emlx_status status =
            emlx_apply(emlx_op_find(op), NULL, in, cases[i / 2].operands,
                       cases[i / 2].one_axis ? &axis : &axes, 1, EMLX_TYPE_DEFAULT, &out, &err);
        if (status == EMLX_OK) {
            status = emlx_eval(&out, 1, &err);
            emlx_tensor_release(out);
        }
        assert_error(status, EMLX_OUT_OF_BOUNDS, err, message);
        assert_memory_equal(err.message, op, strlen(op));
        emlx_tensor *all[] = {known, moved, in[0], in[2]};
        for (int t = 0; t < 4; t++) emlx_tensor_release(all[t]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_choice_of_axes),
        cmocka_unit_test(large_scatters),
        cmocka_unit_test(the_first_bad_index_is_named),
        cmocka_unit_test(along_every_axis),
        cmocka_unit_test(wrong_indices_along_an_axis),
        cmocka_unit_test(unsigned_indices_are_named),
    };
    return RUN_ON_CPU("ops/indexing", tests);
}
