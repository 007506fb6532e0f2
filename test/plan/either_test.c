// SPDX-License-Identifier: Apache-2.0
// either_test.c - which of the two ways of an `either` a plan has: devices that take it whole, and
// devices that know nothing of it.
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "plan/subgraph.h"
#include "program/programs.h"
#include "tensors.h"

static bool takes_softmax(const emlx_device *device, const emlx_tensor *either) {
    (void)device;
    const either_params *p = either->params;
    return p->function == EITHER_softmax && either->shape.rank < 3;
}

static const engine_ops taking_ops = {.name = "taking", .takes = takes_softmax};
static emlx_device taking = {.ops = &taking_ops, .name = "taking"};
static const engine_ops plain_ops = {.name = "plain"};
static emlx_device plain = {.ops = &plain_ops, .name = "plain"};

static emlx_tensor *leaf(int64_t rows) {
    const emlx_shape shape = {2, {rows, 4}};
    return random_tensor(EMLX_F32, &shape, -3, 3);
}

static emlx_tensor *unary(const char *op, emlx_tensor *t) {
    return apply_to(op, &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static void collect(emlx_device *device, emlx_tensor **roots, size_t count, emlx_tensor **leaves,
                    size_t leaf_count, subgraph *g) {
    emlx_error err;
    plan_request request = {device, roots, count, leaves, leaf_count};
    assert_ok(subgraph_collect(&request, g, &err), err);
}

static uint32_t count_of(const subgraph *g, primitive p) {
    uint32_t count = 0;
    for (uint32_t n = g->leaf_count; n < g->count; n++) count += g->nodes[n]->primitive == p;
    return count;
}

static void who_knows_nothing_of_it_never_sees_it(void **unused) {
    (void)unused;
    subgraph g;
    emlx_tensor *x = leaf(3), *soft = unary("softmax", x), *again = unary("exp", soft);
    emlx_tensor *roots[] = {again, soft};
    assert_int_equal(soft->primitive, PRIM_either);
    collect(&plain, roots, 2, &x, 1, &g);
    assert_int_equal(count_of(&g, PRIM_either), 0);
    assert_int_equal(count_of(&g, PRIM_reduce), 2);
    // It goes by the number of the operand that stands for it.
    assert_ptr_equal(g.nodes[g.roots[1]], soft->inputs[0]);
    assert_int_equal(g.operands[g.first[g.roots[0]]], g.roots[1]);
    subgraph_clear(&g);
    emlx_tensor_release(again);
    emlx_tensor_release(soft);
    emlx_tensor_release(x);
}

static void who_takes_it_sees_nothing_else(void **unused) {
    (void)unused;
    subgraph g;
    emlx_tensor *x = leaf(3), *low = unary("negate", x), *soft = unary("softmax", low);
    emlx_tensor *again = unary("exp", soft);
    collect(&taking, &again, 1, &x, 1, &g);
    // The leaf, what it is negated, the function, and what is made of that.
    assert_int_equal(g.count, 4);
    assert_int_equal(count_of(&g, PRIM_either), 1);
    uint32_t either = g.operands[g.first[g.roots[0]]];
    assert_ptr_equal(g.nodes[either], soft);
    assert_int_equal(g.first[either + 1] - g.first[either], 1);
    assert_ptr_equal(g.nodes[g.operands[g.first[either]]], low);
    subgraph_clear(&g);
    emlx_tensor_release(again);
    emlx_tensor_release(soft);
    emlx_tensor_release(low);
    emlx_tensor_release(x);
}

static void one_is_asked_about_and_another_not(void **unused) {
    (void)unused;
    subgraph g;
    const emlx_shape cube = {3, {2, 3, 4}};
    emlx_tensor *x = random_tensor(EMLX_F32, &cube, -3, 3), *y = leaf(3);
    emlx_tensor *deep = unary("softmax", x), *flat = unary("softmax", y);
    emlx_tensor *pair[] = {deep, flat}, *leaves[] = {x, y};
    emlx_tensor *both = apply_to("add", pair, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor *nested = unary("softmax", flat), *roots[] = {both, nested};
    collect(&taking, roots, 2, leaves, 2, &g);
    assert_int_equal(count_of(&g, PRIM_either), 2);
    assert_int_equal(count_of(&g, PRIM_reduce), 2);
    subgraph_clear(&g);
    emlx_tensor_release(nested);
    emlx_tensor_release(both);
    emlx_tensor_release(deep);
    emlx_tensor_release(flat);
    emlx_tensor_release(x);
    emlx_tensor_release(y);
}

static bool same_key(emlx_device *a, emlx_tensor *x, emlx_tensor *of_x, emlx_device *b,
                     emlx_tensor *y, emlx_tensor *of_y) {
    subgraph left, right;
    emlx_error err;
    const void *left_key, *right_key;
    size_t left_size, right_size;
    collect(a, &of_x, 1, &x, 1, &left);
    collect(b, &of_y, 1, &y, 1, &right);
    assert_ok(subgraph_key(&left, &left_key, &left_size, &err), err);
    assert_ok(subgraph_key(&right, &right_key, &right_size, &err), err);
    bool same = left_size == right_size && memcmp(left_key, right_key, left_size) == 0;
    subgraph_clear(&left);
    subgraph_clear(&right);
    return same;
}

static void keys_have_the_way_that_was_chosen(void **unused) {
    (void)unused;
    const int64_t first = 0;
    emlx_attr attr = with_ints("axes", &first, 1);
    emlx_tensor *x = leaf(3), *y = leaf(3);
    emlx_tensor *of_x = unary("softmax", x), *of_y = unary("softmax", y);
    emlx_tensor *down = apply_to("softmax", &y, 1, &attr, 1, EMLX_TYPE_DEFAULT);
    assert_true(same_key(&taking, x, of_x, &taking, y, of_y));
    assert_true(same_key(&plain, x, of_x, &plain, y, of_y));
    assert_false(same_key(&taking, x, of_x, &plain, y, of_y));
    assert_false(same_key(&taking, x, of_x, &taking, y, down));
    emlx_tensor_release(down);
    emlx_tensor_release(of_x);
    emlx_tensor_release(of_y);
    emlx_tensor_release(x);
    emlx_tensor_release(y);
}

static void its_value_is_that_of_its_primitives(void **unused) {
    (void)unused;
    emlx_tensor *x = leaf(5), *soft = unary("softmax", x);
    emlx_tensor *way = emlx_tensor_retain(soft->inputs[0]);
    double *a = values_of(soft), *b = values_of(way);
    for (int i = 0; i < 20; i++) assert_true(a[i] == b[i]);
    // What has its data holds neither way any more.
    assert_int_equal(soft->input_count, 0);
    free(a);
    free(b);
    emlx_tensor_release(way);
    emlx_tensor_release(soft);
    emlx_tensor_release(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_nothing_of_it_never_sees_it),
        cmocka_unit_test(who_takes_it_sees_nothing_else),
        cmocka_unit_test(one_is_asked_about_and_another_not),
        cmocka_unit_test(keys_have_the_way_that_was_chosen),
        cmocka_unit_test(its_value_is_that_of_its_primitives),
    };
    return RUN_ON_CPU("plan/either", tests);
}
