// SPDX-License-Identifier: Apache-2.0
// either_test.c - functions that an engine takes whole have the results of the primitives that they
// are for others: called and in programs, saved and loaded, on either side of control flow. The
// engine is "picky", which takes nearly all of them here and is given the rest as primitives.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan/subgraph.h"
#include "program/programs.h"
#include "tensors.h"

static emlx_device *picky, *host;

static emlx_tensor *on(emlx_device *device, emlx_type type, const emlx_shape *shape,
                       uint64_t seed) {
    emlx_error err;
    emlx_tensor *t, *cast;
    float data[512];
    draw_seed(seed);
    for (int i = 0; i < 512; i++) data[i] = (float)draw(2000) / 300 - 3;
    size_t size = (size_t)emlx_shape_count(shape) * sizeof(float);
    assert_ok(emlx_tensor_from_data(device, EMLX_F32, shape, data, size, &t, &err), err);
    cast = as_type(t, type);
    emlx_tensor_release(t);
    return cast;
}

// An op with what it is called with: x, {7, 9}, and one more operand for each letter, w: {9}, x: as
// the first.
static const struct {
    const char *op, *more;
    bool eps;
} calls[] = {{"softmax", "", false},
             {"rms_norm", "w", true},
             {"layer_norm", "w", true},
             {"layer_norm", "ww", true},
             {"swiglu", "x", false}};

enum { CALLS = sizeof calls / sizeof *calls };

static const emlx_attr eps = {
    .name = "eps", .kind = EMLX_ATTR_NUMBER, .value = {EMLX_NUMBER_REAL, {.f = {1e-5, 0}}}};

static emlx_tensor *call_on(emlx_device *device, int c, emlx_type type) {
    const emlx_shape matrix = {2, {7, 9}}, row = {1, {9}};
    emlx_tensor *in[4] = {on(device, type, &matrix, 1)};
    size_t count = 1;
    for (const char *more = calls[c].more; *more != '\0'; more++, count++)
        in[count] = on(device, type, *more == 'w' ? &row : &matrix, count + 1);
    emlx_tensor *out = apply_to(calls[c].op, in, count, &eps, calls[c].eps, EMLX_TYPE_DEFAULT);
    for (size_t i = 0; i < count; i++) emlx_tensor_release(in[i]);
    return out;
}

static void same_bits(emlx_tensor *a, emlx_tensor *b) {
    emlx_error err;
    const void *left, *right;
    assert_ok(emlx_tensor_data(a, &left, &err), err);
    assert_ok(emlx_tensor_data(b, &right, &err), err);
    assert_int_equal(emlx_tensor_bytes(a), emlx_tensor_bytes(b));
    assert_memory_equal(left, right, emlx_tensor_bytes(a));
}

// Whether the plan of a pending tensor on that device has an `either`.
static bool planned_whole(emlx_tensor *t) {
    subgraph g;
    emlx_error err;
    bool whole = false;
    plan_request request = {picky, &t, 1, NULL, 0};
    emlx_tensor *leaves[8];
    for (uint32_t i = 1; i < t->input_count; i++) leaves[i - 1] = t->inputs[i];
    request.leaves = leaves;
    request.leaf_count = t->input_count - 1;
    assert_ok(subgraph_collect(&request, &g, &err), err);
    for (uint32_t n = g.leaf_count; n < g.count; n++) whole |= g.nodes[n]->primitive == PRIM_either;
    subgraph_clear(&g);
    return whole;
}

static void calls_give_the_same(void **unused) {
    static const emlx_type types[] = {EMLX_F32, EMLX_BF16, EMLX_F64};
    int whole = 0;
    (void)unused;
    for (int c = 0; c < CALLS; c++)
        for (int t = 0; t < 3; t++) {
            emlx_tensor *a = call_on(picky, c, types[t]), *b = call_on(host, c, types[t]);
            assert_int_equal(emlx_tensor_type(a), types[t]);
            whole += planned_whole(a);
            same_bits(a, b);
            emlx_tensor_release(a);
            emlx_tensor_release(b);
        }
    print_message("%d of %d taken whole\n", whole, 3 * CALLS);
    assert_true(whole > 3 * CALLS / 2);
    assert_true(whole < 3 * CALLS);
}

// softmax(x) of a cond's operand, in its branches and behind it.
static emlx_block *branching(void) {
    emlx_error err;
    emlx_block *b = new_block(), *branches[3];
    uint32_t x = input(b, "x", EMLX_F32, 2, 7, 9), soft = op(b, "softmax", 1, x);
    for (int i = 0; i < 3; i++) {
        branches[i] = new_block();
        uint32_t in = input(branches[i], NULL, EMLX_F32, 2, 7, 9);
        uint32_t own = op(branches[i], i == 1 ? "softmax" : "swiglu", i == 1 ? 1 : 2, in, in);
        output(branches[i], NULL, i == 0 ? sum_all(branches[i], in) : own);
    }
    uint32_t chosen;
    assert_ok(emlx_block_cond(b, branches, 1, branches + 1, 2, &soft, 1, &chosen, &err), err);
    output(b, "sum", op(b, "add", 2, chosen, soft));
    output(b, "soft", soft);
    return b;
}

static void run(emlx_program *program, emlx_device *device, emlx_tensor *out[2]) {
    emlx_error err;
    const emlx_shape matrix = {2, {7, 9}};
    emlx_tensor *x = on(device, EMLX_F32, &matrix, 5);
    assert_ok(emlx_program_run(program, &x, 1, out, 2, &err), err);
    emlx_tensor_release(x);
}

static void programs_give_the_same(void **unused) {
    (void)unused;
    char path[] = "/tmp/emlx-either-XXXXXX";
    emlx_error err;
    emlx_program *programs[3];
    emlx_tensor *results[3][2];
    emlx_block *b = branching();
    close(mkstemp(path));
    assert_ok(emlx_block_save(b, path, &err), err);
    emlx_block_release(b);
    programs[0] = compile(branching(), host);
    programs[1] = compile(branching(), picky);
    assert_ok(emlx_program_load(path, picky, &programs[2], &err), err);
    for (int i = 0; i < 3; i++) run(programs[i], i == 0 ? host : picky, results[i]);
    for (int i = 1; i < 3; i++)
        for (int o = 0; o < 2; o++) same_bits(results[i][o], results[0][o]);
    for (int i = 0; i < 3; i++) {
        emlx_tensor_release(results[i][0]);
        emlx_tensor_release(results[i][1]);
        emlx_program_release(programs[i]);
    }
    unlink(path);
}

static int open_both(void **state) {
    host = cpu();
    if (open_test_device(state) != 0) return -1;
    picky = test_device;
    return 0;
}

static int close_both(void **state) {
    emlx_device_release(host);
    return close_test_device(state);
}

static void use_engine(const char *self) {
    char path[1024];
    const char *end = strrchr(self, '/');
    snprintf(path, sizeof path, "%.*s/../engines/picky.so", (int)(end - self), self);
    setenv("EMLX_ENGINES", path, 1);
    setenv("EMLX_TEST_DEVICE", "picky", 1);
    setenv("EMLX_PICKY_ODDS", "5", 1);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_give_the_same),
        cmocka_unit_test(programs_give_the_same),
    };
    (void)argc;
    use_engine(argv[0]);
    return cmocka_run_group_tests_name("run/either", tests, open_both, close_both);
}
