// SPDX-License-Identifier: Apache-2.0
// narrow_test.c - what becomes f32 on a device without f64: f64 that only serves rounding, and
// nothing that the user chose to be f64.
#include <math.h>

#include "engine.h"
#include "plan/build.h"
#include "plan/cache.h"
#include "tensors.h"

static const emlx_shape vector = {1, {6}};

// A plan in nodes for a device like the test's that has no f64. Constants come along.
static planned plan_without_f64(emlx_tensor *t, emlx_tensor *const *leaves, size_t count,
                                emlx_device *device, engine_ops *ops) {
    *ops = *test_device->ops;
    *device = *test_device;
    device->ops = ops;
    ops->form = FORM_NODES;
    ops->no_f64 = true;
    ops->can = NULL;
    plan_request request = {device, &t, 1, leaves, count};
    planned found;
    emlx_error err;
    assert_ok(plan_find(&request, &found, &err), err);
    return found;
}

// How many nodes are f64, inputs left aside, or are computed in it.
static int f64_nodes(const emlx_plan *plan) {
    int count = 0;
    for (uint32_t n = plan->input_count; n < plan->node_count; n++) {
        const plan_node *node = &plan->nodes[n];
        bool wide = node->type == EMLX_F64;
        if (node->primitive == PRIM_map)
            wide = wide || ((const map_params *)node->params)->compute == EMLX_F64;
        if (node->primitive == PRIM_reduce)
            wide = wide || ((const reduce_params *)node->params)->accumulate == EMLX_F64;
        count += wide;
    }
    return count;
}

// With f64, and without it.
static void count_f64(emlx_tensor *t, emlx_tensor *const *leaves, size_t count, int out[2]) {
    emlx_device device;
    engine_ops ops;
    planned found = plan_without_f64(t, leaves, count, &device, &ops);
    out[1] = f64_nodes(found.plan);
    planned_clear(&found);
    plan_cache_clear(&device);
    emlx_device plain = device;
    ops.no_f64 = false;
    plan_request request = {&plain, &t, 1, leaves, count};
    emlx_error err;
    assert_ok(plan_find(&request, &found, &err), err);
    out[0] = f64_nodes(found.plan);
    planned_clear(&found);
    plan_cache_clear(&plain);
    emlx_tensor_release(t);
}

static emlx_tensor *input_of(emlx_type type) { return random_tensor(type, &vector, 1, 9); }

static void f64_that_serves_rounding_goes(void **state) {
    (void)state;
    int seen[2];
    emlx_tensor *in[2] = {input_of(EMLX_S32), input_of(EMLX_F32)};
    count_f64(apply_two("add", in[0], in[1]), in, 2, seen);
    assert_true(seen[0] > 0);
    assert_int_equal(seen[1], 0);
    count_f64(apply_two("divide", in[0], in[0]), in, 1, seen);
    assert_int_equal(seen[1], 0);
    emlx_tensor *bf16 = input_of(EMLX_BF16);
    emlx_attr axis = with_int("axis", 0);
    count_f64(apply_to("cumulative_sum", &bf16, 1, &axis, 1, EMLX_TYPE_DEFAULT), &bf16, 1, seen);
    assert_true(seen[0] > 0);
    assert_int_equal(seen[1], 0);
    count_f64(apply_to("sum", in, 1, NULL, 0, EMLX_F32), in, 1, seen);
    assert_true(seen[0] > 0);
    assert_int_equal(seen[1], 0);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    emlx_tensor_release(bf16);
}

static void what_the_user_chose_stays(void **state) {
    (void)state;
    int seen[2];
    emlx_tensor *f64 = input_of(EMLX_F64), *f32 = input_of(EMLX_F32), *s32 = input_of(EMLX_S32);
    // Its data, cast at the end.
    emlx_tensor *t = apply_two("multiply", f64, f64);
    count_f64(as_type(t, EMLX_F32), &f64, 1, seen);
    assert_int_equal(seen[0], seen[1]);
    emlx_tensor_release(t);
    // A sum in f32 of f64 data.
    count_f64(apply_to("sum", &f64, 1, NULL, 0, EMLX_F32), &f64, 1, seen);
    assert_int_equal(seen[0], seen[1]);
    // What an op has made f64 of f32.
    emlx_tensor *wide = as_type(f32, EMLX_F64),
                *sine = apply_to("sin", &wide, 1, NULL, 0, EMLX_F64);
    count_f64(as_type(sine, EMLX_F32), &f32, 1, seen);
    assert_true(seen[1] > 0);
    assert_int_equal(seen[0], seen[1]);
    emlx_tensor_release(wide);
    emlx_tensor_release(sine);
    // What is compared, and is rounded nowhere.
    emlx_tensor *both[2] = {s32, f32};
    count_f64(apply_two("less", s32, f32), both, 2, seen);
    assert_int_equal(seen[0], seen[1]);
    // What turns the digits that an integer loses in f32 into anything.
    count_f64(apply_to("tan", &s32, 1, NULL, 0, EMLX_F32), &s32, 1, seen);
    assert_true(seen[1] > 0);
    assert_int_equal(seen[0], seen[1]);
    emlx_tensor_release(f64);
    emlx_tensor_release(f32);
    emlx_tensor_release(s32);
}

// On its way a product may leave f32's range and come back, as of {1e30, 1e30, 1e-30} it does.
static void products_stay(void **state) {
    (void)state;
    int seen[2];
    const emlx_type types[] = {EMLX_BF16, EMLX_F32};
    const emlx_attr axis = with_int("axis", 0);
    for (int i = 0; i < 2; i++) {
        emlx_tensor *in = input_of(types[i]);
        count_f64(apply_to("product", &in, 1, NULL, 0, EMLX_TYPE_DEFAULT), &in, 1, seen);
        assert_int_equal(seen[0], seen[1]);
        count_f64(apply_to("cumulative_product", &in, 1, &axis, 1, EMLX_TYPE_DEFAULT), &in, 1,
                  seen);
        assert_int_equal(seen[0], seen[1]);
        emlx_tensor_release(in);
    }
}

// The second time the plan is found, and constants come to it in the type that it has them in.
static void constants_have_the_plans_type(void **state) {
    (void)state;
    emlx_tensor *s16 = input_of(EMLX_S16);
    emlx_device device;
    engine_ops ops;
    for (int i = 0; i < 2; i++) {
        emlx_tensor *in = apply_to("sigmoid", &s16, 1, NULL, 0, EMLX_F32);
        emlx_tensor *both[2] = {in, s16}, *t = apply_to("add", both, 2, NULL, 0, EMLX_F32);
        planned found = plan_without_f64(t, &s16, 1, &device, &ops);
        assert_int_equal(f64_nodes(found.plan), 0);
        for (size_t c = 0; c < found.constant_count; c++) {
            assert_int_not_equal(found.plan->constant_types[c], EMLX_F64);
            if (found.plan->constant_types[c] != EMLX_F32) continue;
            float value;
            memcpy(&value, found.constants[c].bytes, sizeof value);
            assert_true(value >= -64 && value <= 64 && (value == 0 || fabsf(value) >= 0x1p-20f));
        }
        planned_clear(&found);
        emlx_tensor_release(t);
        emlx_tensor_release(in);
    }
    plan_cache_clear(&device);
    emlx_tensor_release(s16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f64_that_serves_rounding_goes),
        cmocka_unit_test(what_the_user_chose_stays),
        cmocka_unit_test(products_stay),
        cmocka_unit_test(constants_have_the_plans_type),
    };
    return RUN_ON_CPU("plan/narrow", tests);
}
