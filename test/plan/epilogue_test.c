// SPDX-License-Identifier: Apache-2.0
// epilogue_test.c - products right in front of the maps that a device would compute with them:
// which of them are, and that nothing of what they give changes. The device joins all that it is
// asked about, and then runs the CPU engine's kernels.
#include <stdlib.h>

#include "engine.h"
#include "plan/build.h"
#include "plan/cache.h"
#include "tensors.h"

enum { SIDE = 6, ROUNDS = 300, MOST = 24 };

static emlx_device *plain, joining;
static engine_ops joining_ops;
static uint32_t asked;

static bool joins_all(const emlx_device *device, const plan_kernel *product,
                      const plan_kernel *map) {
    (void)device;
    asked++;
    assert_int_equal(product->kind, KERNEL_DOT);
    assert_int_equal(map->kind, KERNEL_MAP);
    return true;
}

static int open_joining(void **state) {
    if (open_test_device(state) != 0) return -1;
    plain = test_device;
    joining_ops = *plain->ops;
    joining_ops.epilogue = joins_all;
    joining_ops.beside = NULL;
    joining = *plain;
    joining.ops = &joining_ops;
    test_device = &joining;
    return 0;
}

static int close_joining(void **state) {
    plan_cache_clear(&joining);
    test_device = plain;
    return close_test_device(state);
}

static emlx_tensor *unary(const char *op, emlx_tensor *x) {
    return apply_to(op, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *product(emlx_tensor *x, emlx_tensor *y) {
    emlx_tensor *in[2] = {x, y};
    const int64_t last = 1, first = 0;
    emlx_attr attrs[4] = {with_ints("contract_left", &last, 1), with_ints("batch_left", NULL, 0),
                          with_ints("contract_right", &first, 1),
                          with_ints("batch_right", NULL, 0)};
    return apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *matrix(emlx_type type, int64_t rows) {
    const emlx_shape shape = {2, {rows, SIDE}};
    return random_tensor(type, &shape, -2, 2);
}

// Which ------------------------------------------------------------------------------------------

// How many products of the plan are joined with the kernel behind them.
static int joined(emlx_tensor *const *roots, size_t count, emlx_tensor *const *leaves,
                  size_t leaf_count) {
    plan_request request = {test_device, roots, count, leaves, leaf_count};
    planned found;
    emlx_error err;
    int result = 0;
    assert_ok(plan_find(&request, &found, &err), err);
    for (uint32_t i = 0; i < found.plan->kernel_count; i++) {
        const plan_kernel *k = &found.plan->kernels[i];
        if (!k->epilogue) continue;
        assert_int_equal(k->kind, KERNEL_DOT);
        assert_int_equal(k[1].kind, KERNEL_MAP);
        assert_int_equal(k[1].reuse[0], k->output);
        result++;
    }
    planned_clear(&found);
    return result;
}

typedef struct setting {
    emlx_tensor *leaves[3]; // two matrices and a row
    emlx_tensor *made[MOST];
    int count;
} setting;

static setting new_setting(emlx_type type) {
    setting s = {.leaves = {matrix(type, SIDE), matrix(type, SIDE), matrix(type, 1)}};
    s.made[s.count++] = product(s.leaves[0], s.leaves[1]);
    return s;
}

static emlx_tensor *keep(setting *s, emlx_tensor *t) { return s->made[s->count++] = t; }

static int joined_of(setting *s, emlx_tensor *const *roots, size_t count) {
    int result = joined(roots, count, s->leaves, 3);
    for (int i = 0; i < s->count; i++) emlx_tensor_release(s->made[i]);
    for (int i = 0; i < 3; i++) emlx_tensor_release(s->leaves[i]);
    return result;
}

static void what_alone_reads_a_product_joins_it(void **unused) {
    (void)unused;
    setting s = new_setting(EMLX_F32);
    emlx_tensor *sum = keep(&s, apply_two("add", s.made[0], s.leaves[2]));
    emlx_tensor *root = keep(&s, unary("tanh", sum));
    assert_int_equal(joined_of(&s, &root, 1), 1);
    // An operand of the product may be read as well.
    s = new_setting(EMLX_F32);
    root = keep(&s, apply_two("add", s.made[0], s.leaves[0]));
    assert_int_equal(joined_of(&s, &root, 1), 1);
    // Of two products one does.
    s = new_setting(EMLX_F32);
    emlx_tensor *other = keep(&s, product(s.leaves[1], s.leaves[0]));
    root = keep(&s, apply_two("add", s.made[0], other));
    assert_int_equal(joined_of(&s, &root, 1), 1);
    // What is made between the two comes before both.
    s = new_setting(EMLX_F32);
    const emlx_attr axis = with_int("axis", 0);
    other = keep(&s, apply_to("sort", &s.leaves[1], 1, &axis, 1, EMLX_TYPE_DEFAULT));
    root = keep(&s, apply_two("add", s.made[0], other));
    assert_int_equal(joined_of(&s, &root, 1), 1);
}

static void others_stay_apart(void **unused) {
    (void)unused;
    setting s = new_setting(EMLX_F32);
    emlx_tensor *sum = keep(&s, apply_two("add", s.made[0], s.leaves[2]));
    asked = 0;
    // The product is a result itself,
    assert_int_equal(joined_of(&s, (emlx_tensor *[]){sum, s.made[0]}, 2), 0);
    // or read by another kernel,
    s = new_setting(EMLX_F32);
    sum = keep(&s, apply_two("add", s.made[0], s.leaves[2]));
    emlx_tensor *next = keep(&s, product(s.made[0], s.leaves[1]));
    assert_int_equal(joined_of(&s, (emlx_tensor *[]){sum, next}, 2), 0);
    // or across,
    s = new_setting(EMLX_F32);
    const int64_t axes[] = {1, 0};
    emlx_attr turn = with_ints("axes", axes, 2);
    emlx_tensor *turned =
        keep(&s, apply_to("transpose", &s.made[0], 1, &turn, 1, EMLX_TYPE_DEFAULT));
    sum = keep(&s, apply_two("add", turned, s.leaves[2]));
    assert_int_equal(joined_of(&s, &sum, 1), 0);
    // or at two places,
    s = new_setting(EMLX_F32);
    turned = keep(&s, apply_to("transpose", &s.made[0], 1, &turn, 1, EMLX_TYPE_DEFAULT));
    sum = keep(&s, apply_two("add", turned, s.made[0]));
    assert_int_equal(joined_of(&s, &sum, 1), 0);
    // or folded, or of another type then.
    s = new_setting(EMLX_F32);
    sum = keep(&s, unary("sum", s.made[0]));
    assert_int_equal(joined_of(&s, &sum, 1), 0);
    s = new_setting(EMLX_F32);
    sum = keep(&s, as_type(s.made[0], EMLX_F64));
    assert_int_equal(joined_of(&s, &sum, 1), 0);
    assert_int_equal(asked, 0);
}

// What they give ---------------------------------------------------------------------------------

static const char *const maps[] = {"add", "subtract", "multiply", "max"};

// A tensor by a random op of two before it; of a map's operands one may be a row.
static emlx_tensor *grow(emlx_tensor *const *tensors, int count, emlx_tensor *row) {
    emlx_tensor *a = tensors[draw((uint32_t)count)], *b = tensors[draw((uint32_t)count)];
    uint32_t what = draw(10);
    if (what < 5) return product(a, b);
    if (what == 5) return unary("negate", a);
    const char *op = maps[draw(emlx_tensor_type(a) == EMLX_C64 ? 3 : 4)];
    return apply_two(op, a, draw(3) == 0 ? row : b);
}

static void check_same(int round, emlx_tensor *together, emlx_tensor *alone) {
    double *a = values_of(together), *b = values_of(alone);
    for (int64_t i = 0; i < SIDE * SIDE; i++)
        if (a[i] != b[i] && !(a[i] != a[i] && b[i] != b[i]))
            fail_msg("round %d: element %lld is %g, not %g", round, (long long)i, a[i], b[i]);
    free(a);
    free(b);
}

// Random graphs as one plan, of which few tensors are asked for, and op by op.
static void joined_they_give_what_each_gives(void **unused) {
    (void)unused;
    static const emlx_type types[] = {EMLX_F32, EMLX_S32, EMLX_BF16, EMLX_C64};
    draw_seed(5);
    asked = 0;
    for (int round = 0; round < ROUNDS; round++) {
        emlx_type type = types[round % 4];
        emlx_tensor *lazy[MOST], *eager[MOST], *row = matrix(type, 1);
        emlx_error err;
        for (int i = 0; i < 2; i++) lazy[i] = matrix(type, SIDE), eager[i] = lazy[i];
        for (int i = 0; i < 2; i++) emlx_tensor_retain(lazy[i]);
        for (int i = 2; i < MOST; i++) {
            uint64_t seed = (uint64_t)round * MOST + (uint64_t)i;
            draw_seed(seed);
            lazy[i] = grow(lazy, i, row);
            draw_seed(seed);
            eager[i] = grow(eager, i, row);
            assert_ok(emlx_eval(&eager[i], 1, &err), err);
        }
        for (int i = 2; i < MOST - 2; i++) emlx_tensor_release(lazy[i]);
        assert_ok(emlx_eval(lazy + MOST - 2, 2, &err), err);
        for (int i = MOST - 2; i < MOST; i++) check_same(round, lazy[i], eager[i]);
        for (int i = 0; i < MOST; i++) {
            if (i < 2 || i >= MOST - 2) emlx_tensor_release(lazy[i]);
            emlx_tensor_release(eager[i]);
        }
        emlx_tensor_release(row);
    }
    assert_true(asked > ROUNDS / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_alone_reads_a_product_joins_it),
        cmocka_unit_test(others_stay_apart),
        cmocka_unit_test(joined_they_give_what_each_gives),
    };
    return cmocka_run_group_tests_name("epilogue", tests, open_joining, close_joining);
}
