// SPDX-License-Identifier: Apache-2.0
// cost_test.c - how long work is thought to take: of nodes, of plans, and on a faster device.
#include "plan/cost.h"

#include "engine.h"
#include "plan/build.h"
#include "tensors.h"

static emlx_tensor *square(int64_t length) {
    const emlx_shape s = {2, {length, length}};
    return random_tensor(EMLX_F32, &s, 0, 9);
}

static emlx_tensor *product_of(emlx_tensor *a) {
    emlx_tensor *in[2] = {a, a};
    emlx_attr attrs[4] = {
        with_ints("contract_left", (int64_t[]){1}, 1), with_ints("batch_left", NULL, 0),
        with_ints("contract_right", (int64_t[]){0}, 1), with_ints("batch_right", NULL, 0)};
    return apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *sum(emlx_tensor *a) {
    return apply_to("sum", &a, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *doubled(emlx_tensor *a) { return apply_two("add", a, a); }
static emlx_tensor *sort_of(emlx_tensor *a) {
    emlx_attr axis = with_int("axis", 0);
    return apply_to("sort", &a, 1, &axis, 1, EMLX_TYPE_DEFAULT);
}
static emlx_tensor *factored(emlx_tensor *a) {
    return apply_to("cholesky", &a, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static int64_t planned_cost(emlx_tensor *t, emlx_tensor *leaf) {
    plan_request request = {test_device, &t, 1, &leaf, 1};
    planned found;
    emlx_error err;
    assert_ok(plan_find(&request, &found, &err), err);
    int64_t cost = cost_of_plan(found.plan);
    planned_clear(&found);
    return cost;
}

// Those of one node, and of its plan.
static void costs(emlx_tensor *(*op)(emlx_tensor *), int64_t length, int64_t out[2]) {
    emlx_tensor *a = square(length), *t = op(a);
    out[0] = cost_of_node(t);
    out[1] = planned_cost(t, a);
    emlx_tensor_release(t);
    emlx_tensor_release(a);
}

static void nodes_and_plans_are_of_one_model(void **unused) {
    (void)unused;
    emlx_tensor *(*const ops[])(emlx_tensor *) = {product_of, sum, doubled, sort_of};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        int64_t small[2], large[2];
        costs(ops[i], 20, small);
        costs(ops[i], 80, large);
        for (int p = 0; p < 2; p++) assert_true(small[p] > 0 && large[p] > 4 * small[p]);
        assert_true(small[0] < 8 * small[1] + COST_KERNEL && small[1] < 8 * small[0] + COST_KERNEL);
    }
}

static void what_nobody_knows_has_no_end(void **unused) {
    (void)unused;
    int64_t known[2], unknown[2];
    costs(doubled, 4, known);
    costs(factored, 4, unknown);
    for (int p = 0; p < 2; p++) assert_true(known[p] <= COST_BRIEF);
    // The last node only casts what the routine gives.
    assert_true(unknown[1] >= COST_NO_END);
}

static void a_faster_device_takes_less(void **unused) {
    (void)unused;
    engine_ops fast = *test_device->ops;
    const engine_ops *own = test_device->ops;
    int64_t here[2], there[2], unknown[2];
    fast.speed = 8;
    costs(doubled, 80, here);
    test_device->ops = &fast;
    costs(doubled, 80, there);
    costs(factored, 4, unknown);
    test_device->ops = own;
    for (int p = 0; p < 2; p++) assert_int_equal(there[p], here[p] / 8);
    assert_true(unknown[1] >= COST_NO_END);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_and_plans_are_of_one_model),
        cmocka_unit_test(what_nobody_knows_has_no_end),
        cmocka_unit_test(a_faster_device_takes_less),
    };
    return RUN_ON_CPU("plan/cost", tests);
}
