// SPDX-License-Identifier: Apache-2.0
// assign_test.c - where buffers begin, end and change hands, on plans made by hand.
#include "plan/kernels/emit.h"
#include "plan/kernels/fuse.h"
#include "tensors.h"

enum { MOST_KERNELS = 3, MOST_USES = 6, LENGTH = 12 };

// Kernels of one or two axes. What they read comes before what they store.
typedef struct drawing {
    emlx_plan plan;
    plan_value values[8];
    plan_kernel kernels[MOST_KERNELS];
    plan_access accesses[MOST_KERNELS][MOST_USES];
    expr_store stores[MOST_KERNELS][MOST_USES];
    expr_step steps[MOST_KERNELS][MOST_USES];
    uint32_t outputs[2];
} drawing;

static uint32_t add_value(drawing *d, emlx_type type, int64_t count) {
    size_t bytes = (size_t)count * emlx_type_size(type);
    d->values[d->plan.value_count] = (plan_value){type, {1, {count}}, bytes};
    return d->plan.value_count++;
}

// A plan of `inputs` values and `others`, of LENGTH floats each, whose only result is the last.
static void draw_plan(drawing *d, uint32_t inputs, uint32_t others) {
    memset(d, 0, sizeof *d);
    d->plan.values = d->values;
    d->plan.kernels = d->kernels;
    d->plan.outputs = d->outputs;
    d->plan.output_count = 1;
    d->plan.input_count = inputs;
    for (uint32_t i = 0; i < inputs + others; i++) add_value(d, EMLX_F32, LENGTH);
    d->outputs[0] = inputs + others - 1;
}

static plan_kernel *add_kernel(drawing *d) {
    uint32_t n = d->plan.kernel_count++;
    d->kernels[n] = (plan_kernel){.kind = KERNEL_MAP, .op = "drawn", .rank = 2, .dims = {3, 4}};
    d->kernels[n].accesses = d->accesses[n];
    d->kernels[n].stores = d->stores[n];
    d->kernels[n].steps = d->steps[n];
    d->kernels[n].output = NO_INDEX;
    return &d->kernels[n];
}

static plan_access *add_access(plan_kernel *k, uint32_t value) {
    plan_access *a = &k->accesses[k->access_count++];
    *a = (plan_access){.value = value, .type = EMLX_F32, .strides = {4, 1}};
    return a;
}

static plan_access *reads(plan_kernel *k, uint32_t value) {
    k->steps[k->step_count++] = (expr_step){.kind = EXPR_LOAD, .index = k->access_count};
    return add_access(k, value);
}

// Stores what a function gives, or a copy of what the first access reads.
static plan_access *stores(plan_kernel *k, uint32_t value, bool computed) {
    uint32_t step = 0;
    if (computed) {
        step = k->step_count++;
        k->steps[step] = (expr_step){.kind = EXPR_SCALAR, .op = SCALAR_negate};
    }
    k->stores[k->store_count++] = (expr_store){step, k->access_count};
    return add_access(k, value);
}

static void assign(drawing *d) {
    emlx_error err;
    assert_ok(assign_buffers(&d->plan, &d->plan.memory, &err), err);
}

static void forget(drawing *d) { arena_clear(&d->plan.memory); }

static bool is_listed(const uint32_t *list, uint32_t count, uint32_t value) {
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == value) return true;
    return false;
}

#define ENDS(k, value) is_listed((k)->ended, (k)->ended_count, value)

// v1 = f(v0), v2 = f(v1): each takes the buffer of the one before, which ends.
static void a_chain_hands_its_buffer_on(void **state) {
    (void)state;
    drawing d;
    draw_plan(&d, 1, 2);
    for (uint32_t n = 0; n < 2; n++) {
        plan_kernel *k = add_kernel(&d);
        reads(k, n);
        stores(k, n + 1, true);
    }
    assign(&d);
    for (uint32_t n = 0; n < 2; n++) {
        const plan_kernel *k = &d.kernels[n];
        assert_int_equal(k->made_count, 1);
        assert_int_equal(k->made[0], n + 1);
        assert_int_equal(k->reuse[0], n);
        assert_int_equal(k->ended_count, 1);
        assert_int_equal(k->ended[0], n);
    }
    forget(&d);
}

// What a later kernel still reads, or is a result, keeps its buffer.
static void what_is_needed_stays(void **state) {
    (void)state;
    drawing d;
    draw_plan(&d, 1, 3);
    d.outputs[1] = 1;
    d.plan.output_count = 2;
    plan_kernel *first = add_kernel(&d), *second = add_kernel(&d), *third = add_kernel(&d);
    reads(first, 0);
    stores(first, 1, true);
    reads(second, 1);
    stores(second, 2, true);
    reads(third, 0);
    reads(third, 2);
    stores(third, 3, true);
    assign(&d);
    assert_int_equal(first->reuse[0], NO_INDEX);
    assert_int_equal(first->ended_count, 0);
    assert_int_equal(second->reuse[0], NO_INDEX);
    assert_int_equal(second->ended_count, 0);
    assert_int_equal(third->reuse[0], 0);
    assert_true(ENDS(third, 0) && ENDS(third, 2));
    assert_false(ENDS(third, 1) || ENDS(third, 3));
    forget(&d);
}

// The first kernel of a plan of one input and one result, to be spoilt.
static plan_kernel *one_kernel(drawing *d, plan_access **read) {
    draw_plan(d, 1, 1);
    plan_kernel *k = add_kernel(d);
    *read = reads(k, 0);
    stores(k, 1, true);
    return k;
}

static void expect_reuse(drawing *d, const plan_kernel *k, uint32_t wanted, const char *what) {
    assign(d);
    if (k->reuse[0] != wanted) fail_msg("%s: %u is reused, %u expected", what, k->reuse[0], wanted);
    if (!ENDS(k, 0)) fail_msg("%s: the operand does not end", what);
    forget(d);
}

static void only_what_is_read_where_it_is_written_is_reused(void **state) {
    (void)state;
    drawing d;
    plan_access *read;
    plan_kernel *k = one_kernel(&d, &read);
    expect_reuse(&d, k, 0, "in place");
    k = one_kernel(&d, &read);
    read->strides[0] = 1, read->strides[1] = 3;
    expect_reuse(&d, k, NO_INDEX, "across");
    k = one_kernel(&d, &read);
    read->offset = 1;
    expect_reuse(&d, k, NO_INDEX, "from another place on");
    k = one_kernel(&d, &read);
    reads(k, 0)->strides[0] = 0;
    expect_reuse(&d, k, NO_INDEX, "in two ways");
    k = one_kernel(&d, &read);
    d.values[0].type = EMLX_F64, d.values[0].bytes *= 2;
    expect_reuse(&d, k, NO_INDEX, "of more bytes");
    k = one_kernel(&d, &read);
    d.values[0].type = EMLX_U8, d.values[0].shape.dims[0] *= 4;
    expect_reuse(&d, k, NO_INDEX, "of other elements");
    k = one_kernel(&d, &read);
    k->dims[1] = 3;
    expect_reuse(&d, k, NO_INDEX, "written in part");
}

// A copy beside another store would read what that has overwritten.
static void a_copy_beside_another_store_takes_nothing(void **state) {
    (void)state;
    drawing d;
    for (int computed = 0; computed < 2; computed++) {
        draw_plan(&d, 1, 2);
        d.outputs[1] = 1;
        d.plan.output_count = 2;
        plan_kernel *k = add_kernel(&d);
        reads(k, 0);
        stores(k, 1, true);
        stores(k, 2, computed);
        assign(&d);
        assert_int_equal(k->made_count, 2);
        assert_int_equal(k->reuse[0], computed ? 0 : NO_INDEX);
        // One buffer goes to one result.
        assert_int_equal(k->reuse[1], NO_INDEX);
        forget(&d);
    }
}

// The number that says where another is read from.
static void starts_end_and_are_not_overwritten(void **state) {
    (void)state;
    drawing d;
    plan_start start = {.value = 1, .stride = 1, .limit = 2};
    draw_plan(&d, 2, 1);
    plan_kernel *k = add_kernel(&d);
    plan_access *read = reads(k, 0);
    read->start_count = 1;
    read->starts = &start;
    stores(k, 2, true);
    assign(&d);
    assert_int_equal(k->reuse[0], NO_INDEX);
    assert_true(ENDS(k, 0) && ENDS(k, 1));
    forget(&d);
    // Nor where it is read as an operand as well.
    draw_plan(&d, 2, 1);
    k = add_kernel(&d);
    read = reads(k, 0);
    read->start_count = 1;
    read->starts = &start;
    reads(k, 1);
    stores(k, 2, true);
    assign(&d);
    assert_int_equal(k->reuse[0], NO_INDEX);
    forget(&d);
}

// A base, then what is written into it: made once, by the first.
static void several_kernels_make_one_value(void **state) {
    (void)state;
    drawing d;
    draw_plan(&d, 2, 1);
    plan_kernel *base = add_kernel(&d), *part = add_kernel(&d);
    reads(base, 0);
    stores(base, 2, false);
    reads(part, 1);
    stores(part, 2, false);
    part->dims[0] = 1;
    assign(&d);
    assert_int_equal(base->made_count, 1);
    assert_int_equal(base->reuse[0], 0);
    assert_int_equal(part->made_count, 0);
    assert_true(ENDS(part, 1));
    assert_false(ENDS(part, 2));
    forget(&d);
}

// A fold's result has a buffer of its own, and ends where it is read last.
static void folds_take_no_buffer(void **state) {
    (void)state;
    drawing d;
    draw_plan(&d, 1, 2);
    plan_kernel *fold = add_kernel(&d), *next = add_kernel(&d);
    fold->kind = KERNEL_REDUCE;
    reads(fold, 0);
    fold->output = 1;
    reads(next, 1);
    stores(next, 2, true);
    assign(&d);
    assert_int_equal(fold->made_count, 1);
    assert_int_equal(fold->made[0], 1);
    assert_int_equal(fold->reuse[0], NO_INDEX);
    assert_true(ENDS(fold, 0));
    assert_int_equal(next->reuse[0], 1);
    forget(&d);
}

// What is made and read by one kernel of rows only is in no buffer.
static void rows_keep_what_is_theirs(void **state) {
    (void)state;
    drawing d;
    draw_plan(&d, 1, 2);
    plan_kernel *k = add_kernel(&d);
    plan_kernel stages[2] = {*k, *k};
    k->kind = KERNEL_ROWS;
    k->stages = stages;
    k->stage_count = 2;
    reads(k, 0);
    add_access(k, 1), k->stores[k->store_count++] = (expr_store){0, 1};
    add_access(k, 1);
    add_access(k, 2), k->stores[k->store_count++] = (expr_store){1, 3};
    stages[0].accesses = k->accesses, stages[0].access_count = 2;
    stages[1].accesses = k->accesses + 2, stages[1].access_count = 2;
    assign(&d);
    assert_int_equal(k->local_count, 1);
    assert_int_equal(k->locals[0], 1);
    assert_int_equal(k->made_count, 1);
    assert_int_equal(k->made[0], 2);
    assert_int_equal(k->reuse[0], 0);
    assert_int_equal(k->ended_count, 1);
    assert_ptr_equal(stages[1].made, k->made);
    forget(&d);
    // A later stage that reads the operand again keeps its buffer from an earlier one's result.
    draw_plan(&d, 1, 2);
    d.outputs[0] = 1, d.outputs[1] = 2;
    d.plan.output_count = 2;
    k = add_kernel(&d);
    k->kind = KERNEL_ROWS;
    k->stages = stages;
    k->stage_count = 2;
    reads(k, 0);
    add_access(k, 1), k->stores[k->store_count++] = (expr_store){0, 1};
    add_access(k, 0);
    add_access(k, 2), k->stores[k->store_count++] = (expr_store){1, 3};
    assign(&d);
    assert_int_equal(k->local_count, 0);
    assert_int_equal(k->reuse[0], NO_INDEX);
    assert_int_equal(k->reuse[1], 0);
    forget(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_hands_its_buffer_on),
        cmocka_unit_test(what_is_needed_stays),
        cmocka_unit_test(only_what_is_read_where_it_is_written_is_reused),
        cmocka_unit_test(a_copy_beside_another_store_takes_nothing),
        cmocka_unit_test(starts_end_and_are_not_overwritten),
        cmocka_unit_test(several_kernels_make_one_value),
        cmocka_unit_test(folds_take_no_buffer),
        cmocka_unit_test(rows_keep_what_is_theirs),
    };
    return RUN_TESTS("plan/assign", tests);
}
