// SPDX-License-Identifier: Apache-2.0
// beside_test.c - products of the same vector, which are one step of a plan where the device wants
// that: which of them, and that they give what each gives by itself.
#include <stdlib.h>

#include "engine.h"
#include "plan/build.h"
#include "tensors.h"

enum { TERMS = 128, MOST = 12, ROUNDS = 40 };

static emlx_tensor *product(emlx_tensor *x, emlx_tensor *w) {
    emlx_tensor *in[2] = {x, w};
    const int64_t last = 1;
    emlx_attr attrs[4] = {with_ints("contract_left", &last, 1), with_ints("batch_left", NULL, 0),
                          with_ints("contract_right", &last, 1), with_ints("batch_right", NULL, 0)};
    return apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *matrix(emlx_type type, int64_t rows, int64_t columns) {
    const emlx_shape shape = {2, {rows, columns}};
    return random_tensor(type, &shape, -4, 5);
}

static emlx_tensor *unpacked(emlx_tensor *const *parts, emlx_type type) {
    const emlx_attr format[] = {with_text("mode", "affine"), with_int("bits", 4),
                                with_int("group_size", 64)};
    return apply_to("dequantize", parts, 3, format, 3, type);
}

static void release(emlx_tensor **tensors, int count) {
    for (int i = 0; i < count; i++) emlx_tensor_release(tensors[i]);
}

// Of four products three are of what was there before the first; the last one reads its result.
static void what_reads_a_result_is_a_step_of_its_own(void **unused) {
    (void)unused;
    emlx_tensor *leaves[5], *made[7];
    leaves[0] = matrix(EMLX_F32, 1, TERMS);
    for (int i = 1; i < 5; i++) leaves[i] = matrix(EMLX_F32, 40 + i, TERMS);
    made[0] = product(leaves[0], leaves[1]);
    made[1] = apply_to("tanh", &made[0], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    made[2] = apply_to("sum", &made[1], 1, NULL, 0, EMLX_TYPE_DEFAULT);
    made[3] = apply_two("multiply", leaves[4], made[2]);
    made[4] = product(leaves[0], made[3]);
    made[5] = product(leaves[0], leaves[2]);
    made[6] = product(leaves[0], leaves[3]);
    emlx_tensor *roots[] = {made[1], made[4], made[5], made[6]};
    plan_request request = {test_device, roots, 4, leaves, 5};
    planned found;
    emlx_error err;
    assert_ok(plan_find(&request, &found, &err), err);
    uint32_t steps = 0, most = 0;
    for (uint32_t i = 0; i < found.plan->kernel_count; i++) {
        const plan_kernel *k = &found.plan->kernels[i];
        steps += k->beside > 0;
        if (k->beside > most) most = k->beside;
        for (uint32_t n = 0; n <= k->beside && k->beside > 0; n++)
            assert_int_equal(k[n].kind, KERNEL_DOT);
    }
    bool joins = test_device->ops->beside != NULL;
    assert_int_equal(steps, joins ? 1 : 0);
    assert_int_equal(most, joins ? 2 : 0);
    planned_clear(&found);
    release(made, 7);
    release(leaves, 5);
}

// Some products of a vector: dense ones, and of packed weights.
typedef struct products {
    emlx_type type;
    int count;
    emlx_tensor *x, *weights[MOST][3];
    bool packed[MOST];
} products;

static void draw_products(products *p) {
    p->type = draw(2) == 0 ? EMLX_F32 : EMLX_BF16;
    p->count = 2 + (int)draw(MOST - 1);
    p->x = matrix(p->type, 1, TERMS);
    for (int i = 0; i < p->count; i++) {
        int64_t rows = 1 + draw(300);
        const emlx_shape words = {2, {rows, TERMS / 8}};
        p->packed[i] = draw(2) == 0;
        p->weights[i][0] = p->packed[i] ? random_tensor(EMLX_U32, &words, 0, 1 << 30)
                                        : matrix(p->type, rows, TERMS);
        for (int part = 1; part < 3; part++)
            p->weights[i][part] = p->packed[i] ? matrix(p->type, rows, TERMS / 64) : NULL;
    }
}

static emlx_tensor *one_of(const products *p, int i) {
    if (!p->packed[i]) return product(p->x, p->weights[i][0]);
    emlx_tensor *w = unpacked(p->weights[i], p->type), *result = product(p->x, w);
    emlx_tensor_release(w);
    return result;
}

static void clear_products(products *p) {
    emlx_tensor_release(p->x);
    for (int i = 0; i < p->count; i++) release(p->weights[i], p->packed[i] ? 3 : 1);
}

static void check_same(emlx_tensor *together, emlx_tensor *alone) {
    double *a = values_of(together), *b = values_of(alone);
    for (int64_t i = 0; i < number_count(EMLX_F32, emlx_tensor_shape(alone)); i++)
        if (a[i] != b[i]) fail_msg("element %lld is %g, not %g", (long long)i, a[i], b[i]);
    free(a);
    free(b);
}

static void together_they_give_what_each_gives(void **unused) {
    (void)unused;
    draw_seed(11);
    for (int round = 0; round < ROUNDS; round++) {
        products p;
        emlx_tensor *together[MOST], *alone[MOST];
        emlx_error err;
        draw_products(&p);
        for (int i = 0; i < p.count; i++) together[i] = one_of(&p, i), alone[i] = one_of(&p, i);
        assert_ok(emlx_eval(together, (size_t)p.count, &err), err);
        for (int i = 0; i < p.count; i++) check_same(together[i], alone[i]);
        release(together, p.count);
        release(alone, p.count);
        clear_products(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_reads_a_result_is_a_step_of_its_own),
        cmocka_unit_test(together_they_give_what_each_gives),
    };
    return RUN_ON_CPU("beside", tests);
}
