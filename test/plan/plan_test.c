// SPDX-License-Identifier: Apache-2.0
// plan_test.c - what plans look like: how many kernels, what is kept, which buffers are reused, and
// when two computations share a plan.
#include "engine.h"
#include "plan/build.h"
#include "plan/cache.h"
#include "plan/kernels/check.h"
#include "tensors.h"

static const emlx_shape matrix = {2, {40, 50}};

static emlx_tensor *input_tensor(void) { return random_tensor(EMLX_F32, &matrix, 0, 9); }

static emlx_tensor *unary(const char *op, emlx_tensor *a) {
    return apply_to(op, &a, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *rows(const char *op, emlx_tensor *a) {
    int64_t axis = 1;
    emlx_attr attrs[2] = {with_ints("axes", &axis, 1), with_bool("keep_axes", true)};
    return apply_to(op, &a, 1, attrs, 2, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *number(double value) {
    emlx_shape s = {0};
    emlx_attr attrs[2] = {with_ints("shape", s.dims, 0),
                          {.name = "value",
                           .kind = EMLX_ATTR_NUMBER,
                           .value = {EMLX_NUMBER_REAL, {.f = {value, 0}}}}};
    return apply_to("constant", NULL, 0, attrs, 2, EMLX_F32);
}

static emlx_plan *plan_for(emlx_device *device, emlx_tensor *const *roots, size_t root_count,
                           emlx_tensor *const *leaves, size_t leaf_count) {
    plan_request request = {device, roots, root_count, leaves, leaf_count};
    planned found;
    emlx_error err;
    assert_ok(plan_find(&request, &found, &err), err);
    emlx_plan *plan = plan_retain(found.plan);
    planned_clear(&found);
    return plan;
}

static emlx_plan *plan_of(emlx_tensor *const *roots, size_t root_count, emlx_tensor *const *leaves,
                          size_t leaf_count) {
    return plan_for(test_device, roots, root_count, leaves, leaf_count);
}

static void release_all(emlx_tensor *const *tensors, size_t count) {
    for (size_t i = 0; i < count; i++) emlx_tensor_release(tensors[i]);
}

static void a_chain_is_one_kernel(void **unused) {
    (void)unused;
    emlx_tensor *t[6] = {input_tensor(), input_tensor()};
    t[2] = apply_two("multiply", t[0], t[1]);
    t[3] = apply_two("add", t[2], t[0]);
    t[4] = unary("tanh", t[3]);
    t[5] = apply_two("multiply", t[4], t[1]);
    emlx_plan *plan = plan_of(&t[5], 1, t, 2);
    assert_int_equal(plan->kernel_count, 1);
    assert_int_equal(plan->value_count, 3);
    assert_int_equal(plan->kernels[0].rank, 1);
    assert_int_equal(plan->kernels[0].dims[0], 2000);
    plan_release(plan);
    release_all(t, 6);
}

// A softmax over rows: the input, then each step.
static void softmax(emlx_tensor *t[6]) {
    t[0] = input_tensor();
    t[1] = rows("reduce_max", t[0]);
    t[2] = apply_two("subtract", t[0], t[1]);
    t[3] = unary("exp", t[2]);
    t[4] = rows("sum", t[3]);
    t[5] = apply_two("divide", t[3], t[4]);
}

// max; exp of the difference, stored while it is summed; the quotient. What is between them is in
// no buffer, and the quotient takes over the input's.
static void softmax_is_one_kernel(void **unused) {
    (void)unused;
    emlx_tensor *t[6];
    softmax(t);
    emlx_plan *plan = plan_of(&t[5], 1, t, 1);
    const plan_kernel *k = plan->kernels;
    assert_int_equal(plan->kernel_count, 1);
    assert_int_equal(k->kind, KERNEL_ROWS);
    assert_int_equal(k->stage_count, 3);
    assert_int_equal(k->axes, 2);
    assert_int_equal(k->local_count, 3);
    assert_int_equal(k->made_count, 1);
    assert_int_equal(k->reuse[0], 0);
    plan_release(plan);
    // What else is wanted has a buffer.
    plan = plan_of(&t[3], 3, t, 1);
    assert_int_equal(plan->kernel_count, 1);
    assert_int_equal(plan->kernels[0].local_count, 1);
    assert_int_equal(plan->kernels[0].made_count, 3);
    plan_release(plan);
    release_all(t, 6);
}

// For a device that does not run rows.
static void softmax_may_be_three_kernels(void **unused) {
    (void)unused;
    emlx_tensor *t[6];
    engine_ops ops = *test_device->ops;
    emlx_device device = *test_device;
    ops.rows = NULL;
    device.ops = &ops;
    softmax(t);
    emlx_plan *plan = plan_for(&device, &t[5], 1, t, 1);
    assert_int_equal(plan->kernel_count, 3);
    assert_int_equal(plan->kernels[1].kind, KERNEL_REDUCE);
    assert_int_equal(plan->kernels[1].store_count, 1);
    // The quotient takes over the exponentials' buffer.
    assert_int_equal(plan->kernels[2].made_count, 1);
    assert_int_not_equal(plan->kernels[2].reuse[0], UINT32_MAX);
    plan_release(plan);
    plan_cache_clear(&device);
    release_all(t, 6);
}

// Of two softmaxes that go on side by side each is a kernel, and what reads both is a stage of the
// later one.
static void rows_are_found_among_others(void **unused) {
    (void)unused;
    emlx_tensor *a[6], *b[6];
    softmax(a);
    softmax(b);
    emlx_tensor *leaves[2] = {a[0], b[0]}, *roots[3] = {a[5], b[5]};
    roots[2] = apply_two("multiply", a[4], b[4]);
    emlx_plan *plan = plan_of(roots, 3, leaves, 2);
    assert_int_equal(plan->kernel_count, 2);
    assert_int_equal(plan->kernels[0].stage_count, 3);
    assert_int_equal(plan->kernels[1].stage_count, 4);
    plan_release(plan);
    release_all(&roots[2], 1);
    release_all(a, 6);
    release_all(b, 6);
}

// A reshape and an operand that is the same for several rows do not stand between stages; a fold
// over other axes and a transposed result do.
static void rows_end_at_other_rows(void **unused) {
    (void)unused;
    const int64_t dims[3] = {8, 5, 50}, axes[2] = {1, 0}, first = 0;
    emlx_attr shape = with_ints("shape", dims, 3), turned = with_ints("axes", axes, 2);
    emlx_tensor *t[8];
    softmax(t);
    t[6] = apply_to("reshape", &t[5], 1, &shape, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor *bias = random_tensor(EMLX_F32, &(emlx_shape){3, {1, 5, 1}}, 0, 9);
    t[7] = apply_two("add", t[6], bias);
    emlx_tensor *leaves[2] = {t[0], bias};
    emlx_plan *plan = plan_of(&t[7], 1, leaves, 2);
    assert_int_equal(plan->kernel_count, 1);
    assert_int_equal(plan->kernels[0].rank, 3);
    assert_int_equal(plan->kernels[0].axes, 4);
    plan_release(plan);
    emlx_attr over = with_ints("axes", &first, 1);
    emlx_tensor *sums = apply_to("sum", &t[5], 1, &over, 1, EMLX_TYPE_DEFAULT);
    plan = plan_of(&sums, 1, t, 1);
    assert_int_equal(plan->kernel_count, 2);
    assert_int_equal(plan->kernels[1].kind, KERNEL_REDUCE);
    plan_release(plan);
    emlx_tensor *other = apply_to("transpose", &t[5], 1, &turned, 1, EMLX_TYPE_DEFAULT);
    plan = plan_of(&other, 1, t, 1);
    assert_int_equal(plan->kernel_count, 2);
    plan_release(plan);
    emlx_tensor *rest[3] = {bias, sums, other};
    release_all(rest, 3);
    release_all(t, 8);
}

// Views are read through; a transposed operand costs no kernel.
static bool all_but_s16(const emlx_device *device, emlx_type from, emlx_type type) {
    (void)device;
    return from != EMLX_S16 && type == EMLX_S32;
}

static emlx_tensor *square(emlx_tensor *a, emlx_tensor *b) {
    int64_t left = 1, right = 1;
    emlx_attr attrs[4] = {with_ints("contract_left", &left, 1), with_ints("batch_left", NULL, 0),
                          with_ints("contract_right", &right, 1),
                          with_ints("batch_right", NULL, 0)};
    emlx_tensor *both[2] = {a, b};
    return apply_to("dot", both, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

// A scatter works on a copy of its target that has its own type, which the target need not have.
static void scatters_work_on_their_type(void **unused) {
    (void)unused;
    const int64_t first = 0;
    emlx_attr axes = with_ints("axes", &first, 1);
    emlx_shape line = {1, {9}}, places = {2, {5, 1}}, updates = {1, {5}};
    emlx_tensor *t[4] = {random_tensor(EMLX_S8, &line, -9, 9),
                         random_tensor(EMLX_U16, &places, 0, 8),
                         random_tensor(EMLX_U8, &updates, 0, 9)};
    t[3] = apply_to("indexed_add", t, 3, &axes, 1, EMLX_TYPE_DEFAULT);
    emlx_plan *plan = plan_for(test_device, &t[3], 1, t, 3);
    const plan_kernel *k = &plan->kernels[plan->kernel_count - 1];
    assert_int_equal(k->kind, KERNEL_SCATTER);
    for (uint32_t i = 0; i < k->access_count; i++)
        assert_int_equal(k->accesses[i].type, plan->values[k->accesses[i].value].type);
    assert_int_equal(k->accesses[0].type, EMLX_S16);
    plan_release(plan);
    plan_cache_clear(NULL);
    release_all(t, 4);
}

// What only widens an operand of a product is read by the product itself, where the device does
// that, also behind a view. Who else wants it gets it.
static void products_widen(void **unused) {
    (void)unused;
    engine_ops ops = *test_device->ops;
    emlx_device device = *test_device;
    ops.widens = all_but_s16;
    device.ops = &ops;
    const int64_t axes[2] = {1, 0};
    emlx_attr turned = with_ints("axes", axes, 2);
    emlx_shape one = {2, {50, 40}};
    emlx_tensor *t[8] = {random_tensor(EMLX_S8, &matrix, -9, 9),
                         random_tensor(EMLX_S8, &one, -9, 9)};
    t[2] = as_type(t[0], EMLX_S16);
    t[3] = as_type(t[2], EMLX_S32);
    t[4] = as_type(t[1], EMLX_S32);
    t[5] = apply_to("transpose", &t[4], 1, &turned, 1, EMLX_TYPE_DEFAULT);
    t[6] = square(t[3], t[5]);
    t[7] = square(t[5], t[5]);
    emlx_plan *plan = plan_for(&device, &t[7], 1, t, 2);
    const plan_kernel *k = plan->kernels;
    assert_int_equal(plan->kernel_count, 1);
    assert_int_equal(k->kind, KERNEL_DOT);
    assert_int_equal(k->accesses[0].type, EMLX_S8);
    assert_int_equal(k->accesses[0].value, 1);
    assert_int_equal(k->accesses[0].strides[0], 1);
    assert_int_equal(k->accesses[0].strides[1], 40);
    plan_release(plan);
    plan = plan_for(&device, &t[6], 1, t, 2);
    assert_int_equal(plan->kernel_count, 2); // s16 is not widened
    assert_int_equal(plan->kernels[1].accesses[0].type, EMLX_S32);
    assert_int_equal(plan->kernels[1].accesses[1].type, EMLX_S8);
    plan_release(plan);
    emlx_tensor *wanted[2] = {t[7], t[4]};
    plan = plan_for(&device, wanted, 2, t, 2);
    assert_int_equal(plan->kernel_count, 2);
    plan_release(plan);
    ops.widens = NULL;
    plan_cache_clear(NULL);
    plan = plan_for(&device, &t[7], 1, t, 2);
    assert_int_equal(plan->kernel_count, 2);
    assert_int_equal(plan->kernels[1].accesses[0].type, EMLX_S32);
    plan_release(plan);
    plan_cache_clear(NULL);
    release_all(t, 8);
}

static void views_cost_nothing(void **unused) {
    (void)unused;
    int64_t axes[2] = {1, 0};
    emlx_attr attr = with_ints("axes", axes, 2);
    emlx_tensor *t[5] = {input_tensor(), random_tensor(EMLX_F32, &(emlx_shape){2, {50, 40}}, 0, 9)};
    t[2] = apply_to("transpose", &t[1], 1, &attr, 1, EMLX_TYPE_DEFAULT);
    t[3] = apply_two("add", t[0], t[2]);
    attr = with_ints("axes", axes, 1);
    t[4] = apply_to("reverse", &t[3], 1, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_plan *plan = plan_of(&t[4], 1, t, 2);
    assert_int_equal(plan->kernel_count, 1); // the sum, written backwards
    plan_release(plan);
    emlx_tensor *sum = rows("sum", t[4]);
    plan = plan_of(&sum, 1, t, 2);
    assert_int_equal(plan->kernel_count, 1);
    plan_release(plan);
    emlx_tensor_release(sum);
    release_all(t, 5);
}

static void equal_parts_are_computed_once(void **unused) {
    (void)unused;
    emlx_tensor *t[4] = {input_tensor()};
    t[1] = unary("exp", t[0]);
    t[2] = unary("exp", t[0]);
    t[3] = apply_two("add", t[1], t[2]);
    emlx_plan *plan = plan_of(&t[3], 1, t, 1);
    assert_int_equal(plan->kernel_count, 1);
    int exps = 0;
    for (uint32_t i = 0; i < plan->kernels[0].step_count; i++)
        exps += plan->kernels[0].steps[i].kind == EXPR_SCALAR &&
                plan->kernels[0].steps[i].op == SCALAR_exp;
    assert_int_equal(exps, 1);
    plan_release(plan);
    release_all(t, 4);
}

static void plans_are_shared_by_structure(void **unused) {
    (void)unused;
    emlx_plan *plans[4];
    for (int i = 0; i < 4; i++) {
        emlx_shape other = {1, {2000}};
        emlx_tensor *t[3] = {i < 3 ? input_tensor() : random_tensor(EMLX_F32, &other, 0, 9),
                             number(i < 2 ? 0.5 + i : 7)};
        t[2] = apply_two(i == 2 ? "subtract" : "multiply", t[0], t[1]);
        plans[i] = plan_of(&t[2], 1, t, 1);
        release_all(t, 3);
    }
    assert_ptr_equal(plans[0], plans[1]); // whatever the constant's value
    assert_ptr_not_equal(plans[0], plans[2]);
    assert_ptr_not_equal(plans[0], plans[3]);
    for (int i = 0; i < 4; i++) plan_release(plans[i]);
}

// A temporary that is overwritten in part is not copied.
static void a_dying_base_is_written_in_place(void **unused) {
    (void)unused;
    int64_t starts[2] = {3, 4};
    emlx_attr attr = with_ints("starts", starts, 2);
    emlx_shape small = {2, {2, 2}};
    emlx_tensor *t[4] = {input_tensor(), random_tensor(EMLX_F32, &small, 0, 9)};
    t[2] = rows("sum", t[0]);
    emlx_tensor *in[2] = {t[0], t[1]};
    t[3] = apply_to("put_slice", in, 2, &attr, 1, EMLX_TYPE_DEFAULT);
    emlx_plan *plan = plan_of(&t[3], 1, t, 2);
    assert_true(plan->kernels[0].copies);
    assert_int_equal(plan->kernels[0].reuse[0], 0); // the input itself, where nobody else holds it
    plan_release(plan);
    emlx_tensor *both[2] = {t[3], t[2]};
    plan = plan_of(both, 2, t, 2);
    assert_int_equal(plan->kernel_count, 3);
    plan_release(plan);
    release_all(t, 4);
}

static emlx_tensor *beside(emlx_tensor *a, emlx_tensor *b, int64_t axis) {
    emlx_attr attr = with_int("axis", axis);
    return apply_to("concatenate", (emlx_tensor *[]){a, b}, 2, &attr, 1, EMLX_TYPE_DEFAULT);
}

// What is computed of both halves of a concatenation is one kernel, which computes what the halves
// share once; whoever reads a half reads what that was made of. Only who reads across them has the
// whole in memory.
static void halves_are_no_whole(void **unused) {
    (void)unused;
    for (int64_t axis = 0; axis < 2; axis++) {
        emlx_tensor *t[10] = {input_tensor(), input_tensor()};
        t[9] = apply_two("add", t[0], t[1]);
        t[2] = unary("exp", t[9]);
        t[3] = apply_two("multiply", t[2], t[0]);
        t[4] = apply_two("multiply", t[2], t[1]);
        t[5] = beside(t[3], t[4], axis);
        t[6] = unary("sqrt", t[5]);
        emlx_plan *plan = plan_of(&t[6], 1, t, 2);
        assert_int_equal(plan->kernel_count, 1);
        assert_int_equal(plan->value_count, 3);
        assert_int_equal(plan->kernels[0].store_count, 2);
        plan_release(plan);

        const emlx_attr cut[] = {with_ints("starts", (int64_t[]){axis ? 0 : 40, axis ? 50 : 0}, 2),
                                 with_ints("lengths", matrix.dims, 2),
                                 with_ints("strides", (int64_t[]){1, 1}, 2)};
        t[7] = apply_to("slice", &t[5], 1, cut, 3, EMLX_TYPE_DEFAULT);
        t[8] = unary("tanh", t[7]);
        plan = plan_of(&t[8], 1, t, 2);
        assert_int_equal(plan->kernel_count, 1);
        assert_int_equal(plan->value_count, 3);
        plan_release(plan);

        plan = plan_of(&t[5], 1, t, 2);
        assert_int_equal(plan->kernel_count, 1);
        assert_int_equal(plan->kernels[0].store_count, 2);
        plan_release(plan);
        release_all(t, 10);
    }
}

static emlx_tensor *sorted(emlx_tensor *t) {
    emlx_attr axis = with_int("axis", 1);
    return apply_to("sort", &t, 1, &axis, 1, EMLX_TYPE_DEFAULT);
}

// What tests rely on to find plans that are wrong: kernels out of order, an operand that ends
// early, an output that nobody makes.
static void wrong_plans_are_found(void **unused) {
    (void)unused;
    emlx_tensor *t[4] = {input_tensor()};
    t[1] = sorted(t[0]);
    t[2] = apply_two("multiply", t[0], t[1]);
    t[3] = sorted(t[2]);
    emlx_plan *plan = plan_of(&t[3], 1, t, 1);
    emlx_error err;
    assert_int_equal(plan->kernel_count, 3);
    assert_ok(plan_check(plan, &err), err);

    plan_kernel first = plan->kernels[0], second = plan->kernels[1];
    plan->kernels[0] = second;
    plan->kernels[1] = first;
    assert_int_equal(plan_check(plan, &err), EMLX_INTERNAL);
    assert_non_null(strstr(err.message, "reads an incomplete value"));
    plan->kernels[0] = first;
    plan->kernels[1] = second;

    uint32_t input = 0;
    plan->kernels[0].ended = &input;
    plan->kernels[0].ended_count = 1;
    assert_int_equal(plan_check(plan, &err), EMLX_INTERNAL);
    assert_non_null(strstr(err.message, "reads an ended value"));
    plan->kernels[0] = first;

    uint32_t last = plan->kernels[2].made_count;
    plan->kernels[2].made_count = 0;
    assert_int_equal(plan_check(plan, &err), EMLX_INTERNAL);
    assert_non_null(strstr(err.message, "lacks value"));
    plan->kernels[2].made_count = last;
    assert_ok(plan_check(plan, &err), err);
    plan_release(plan);
    release_all(t, 4);
}

static void assert_wrong(const emlx_plan *plan, const char *what) {
    emlx_error err;
    assert_int_equal(plan_check(plan, &err), EMLX_INTERNAL);
    if (strstr(err.message, what) == NULL) fail_msg("%s, not %s", err.message, what);
}

// Rows with stages out of order, a stage that reads another row, one of another length, a local
// that is wanted, and a buffer that is taken over before the last stage has read it.
static void wrong_rows_are_found(void **unused) {
    (void)unused;
    emlx_tensor *t[6];
    emlx_error err;
    softmax(t);
    emlx_plan *plan = plan_of(&t[5], 1, t, 1);
    plan_kernel *k = plan->kernels, *stages = k->stages, first = stages[0];
    assert_ok(plan_check(plan, &err), err);

    stages[0] = stages[1];
    assert_wrong(plan, "reads an incomplete");
    stages[0] = first;

    plan_access *read = NULL;
    for (uint32_t i = 0; i < stages[2].access_count; i++)
        if (kernel_is_local(k, stages[2].accesses[i].value)) read = &stages[2].accesses[i];
    assert_non_null(read);
    if (read == NULL) return;
    read->offset = 1;
    assert_wrong(plan, "reads other rows");
    read->offset = 0;

    stages[0].dims[1]++;
    assert_wrong(plan, "has an unfit stage");
    stages[0].dims[1]--;

    uint32_t output = plan->outputs[0];
    plan->outputs[0] = k->locals[0];
    assert_wrong(plan, "lacks value");
    plan->outputs[0] = output;

    k->local_count--;
    assert_ok(plan_check(plan, &err), err);
    k->local_count++;

    for (uint32_t i = 0; i < k->store_count; i++)
        if (k->accesses[k->stores[i].access].value == output) k->stores[i].step = 0;
    assert_wrong(plan, "overwrites what later stages read");
    plan_release(plan);
    plan_cache_clear(NULL);
    release_all(t, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_one_kernel),
        cmocka_unit_test(wrong_plans_are_found),
        cmocka_unit_test(wrong_rows_are_found),
        cmocka_unit_test(softmax_is_one_kernel),
        cmocka_unit_test(softmax_may_be_three_kernels),
        cmocka_unit_test(rows_are_found_among_others),
        cmocka_unit_test(rows_end_at_other_rows),
        cmocka_unit_test(products_widen),
        cmocka_unit_test(scatters_work_on_their_type),
        cmocka_unit_test(halves_are_no_whole),
        cmocka_unit_test(views_cost_nothing),
        cmocka_unit_test(equal_parts_are_computed_once),
        cmocka_unit_test(plans_are_shared_by_structure),
        cmocka_unit_test(a_dying_base_is_written_in_place),
    };
    return RUN_ON_CPU("plan/plan", tests);
}
